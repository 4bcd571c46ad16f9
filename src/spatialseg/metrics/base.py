"""The `torchmetrics` class over any registered measure."""

import zlib
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from spatialseg.conventions import DEFAULT, Conventions
from spatialseg.functional.arrays import joined, tensor, where
from spatialseg.functional.dispatch import quick
from spatialseg.functional.maps import Maps, as_maps, masks_at, without
from spatialseg.functional.one_vs_rest import maps_of_classes, most_probable
from spatialseg.metrics.registry import Measuring
from spatialseg.scores import Measure


class ImageMean(Metric):
    """Average registered measures over all images seen, in constant memory; a value that is NaN is left out.

    A measure of the data set is the ratio of what it is averaged of. The states are sums in float64, so that the result
    does not depend on the order or on the number of processes. A device without float64 (MPS) can therefore not hold
    them: keep the metric, and what it is updated with, on the CPU.

    Args:
        measuring: The family: what is counted in an image, and what follows.
        conventions: How to score.
        classes: 1 for a foreground map; C > 1 for classes.
        average: Of several classes the mean over those that have a value (`"macro"`), or a value for each (`"none"`).
        validate_args: Look at the values of every batch also on an accelerator, which has to wait for it.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: There is no class, or several of which these measures say nothing; or no such way to average over
            classes.
    """

    total: Tensor
    """Sum of the values of all images counted, (C, values + 1), float64: of each name, of the curves, and of ones."""
    names: tuple[str, ...] = ()
    """What is summed; by default a value per measure, or what a measure of the data set is a ratio of."""
    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_legend_name = "Class"

    def __init__(
        self,
        measuring: Measuring,
        conventions: Conventions = DEFAULT,
        classes: int = 1,
        average: str = "macro",
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if classes > 1 and not measuring.of_classes:
            names = ", ".join(measure.name for measure in measuring.measures)
            raise ValueError(f"{names}: of a foreground map alone, got classes={classes}; update it with one class")
        if average not in ("macro", "none"):
            raise ValueError(f'average must be "macro" or "none", got {average!r}')
        self.measuring = measuring
        self.conventions = conventions
        self.classes = classes
        self.average = average
        self.validate_args = validate_args
        self.names = self.names or tuple(name for measure in measuring.measures for name in _parts(measure))
        width = len(self.names) + 256 * len(measuring.curves) + 1
        self.add_state("total", torch.zeros(classes, width, dtype=torch.float64), dist_reduce_fx="sum")
        # `torchmetrics.MetricCollection` lets metrics share their states when these have the same names and are equal
        # after the first batch, which a perfect first prediction makes them. So each has one, always 0, whose name
        # tells its arguments.
        told = repr((type(self).__name__, type(measuring).__name__, classes, *astuple(conventions)))
        self.add_state(f"of_{zlib.crc32(told.encode()):08x}", torch.zeros(()), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether the first of the measures is better the higher it is."""
        return self.measuring.measures[0].better == "higher"

    @property
    def plot_upper_bound(self) -> float | None:  # type: ignore[override]
        """The highest value there is; none of a number of things."""
        return None if self.measuring.measures[0].counts else 1.0

    @property
    def images(self) -> Tensor:
        """Number of images counted, (C,)."""
        return self.total[:, -1]

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch.

        Args:
            prediction: Probabilities in [0, 1] (or uint8 grey levels), (N, H, W) or (N, 1, H, W); (N, C, H, W) with
                C = `classes` > 1.
            target: Ground truth of values 0, 1 and `ignore_index`, (N, H, W) or (N, 1, H, W). With several classes the
                class index, (N, H, W), or for multi-label 0 and 1 per class, (N, C, H, W); measures of masks are of
                the most probable class, or of each that reaches the threshold.

        Raises:
            ValueError: The shapes do not fit, a prediction holds NaN or leaves [0, 1], or a target holds another value.
        """
        used = self.conventions
        looks = self.validate_args or prediction.is_cpu
        given = prediction, target
        if self.classes > 1:
            given = maps_of_classes(prediction, target, self.classes, used.ignore_index, looks)
        maps = as_maps(*given, normalize=used.normalize, ignore_index=used.ignore_index, validate_args=looks)
        hard = self.classes > 1 and self.measuring.of_classes == "hard"
        if hard and target.shape != prediction.shape:
            maps = maps.of_masks(most_probable(prediction))  # multi-label maps are cut at the threshold instead
        values = maps.scored(self._values(maps))
        if hard and self.measuring.measures[0].average == "images":  # a class that is nowhere has no value
            predicted, true = masks_at(maps, used.threshold)
            values = without(values, ~(predicted | true).flatten(1).any(dim=1))
        self._add(values)

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the figure of all images, by name if there are several: a scalar, or (C,) with `average="none"`.

        NaN before the first image. A maximum over thresholds is that of the curve averaged over images.
        """
        values = {measure.name: self._over_classes(self._figure(measure)) for measure in self.measuring.measures}
        return values if len(values) > 1 else next(iter(values.values()))

    def curves(self) -> dict[str, Tensor]:
        """Return the averages over all images seen by this process at each threshold k/255, (256,), by name."""
        curves = (self.total[0, len(self.names) : -1] / self.images).view(-1, 256)
        return dict(zip(self.measuring.curves, curves, strict=True))

    def plot(self, val: Any = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Plot one value, or how the value went over several steps.

        Args:
            val: What `forward` or `compute` returned, or a list of it; the current value if `None`.
            ax: The matplotlib axis to draw on; a new figure if `None`.

        Returns:
            The matplotlib figure and axis.
        """
        return self._plot(val, ax)

    def _values(self, maps: Maps) -> Tensor:
        """Return the values of each map, (N·C, values)."""
        values = self.measuring.values(self.measuring.count(maps, self.conventions), self.conventions)
        return torch.column_stack([values[name] for name in (*self.names, *self.measuring.curves)])

    def _add(self, values: Tensor) -> None:
        """Add the values of the classes of some images, (N·C, values)."""
        array = quick(values.double())
        counted = array[:, :1] == array[:, :1]  # not NaN
        sums = joined([where(counted, array, 0.0), counted]).reshape(-1, *self.total.shape).sum(axis=0)
        self.total = self.total + tensor(sums).to(self.total.device)

    def _mean(self, name: str, over: str = "") -> Tensor:
        """Return what is summed under a name per image, or per sum of another name, (C,)."""
        sums = dict(zip(self.names, self.total.unbind(dim=1), strict=False))
        return sums[name] / (sums[over] if over else self.images)

    def _figure(self, measure: Measure) -> Tensor:
        """Return a measure's figure, (C,)."""
        if measure.average == "mean curve":
            return self.curves()[measure.of[0]].amax(dim=0, keepdim=True)
        return self._mean(*_parts(measure))

    def _over_classes(self, values: Tensor) -> Tensor:
        """Return the value of the one class, the mean over those that have one, or all, from (C, ...)."""
        if self.classes == 1:
            return values[0]
        return values.nanmean(dim=0) if self.average == "macro" else values


def _parts(measure: Measure) -> tuple[str, ...]:
    """Return the columns that a measure's figure follows from."""
    return measure.of if measure.average == "data set" else (measure.name,)
