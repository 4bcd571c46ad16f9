"""The base of all measures that are averaged over images."""

import zlib
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from spatialseg.functional.maps import Maps, as_maps
from spatialseg.functional.thresholds import level_histograms_of
from spatialseg.metrics.conventions import Conventions
from spatialseg.metrics.registry import ImageValues, OfClasses
from spatialseg.scores import Measure


class ImageMean(Metric):
    """Average per-image values over all images seen, in constant memory.

    A subclass says what is counted in an image and what follows from the counts (see `registry.Measuring`); what it
    has many of are its `curve_names`. The states are sums in float64, so that the average does not depend on the order
    or on the number of processes. A device without float64 (MPS) can therefore not hold them: keep the metric, and what
    it is updated with, on the CPU.

    Args:
        conventions: How to score.
        options: Further arguments of the measure; see `tell_apart`.
        shape: Shape of one image's values; by default one for each measure, then the curves.
        counts: Shape of the count of images; the leading part of `shape`.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    total: Tensor
    """Sum of the values of all images counted, float64."""
    images: Tensor
    """Number of images counted, int64."""
    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    measures: ClassVar[tuple[Measure, ...]]
    of_classes: ClassVar[OfClasses] = ""
    curve_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        conventions: Conventions,
        options: Sequence[object] = (),
        shape: Sequence[int] | None = None,
        counts: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conventions = conventions
        shape = (len(self.measures) + 256 * len(self.curve_names),) if shape is None else shape
        self.add_state("total", torch.zeros(tuple(shape), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(tuple(counts), dtype=torch.int64), dist_reduce_fx="sum")
        tell_apart(self, (*astuple(conventions), *options))

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return what is counted in each image, (N, ...)."""
        raise NotImplementedError

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return what follows from the counts."""
        raise NotImplementedError

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch of probabilities (or uint8 grey levels) and targets, each (N, H, W) or (N, 1, H, W).

        Raises:
            ValueError: Bad input, see `as_maps`.
        """
        used = self.conventions
        maps = as_maps(prediction, target, normalize=used.normalize, ignore_index=used.ignore_index)
        columns, curves = self.values(self.count(maps, used), used)
        values = [columns[measure.name][:, None] for measure in self.measures]
        self._accumulate(torch.cat([*values, *(curves[name] for name in self.curve_names)], dim=1))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the averages over all images, scalars, by name if there are several; NaN before the first image.

        A maximum over thresholds is that of the curve averaged over images.
        """
        mean, curves = self._mean(), self.curves()
        values = {
            measure.name: curves[measure.of[0]].max() if measure.average == "mean curve" else mean[place]
            for place, measure in enumerate(self.measures)
        }
        return values if len(values) > 1 else mean[0]

    def curves(self) -> dict[str, Tensor]:
        """Return the averages over all images seen by this process at each threshold k/255, (256,), by name."""
        curves = self._mean()[len(self.measures) :].view(-1, 256)
        return dict(zip(self.curve_names, curves, strict=True))

    def _accumulate(self, values: Tensor, counted: Tensor | None = None) -> None:
        """Add values of shape (N, *shape); those whose `counted`, of shape (N, *counts), is False are left out."""
        values = values.detach()
        number: Tensor | int = len(values)
        if counted is not None:
            values = values.masked_fill(~_expand(counted, values.ndim), 0)
            number = counted.sum(dim=0).to(self.images.device)
        self.total = self.total + values.sum(dim=0, dtype=torch.float64).to(self.total.device)
        self.images = self.images + number

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


class ThresholdedMean(ImageMean):
    """The base of measures at 256 thresholds, which are counted together."""

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the histograms of grey levels on background and foreground, (N, 2, 257)."""
        return level_histograms_of(maps)


def check_classes(classes: int, average: str) -> None:
    """Raise `ValueError` if there is no class, or no such way to average over classes."""
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    if average not in ("macro", "none"):
        raise ValueError(f'average must be "macro" or "none", got {average!r}')


def tell_apart(metric: Metric, options: Sequence[object]) -> None:
    """Give a metric a state, always 0, whose name tells its class and arguments.

    `torchmetrics.MetricCollection` lets metrics share their states when these have the same names and are equal after
    the first batch, which a perfect first prediction makes them; different names keep different measures apart.
    """
    name = f"of_{zlib.crc32(repr((type(metric).__name__, *options)).encode()):08x}"
    metric.add_state(name, torch.zeros(()), dist_reduce_fx="sum")


def _expand(values: Tensor, ndim: int) -> Tensor:
    """Append dimensions of size 1 until there are `ndim`."""
    return values.reshape(values.shape + (1,) * (ndim - values.ndim))
