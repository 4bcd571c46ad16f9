"""The measures' inner loops, compiled for the CPU: the twins of the tensor functions, equal to them and faster.

Images of a batch are spread over `torch.get_num_threads()` threads. The first call of each function compiles it (a few
seconds), later processes load it from Numba's cache.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spatialseg.functional import _kernels
from spatialseg.functional.maps import Maps


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
    _for_each(len(masks), lambda image: _kernels.distance_transform(masks[image], out[image]))
    return distance


def weighted_sums(maps: Maps) -> Tensor:
    """Sum the weighted errors, as `weighted_counts` with its defaults does.

    Args:
        maps: What `as_maps` returns, on the CPU.

    Returns:
        Weighted true positives, weighted false positives and foreground pixels of each image, (3, N), float64.
    """
    prediction, mask = _arrays(maps)
    sums = np.empty((3, len(mask)))
    weights, importance = _tables()

    def one(image: int) -> None:
        sums[:, image] = _kernels.weighted_counts(prediction[image], mask[image], weights, importance)

    _for_each(len(mask), one)
    return torch.from_numpy(sums)


def level_histograms(maps: Maps) -> Tensor:
    """Count pixels by grey level, as the twin in `thresholds` does.

    Args:
        maps: What `as_maps` returns, on the CPU.

    Returns:
        Counts, (N, 2, 257), int64: background, then foreground; the levels 0 to 255, then the adaptive threshold.
    """
    prediction, mask = _arrays(maps)
    counts = np.empty((len(mask), 2, 257), np.int64)
    scale = prediction.dtype.type(255)
    _for_each(len(mask), lambda image: _kernels.level_histograms(prediction[image], mask[image], scale, counts[image]))
    return torch.from_numpy(counts)


def quadrant_sums(maps: Maps) -> Tensor:
    """Sum the prediction and its square by quadrant, as the twin in `structure` does.

    Args:
        maps: What `as_maps` returns, on the CPU.

    Returns:
        Sums, (N, 2, 2, 2, 3), float64: upper or lower, left or right, background or foreground; pixels, sum, squares.
    """
    prediction, mask = _arrays(maps)
    sums = np.empty((len(mask), 2, 2, 2, 3))
    _for_each(len(mask), lambda image: _kernels.quadrant_sums(prediction[image], mask[image], sums[image]))
    return torch.from_numpy(sums)


def _arrays(maps: Maps) -> tuple[_kernels.Array, _kernels.Array]:
    mask = maps.foreground.contiguous().view(torch.uint8)
    if maps.valid is not None:
        mask = mask.masked_fill(~maps.valid, 2)
    return maps.prediction.detach().contiguous().numpy(), mask.numpy()


@lru_cache(maxsize=1)
def _tables() -> tuple[_kernels.Array, _kernels.Array]:
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 5.0**2))
    return weights / weights.sum(), _kernels.importance_table()


def _for_each(count: int, work: Callable[[int], None]) -> None:
    threads = min(count, torch.get_num_threads())
    if threads <= 1:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(threads) as pool:  # the kernels release the GIL
        for _ in pool.map(work, range(count)):
            pass
