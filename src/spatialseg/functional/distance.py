"""Where the nearest foreground pixel is, and how far."""

from functools import lru_cache

import torch
from torch import Tensor


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
    if mask.device.type == "cpu":
        from spatialseg.functional import compiled  # imports Numba, which takes a second

        return compiled.distance_to_foreground(mask)
    return _distance_by_passes(mask)


def _distance_by_passes(mask: Tensor, rows: int = 64) -> Tensor:
    """Do the same in tensor operations; `rows` bounds the memory to N·rows·W² values."""
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


@lru_cache(maxsize=8)
def neighbour_offsets(radius: int) -> tuple[tuple[int, int], ...]:
    """List the (row, column) steps by which a pixel's nearest foreground pixel can differ from it, nearest first.

    Between equally near pixels the smaller column wins, then the smaller row: the order in which SciPy's feature
    transform, and with it PySODMetrics, breaks the tie.

    Args:
        radius: Chebyshev distance in pixels within which some foreground pixel is known to lie.

    Returns:
        The steps of Euclidean length at most radius·√2, without (0, 0).
    """
    reach = range(-int(radius * 2**0.5), int(radius * 2**0.5) + 1)
    steps = [(dy, dx) for dy in reach for dx in reach if 0 < dy * dy + dx * dx <= 2 * radius * radius]
    return tuple(sorted(steps, key=lambda step: (step[0] ** 2 + step[1] ** 2, step[1], step[0])))
