"""Intersection over union."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from spatialseg.functional.iou import intersection_and_union, overlap_counts
from spatialseg.functional.maps import Maps, masks_at
from spatialseg.metrics.base import check_classes, tell_apart
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, OfClasses, register_measure
from spatialseg.scores import Measure


@register_measure(Measure("iou", "IoU", "higher", "data set", ("intersection", "union")))
class MeanIoU(Metric):
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
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    plot_legend_name = "Class"
    measures: ClassVar[tuple[Measure, ...]]
    of_classes: ClassVar[OfClasses] = "hard"

    def __init__(
        self,
        classes: int = 1,
        threshold: float = 0.5,
        ignore_index: int | None = 255,
        average: str = "macro",
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_classes(classes, average)
        self.classes = classes
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.average = average
        self.validate_args = validate_args
        self.add_state("intersection", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("union", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        tell_apart(self, (classes, threshold, ignore_index))

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the pixels in the intersection and in the union of each image's masks, (N, 2)."""
        predicted, true = masks_at(maps, conventions.threshold)
        return overlap_counts(predicted, true).T

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return them under their names, and each image's own IoU, 1 where both masks are empty."""
        intersection, union = counts.double().T
        iou = torch.where(union > 0, intersection / union, 1.0)
        return ImageValues({"iou": iou, "intersection": intersection, "union": union})

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
        iou = self.intersection.double() / self.union
        if self.classes == 1:
            return iou[0]
        return iou.nanmean() if self.average == "macro" else iou

    def plot(self, val: Any = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Plot one value, or how the value went over several steps; see `torchmetrics.Metric.plot`."""
        return self._plot(val, ax)
