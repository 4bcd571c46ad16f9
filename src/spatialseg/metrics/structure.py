"""The S-measure, averaged over images."""

from typing import Any

from torch import Tensor

from spatialseg.functional.structure import structure_measure
from spatialseg.metrics.base import ImageMean


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
        self,
        alpha: float = 0.5,
        normalize: bool = False,
        ignore_index: int | None = 255,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        super().__init__((alpha, normalize, ignore_index), **kwargs)
        self.alpha = alpha
        self.normalize = normalize
        self.ignore_index = ignore_index

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities and targets, each (N, H, W) or (N, 1, H, W)."""
        self._accumulate(
            structure_measure(
                prediction, target, alpha=self.alpha, normalize=self.normalize, ignore_index=self.ignore_index
            )
        )

    def compute(self) -> Tensor:
        """Return the average over all images, a scalar in [0, 1]; NaN before the first."""
        return self._mean()
