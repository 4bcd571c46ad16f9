"""Measures as `torchmetrics` classes, over the functions of `spatialseg.functional`."""

from spatialseg.metrics.alignment import EnhancedAlignmentMeasure
from spatialseg.metrics.boundary import BoundaryFMeasure, BoundaryIoU
from spatialseg.metrics.collections import saliency_metrics, segmentation_metrics
from spatialseg.metrics.error import MeanAbsoluteError
from spatialseg.metrics.iou import MeanIoU
from spatialseg.metrics.saliency_f import SaliencyFMeasure
from spatialseg.metrics.structure import StructureMeasure
from spatialseg.metrics.weighted_f import WeightedFMeasure

__all__ = [
    "BoundaryFMeasure",
    "BoundaryIoU",
    "EnhancedAlignmentMeasure",
    "MeanAbsoluteError",
    "MeanIoU",
    "SaliencyFMeasure",
    "StructureMeasure",
    "WeightedFMeasure",
    "saliency_metrics",
    "segmentation_metrics",
]
