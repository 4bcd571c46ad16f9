"""The weighted F-measure of masks, cut from maps at a threshold."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from spatialseg.functional.arrays import stack
from spatialseg.functional.maps import Maps, plain_scale
from spatialseg.functional.weighted_f import weighted_counts_of
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, OfClasses, register_measure
from spatialseg.metrics.weighted_f import WeightedFMeasure
from spatialseg.scores import Measure


@register_measure(Measure("weighted_f_cut", "Fw cut"))
class CutWeightedF:
    """The weighted F-measure of the map cut at one threshold, and how it goes over several.

    A map that is sharp scores higher than a soft one of the same shapes. Cut at the threshold that is best on the
    validation images, both are masks, and what is left is where they are. Nothing is counted where `Conventions.cuts`
    is empty.
    """

    measures: ClassVar[tuple[Measure, ...]]
    of_classes: ClassVar[OfClasses] = "hard"

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the weighted sums at each threshold, (N, cuts, 3)."""
        sums = []
        for threshold in conventions.cuts:
            predicted = maps.reaches(threshold).float()
            cut = replace(maps, source=predicted, scale=plain_scale(predicted), stretched=False)
            sums.append(stack(weighted_counts_of(cut)).double())
        return torch.stack(sums, dim=1) if sums else torch.zeros(len(maps.source), 0, 3)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return the value at `Conventions.cut` and the curve, (N, cuts), of each image."""
        if not conventions.cuts:
            return ImageValues({})
        loud = counts[..., :1] + counts[..., 1:2] > 0
        flat = torch.cat([counts, loud], dim=2).flatten(0, 1)
        curve = WeightedFMeasure.values(flat, conventions).columns["weighted_f"].view(counts.shape[:2])
        cut = conventions.cuts.index(conventions.cut)
        return ImageValues({"weighted_f_cut": curve[:, cut]}, {"weighted_f": curve})
