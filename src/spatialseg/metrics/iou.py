"""Intersection over union, as a `torchmetrics` class."""

from typing import Any

import torch
from torch import Tensor

from spatialseg.functional.iou import intersection_and_union
from spatialseg.metrics.base import SegmentationMetric


class MeanIoU(SegmentationMetric):
    """Intersection over union of the data set, averaged over classes.

    Pixels are counted over all images before the ratio is taken, as the segmentation benchmarks do. A class in neither
    prediction nor target of any image has no value and is left out.

    Args:
        classes: 1 for a foreground map, whose IoU alone is then meant; C > 1 for class probabilities.
        threshold: Probability at which a pixel of a foreground map is foreground.
        ignore_index: Target value of the pixels that take no part.
        average: With several classes, their unweighted mean (`"macro"`) or a value for each (`"none"`).
        validate_args: Look at the values of every batch, which makes an accelerator wait.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    intersection: Tensor
    """Pixels of each class in prediction and target, (C,), int64."""
    union: Tensor
    """Pixels of each class in prediction or target, (C,), int64."""

    def __init__(
        self,
        classes: int = 1,
        threshold: float = 0.5,
        ignore_index: int | None = 255,
        average: str = "macro",
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, average, (threshold, ignore_index), **kwargs)
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.validate_args = validate_args
        for name in ("intersection", "union"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: Probabilities, (N, H, W) or (N, 1, H, W); (N, C, H, W) with C = `classes` > 1.
            target: Values 0 and 1, or with several classes the class index; or `ignore_index`; (N, H, W).
        """
        intersection, union = intersection_and_union(
            prediction,
            target,
            classes=self.classes,
            threshold=self.threshold,
            ignore_index=self.ignore_index,
            validate_args=self.validate_args,
        )
        self.intersection = self.intersection + intersection.sum(dim=0)
        self.union = self.union + union.sum(dim=0)

    def compute(self) -> Tensor:
        """Return the IoU, a scalar or (C,) with `average="none"`; NaN where there is no pixel to count."""
        return self._over_classes(self.intersection.double() / self.union)
