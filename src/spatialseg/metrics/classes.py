"""The measures of every table, each as a `torchmetrics` class with the arguments that it takes."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn

from spatialseg.conventions import OF_EMPTY, Conventions, EmptyTarget
from spatialseg.functional.dispatch import quick
from spatialseg.functional.iou import intersection_and_union
from spatialseg.functional.maps import Maps
from spatialseg.metrics import measures
from spatialseg.metrics.base import ImageMean


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
        super().__init__(measures.WeightedF(), conventions, classes, average, **kwargs)
        self.components = components
        self._warned = False

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the average over the images counted: a scalar, or (C,) with `average="none"`; NaN if there is none."""
        values = {name: self._over_classes(self._mean(name)) for name in self.names}
        return values if self.components else values["weighted_f"]

    def _values(self, maps: Maps) -> Tensor:
        counts = self.measuring.count(maps, self.conventions)
        used = self.conventions.empty_target
        wanted = self.classes == 1 or used != "skip"  # of several classes few images show every one
        looks = wanted and not self._warned and (self.validate_args or counts.is_cpu)
        if looks and bool((quick(maps.scored(counts))[:, 2] == 0).any()):
            self._warned = True
            rank_zero_warn(
                f'A target without foreground has no weighted F-measure; empty_target="{used}" means: '
                f"{OF_EMPTY[used]}. If your masks are not empty, check that foreground is 1 in them.",
                UserWarning,
            )
        return measures.weighted_values(counts, self.conventions)


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
        conventions = Conventions(alpha=alpha, normalize=normalize, ignore_index=ignore_index)
        super().__init__(measures.Structure(), conventions, **kwargs)


class EnhancedAlignmentMeasure(ImageMean):
    """Average the E-measure over images (Fan et al., IJCAI 2018); see `enhanced_alignment_measure`.

    `e_adaptive` is taken at the adaptive threshold of each image; `e_mean` and `e_max` are the mean and the maximum
    over the 256 thresholds of the averaged curve.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:
        conventions = Conventions(normalize=normalize, ignore_index=ignore_index)
        super().__init__(measures.EnhancedAlignment(), conventions, **kwargs)


class SaliencyFMeasure(ImageMean):
    """Average the F-measure of thresholded maps over images; see `spatialseg.functional.saliency_f_measure`.

    `f_adaptive` is taken at the adaptive threshold of each image; `f_mean` and `f_max` are the mean and the maximum
    over the 256 thresholds of the averaged curve.

    Args:
        beta2: β², the weight of recall against precision; positive. The field uses 0.3.
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: `beta2` is not positive.
    """

    def __init__(
        self, beta2: float = 0.3, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(curve_beta2=beta2, normalize=normalize, ignore_index=ignore_index)
        super().__init__(measures.SaliencyF(), conventions, **kwargs)


class MeanAbsoluteError(ImageMean):
    """Average the mean absolute error between prediction and ground truth over images (Perazzi et al., CVPR 2012).

    Every image counts the same whatever its size, unlike in `torchmetrics.MeanAbsoluteError`, where every pixel does.

    Args:
        normalize: Stretch every prediction to [0, 1] before it is scored, as PySODMetrics does.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(self, normalize: bool = False, ignore_index: int | None = 255, **kwargs: Any) -> None:
        conventions = Conventions(normalize=normalize, ignore_index=ignore_index)
        super().__init__(measures.AbsoluteError(), conventions, **kwargs)


class MeanIoU(ImageMean):
    """Intersection over union of the data set, averaged over classes.

    Pixels are counted over all images before the ratio is taken, as the segmentation benchmarks do. A class in neither
    prediction nor target of any image has no value and is left out.

    Args:
        classes: 1 for a foreground map, whose IoU alone is then meant; C > 1 for class probabilities.
        threshold: Probability at which a pixel of a foreground map is foreground.
        ignore_index: Target value of the pixels that take no part.
        average: With several classes, their unweighted mean (`"macro"`) or a value for each (`"none"`).
        validate_args: Look at the values of every batch, which makes an accelerator wait.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        classes: int = 1,
        threshold: float = 0.5,
        ignore_index: int | None = 255,
        average: str = "macro",
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        conventions = Conventions(threshold=threshold, ignore_index=ignore_index)
        super().__init__(measures.Overlap(), conventions, classes, average, validate_args, **kwargs)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: Probabilities, (N, H, W) or (N, 1, H, W); (N, C, H, W) with C = `classes` > 1.
            target: Values 0 and 1, or with several classes the class index; or `ignore_index`; (N, H, W).
        """
        used = self.conventions
        counts = intersection_and_union(
            prediction,
            target,
            classes=self.classes,
            threshold=used.threshold,
            ignore_index=used.ignore_index,
            validate_args=self.validate_args,
        )
        self._add(torch.stack(counts, dim=-1).flatten(0, 1))


class BoundaryIoU(ImageMean):
    """Average the Boundary IoU over images (Cheng et al., CVPR 2021); see `spatialseg.functional.boundary_iou`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        dilation_ratio: Width of the boundary region, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self, threshold: float = 0.5, dilation_ratio: float = 0.02, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(threshold=threshold, dilation_ratio=dilation_ratio, ignore_index=ignore_index)
        super().__init__(measures.BoundaryOverlap(), conventions, **kwargs)


class BoundaryFMeasure(ImageMean):
    """Average the boundary F-measure over images (Perazzi et al., CVPR 2016); see `boundary_f_measure`.

    Args:
        threshold: Probability from which on a pixel is foreground.
        tolerance_ratio: How far from each other contours still match, relative to the image diagonal.
        ignore_index: Target value of the pixels that take no part.
        kwargs: Further arguments of `torchmetrics.Metric`.
    """

    def __init__(
        self, threshold: float = 0.5, tolerance_ratio: float = 0.008, ignore_index: int | None = 255, **kwargs: Any
    ) -> None:
        conventions = Conventions(threshold=threshold, tolerance_ratio=tolerance_ratio, ignore_index=ignore_index)
        super().__init__(measures.BoundaryF(), conventions, **kwargs)
