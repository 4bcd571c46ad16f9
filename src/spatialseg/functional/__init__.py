"""Pure tensor functions: the only place where the measures and the losses are computed."""

from spatialseg.functional.distance import distance_to_foreground
from spatialseg.functional.pooling import selective_pooling
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
    "WeightedCounts",
    "WeightedError",
    "WeightedFMeasureResult",
    "distance_to_foreground",
    "f_measure_from_counts",
    "selective_pooling",
    "weighted_counts",
    "weighted_error",
    "weighted_f_measure",
]
