"""The measures' inner loops, compiled for the CPU: the twins of the tensor functions, equal to them and faster.

Images of a batch are spread over `torch.get_num_threads()` threads. The first call of each function compiles it (a few
seconds), later processes load it from Numba's cache.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialseg.functional import _kernels
from spatialseg.functional.maps import Inspection, Maps


def distance_to_foreground(mask: Tensor) -> Tensor:
    """Return the exact Euclidean distance to the nearest foreground pixel; see `spatialseg.functional`.

    Args:
        mask: Foreground, (N, H, W), boolean, on the CPU.

    Returns:
        Distances in pixels, (N, H, W), float32; infinity where an image has no foreground.
    """
    masks = mask.contiguous().numpy().view(np.uint8)
    distance = torch.empty(mask.shape)
    out = distance.numpy()
    for_each_image(len(masks), lambda image: _kernels.distance_transform(masks[image], out[image]))
    return distance


def inspect(prediction: Tensor, target: Tensor, ignore_index: int | None) -> Inspection:
    """Look for what `as_maps` asks, as the twin in `maps` does.

    Args:
        prediction: (N, H, W), uint8, float32 or float64, on the CPU.
        target: (N, H, W), of any type, on the CPU.
        ignore_index: Target value of the pixels that do not count.
    """
    values = prediction.contiguous().numpy().reshape(len(prediction), -1)
    low, high = values.min(axis=1), values.max(axis=1)
    if values.dtype == np.uint8:
        low, high = low / 255, high / 255
    # A NaN makes both extremes NaN, and no comparison with NaN holds.
    sound = ((low >= 0) & (high <= 1)).tolist()
    kinds, unknown, ignored = sort_out(target, ignore_index)
    known = (unknown == 0).tolist()
    if ignored.any() and ignore_index is not None:
        foreground, valid = kinds == 1, kinds != 2
    else:
        foreground, valid = kinds.view(torch.bool), None
    return Inspection(torch.from_numpy(low), torch.from_numpy(high), sound, known, foreground, valid)


def sort_out(target: Tensor, ignore_index: int | None) -> tuple[Tensor, _kernels.Array, _kernels.Array]:
    """Tell foreground, background and ignored pixels apart.

    Args:
        target: (N, H, W), of any type, on the CPU.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        1 where the target is 1, 2 where it is `ignore_index`, else 0, (N, H, W), uint8; and of each image the number of
        pixels that are neither of these nor 0, and of those ignored, (N,), int64.
    """
    if target.dtype is torch.bool:
        none = np.zeros(len(target), np.int64)
        return target.contiguous().view(torch.uint8), none, none
    if target.dtype in (torch.float16, torch.bfloat16):  # which Numba does not know
        target = target.float()
    source = target.contiguous().numpy()
    ignores = ignore_index is not None
    left_out: Any = np.asarray(ignore_index or 0).astype(source.dtype)[()]  # -1 is 255 to uint8, as to a tensor
    kinds = torch.empty(target.shape, dtype=torch.uint8)
    out = kinds.numpy()
    counts = np.empty((2, len(source)), np.int64)

    def one(image: int) -> None:
        counts[:, image] = _kernels.sort_out(source[image], left_out, ignores, out[image])

    for_each_image(len(source), one)
    return kinds, counts[0], counts[1]


def weighted_sums(maps: Maps) -> _kernels.Array:
    """Sum the weighted errors, as `weighted_counts` with its defaults does, without gradient.

    Args:
        maps: What `as_maps` returns, or maps of the same form that were not checked, on the CPU.

    Returns:
        Weighted true positives, weighted false positives and foreground pixels of each image, (3, N); summed in
        float64, then rounded to float32 unless the prediction has more than that.
    """
    source, levels, mask = _arrays(maps)
    sums = np.empty((3, len(mask)))
    weights, importance = _tables()

    def one(image: int) -> None:
        sums[:, image] = _kernels.weighted_counts(source[image], levels[image], mask[image], weights, importance)

    for_each_image(len(mask), one)
    return sums.astype(np.float32) if maps.source.dtype is torch.float32 else sums


def level_histograms(maps: Maps) -> Tensor:
    """Count pixels by grey level, as the twin in `thresholds` does.

    Args:
        maps: What `as_maps` returns, on the CPU.

    Returns:
        Counts, (N, 2, 257), int64: background, then foreground; the levels 0 to 255, then the adaptive threshold.
    """
    source, levels, mask = _arrays(maps)
    counts = np.zeros((len(mask), 2, 257), np.int64)
    if maps.levels is None:
        scale = source.dtype.type(255)
        for_each_image(
            len(mask), lambda image: _kernels.level_histograms(source[image], mask[image], scale, counts[image])
        )
        return torch.from_numpy(counts)

    for image, grey in enumerate(grey_histograms(maps).numpy()):
        probability = levels[image]
        mean = (grey.sum(axis=0) * probability).sum() / max(grey.sum(), 1)
        np.add.at(counts[image].T, (probability * 255).astype(np.intp), grey.T)
        counts[image, :, 256] = grey[:, probability >= min(2 * mean, 1)].sum(axis=1)
    return torch.from_numpy(counts)


def grey_histograms(maps: Maps) -> Tensor:
    """Count pixels by grey level.

    Args:
        maps: What `as_maps` returns for grey levels, on the CPU.

    Returns:
        Counts, (N, 2, 256), int64: background, then foreground.
    """
    source, _, mask = _arrays(maps)
    counts = np.empty((len(mask), 2, 256), np.int64)
    for_each_image(len(mask), lambda image: _kernels.grey_histograms(source[image], mask[image], counts[image]))
    return torch.from_numpy(counts)


def quadrant_sums(maps: Maps) -> Tensor:
    """Sum the prediction and its square by quadrant, as the twin in `structure` does.

    Args:
        maps: What `as_maps` returns, on the CPU.

    Returns:
        Sums, (N, 2, 2, 2, 3), float64: upper or lower, left or right, background or foreground; pixels, sum, squares.
    """
    source, levels, mask = _arrays(maps)
    sums = np.empty((len(mask), 2, 2, 2, 3))
    for_each_image(
        len(mask), lambda image: _kernels.quadrant_sums(source[image], levels[image], mask[image], sums[image])
    )
    return torch.from_numpy(sums)


def boundary_region_counts(predicted: Tensor, true: Tensor, width: int) -> Tensor:
    """Count as the twin in `boundary` does.

    Args:
        predicted: Mask, (N, H, W), boolean, on the CPU.
        true: The same.
        width: Width in pixels of the regions.

    Returns:
        Pixels in the intersection and in the union of the inner boundary regions, (2, N), int64.
    """
    masks, others = (mask.contiguous().view(torch.uint8).numpy() for mask in (predicted, true))
    counts = np.empty((2, len(masks)), np.int64)

    def one(image: int) -> None:
        counts[:, image] = _kernels.boundary_region_counts(masks[image], others[image], width)

    for_each_image(len(masks), one)
    return torch.from_numpy(counts)


def contour_counts(predicted: Tensor, true: Tensor, radius: int) -> Tensor:
    """Count as the twin in `boundary` does.

    Args:
        predicted: Mask, (N, H, W), boolean, on the CPU.
        true: The same.
        radius: Euclidean distance in pixels within which contours match.

    Returns:
        Pixels of the predicted contour, of them matched, pixels of the true contour, of them matched, (4, N), int64.
    """
    masks, others = (mask.contiguous().view(torch.uint8).numpy() for mask in (predicted, true))
    counts = np.empty((4, len(masks)), np.int64)
    steps = _disk(radius)

    def one(image: int) -> None:
        contours = _kernels.contour(masks[image]), _kernels.contour(others[image])
        counts[:2, image] = _kernels.matched(*contours, steps)
        counts[2:, image] = _kernels.matched(*contours[::-1], steps)

    for_each_image(len(masks), one)
    return torch.from_numpy(counts)


def _arrays(maps: Maps) -> tuple[_kernels.Array, _kernels.Array, _kernels.Array]:
    """Return what the kernels take: source, levels (none if the source is the probability) and mask."""
    mask = maps.foreground.contiguous().view(torch.uint8)
    if maps.valid is not None:
        mask = mask.masked_fill(~maps.valid, 2)
    levels = np.empty((len(mask), 0)) if maps.levels is None else maps.levels.numpy()
    return maps.source.detach().contiguous().numpy(), levels, mask.numpy()


@lru_cache(maxsize=8)
def _disk(radius: int) -> _kernels.Array:
    """Return the (row, column) steps within a Euclidean distance, the shortest first, (n, 2)."""
    reach = range(-radius, radius + 1)
    steps = [(dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx <= radius * radius]
    return np.array(sorted(steps, key=lambda step: step[0] ** 2 + step[1] ** 2))


@lru_cache(maxsize=1)
def _tables() -> tuple[_kernels.Array, _kernels.Array]:
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 5.0**2))
    return weights / weights.sum(), _kernels.importance_table()


def for_each_image(count: int, work: Callable[[int], None]) -> None:
    """Call `work` with 0 to `count` - 1, spread over `torch.get_num_threads()` threads, this one among them."""
    images = iter(range(count))  # shared: each thread takes the next when it is free

    def take() -> None:
        for image in images:
            work(image)  # the kernels release the GIL

    threads = torch.get_num_threads()
    helpers = [_pool(threads - 1).submit(take) for _ in range(min(count, threads) - 1)]
    try:
        take()
    finally:
        wait(helpers)
    for helper in helpers:
        helper.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept, for starting them takes as long as a small image does."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads
