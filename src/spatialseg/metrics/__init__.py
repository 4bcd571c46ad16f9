"""Measures as `torchmetrics` classes, over the functions of `spatialseg.functional`."""

from spatialseg.metrics.collections import saliency_metrics, segmentation_metrics
from spatialseg.metrics.error import MeanAbsoluteError
from spatialseg.metrics.iou import MeanIoU
from spatialseg.metrics.weighted_f import WeightedFMeasure

__all__ = [
    "MeanAbsoluteError",
    "MeanIoU",
    "WeightedFMeasure",
    "saliency_metrics",
    "segmentation_metrics",
]
