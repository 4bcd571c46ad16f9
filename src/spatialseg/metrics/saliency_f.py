"""The F-measure of thresholded saliency maps, averaged over images."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from spatialseg.functional.saliency_f import saliency_f_measure
from spatialseg.metrics.base import ImageMean


class SaliencyCurves(NamedTuple):
    """Averages over images at each threshold k/255, (256,)."""

    f: Tensor
    precision: Tensor
    recall: Tensor


class SaliencyFMeasure(ImageMean):
    """Average the F-measure of thresholded maps over images; see `spatialseg.functional.saliency_f_measure`.

    Args:
        beta2: β², the weight of recall against precision; positive. The field uses 0.3.
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: `beta2` is not positive.
    """

    def __init__(
        self,
        beta2: float = 0.3,
        normalize: bool = False,
        ignore_index: int | None = 255,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if beta2 <= 0:
            raise ValueError(f"beta2 must be positive, got {beta2}")
        super().__init__((beta2, normalize, ignore_index), shape=(3 * 256 + 1,), **kwargs)
        self.beta2 = beta2
        self.normalize = normalize
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        values = saliency_f_measure(
            prediction, target, beta2=self.beta2, normalize=self.normalize, ignore_index=self.ignore_index
        )
        self._accumulate(torch.cat([values.curve, values.precision, values.recall, values.adaptive[:, None]], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Return averages over all images, scalars.

        `f_adaptive` is taken at the adaptive threshold of each image; `f_mean` and `f_max` are the mean and the maximum
        over the 256 thresholds of the F-curve.
        """
        curve = self.curves().f
        return {"f_adaptive": self._mean()[-1], "f_mean": curve.mean(), "f_max": curve.max()}

    def curves(self) -> SaliencyCurves:
        """Return F-measure, precision and recall at each threshold, averaged over all images seen by this process."""
        return SaliencyCurves(*self._mean()[:-1].view(3, 256))
