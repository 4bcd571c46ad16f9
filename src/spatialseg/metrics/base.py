"""The base of the `torchmetrics` classes, and the one that averages any registered measure over images."""

import zlib
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from spatialseg.functional.maps import Maps, as_maps
from spatialseg.functional.one_vs_rest import maps_of_classes
from spatialseg.metrics.conventions import DEFAULT, Conventions
from spatialseg.metrics.registry import Measuring


class SegmentationMetric(Metric):
    """What all classes have in common: values in [0, 1] of one class or several.

    Args:
        classes: 1 for a foreground map; C > 1 for classes.
        average: Of several classes their mean (`"macro"`) or a value for each (`"none"`).
        options: What else tells this metric from others of its class.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: There is no class, or no such way to average over classes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    plot_legend_name = "Class"

    def __init__(self, classes: int, average: str, options: tuple[object, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if average not in ("macro", "none"):
            raise ValueError(f'average must be "macro" or "none", got {average!r}')
        self.classes = classes
        self.average = average
        # `torchmetrics.MetricCollection` lets metrics share their states when these have the same names and are equal
        # after the first batch, which a perfect first prediction makes them. So each has one, always 0, whose name
        # tells its class and arguments.
        name = f"of_{zlib.crc32(repr((type(self).__name__, classes, *options)).encode()):08x}"
        self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def plot(self, val: Any = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Plot one value, or how the value went over several steps.

        Args:
            val: What `forward` or `compute` returned, or a list of it; the current value if `None`.
            ax: The matplotlib axis to draw on; a new figure if `None`.

        Returns:
            The matplotlib figure and axis.
        """
        return self._plot(val, ax)

    def _over_classes(self, values: Tensor) -> Tensor:
        """Return the value of the one class, the mean over those that have one, or all, from (C, ...)."""
        if self.classes == 1:
            return values[0]
        return values.nanmean(dim=0) if self.average == "macro" else values


class ImageMean(SegmentationMetric):
    """Average registered measures over all images seen, in constant memory; a value that is NaN is left out.

    The states are sums in float64, so that the average does not depend on the order or on the number of processes. A
    device without float64 (MPS) can therefore not hold them: keep the metric, and what it is updated with, on the CPU.

    Args:
        measuring: The registered class: what is counted in an image, and what follows.
        conventions: How to score.
        classes: See `SegmentationMetric`, as for what follows.
        average: The same.
        width: How many values there are of an image and class; by default one per measure, then the curves.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    total: Tensor
    """Sum of the values of all images counted, (C, values), float64."""
    images: Tensor
    """Number of images counted, (C,), int64."""

    def __init__(
        self,
        measuring: type[Measuring],
        conventions: Conventions = DEFAULT,
        classes: int = 1,
        average: str = "macro",
        width: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, average, (measuring.__name__, *astuple(conventions)), **kwargs)
        self.measuring = measuring
        self.conventions = conventions
        width = width or len(measuring.measures) + 256 * len(measuring.curves)
        self.add_state("total", torch.zeros(classes, width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Score a batch.

        Args:
            prediction: Probabilities in [0, 1] (or uint8 grey levels), (N, H, W) or (N, 1, H, W); (N, C, H, W) with
                C = `classes` > 1.
            target: Ground truth of values 0, 1 and `ignore_index`, (N, H, W) or (N, 1, H, W). With several classes the
                class index, (N, H, W), or for multi-label 0 and 1 per class, (N, C, H, W).

        Raises:
            ValueError: The shapes do not fit, a prediction holds NaN or leaves [0, 1], or a target holds another value.
        """
        used = self.conventions
        if self.classes > 1:
            prediction, target = maps_of_classes(prediction, target, self.classes, used.ignore_index)
        maps = as_maps(prediction, target, normalize=used.normalize, ignore_index=used.ignore_index)
        values = self._values(maps).view(-1, *self.total.shape)
        left_out = values[..., :1].isnan()
        self.total = self.total + values.masked_fill(left_out, 0).sum(dim=0, dtype=torch.float64).to(self.total.device)
        self.images = self.images + (~left_out[..., 0]).sum(dim=0).to(self.images.device)

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the averages over all images, scalars, by name if there are several; NaN before the first image.

        A maximum over thresholds is that of the curve averaged over images.
        """
        mean, curves = self._mean()[0], self.curves()
        values = {
            measure.name: curves[measure.of[0]].max() if measure.average == "mean curve" else mean[place]
            for place, measure in enumerate(self.measuring.measures)
        }
        return values if len(values) > 1 else mean[0]

    def curves(self) -> dict[str, Tensor]:
        """Return the averages over all images seen by this process at each threshold k/255, (256,), by name."""
        curves = self._mean()[0, len(self.measuring.measures) :].view(-1, 256)
        return dict(zip(self.measuring.curves, curves, strict=True))

    def _values(self, maps: Maps) -> Tensor:
        """Return the values of each map, (N, values)."""
        columns, curves = self.measuring.values(self.measuring.count(maps, self.conventions), self.conventions)
        values = [columns[measure.name][:, None] for measure in self.measuring.measures]
        return torch.cat([*values, *(curves[name] for name in self.measuring.curves)], dim=1)

    def _mean(self) -> Tensor:
        """Return the averages, NaN where no image was counted."""
        return self.total / self.images[:, None]
