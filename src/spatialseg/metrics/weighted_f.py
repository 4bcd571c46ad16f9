"""The weighted F-measure, averaged over images."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn

from spatialseg.functional.arrays import stack, tensor
from spatialseg.functional.maps import as_maps
from spatialseg.functional.one_vs_rest import maps_of_classes
from spatialseg.functional.weighted_f import f_measure_from_counts, weighted_counts_of
from spatialseg.metrics.base import ImageMean

EmptyTarget = Literal["skip", "zero", "strict"]


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
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if beta2 <= 0:
            raise ValueError(f"beta2 must be positive, got {beta2}")
        if empty_target not in ("skip", "zero", "strict"):
            raise ValueError(f'empty_target must be "skip", "zero" or "strict", got {empty_target!r}')
        if average not in ("macro", "none"):
            raise ValueError(f'average must be "macro" or "none", got {average!r}')
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        options = (beta2, empty_target, normalize, ignore_index, classes)
        super().__init__(options, shape=(classes, 3), counts=(classes,), **kwargs)
        self.beta2 = beta2
        self.empty_target = empty_target
        self.normalize = normalize
        self.ignore_index = ignore_index
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
        if self.classes > 1:
            prediction, target = maps_of_classes(prediction, target, self.classes, self.ignore_index)
        maps = as_maps(prediction, target, normalize=self.normalize, ignore_index=self.ignore_index)
        counts = weighted_counts_of(maps)
        values = stack(f_measure_from_counts(counts, self.beta2))
        empty = counts.positives == 0
        counted = None
        if bool(empty.any()):
            empty = tensor(empty)
            self._warn()
            if self.empty_target == "skip":
                counted = ~empty.view(-1, self.classes)
            elif self.empty_target == "zero":
                values = values.masked_fill(empty[:, None], 0)
            else:
                quiet = ~maps.reaches(0.5)
                if maps.valid is not None:
                    quiet |= ~maps.valid
                values = torch.where(empty[:, None], quiet.flatten(1).all(dim=1).to(values.dtype)[:, None], values)
        self._accumulate(values.view(-1, self.classes, 3), counted)

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
        if self._warned or (self.classes > 1 and self.empty_target == "skip"):  # few images show every class
            return
        self._warned = True
        meaning = {
            "skip": "such images are not counted",
            "zero": "such images score 0 whatever the prediction",
            "strict": "such images score 1 if the prediction is empty too, else 0",
        }
        rank_zero_warn(
            "A target without foreground has no weighted F-measure; with "
            f'empty_target="{self.empty_target}" {meaning[self.empty_target]}. '
            "If your masks are not empty, check that foreground is 1 in them.",
            UserWarning,
        )
