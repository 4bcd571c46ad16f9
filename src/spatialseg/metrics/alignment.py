"""The E-measure, averaged over images."""

from typing import Any

import torch
from torch import Tensor

from spatialseg.functional.alignment import enhanced_alignment_measure
from spatialseg.metrics.base import ImageMean


class EnhancedAlignmentMeasure(ImageMean):
    """Average the E-measure over images (Fan et al., IJCAI 2018); see `enhanced_alignment_measure`.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__((normalize, ignore_index), shape=(257,), **kwargs)
        self.normalize = normalize
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        values = enhanced_alignment_measure(
            prediction, target, normalize=self.normalize, ignore_index=self.ignore_index
        )
        self._accumulate(torch.cat([values.curve, values.adaptive[:, None]], dim=1))

    def compute(self) -> dict[str, Tensor]:
        """Return averages over all images, scalars.

        `e_adaptive` is taken at the adaptive threshold of each image; `e_mean` and `e_max` are the mean and the maximum
        over the 256 thresholds of `curve`.
        """
        curve = self.curve()
        return {"e_adaptive": self._mean()[256], "e_mean": curve.mean(), "e_max": curve.max()}

    def curve(self) -> Tensor:
        """Return the average over all images seen by this process at each threshold k/255, (256,)."""
        return self._mean()[:256]
