"""Pure tensor functions: the only place where the measures and the losses are computed."""

from spatialseg.functional.alignment import AlignmentResult, enhanced_alignment_measure
from spatialseg.functional.boundary import BoundaryFResult, boundary_f_measure, boundary_iou
from spatialseg.functional.context import context_measure
from spatialseg.functional.correction import human_correction_effort
from spatialseg.functional.distance import distance_maps, distance_to_foreground
from spatialseg.functional.error import mean_absolute_error
from spatialseg.functional.iou import intersection_and_union
from spatialseg.functional.multiscale import multiscale_iou
from spatialseg.functional.pooling import selective_pooling
from spatialseg.functional.saliency_f import SaliencyFResult, saliency_f_measure
from spatialseg.functional.size_invariant import size_invariant_error, size_invariant_f_measure
from spatialseg.functional.structure import structure_measure
from spatialseg.functional.thresholds import ThresholdCounts, threshold_counts
from spatialseg.functional.weighted_f import (
    WeightedCounts,
    WeightedError,
    WeightedFMeasureResult,
    f_measure_from_counts,
    weighted_counts,
    weighted_error,
    weighted_f_measure,
)

__all__ = [
    "AlignmentResult",
    "BoundaryFResult",
    "SaliencyFResult",
    "ThresholdCounts",
    "WeightedCounts",
    "WeightedError",
    "WeightedFMeasureResult",
    "boundary_f_measure",
    "boundary_iou",
    "context_measure",
    "distance_maps",
    "distance_to_foreground",
    "enhanced_alignment_measure",
    "f_measure_from_counts",
    "human_correction_effort",
    "intersection_and_union",
    "mean_absolute_error",
    "multiscale_iou",
    "saliency_f_measure",
    "selective_pooling",
    "size_invariant_error",
    "size_invariant_f_measure",
    "structure_measure",
    "threshold_counts",
    "weighted_counts",
    "weighted_error",
    "weighted_f_measure",
]
