"""Inner boundary regions and contours of masks."""

import numpy as np
from numba import njit

from spatialseg.kernels.common import Array
from spatialseg.kernels.distance import bounding_box


@njit(cache=True, nogil=True)
def around_both(mask: Array, other: Array) -> tuple[Array, Array]:
    """Cut two masks of values 0 and 1 to where one of them has foreground, and one pixel around that."""
    top, bottom, left, right, _ = bounding_box(mask)
    other_top, other_bottom, other_left, other_right, _ = bounding_box(other)
    bottom = max(bottom, other_bottom)
    first, last = max(min(top, other_top) - 1, 0), bottom + 2 if bottom >= 0 else 0  # of empty masks no row
    start, end = max(min(left, other_left) - 1, 0), max(right, other_right) + 2
    return mask[first:last, start:end], other[first:last, start:end]


@njit(cache=True, nogil=True)
def inner_region(mask: Array, width: int) -> Array:
    """Return the pixels of a mask of values 0 and 1 at most `width`, both ways, from a 0; beyond the image all is 0."""
    height, columns = mask.shape
    out: Array = mask.copy()
    side = 2 * width + 1
    down = np.zeros(columns, np.int32)  # foreground in the window's rows, for each column
    for y in range(min(2 * width, height)):
        for x in range(columns):
            down[x] += mask[y, x]
    for y in range(width, height - width):
        entering, row = mask[y + width], out[y]
        for x in range(columns):
            down[x] += entering[x]
        run = 0
        for x in range(columns):
            run = run + 1 if down[x] == side else 0
            if run >= side:
                row[x - width] = 0
        leaving = mask[y - width]
        for x in range(columns):
            down[x] -= leaving[x]
    return out


@njit(cache=True, nogil=True)
def overlap_counts(predicted: Array, true: Array) -> tuple[int, int]:
    """Count the pixels in the intersection and in the union of two masks."""
    intersection = union = 0
    for y in range(true.shape[0]):
        a, b = predicted[y], true[y]
        for x in range(true.shape[1]):
            intersection += a[x] & b[x]
            union += a[x] | b[x]
    return intersection, union


@njit(cache=True, nogil=True)
def boundary_region_counts(predicted: Array, true: Array, width: int) -> tuple[int, int]:
    """Count the pixels in the intersection and in the union of two masks' inner boundary regions."""
    predicted, true = around_both(predicted, true)
    return overlap_counts(inner_region(predicted, width), inner_region(true, width))


@njit(cache=True, nogil=True)
def contour(mask: Array) -> Array:
    """Return the pixels of a mask of values 0 and 1 with a neighbour, of four inside the image, that is 0."""
    height, width = mask.shape
    out = np.zeros(mask.shape, np.uint8)
    for y in range(height):
        row, above, below, out_row = mask[y], mask[max(y - 1, 0)], mask[min(y + 1, height - 1)], out[y]
        for x in range(1, width - 1):
            out_row[x] = row[x] & ((above[x] & below[x] & row[x - 1] & row[x + 1]) ^ 1)
        for x in (0, width - 1):
            before, after = row[max(x - 1, 0)], row[min(x + 1, width - 1)]
            out_row[x] = row[x] & ((above[x] & below[x] & before & after) ^ 1)
    return out


@njit(cache=True, nogil=True)
def matched(contour_from: Array, contour_to: Array, steps: Array) -> tuple[int, int]:
    """Count the pixels of one contour, and those of them with a pixel of another within some steps.

    Args:
        contour_from: Values 0 and 1, (H, W), uint8.
        contour_to: The same.
        steps: The (row, column) steps allowed, the shortest first, (n, 2).
    """
    height, width = contour_from.shape
    pixels = near = 0
    for y in range(height):
        row = contour_from[y]
        for x in range(width):
            if row[x] == 0:
                continue
            pixels += 1
            for i in range(len(steps)):
                there_y, there_x = y + steps[i, 0], x + steps[i, 1]
                if 0 <= there_y < height and 0 <= there_x < width and contour_to[there_y, there_x]:
                    near += 1
                    break
    return pixels, near


@njit(cache=True, nogil=True)
def contour_counts(predicted: Array, true: Array, steps: Array) -> tuple[int, int, int, int]:
    """Count the pixels of the predicted contour, of them matched, those of the true contour, of them matched."""
    predicted, true = around_both(predicted, true)
    one, other = contour(predicted), contour(true)
    return matched(one, other, steps) + matched(other, one, steps)
