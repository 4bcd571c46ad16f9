"""Measures of the boundary of foreground masks."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.dispatch import gathered, operator, per_image
from spatialseg.functional.distance import distance_to_foreground, steps_within
from spatialseg.functional.iou import overlap_by_tensors
from spatialseg.functional.maps import as_maps, masks_at


class BoundaryFResult(NamedTuple):
    """Each of shape (N,), float64, in [0, 1]; NaN for an image without a counting pixel."""

    f: Tensor
    precision: Tensor
    recall: Tensor


def boundary_iou(
    prediction: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.5,
    dilation_ratio: float = 0.02,
    ignore_index: int | None = 255,
) -> Tensor:
    """Compute the Boundary IoU of each image (Cheng et al., *Boundary IoU*, CVPR 2021).

    The intersection over union of the two inner boundary regions: the pixels of each mask within d pixels (chessboard
    distance, beyond the image is background) of what is not in it; d = `dilation_ratio` of the image diagonal, rounded,
    at least 1.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        threshold: Probability from which on a pixel is foreground.
        dilation_ratio: Width of the boundary region, relative to the diagonal.
        ignore_index: Target value of the pixels that do not count; they are background in both masks.

    Returns:
        One value in [0, 1] for each image, (N,), float64; 1 where both masks are empty, NaN where no
            pixel counts.

    Raises:
        ValueError: Bad input, see `as_maps`, the threshold is not in (0, 1], or the ratio negative or not finite.
    """
    maps = as_maps(prediction, target, ignore_index=ignore_index)
    counts = boundary_region_counts_of(*masks_at(maps, threshold), dilation_ratio)
    return maps.scored(boundary_iou_from_counts(counts))


def boundary_iou_from_counts(counts: Tensor) -> Tensor:
    """Do the same from what `boundary_region_counts_of` returns."""
    intersection, union = counts
    return torch.where(union > 0, intersection.double() / union.clamp(min=1), 1)


def boundary_region_counts_of(predicted: Tensor, true: Tensor, dilation_ratio: float = 0.02) -> Tensor:
    """Count the pixels in the intersection and in the union of the inner boundary regions.

    Args:
        predicted: Mask, (N, H, W), boolean.
        true: The same.
        dilation_ratio: Width of the regions, relative to the diagonal.

    Returns:
        Intersection and union, (2, N), int64.
    """
    return _region_counts(predicted, true, max(1, round(_pixels(dilation_ratio, true))))


def boundary_f_measure(
    prediction: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.5,
    tolerance_ratio: float = 0.008,
    ignore_index: int | None = 255,
) -> BoundaryFResult:
    """Compute the boundary F-measure of each image (Perazzi et al., CVPR 2016, of DAVIS).

    Precision is the fraction of the predicted contour within r pixels of the true one, recall the reverse, F their
    harmonic mean. Our reading of what that leaves open: the contour are the mask's pixels with a neighbour (of four,
    inside the image) that is not in the mask; the distance is Euclidean; r = `tolerance_ratio` of the image diagonal,
    rounded up.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        threshold: Probability from which on a pixel is foreground.
        tolerance_ratio: r relative to the diagonal.
        ignore_index: Target value of the pixels that do not count; they are background in both masks.

    Returns:
        F, precision and recall; all 1 where neither mask has a contour, all 0 where one has none.

    Raises:
        ValueError: Bad input, see `as_maps`, the threshold is not in (0, 1], or the ratio negative or not finite.
    """
    maps = as_maps(prediction, target, ignore_index=ignore_index)
    counts = contour_counts_of(*masks_at(maps, threshold), tolerance_ratio)
    return BoundaryFResult(*map(maps.scored, boundary_f_from_counts(counts)))


def boundary_f_from_counts(counts: Tensor) -> BoundaryFResult:
    """Do the same from what `contour_counts_of` returns."""
    predicted_pixels, near_true, true_pixels, near_predicted = counts
    precision = near_true.double() / predicted_pixels.clamp(min=1)
    recall = near_predicted.double() / true_pixels.clamp(min=1)
    both_empty = (predicted_pixels == 0) & (true_pixels == 0)
    precision, recall = precision.masked_fill(both_empty, 1), recall.masked_fill(both_empty, 1)
    total = precision + recall
    return BoundaryFResult(2 * precision * recall / total.where(total > 0, 1), precision, recall)


def contour_counts_of(predicted: Tensor, true: Tensor, tolerance_ratio: float = 0.008) -> Tensor:
    """Count the pixels of two masks' contours, and those of each that the other comes near.

    Args:
        predicted: Mask, (N, H, W), boolean.
        true: The same.
        tolerance_ratio: Euclidean distance within which contours match, relative to the diagonal.

    Returns:
        Pixels of the predicted contour, of them matched, pixels of the true contour, of them matched, (4, N), int64.
    """
    return _contour_counts(predicted, true, math.ceil(_pixels(tolerance_ratio, true)))


def _pixels(ratio: float, masks: Tensor) -> float:
    """Return a share of the diagonal of masks, (N, H, W), in pixels."""
    if not (math.isfinite(ratio) and ratio >= 0):
        raise ValueError(f"a width relative to the image diagonal must be finite and at least 0, got {ratio}")
    return ratio * math.hypot(*masks.shape[1:])


def _region_counts_by_tensors(predicted: Tensor, true: Tensor, width: int) -> Tensor:
    return overlap_by_tensors(_inner_region(predicted, width), _inner_region(true, width))


def _inner_region(mask: Tensor, width: int) -> Tensor:
    """Return the pixels of masks (N, H, W) at most `width`, both ways, from background; beyond the image all is."""
    side = 2 * width + 1
    sums = F.pad(mask.int(), (width + 1, width, width + 1, width)).cumsum(dim=1, dtype=torch.int32)
    sums = sums[:, side:] - sums[:, :-side]
    sums = sums.cumsum(dim=2, dtype=torch.int32)
    return mask & (sums[:, :, side:] - sums[:, :, :-side] < side * side)


def _contour_counts_by_tensors(predicted: Tensor, true: Tensor, radius: int) -> Tensor:
    predicted, true = _contour(predicted), _contour(true)
    near_true, near_predicted = (distance_to_foreground(contour) <= radius for contour in (true, predicted))
    chosen = predicted, predicted & near_true, true, true & near_predicted
    return torch.stack([pixels.sum(dim=(1, 2)) for pixels in chosen])


def _contour(mask: Tensor) -> Tensor:
    inside = F.pad(mask, (1, 1, 1, 1), value=True)
    surrounded = inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1] & inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:]
    return mask & ~surrounded


def _region_counts_by_kernel(predicted: Tensor, true: Tensor, width: int) -> Tensor:
    return gathered(per_image(kernels.boundary.boundary_region_counts, predicted, true, width), np.int64)


def _contour_counts_by_kernel(predicted: Tensor, true: Tensor, radius: int) -> Tensor:
    return gathered(per_image(kernels.boundary.contour_counts, predicted, true, steps_within(radius**2)), np.int64)


_region_counts = operator("boundary_region_counts", _region_counts_by_tensors, _region_counts_by_kernel)
_contour_counts = operator("contour_counts", _contour_counts_by_tensors, _contour_counts_by_kernel)
