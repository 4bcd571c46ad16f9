"""What is measured: of each family what is counted in an image and what follows, in the order in which tables print."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from spatialseg.conventions import Conventions
from spatialseg.functional import boundary
from spatialseg.functional.alignment import alignment_from_counts
from spatialseg.functional.arrays import stack, tensor
from spatialseg.functional.context import context_measure_of
from spatialseg.functional.correction import correction_effort_of
from spatialseg.functional.dispatch import quick
from spatialseg.functional.error import mean_absolute_error_of
from spatialseg.functional.fragments import spurious_components_of
from spatialseg.functional.iou import overlap_counts
from spatialseg.functional.maps import Maps, masks_at
from spatialseg.functional.multiscale import cell_counts_of, multiscale_iou_from_counts
from spatialseg.functional.saliency_f import saliency_f_from_counts
from spatialseg.functional.size_invariant import size_invariant_error_of, size_invariant_f_of
from spatialseg.functional.structure import quadrant_sums_of, structure_measure_from_sums
from spatialseg.functional.thresholds import reached_counts_of
from spatialseg.functional.weighted_f import WeightedCounts, f_measure_from_counts, weighted_counts_of
from spatialseg.metrics.registry import Measuring, OfClasses, register_measure
from spatialseg.scores import Measure

CLASSES = "spatialseg.metrics.classes"  # not imported here: it takes seconds


@register_measure(Measure("weighted_f", "Fw"), metric=f"{CLASSES}.WeightedFMeasure")
class WeightedF(Measuring):
    """The weighted F-measure (Margolin et al., CVPR 2014)."""

    of_classes = "soft"

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the weighted sums, and where it matters whether any prediction reaches the threshold, (N, 3 or 4)."""
        counts = weighted_counts_of(maps)
        if conventions.empty_target != "strict":
            return counts
        loud, _ = masks_at(maps, conventions.threshold)
        return torch.cat([counts, loud.flatten(1).any(dim=1, keepdim=True).to(counts)], dim=1)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the weighted F-measure of each image, NaN for those that are left out."""
        return {"weighted_f": weighted_values(counts, conventions)[:, 0].double()}


def weighted_values(counts: Tensor, conventions: Conventions) -> Tensor:
    """Return weighted F, precision and recall, (N, 3), from what `WeightedF.count` returned."""
    sums = WeightedCounts(*quick(counts).T[:3])
    values = stack(f_measure_from_counts(sums, conventions.beta2))
    empty = sums.positives == 0
    if conventions.empty_target == "skip" or not empty.any():
        return values
    score = 0 * counts[:, 2] if conventions.empty_target == "zero" else 1 - counts[:, 3]
    return torch.where(tensor(empty)[:, None], score[:, None].to(values), values)


@register_measure(Measure("weighted_f_cut", "Fw cut"), metric="")
class CutWeightedF(Measuring):
    """The weighted F-measure of the map cut at one threshold, and how it goes over several.

    A map that is sharp scores higher than a soft one of the same shapes. Cut at the threshold that is best on the
    validation images, both are masks, and what is left is where they are. Nothing is counted where `Conventions.cuts`
    is empty.
    """

    of_classes = "hard"

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the weighted sums at each threshold, (N, cuts, 3)."""
        sums = []
        for threshold in conventions.cuts:
            sums.append(weighted_counts_of(maps.of_masks(maps.reaches(threshold))).double())
        return torch.stack(sums, dim=1) if sums else torch.zeros(len(maps.source), 0, 3)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the value at `Conventions.cut` and the curve, (N, cuts), of each image."""
        if not conventions.cuts:
            return {}
        loud = counts[..., :1] + counts[..., 1:2] > 0
        flat = torch.cat([counts, loud], dim=2).flatten(0, 1)
        curve = weighted_values(flat, conventions)[:, 0].view(counts.shape[:2])
        cut = conventions.cuts.index(conventions.cut)
        return {"weighted_f_cut": curve[:, cut], "weighted_f": curve}


@register_measure(Measure("s_measure", "S"), metric=f"{CLASSES}.StructureMeasure")
class Structure(Measuring):
    """The S-measure (Fan et al., ICCV 2017)."""

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the sums over the four parts of each image, (N, 2, 2, 2, 3)."""
        return quadrant_sums_of(maps)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the S-measure of each image."""
        return {"s_measure": structure_measure_from_sums(counts, conventions.alpha)}


class Thresholded(Measuring):
    """The base of families of an adaptive threshold and 256 fixed ones, which are counted together."""

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return how many pixels of background and foreground reach the thresholds, (N, 2, 257)."""
        return reached_counts_of(maps)


