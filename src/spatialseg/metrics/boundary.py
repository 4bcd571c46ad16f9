"""Measures of the boundary, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.boundary import boundary_f_measure, boundary_iou
from spatialseg.metrics.base import ImageMean


class BoundaryIoU(ImageMean):
    """Average the Boundary IoU over images (Cheng et al., CVPR 2021); see `spatialseg.functional.boundary_iou`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        dilation_ratio: Width of the boundary region, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        dilation_ratio: float = 0.02,
        ignore_index: int | None = 255,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__((threshold, dilation_ratio, ignore_index), **kwargs)
        self.threshold = threshold
        self.dilation_ratio = dilation_ratio
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        self._accumulate(
            boundary_iou(
                prediction,
                target,
                threshold=self.threshold,
                dilation_ratio=self.dilation_ratio,
                ignore_index=self.ignore_index,
            )
        )

    def compute(self) -> Tensor:
        """Return the average over all images, a scalar in [0, 1]; NaN before the first."""
        return self._mean()


class BoundaryFMeasure(ImageMean):
    """Average the boundary F-measure over images (Perazzi et al., CVPR 2016); see `boundary_f_measure`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        tolerance_ratio: How far from each other contours still match, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        tolerance_ratio: float = 0.008,
        ignore_index: int | None = 255,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__((threshold, tolerance_ratio, ignore_index), **kwargs)
        self.threshold = threshold
        self.tolerance_ratio = tolerance_ratio
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        self._accumulate(
            boundary_f_measure(
                prediction,
                target,
                threshold=self.threshold,
                tolerance_ratio=self.tolerance_ratio,
                ignore_index=self.ignore_index,
            ).f
        )

    def compute(self) -> Tensor:
        """Return the average over all images, a scalar in [0, 1]; NaN before the first."""
        return self._mean()
