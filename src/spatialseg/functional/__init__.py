"""Pure tensor functions: the only place where the measures and the losses are computed."""

from spatialseg.functional.alignment import AlignmentResult as AlignmentResult
from spatialseg.functional.alignment import enhanced_alignment_measure as enhanced_alignment_measure
from spatialseg.functional.boundary import BoundaryFResult as BoundaryFResult
from spatialseg.functional.boundary import boundary_f_measure as boundary_f_measure
from spatialseg.functional.boundary import boundary_iou as boundary_iou
from spatialseg.functional.distance import distance_maps as distance_maps
from spatialseg.functional.distance import distance_to_foreground as distance_to_foreground
from spatialseg.functional.error import mean_absolute_error as mean_absolute_error
from spatialseg.functional.iou import intersection_and_union as intersection_and_union
from spatialseg.functional.multiscale import multiscale_iou as multiscale_iou
from spatialseg.functional.pooling import selective_pooling as selective_pooling
from spatialseg.functional.saliency_f import SaliencyFResult as SaliencyFResult
from spatialseg.functional.saliency_f import saliency_f_measure as saliency_f_measure
from spatialseg.functional.size_invariant import size_invariant_error as size_invariant_error
from spatialseg.functional.size_invariant import size_invariant_f_measure as size_invariant_f_measure
from spatialseg.functional.structure import structure_measure as structure_measure
from spatialseg.functional.thresholds import ThresholdCounts as ThresholdCounts
from spatialseg.functional.thresholds import threshold_counts as threshold_counts
from spatialseg.functional.weighted_f import WeightedCounts as WeightedCounts
from spatialseg.functional.weighted_f import WeightedError as WeightedError
from spatialseg.functional.weighted_f import WeightedFMeasureResult as WeightedFMeasureResult
from spatialseg.functional.weighted_f import f_measure_from_counts as f_measure_from_counts
from spatialseg.functional.weighted_f import weighted_counts as weighted_counts
from spatialseg.functional.weighted_f import weighted_error as weighted_error
from spatialseg.functional.weighted_f import weighted_f_measure as weighted_f_measure
