"""The S-measure, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.maps import Maps
from spatialseg.functional.structure import quadrant_sums_of, structure_measure_from_sums
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, register_measure
from spatialseg.scores import Measure


@register_measure(Measure("s_measure", "S"))
class StructureMeasure(ImageMean):
    """Average the S-measure over images (Fan et al., ICCV 2017); see `spatialseg.functional.structure_measure`.

    Args:
        alpha: Weight in [0, 1] of the object term against the region term.
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: `alpha` is outside [0, 1].
    """

    def __init__(
        self, alpha: float = 0.5, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        super().__init__(Conventions(alpha=alpha, normalize=normalize, ignore_index=ignore_index), **kwargs)

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the sums over the four parts of each image, (N, 2, 2, 2, 3)."""
        return quadrant_sums_of(maps)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return the S-measure of each image."""
        return ImageValues({"s_measure": structure_measure_from_sums(counts, conventions.alpha)})
