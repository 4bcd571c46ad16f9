"""The mean absolute error of foreground maps, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.error import mean_absolute_error_of
from spatialseg.functional.maps import Maps
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, register_measure
from spatialseg.scores import Measure


@register_measure(Measure("mae", "MAE", "lower"))
class MeanAbsoluteError(ImageMean):
    """Average the mean absolute error between prediction and ground truth over images (Perazzi et al., CVPR 2012).

    Every image counts the same whatever its size, unlike in `torchmetrics.MeanAbsoluteError`, where every pixel does.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:
        super().__init__(Conventions(normalize=normalize, ignore_index=ignore_index), **kwargs)

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the error itself, (N,)."""
        return mean_absolute_error_of(maps)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return it under its name."""
        return ImageValues({"mae": counts})
