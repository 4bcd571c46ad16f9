"""Measures in which every object counts alike, whatever its size (Li et al., *Size-invariance Matters*, ICML 2024)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialseg.functional.maps import Maps, as_maps
from spatialseg.functional.saliency_f import saliency_f_from_counts
from spatialseg.functional.thresholds import reached_counts_of

SMALLEST = 50
Box = tuple[slice, slice]


def size_invariant_error(
    prediction: Tensor, target: Tensor, *, normalize: bool = False, ignore_index: int | None = 255
) -> Tensor:
    """Compute the size-invariant mean absolute error of each image.

    The mean of the error in the bounding box of each object, and of that outside all boxes, which weighs as much as its
    area relative to that of the boxes. Objects are the foreground's parts, connected over sides, of 50 pixels or more;
    where none is that large, the largest. An image without foreground has its plain mean absolute error.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        One value in [0, 1] for each image, (N,), float64; NaN for an image without a counting pixel.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    return size_invariant_error_of(as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index))


def size_invariant_error_of(maps: Maps) -> Tensor:
    """Do the same for maps that `as_maps` has checked."""
    counted = (maps.mask < 2).double()
    error = (maps.prediction.double() - maps.foreground.double()).abs() * counted
    values = []
    for one, counts, mask in zip(error, counted, maps.mask.cpu().numpy(), strict=True):
        boxes, around = _boxes(mask), counts.clone()
        parts = [one[box].sum() / counts[box].sum() for box in boxes]
        for box in boxes:
            around[box] = 0
        outside, inside = around.sum(), counts.sum() - around.sum()
        # The background's mean, times its area relative to that of the boxes.
        share, weight = (one * around).sum() / inside, outside / inside
        values.append((sum(parts) + share) / (len(parts) + weight) if boxes else one.sum() / counts.sum())
    return torch.stack(values)


def size_invariant_f_measure(
    prediction: Tensor, target: Tensor, *, beta2: float = 0.3, normalize: bool = False, ignore_index: int | None = 255
) -> Tensor:
    """Compute the size-invariant F-measure of each image at 256 thresholds.

    The mean over objects (see `size_invariant_error`) of the F-measure in their bounding box, outside of which the
    prediction is taken for 0, as in PySODMetrics. An image without foreground is 0.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        beta2: β², the weight of recall against precision; positive. The field uses 0.3.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        The F-measure at each threshold k/255, (N, 256), float64; NaN for an image without a counting pixel.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return maps.scored(size_invariant_f_of(maps, beta2))


def size_invariant_f_of(maps: Maps, beta2: float = 0.3) -> Tensor:
    """Do the same for maps that `as_maps` has checked."""
    curves = []
    for image, mask in enumerate(maps.mask.cpu().numpy()):
        counts = []
        for rows, columns in _boxes(mask):
            here = (slice(image, image + 1), rows, columns)
            part = Maps(maps.source[here], maps.scale[here[:1]], maps.mask[here], maps.complete, maps.stretched)
            counts.append(reached_counts_of(part).clone())
            counts[-1][:, 0, 0] += int((mask < 2).sum()) - int((mask[rows, columns] < 2).sum())
        if not counts:
            curves.append(torch.zeros(256, dtype=torch.float64, device=maps.source.device))
            continue
        curves.append(saliency_f_from_counts(torch.cat(counts), beta2).curve.mean(dim=0))
    return torch.stack(curves)


def _boxes(mask: NDArray[Any]) -> list[Box]:
    """Return the bounding boxes of a mask's objects."""
    from scipy import ndimage  # takes long to import, and no other measure needs it

    labels, _ = ndimage.label(mask == 1)
    areas = np.bincount(labels.ravel())[1:]
    least = min(SMALLEST, areas.max(initial=0))
    boxes: list[Box] = ndimage.find_objects(labels)
    return [box for box, area in zip(boxes, areas, strict=True) if area >= least]
