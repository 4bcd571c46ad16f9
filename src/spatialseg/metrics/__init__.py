"""Measures as `torchmetrics` classes, over the functions of `spatialseg.functional`; registered by name."""

import importlib
import pkgutil

# In the order in which tables print the measures.
# isort: off
from spatialseg.metrics.weighted_f import WeightedFMeasure
from spatialseg.metrics.cut import CutWeightedF
from spatialseg.metrics.structure import StructureMeasure
from spatialseg.metrics.alignment import EnhancedAlignmentMeasure
from spatialseg.metrics.saliency_f import SaliencyFMeasure
from spatialseg.metrics.error import MeanAbsoluteError
from spatialseg.metrics.iou import MeanIoU
from spatialseg.metrics.boundary import BoundaryFMeasure, BoundaryIoU
from spatialseg.metrics.collections import saliency_metrics, segmentation_metrics
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import available_measures, register_measure
# isort: on

__all__ = [
    "BoundaryFMeasure",
    "BoundaryIoU",
    "Conventions",
    "CutWeightedF",
    "EnhancedAlignmentMeasure",
    "MeanAbsoluteError",
    "MeanIoU",
    "SaliencyFMeasure",
    "StructureMeasure",
    "WeightedFMeasure",
    "available_measures",
    "register_measure",
    "saliency_metrics",
    "segmentation_metrics",
]

# Each module here registers its measures when imported, so adding one is adding a file.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
