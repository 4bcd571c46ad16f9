"""Measures of the boundary, averaged over images."""

from typing import Any, ClassVar

from torch import Tensor

from spatialseg.functional.boundary import (
    boundary_f_from_counts,
    boundary_iou_from_counts,
    boundary_region_counts_of,
    contour_counts_of,
)
from spatialseg.functional.maps import Maps, masks_at
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, OfClasses, register_measure
from spatialseg.scores import Measure


@register_measure(Measure("boundary_iou", "bIoU"))
class BoundaryIoU(ImageMean):
    """Average the Boundary IoU over images (Cheng et al., CVPR 2021); see `spatialseg.functional.boundary_iou`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        dilation_ratio: Width of the boundary region, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    of_classes: ClassVar[OfClasses] = "hard"

    def __init__(
        self, threshold: float = 0.5, dilation_ratio: float = 0.02, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(threshold=threshold, dilation_ratio=dilation_ratio, ignore_index=ignore_index)
        super().__init__(conventions, **kwargs)

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return intersection and union of the boundary regions, (N, 2)."""
        return boundary_region_counts_of(*masks_at(maps, conventions.threshold), conventions.dilation_ratio).T

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return the Boundary IoU of each image."""
        return ImageValues({"boundary_iou": boundary_iou_from_counts(counts.T)})


@register_measure(Measure("boundary_f", "bF"))
class BoundaryFMeasure(ImageMean):
    """Average the boundary F-measure over images (Perazzi et al., CVPR 2016); see `boundary_f_measure`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        tolerance_ratio: How far from each other contours still match, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    of_classes: ClassVar[OfClasses] = "hard"

    def __init__(
        self, threshold: float = 0.5, tolerance_ratio: float = 0.008, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(threshold=threshold, tolerance_ratio=tolerance_ratio, ignore_index=ignore_index)
        super().__init__(conventions, **kwargs)

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return pixels of the contours and of those that match, (N, 4)."""
        return contour_counts_of(*masks_at(maps, conventions.threshold), conventions.tolerance_ratio).T

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return the boundary F-measure of each image."""
        return ImageValues({"boundary_f": boundary_f_from_counts(counts.T).f})
