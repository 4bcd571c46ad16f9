"""The sets of measures that papers print."""

from torchmetrics import Metric, MetricCollection

from spatialseg.metrics.alignment import EnhancedAlignmentMeasure
from spatialseg.metrics.boundary import BoundaryFMeasure, BoundaryIoU
from spatialseg.metrics.error import MeanAbsoluteError
from spatialseg.metrics.iou import MeanIoU
from spatialseg.metrics.saliency_f import SaliencyFMeasure
from spatialseg.metrics.structure import StructureMeasure
from spatialseg.metrics.weighted_f import WeightedFMeasure


def saliency_metrics(full: bool = False, ignore_index: int | None = 255) -> MetricCollection:
    """Return the measures of a foreground map, updated with probabilities and targets, both (N, H, W).

    Args:
        full: Besides `weighted_f`, `mae` and `iou` also `s_measure`, `e_adaptive`, `e_mean`, `e_max`, `f_adaptive`,
            `f_mean`, `f_max` (β² = 0.3), `boundary_iou` and `boundary_f`: all measures of the field, for a final test.
        ignore_index: Target value of the pixels that take no part.
    """
    measures: dict[str, Metric | MetricCollection] = {
        "weighted_f": WeightedFMeasure(ignore_index=ignore_index),
        "mae": MeanAbsoluteError(ignore_index=ignore_index),
        "iou": MeanIoU(ignore_index=ignore_index),
    }
    if full:
        measures |= {
            "s_measure": StructureMeasure(ignore_index=ignore_index),
            "e_measure": EnhancedAlignmentMeasure(ignore_index=ignore_index),
            "f_measure": SaliencyFMeasure(ignore_index=ignore_index),
            "boundary_iou": BoundaryIoU(ignore_index=ignore_index),
            "boundary_f": BoundaryFMeasure(ignore_index=ignore_index),
        }
    return MetricCollection(measures)


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
