"""The base of all measures that are averaged over images."""

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ImageMean(Metric):
    """Average per-image values over all images seen, in constant memory.

    The states are sums in float64, so that the average does not depend on the order or on the number of processes. A
    device without float64 (MPS) can therefore not hold them: keep the metric, and what it is updated with, on the CPU.

    Args:
        options: The arguments of the measure; see `state_suffix`.
        shape: Shape of one image's values.
        counts: Shape of the count of images; the leading part of `shape`.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(
        self,
        options: Sequence[object],
        shape: Sequence[int] = (),
        counts: Sequence[int] = (),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        suffix = state_suffix(self, options)
        self._total, self._images = f"total_{suffix}", f"images_{suffix}"
        self.add_state(self._total, torch.zeros(tuple(shape), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(self._images, torch.zeros(tuple(counts), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def total(self) -> Tensor:
        """Sum of the values of all images counted, float64."""
        return getattr(self, self._total)  # type: ignore[no-any-return]

    @property
    def images(self) -> Tensor:
        """Number of images counted, int64."""
        return getattr(self, self._images)  # type: ignore[no-any-return]

    def _accumulate(self, values: Tensor, counted: Tensor | None = None) -> None:
        """Add values of shape (N, *shape); those whose `counted`, of shape (N, *counts), is False are left out."""
        values = values.detach()
        number: Tensor | int = len(values)
        if counted is not None:
            values = values.masked_fill(~_expand(counted, values.ndim), 0)
            number = counted.sum(dim=0).to(self.images.device)
        setattr(self, self._total, self.total + values.sum(dim=0, dtype=torch.float64).to(self.total.device))
        setattr(self, self._images, self.images + number)

    def _mean(self) -> Tensor:
        """Return the averages, NaN where no image was counted."""
        return self.total / _expand(self.images, self.total.ndim)

    def plot(self, val: Any = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Plot one value, or how the value went over several steps.

        Args:
            val: What `forward` or `compute` returned, or a list of it; the current value if `None`.
            ax: The matplotlib axis to draw on; a new figure if `None`.

        Returns:
            The matplotlib figure and axis.
        """
        return self._plot(val, ax)


def state_suffix(metric: Metric, options: Sequence[object]) -> str:
    """Return an ending for the names of a metric's states that tells its class and arguments.

    `torchmetrics.MetricCollection` lets metrics share their states when these have the same names and are equal after
    the first batch, which a perfect first prediction makes them; different names keep different measures apart.
    """
    return f"{zlib.crc32(repr((type(metric).__name__, *options)).encode()):08x}"


def _expand(values: Tensor, ndim: int) -> Tensor:
    """Append dimensions of size 1 until there are `ndim`."""
    return values.reshape(values.shape + (1,) * (ndim - values.ndim))
