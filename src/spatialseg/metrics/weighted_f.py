"""The weighted F-measure, averaged over images, as a `torchmetrics` class."""

from typing import Any, Literal

from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn

from spatialseg.conventions import Conventions, EmptyTarget
from spatialseg.functional.dispatch import quick
from spatialseg.functional.maps import Maps
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.measures import WeightedF, weighted_values


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

    names = ("weighted_f", "weighted_precision", "weighted_recall")

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
        super().__init__(WeightedF(), conventions, classes, average, **kwargs)
        self.components = components
        self._warned = False

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the average over the images counted: a scalar, or (C,) with `average="none"`; NaN if there is none."""
        values = {name: self._over_classes(self._mean(name)) for name in self.names}
        return values if self.components else values["weighted_f"]

    def _values(self, maps: Maps) -> Tensor:
        counts = self.measuring.count(maps, self.conventions)
        used = self.conventions.empty_target
        looks = self.validate_args or counts.is_cpu
        # Of several classes few images show every one.
        if (
            looks
            and not self._warned
            and not (self.classes > 1 and used == "skip")
            and bool((quick(counts)[:, 2] == 0).any())
        ):
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
        return weighted_values(counts, self.conventions)
