"""The S-measure's sums."""

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array, to_unit


@njit(cache=True, nogil=True, fastmath=FAST)
def quadrant_sums(source: Array, scale: Array, mask: Array, sums: Array) -> None:
    """Sum what the S-measure needs over the four parts of one image that meet at the centroid of its foreground.

    Args:
        source: Prediction, (H, W); see `common`, as for `scale` and `mask`.
        scale: What the source's values stand for.
        mask: (H, W).
        sums: What is written: (2, 2, 2, 3), float64; upper or lower, left or right, background or foreground; number of
            pixels, sum and sum of squares of the prediction.
    """
    height, width = mask.shape
    rows, columns, positives = 0, 0, 0
    for y in range(height):
        mask_row = mask[y]
        in_row = 0
        across = 0
        for x in range(width):
            in_row += mask_row[x] == 1
            across += x * (mask_row[x] == 1)
        positives += in_row
        rows += y * in_row
        columns += across
    down = int(np.rint(rows / max(positives, 1))) + 1  # the upper (left) part contains the centroid
    right = int(np.rint(columns / max(positives, 1))) + 1
    sums[:] = 0
    if len(scale) == 256:  # quicker: how many pixels are of which grey level is all that is needed
        bins = np.zeros((2, 2, 2, 3 * 256), np.int64)  # neighbours in two, which lets their increments overlap
        for y in range(height):
            source_row, mask_row, parts = source[y], mask[y], bins[int(y >= down)]
            for side in range(2):
                for x in range(right if side else 0, width if side else right):
                    parts[side, x & 1, np.intp(source_row[x]) + 256 * np.intp(mask_row[x])] += 1
        for part in range(8):
            below, side, kind = part // 4, part // 2 % 2, part % 2
            for grey in range(256):
                count = bins[below, side, 0, 256 * kind + grey] + bins[below, side, 1, 256 * kind + grey]
                total = count * scale[grey]
                sums[below, side, kind, 0] += count
                sums[below, side, kind, 1] += total
                sums[below, side, kind, 2] += total * scale[grey]
        return
    row = np.empty(width)
    plain = scale[0] == 0 and scale[1] == 1
    for y in range(height):
        if not plain:
            to_unit(source[y], scale, mask[y], row)
        for side in range(2):
            here = slice(right, width) if side else slice(0, right)
            if plain:
                add_row(source[y, here], mask[y, here], sums[int(y >= down), side])
            else:
                add_row(row[here], mask[y, here], sums[int(y >= down), side])


@njit(cache=True, nogil=True, fastmath=FAST)
def add_row(row: Array, mask_row: Array, sums: Array) -> None:
    """Add number, sum and sum of squares of the values of a row, in [0, 1], on background and foreground: (2, 3)."""
    foreground = background = 0
    inside = inside_squares = outside = outside_squares = 0.0
    for x in range(len(row)):
        value = np.float64(row[x])
        one, zero = mask_row[x] == 1, mask_row[x] == 0
        foreground += one
        background += zero
        inside += value * one
        inside_squares += value * value * one
        outside += value * zero
        outside_squares += value * value * zero
    sums[0, 0] += background
    sums[0, 1] += outside
    sums[0, 2] += outside_squares
    sums[1, 0] += foreground
    sums[1, 1] += inside
    sums[1, 2] += inside_squares