def of_curve(name: str, label: str) -> tuple[Measure, Measure]:
    """Return the measures of a curve over the fixed thresholds: its mean and its maximum."""
    highest = Measure(f"{name}_max", f"{label} max", "higher", "mean curve", (name,))
    return Measure(f"{name}_mean", f"{label} mean"), highest


def with_curve(name: str, curve: Tensor) -> dict[str, Tensor]:
    """Return their values, and the curve itself, (N, 256)."""
    return {f"{name}_mean": curve.mean(dim=1), f"{name}_max": curve.amax(dim=1), name: curve}


@register_measure(Measure("e_adaptive", "E adp"), *of_curve("e", "E"), metric=f"{CLASSES}.EnhancedAlignmentMeasure")
class EnhancedAlignment(Thresholded):
    """The E-measure (Fan et al., IJCAI 2018)."""

    curves = ("e",)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return values and curve of each image."""
        e = alignment_from_counts(counts)
        return {"e_adaptive": e.adaptive, **with_curve("e", e.curve)}


@register_measure(Measure("f_adaptive", "F adp"), *of_curve("f", "F"), metric=f"{CLASSES}.SaliencyFMeasure")
class SaliencyF(Thresholded):
    """The F-measure of thresholded maps (Achanta et al., CVPR 2009)."""

    curves = ("f", "precision", "recall")

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return values and curves of each image."""
        f = saliency_f_from_counts(counts, conventions.curve_beta2)
        return {"f_adaptive": f.adaptive, **with_curve("f", f.curve), "precision": f.precision, "recall": f.recall}


@register_measure(Measure("mae", "MAE", "lower"), metric=f"{CLASSES}.MeanAbsoluteError")
class AbsoluteError(Measuring):
    """The mean absolute error (Perazzi et al., CVPR 2012)."""

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the error itself, (N,)."""
        return mean_absolute_error_of(maps)


class AtCut(Measuring):
    """What makes a family of measures of masks one of masks that are cut at `Conventions.cut`, the first of its bases.

    Counted at each of the cuts, since a validation chooses one of them afterwards; at none where there are none. The
    masks of several classes need no cut.
    """

    of_classes: ClassVar[OfClasses] = ""

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return what the family counts at each threshold, (N, cuts, ...)."""
        counts = []
        for threshold in conventions.cuts:
            counts.append(super().count(maps, replace(conventions, threshold=threshold)))
        return torch.stack(counts, dim=1) if counts else torch.zeros(len(maps.source), 0)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return its measures, and what they are ratios of, at `Conventions.cut`."""
        if not conventions.cuts:
            return {}
        found = super().values(counts[:, conventions.cuts.index(conventions.cut)], conventions)
        wanted = {name for measure in self.measures for name in (measure.name, *measure.of)}
        return {f"{name}_cut": value for name, value in found.items() if f"{name}_cut" in wanted}


@register_measure(Measure("iou", "IoU", "higher", "data set", ("intersection", "union")), metric=f"{CLASSES}.MeanIoU")
class Overlap(Measuring):
    """Intersection over union, of the data set."""

    of_classes: ClassVar[OfClasses] = "hard"

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the pixels in the intersection and in the union of each image's masks, (N, 2)."""
        return overlap_counts(*masks_at(maps, conventions.threshold)).T

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return them under their names, and each image's own IoU, 1 where both masks are empty."""
        intersection, union = counts.double().T
        iou = torch.where(union > 0, intersection / union, 1.0)
        return {"iou": iou, "intersection": intersection, "union": union}


