"""Where the nearest foreground pixel is: the exact Euclidean distance transform, in integers."""

import math

import numpy as np
from numba import njit

from spatialseg.kernels.common import Array

FAR = 1 << 24  # beyond every row


@njit(cache=True, nogil=True)
def bounding_box(mask: Array) -> tuple[int, int, int, int, int]:
    """Return first and last row, first and last column and number of the pixels of value 1."""
    height, width = mask.shape
    top, bottom, left, right, count = height, -1, width, -1, 0
    for y in range(height):
        row = mask[y]
        inside = np.int32(0)  # which vectorises better
        for x in range(width):
            inside = np.int32(inside + (row[x] == 1))
        if inside == 0:
            continue
        count += inside
        top = min(top, y)
        bottom = y
        first = 0
        while first < left and row[first] != 1:
            first += 1
        left = first
        last = width - 1
        while last > right and row[last] != 1:
            last -= 1
        right = max(right, last)
    return top, bottom, left, right, count


@njit(cache=True, nogil=True)
def rows_above(mask: Array, top: int) -> Array:
    """For every pixel, find the lowest foreground row of its column that is not below it; −FAR if there is none.

    The first row is called `top`.
    """
    height, width = mask.shape
    above = np.empty((height, width), np.int32)
    seen = np.full(width, -FAR, np.int32)
    for y in range(height):
        mask_row, above_row = mask[y], above[y]
        for x in range(width):
            found = np.int32(top + y) if mask_row[x] == 1 else seen[x]
            seen[x] = found
            above_row[x] = found
    return above


@njit(cache=True, nogil=True)
def nearest_row(mask_row: Array, above_row: Array, y: int, below: Array, nearest: Array) -> None:
    """For every pixel of row y, find the nearest foreground row of its column; between two as near, the upper one.

    Rows are visited from the bottom up: `below` carries the highest foreground row that was passed. Outside the
    foreground's rows `above_row` is that of the nearest of them.
    """
    row = np.int32(y)
    for x in range(len(nearest)):
        under = row if mask_row[x] == 1 else below[x]
        below[x] = under
        over = above_row[x]
        nearest[x] = under if under - row < row - over else over


@njit(cache=True, nogil=True)
def envelope_room(width: int, columns: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return what `lower_envelope` works with, for rows of a width and at most so many columns.

    Returns:
        `site`, `depth` and `end`, (W,) each, which it writes; `lost`, a value for each column, which becomes 1 for
        those that are nearest nowhere between the first and the last pixel of the row, not even between two pixels;
        and 0.5 / n of n < W: half an integer more than excess is so far from any multiple of the divisor that its
        product rounds to the quotient.
    """
    site, depth, end = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    return site, depth, end, np.zeros(columns, np.uint8), 0.5 / np.arange(width)


@njit(cache=True, nogil=True)
def lower_envelope(columns: Array, rows: Array, y: int, left: int, height: int, room: tuple[Array, ...]) -> int:
    """Divide row y among the columns that hold the nearest foreground pixel (Felzenszwalb and Huttenlocher, 2012).

    Up to `end[k]` (from `end[k - 1] + 1`) the nearest foreground pixel is in column `site[k]`, `depth[k]` = (vertical
    distance)² away. Between equally near columns the smaller is taken. All in integers, so there is no
    rounding. Holds for background pixels only.

    Args:
        columns: Numbers of some columns, ascending.
        rows: Of each the row of the nearest foreground pixel; outside the image if there is none.
        y: The row.
        left: The column that `lost` begins with.
        height: Of the image.
        room: What `envelope_room` returns.

    Returns:
        The number of parts; the last reaches to the end of the row.
    """
    site, depth, end, lost, halves = room
    width, count, final = len(site), 0, len(columns) - 1
    for i in range(final + 1):
        row = rows[i]
        if row == y:
            if 0 < i < final and rows[i - 1] == y == rows[i + 1]:
                continue  # inside a run of foreground: one of its ends is nearer to all background
        elif row < 0 or row >= height:
            continue
        x = columns[i]
        square = (row - y) * (row - y)
        last = -1
        while count > 0:
            other = site[count - 1]
            gap = x - other
            # The last pixel that is not nearer to x than to the other.
            excess = gap * (x + other) + square - depth[count - 1]
            last = excess >> 1 if gap == 1 else math.floor((excess + 0.5) * halves[gap])
            before = end[count - 2] if count > 1 else -1
            if last > before:
                break
            count -= 1
            lost[site[count] - left] = last < before or count == 0
        if count > 0:
            if last >= width - 1:
                lost[x - left] = 1
                continue
            end[count - 1] = last
        site[count] = x
        depth[count] = square
        count += 1
    end[count - 1] = width - 1
    return count


@njit(cache=True, nogil=True)
def distance_transform(mask: Array, out: Array) -> None:
    """Write the Euclidean distance of every pixel to the nearest pixel of value 1; infinity if there is none."""
    height, width = mask.shape
    top, bottom, left, right, positives = bounding_box(mask)
    if positives == 0:
        out[:] = np.inf
        return
    columns = right - left + 1
    above = rows_above(mask[top : bottom + 1, left : right + 1], top)
    below = np.full(columns, FAR, np.int32)
    nearest = np.empty(columns, np.int32)
    numbers, room = np.arange(left, right + 1), envelope_room(width, columns)
    site, depth, end, _, _ = room
    for y in range(height - 1, -1, -1):
        nearest_row(mask[y, left : right + 1], above[min(max(y - top, 0), bottom - top)], y, below, nearest)
        parts = lower_envelope(numbers, nearest, y, left, height, room)
        start = 0
        for k in range(parts):
            for x in range(start, end[k] + 1):
                step = x - site[k]
                out[y, x] = 0.0 if mask[y, x] == 1 else math.sqrt(float(step * step + depth[k]))
            start = end[k] + 1
