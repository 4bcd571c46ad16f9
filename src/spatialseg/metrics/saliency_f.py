"""The F-measure of thresholded saliency maps, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.saliency_f import saliency_f_from_counts
from spatialseg.functional.thresholds import threshold_counts_from_histograms
from spatialseg.metrics.base import ThresholdedMean
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, register_measure
from spatialseg.scores import Measure


@register_measure(
    Measure("f_adaptive", "F adp"),
    Measure("f_mean", "F mean"),
    Measure("f_max", "F max", "higher", "mean curve", ("f",)),
)
class SaliencyFMeasure(ThresholdedMean):
    """Average the F-measure of thresholded maps over images; see `spatialseg.functional.saliency_f_measure`.

    `f_adaptive` is taken at the adaptive threshold of each image; `f_mean` and `f_max` are the mean and the maximum
    over the 256 thresholds of the averaged curve.

    Args:
        beta2: β², the weight of recall against precision; positive. The field uses 0.3.
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: `beta2` is not positive.
    """

    curve_names = ("f", "precision", "recall")

    def __init__(
        self, beta2: float = 0.3, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(normalize=normalize, curve_beta2=beta2, ignore_index=ignore_index)
        super().__init__(conventions, **kwargs)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return values and curves of each image."""
        f = saliency_f_from_counts(threshold_counts_from_histograms(counts), conventions.curve_beta2)
        columns = {"f_adaptive": f.adaptive, "f_mean": f.curve.mean(dim=1), "f_max": f.curve.amax(dim=1)}
        return ImageValues(columns, {"f": f.curve, "precision": f.precision, "recall": f.recall})
