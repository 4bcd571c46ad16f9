"""Where the nearest foreground pixel is, and how far."""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.dispatch import operator, per_image
from spatialseg.functional.one_vs_rest import one_vs_rest


def distance_to_foreground(mask: Tensor) -> Tensor:
    """Return the exact Euclidean distance of every pixel to the nearest foreground pixel of its image.

    On the CPU each image goes through a compiled transform; on any other device the transform is two
    batched passes of tensor operations (down the columns, then across the rows) without a copy to the host.

    Args:
        mask: Foreground, shape (N, H, W), boolean.

    Returns:
        Distances in pixels, shape (N, H, W), float32: 0 on foreground, infinity in an image without any.

    Raises:
        TypeError: The mask is not boolean.
        ValueError: The mask has not three dimensions.
    """
    if mask.dtype is not torch.bool:
        raise TypeError(
            f"distance_to_foreground needs a boolean mask, got {mask.dtype}; compare it first, as in mask == 1"
        )
    if mask.ndim != 3:
        raise ValueError(f"distance_to_foreground needs shape (N, H, W), got {tuple(mask.shape)}")
    return _distance(mask)


def distance_maps(mask: Tensor, classes: int = 1, ignore_index: int = 255) -> Tensor:
    """Return the distances that the losses read, of one mask: those to its foreground, or to each of its classes.

    Args:
        mask: Class index or 0 and 1, shape (H, W).
        classes: The number of classes; 1 for a binary mask.
        ignore_index: Mask value of the pixels that take no part.

    Returns:
        Distances in pixels, float32: shape (H, W), or (classes, H, W); infinity where a class is absent.

    Example:
        >>> distance_maps(torch.tensor([[1, 0, 0]]))
        tensor([[0., 1., 2.]])
    """
    distance = distance_to_foreground(one_vs_rest(mask[None], classes)[0] & (mask != ignore_index))
    return distance[0] if classes == 1 else distance


def _distance_by_passes(mask: Tensor) -> Tensor:
    rows = 64  # at a time, which bounds the memory to N·64·W² values
    _, height, width = mask.shape
    far = float(4 * (height + width))  # beyond every real distance, and its square is still exact in float32
    line = torch.arange(height, device=mask.device, dtype=torch.float32)[:, None]
    above = torch.where(mask, line, -far).cummax(dim=1).values
    below = torch.where(mask, line, height + far).flip(1).cummin(dim=1).values.flip(1)
    vertical = torch.minimum(line - above, below - line).clamp(max=far).square()

    column = torch.arange(width, device=mask.device, dtype=torch.float32)
    across = (column[:, None] - column[None, :]).square()
    parts = torch.split(vertical, rows, dim=1)
    squared = torch.cat([(part[:, :, None, :] + across).amin(dim=-1) for part in parts], dim=1)
    distance = squared.sqrt()
    return distance.masked_fill(squared >= far * far, torch.inf)


def _distance_by_kernel(mask: Tensor) -> Tensor:
    distance = torch.empty(mask.shape)
    per_image(kernels.distance.distance_transform, mask, distance)
    return distance


_distance = operator("distance_to_foreground", _distance_by_passes, _distance_by_kernel)


@lru_cache(maxsize=8)
def steps_within(squared: int) -> NDArray[np.int64]:
    """Return the (row, column) steps whose squared Euclidean length is at most this, the shortest first, (n, 2).

    Between equally long ones the smaller column comes first, then the smaller row: the order in which SciPy's feature
    transform, and with it PySODMetrics, breaks the tie between equally near pixels.
    """
    reach = range(-math.isqrt(squared), math.isqrt(squared) + 1)
    steps = [(dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx <= squared]
    return np.array(sorted(steps, key=lambda step: (step[0] ** 2 + step[1] ** 2, step[1], step[0])))
