"""The mean absolute error of foreground maps, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.error import mean_absolute_error
from spatialseg.metrics.base import ImageMean


class MeanAbsoluteError(ImageMean):
    """Average the mean absolute error between prediction and ground truth over images (Perazzi et al., CVPR 2012).

    Every image counts the same whatever its size, unlike in `torchmetrics.MeanAbsoluteError`, where every pixel does.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__((normalize, ignore_index), **kwargs)
        self.normalize = normalize
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        self._accumulate(
            mean_absolute_error(prediction, target, normalize=self.normalize, ignore_index=self.ignore_index)
        )

    def compute(self) -> Tensor:
        """Return the average over all images, a scalar in [0, 1]; NaN before the first."""
        return self._mean()
