"""The weighted F-measure, averaged over images."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn

from spatialseg.functional.arrays import stack
from spatialseg.functional.dispatch import quick
from spatialseg.functional.maps import Maps, as_maps
from spatialseg.functional.one_vs_rest import maps_of_classes
from spatialseg.functional.weighted_f import WeightedCounts, f_measure_from_counts, weighted_counts_of
from spatialseg.metrics.base import ImageMean, check_classes
from spatialseg.metrics.conventions import Conventions, EmptyTarget
from spatialseg.metrics.registry import ImageValues, OfClasses, register_measure
from spatialseg.scores import Measure


@register_measure(Measure("weighted_f", "Fw"))
class WeightedFMeasure(ImageMean):
    r"""Average the weighted F-measure of Margolin et al. (*How to Evaluate Foreground Maps?*, CVPR 2014) over images.

    .. math::
        F^w_\beta = \frac{(1+\beta^2)\,TP^w}{\beta^2 N_+ + TP^w + FP^w}

    The value of an image is exact, see `spatialseg.functional.weighted_f_measure`: Euclidean distances, a Gaussian of
    7×7 pixels with σ = 5 and zero padding, and, where several foreground pixels are equally near, the one with the
    smallest column, then the smallest row (as SciPy does, and with it PySODMetrics), on every device.

    Args:
        beta2: β², the weight of recall against precision; positive.
        empty_target: What an image without foreground scores, which the definition leaves open. `"skip"`: it is not
            counted. `"zero"`: 0, as PySODMetrics has it. `"strict"`: 1 if no predicted probability reaches 0.5, else 0.
            The first such image causes a warning.
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does and the authors'
            `WFb.m` does not.
        ignore_index: Target value of the pixels that take no part.
        classes: 1 for a foreground map; C > 1 to score each of C classes against the rest.
        average: With several classes, their unweighted mean (`"macro"`, over the classes that have a value) or a value
            for each (`"none"`).
        components: Let `compute` return a dictionary of `weighted_f`, `weighted_precision` and `weighted_recall`, each
            averaged over images by itself, instead of the F-measure alone.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: An argument is outside its range.

    Example:
        >>> target = torch.zeros(1, 32, 32)
        >>> target[:, 10:20, 12:24] = 1
        >>> metric = WeightedFMeasure()
        >>> metric.update(target.roll((2, 1), (1, 2)), target)
        >>> round(metric.compute().item(), 6)
        0.768816
    """

    plot_legend_name = "Class"
    of_classes: ClassVar[OfClasses] = "soft"

    def __init__(
        self,
        beta2: float = 1.0,
        empty_target: EmptyTarget = "skip",
        normalize: bool = False,
        ignore_index: int | None = 255,
        *,
        classes: int = 1,
        average: Literal["macro", "none"] = "macro",
        components: bool = False,
        **kwargs: Any,
    ) -> None:
        conventions = Conventions(normalize, beta2, empty_target=empty_target, ignore_index=ignore_index)
        check_classes(classes, average)
        super().__init__(conventions, (classes,), (classes, 3), (classes,), **kwargs)
        self.classes = classes
        self.average = average
        self.components = components
        self._warned = False

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
        counts = self.count(maps, used)
        values, empty = _scored(counts, used)
        if empty:
            self._warn()
        values = values.view(-1, self.classes, 3)
        self._accumulate(values, ~values[..., 0].isnan() if empty else None)

    @staticmethod
    def count(maps: Maps, conventions: Conventions) -> Tensor:
        """Return the weighted sums, and where it matters whether any prediction reaches the threshold, (N, 3 or 4)."""
        counts = stack(weighted_counts_of(maps))
        if conventions.empty_target != "strict":
            return counts
        loud = maps.reaches(conventions.threshold)
        loud = loud if maps.valid is None else loud & maps.valid
        return torch.cat([counts, loud.flatten(1).any(dim=1, keepdim=True).to(counts)], dim=1)

    @staticmethod
    def values(counts: Tensor, conventions: Conventions) -> ImageValues:
        """Return the weighted F-measure of each image, NaN for those that are left out."""
        return ImageValues({"weighted_f": _scored(counts, conventions)[0][:, 0].double()})

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the average over the images counted: a scalar, or (C,) with `average="none"`; NaN if there is none."""
        values = self._mean()
        if self.classes == 1:
            values = values[0]
        elif self.average == "macro":
            values = values.nanmean(dim=0)
        if not self.components:
            return values[..., 0]
        names = ("weighted_f", "weighted_precision", "weighted_recall")
        return dict(zip(names, values.unbind(dim=-1), strict=True))

    def _warn(self) -> None:
        used = self.conventions.empty_target
        if self._warned or (self.classes > 1 and used == "skip"):  # few images show every class
            return
        self._warned = True
        meaning = {
            "skip": "such images are not counted",
            "zero": "such images score 0 whatever the prediction",
            "strict": "such images score 1 if the prediction is empty too, else 0",
        }
        rank_zero_warn(
            "A target without foreground has no weighted F-measure; with "
            f'empty_target="{used}" {meaning[used]}. '
            "If your masks are not empty, check that foreground is 1 in them.",
            UserWarning,
        )


def _scored(counts: Tensor, conventions: Conventions) -> tuple[Tensor, bool]:
    """Return F, precision and recall, (N, 3), from what `count` returned, and whether any image has no foreground."""
    sums = counts[:, :3].T
    values = stack(f_measure_from_counts(WeightedCounts(*quick(sums)), conventions.beta2))
    empty = sums[2] == 0
    if conventions.empty_target == "skip":
        return values, bool(empty.any())
    score = 0 * sums[2] if conventions.empty_target == "zero" else 1 - counts[:, 3]
    return torch.where(empty[:, None], score[:, None].to(values), values), bool(empty.any())
