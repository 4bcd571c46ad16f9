"""The measures that are averaged over images, each as a `torchmetrics` class with the arguments that it takes."""

from typing import Any

import torch
from torch import Tensor

from spatialseg.conventions import Conventions
from spatialseg.functional.iou import intersection_and_union
from spatialseg.metrics import measures
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

    higher_is_better = False

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