@register_measure(Measure("iou_cut", "IoU cut", "higher", "data set", ("intersection_cut", "union_cut")), metric="")
class CutOverlap(AtCut, Overlap):
    """Intersection over union, of the data set, of masks cut where the validation images liked it best."""


@register_measure(Measure("boundary_iou", "bIoU"), metric=f"{CLASSES}.BoundaryIoU")
class BoundaryOverlap(Measuring):
    """The Boundary IoU (Cheng et al., CVPR 2021)."""

    of_classes = "hard"

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return intersection and union of the boundary regions, (N, 2)."""
        return boundary.boundary_region_counts_of(*masks_at(maps, conventions.threshold), conventions.dilation_ratio).T

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the Boundary IoU of each image."""
        return {"boundary_iou": boundary.boundary_iou_from_counts(counts.T)}


@register_measure(Measure("boundary_f", "bF"), metric=f"{CLASSES}.BoundaryFMeasure")
class BoundaryF(Measuring):
    """The boundary F-measure (Perazzi et al., CVPR 2016)."""

    of_classes: ClassVar[OfClasses] = "hard"

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return pixels of the contours and of those that match, (N, 4)."""
        return boundary.contour_counts_of(*masks_at(maps, conventions.threshold), conventions.tolerance_ratio).T

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the boundary F-measure of each image, and the pixels of the true contour."""
        return {"boundary_f": boundary.boundary_f_from_counts(counts.T).f, "contour": counts[:, 2].double()}


@register_measure(Measure("boundary_f_cut", "bF cut"), metric="")
class CutBoundaryF(AtCut, BoundaryF):
    """The boundary F-measure of masks cut where the validation images liked it best."""


@register_measure(Measure("spurious", "spurious parts", "lower", "data set", ("spurious_parts", "images"), counts=True))
class Fragments(Measuring):
    """The spurious components of an image's masks: how many per image, of those without a pixel of the class too."""

    of_classes = "hard"
    on_request = True

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return their number, (N,)."""
        return spurious_components_of(maps, conventions.threshold)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return it, and what the mean over all images is a ratio of."""
        parts = counts.double()
        return {"spurious": parts, "spurious_parts": parts, "images": torch.ones_like(parts)}


@register_measure(Measure("multiscale_iou", "MSIoU"))
class MultiscaleIoU(Measuring):
    """The multi-scale IoU (Ahmadzadeh et al., ICIP 2021)."""

    on_request = True

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the cells with both edges and with a true edge at each scale, (N, 10, 2)."""
        return cell_counts_of(*masks_at(maps, conventions.threshold))

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return the multi-scale IoU of each image."""
        return {"multiscale_iou": multiscale_iou_from_counts(counts)}


@register_measure(Measure("context_measure", "Cβ"))
class Context(Measuring):
    """The context measure (Wang et al., arXiv 2512.07076, 2025), with β² = 1."""

    on_request = True

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the measure itself, (N,)."""
        return context_measure_of(maps)


@register_measure(Measure("correction_effort", "HCE", "lower", counts=True))
class CorrectionEffort(Measuring):
    """The human correction effort (Qin et al., ECCV 2022)."""

    on_request = True

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the clicks, (N,)."""
        return correction_effort_of(*masks_at(maps, conventions.threshold))


@register_measure(Measure("si_mae", "SI-MAE", "lower"))
class SizeInvariantError(Measuring):
    """The size-invariant mean absolute error (Li et al., ICML 2024)."""

    on_request = True

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the error itself, (N,)."""
        return size_invariant_error_of(maps)


@register_measure(*of_curve("si_f", "SI-F"))
class SizeInvariantF(Measuring):
    """The size-invariant F-measure (Li et al., ICML 2024)."""

    on_request = True
    curves = ("si_f",)

    def count(self, maps: Maps, conventions: Conventions) -> Tensor:
        """Return the curve itself, (N, 256)."""
        return size_invariant_f_of(maps, conventions.curve_beta2)

    def values(self, counts: Tensor, conventions: Conventions) -> dict[str, Tensor]:
        """Return its mean and maximum, and the curve."""
        return with_curve("si_f", counts)
