"""The sets of measures that papers print."""

from torchmetrics import MetricCollection

from spatialseg.metrics.error import MeanAbsoluteError
from spatialseg.metrics.iou import MeanIoU
from spatialseg.metrics.weighted_f import WeightedFMeasure


def saliency_metrics(full: bool = False, ignore_index: int | None = 255) -> MetricCollection:
    """Return the measures of a foreground map, updated with probabilities and targets, both (N, H, W).

    Args:
        full: All measures of the field, for a final test; else `weighted_f`, `mae` and `iou`, for each epoch.
        ignore_index: Target value of the pixels that take no part.
    """
    return MetricCollection(
        {
            "weighted_f": WeightedFMeasure(ignore_index=ignore_index),
            "mae": MeanAbsoluteError(ignore_index=ignore_index),
            "iou": MeanIoU(ignore_index=ignore_index),
        }
    )


def segmentation_metrics(classes: int, ignore_index: int | None = 255) -> MetricCollection:
    """Return `weighted_f` (one class against the rest, mean over classes) and `iou` (mean over classes).

    Args:
        classes: C, at least 2; updated with probabilities (N, C, H, W) and class indices (N, H, W).
        ignore_index: Target value of the pixels that take no part.
    """
    return MetricCollection(
        {
            "weighted_f": WeightedFMeasure(ignore_index=ignore_index, classes=classes),
            "iou": MeanIoU(classes=classes, ignore_index=ignore_index),
        }
    )
