"""Pixel counts behind intersection over union."""

import numpy as np
import torch
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.dispatch import gathered, operator, per_image
from spatialseg.functional.maps import as_maps, masks_at
from spatialseg.functional.one_vs_rest import valid_classes


def intersection_and_union(
    prediction: Tensor,
    target: Tensor,
    *,
    classes: int = 1,
    threshold: float = 0.5,
    ignore_index: int | None = 255,
    validate_args: bool = True,
) -> tuple[Tensor, Tensor]:
    """Count the pixels in the intersection and in the union of predicted and true region, per image and class.

    Args:
        prediction: Probabilities, or uint8 grey levels, (N, H, W) or (N, 1, H, W); probabilities, (N, C, H, W), with
            C = `classes` > 1, of which the largest names the predicted class.
        target: Values 0 and 1, or with several classes the class index; or `ignore_index`; (N, H, W).
        classes: 1 for a foreground map, C > 1 for classes.
        threshold: Probability from which on a pixel of a foreground map is foreground.
        ignore_index: Target value of the pixels that take no part.
        validate_args: Look at the values first; without it nothing is copied to the host, and a target of several
            classes that is not one of them is undefined.

    Returns:
        Intersections and unions, both (N, C), int64.

    Raises:
        ValueError: The shapes do not fit; a prediction holds NaN or, of a foreground map, leaves [0, 1]; a target holds
            an unknown value; or the threshold is not in (0, 1].
    """
    if classes == 1:
        maps = as_maps(prediction, target, ignore_index=ignore_index, validate_args=validate_args)
        intersection, union = overlap_counts(*masks_at(maps, threshold))
        return intersection[:, None], union[:, None]
    if prediction.ndim != 4 or prediction.shape[1] != classes or target.shape != prediction[:, 0].shape:
        raise ValueError(
            f"expected predictions (N, {classes}, H, W) and targets (N, H, W), "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if validate_args:
        unusable = prediction.isnan().flatten(1).any(dim=1)
        if bool(unusable.any()):
            raise ValueError(f"the prediction of image {int(unusable.int().argmax())} of the batch holds NaN")
    valid = valid_classes(target, classes, ignore_index, validate_args)
    pair = (target.long().where(valid, classes) * classes + prediction.argmax(dim=1)).flatten(1)
    confusion = pair.new_zeros(len(pair), (classes + 1) * classes).scatter_add_(1, pair, torch.ones_like(pair))
    confusion = confusion.view(-1, classes + 1, classes)[:, :classes]  # without the row of ignored pixels
    intersection = confusion.diagonal(dim1=1, dim2=2)
    return intersection, confusion.sum(dim=1) + confusion.sum(dim=2) - intersection


def overlap_by_tensors(predicted: Tensor, true: Tensor) -> Tensor:
    """Count the pixels in the intersection and in the union of masks (N, H, W), boolean: (2, N), int64."""
    return torch.stack([(predicted & true).sum(dim=(1, 2)), (predicted | true).sum(dim=(1, 2))])


def _overlap_by_kernel(predicted: Tensor, true: Tensor) -> Tensor:
    return gathered(per_image(kernels.boundary.overlap_counts, predicted, true), np.int64)


overlap_counts = operator("overlap_counts", overlap_by_tensors, _overlap_by_kernel)
