"""The E-measure, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.alignment import alignment_from_counts
from spatialseg.functional.thresholds import threshold_counts_from_histograms
from spatialseg.metrics.base import ThresholdedMean
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, register_measure
from spatialseg.scores import Measure


@register_measure(
    Measure("e_adaptive", "E adp"),
    Measure("e_mean", "E mean"),
    Measure("e_max", "E max", "higher", "mean curve", ("e",)),
)
class EnhancedAlignmentMeasure(ThresholdedMean):
    """Average the E-measure over images (Fan et al., IJCAI 2018); see `enhanced_alignment_measure`.

    `e_adaptive` is taken at the adaptive threshold of each image; `e_mean` and `e_max` are the mean and the maximum
    over the 256 thresholds of the averaged curve.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    curve_names = ("e",)

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:
        super().__init__(Conventions(normalize=normalize, ignore_index=ignore_index), **kwargs)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return values and curve of each image."""
        adaptive, curve = alignment_from_counts(threshold_counts_from_histograms(counts))
        columns = {"e_adaptive": adaptive, "e_mean": curve.mean(dim=1), "e_max": curve.amax(dim=1)}
        return ImageValues(columns, {"e": curve})
