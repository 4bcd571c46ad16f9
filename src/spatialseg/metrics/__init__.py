"""Measures, registered by name, and the `torchmetrics` classes over them, which are imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spatialseg.conventions import Conventions
from spatialseg.metrics.measures import CutWeightedF
from spatialseg.metrics.registry import available_measures, register_measure

if TYPE_CHECKING:
    from spatialseg.metrics.classes import (
        BoundaryFMeasure,
        BoundaryIoU,
        EnhancedAlignmentMeasure,
        MeanAbsoluteError,
        MeanIoU,
        SaliencyFMeasure,
        StructureMeasure,
        WeightedFMeasure,
    )
    from spatialseg.metrics.collections import saliency_metrics, segmentation_metrics

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


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what stands over torchmetrics, whose import takes seconds
    for module in ("classes", "collections") if name in __all__ else ():
        if hasattr(home := import_module(f"{__name__}.{module}"), name):
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
