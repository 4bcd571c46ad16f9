"""The weighted F-measure's sums as published (Margolin et al., 2014), row by row in one pass."""

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array, probability
from spatialseg.kernels.distance import FAR, bounding_box, envelope_room, lower_envelope, nearest_row, rows_above


@njit(cache=True, nogil=True, fastmath=FAST)
def write_alarms(source: Array, alarms: Array, mask: Array, out: Array) -> float:
    """Write the probability that each background pixel of a row stands for, 0 elsewhere; return the sum.

    Args:
        source: See `common`, as for `mask`; (W,) each.
        alarms: A scale, and as many zeros twice: what a grey level stands for on background, on foreground and where
            ignored.
        mask: See `source`.
        out: What is written, (W,), of the scale's type.
    """
    if len(alarms) == 3 * 256:
        for x in range(len(out)):
            out[x] = alarms[np.intp(source[x]) + 256 * np.intp(mask[x])]
    else:
        low, span = alarms[0], alarms[1]
        for x in range(len(out)):
            out[x] = (source[x] - low) / span if mask[x] == 0 else 0
    total: float = out.dtype.type(0)
    for x in range(len(out)):
        total += out[x]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def write_misses(source: Array, scale: Array, mask: Array, out: Array) -> float:
    """Write the error of each foreground pixel of a row, 0 elsewhere; return the sum."""
    if len(scale) == 256:
        for x in range(len(out)):
            out[x] = (1.0 - scale[np.intp(source[x])]) * (mask[x] == 1)
    else:
        low, span = scale[0], scale[1]
        for x in range(len(out)):
            out[x] = 1.0 - (source[x] - low) / span if mask[x] == 1 else 0
    total = 0.0
    for x in range(len(out)):
        total += out[x]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def weighted_alarms(alarms: Array, room: tuple[Array, ...], parts: int, starts: Array, importance: Array) -> float:
    """Sum the false alarms of one row, each times its importance.

    Args:
        alarms: Probability on background, 0 elsewhere, (W,).
        room: What `lower_envelope` wrote to.
        parts: What it returned.
        starts: Space for W + 1 values, uint8.
        importance: What `importance_table` returns.
    """
    site, depth, end, _, _ = room
    starts[:] = 0
    for k in range(parts):
        starts[end[k] + 1] = 1
    cap = len(importance) - 1
    total = 0.0
    k = np.uintp(0)  # indices that cannot be negative, which spares Numba the check
    for x in range(len(alarms)):
        k += starts[x]
        step = x - site[k]
        total += alarms[x] * importance[np.uintp(min(step * step + depth[k], cap))]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def far_alarms(
    source: Array, scale: Array, mask: Array, first: int, step: int, left: int, profile: Array, importance: Array
) -> float:
    """Sum the weighted false alarms of the rows above or below all foreground, going away from it.

    A column that holds the nearest foreground nowhere in one row holds it in no row beyond, since the region nearest to
    a point is convex; so there are ever fewer to look at.

    Args:
        source: What `weighted_counts` takes, as `mask` and `importance` are.
        scale: What `write_alarms` takes.
        mask: See `source`.
        first: The first row.
        step: 1 to go down, −1 to go up.
        left: First column with foreground.
        profile: The foreground row that each column from there on shows to this side; outside the image without any.
        importance: See `source`.
    """
    height, width = mask.shape
    alarms = np.empty(width, scale.dtype)
    columns, rows = np.empty(len(profile), np.int64), np.empty(len(profile), np.int64)
    count = 0
    for i in range(len(profile)):
        if 0 <= profile[i] < height:
            columns[count], rows[count] = left + i, profile[i]
            count += 1
    room, starts = envelope_room(width, len(profile)), np.empty(width + 1, np.uint8)
    lost = room[3]
    total = 0.0
    y = first
    while 0 <= y < height:
        sounding = write_alarms(source[y], scale, mask[y], alarms)
        if sounding != 0:  # NaN too
            parts = lower_envelope(columns[:count], rows[:count], y, left, height, room)
            total += weighted_alarms(alarms, room, parts, starts, importance)
            kept = 0
            for i in range(count):
                columns[kept], rows[kept] = columns[i], rows[i]
                kept += 1 - lost[columns[i] - left]
            count = kept
        y += step
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def dependent_error(spread: Array, row: int, mask_row: Array, weights: Array, down: Array) -> float:
    """Sum min(E, E_A) over the foreground of one row, E_A the Gaussian mean of Ẽ.

    Args:
        spread: Ẽ of the rows `row` − 3 to `row` + 3, each at its number modulo 7, with 3 columns more on both sides.
        row: The row.
        mask_row: 0 background, 1 foreground, 2 ignored, of the row, (W,), uint8.
        weights: One side of the Gaussian, (7,).
        down: Space for W + 6 values.
    """
    a, b, c, d = spread[(row - 3) % 7], spread[(row - 2) % 7], spread[(row - 1) % 7], spread[row % 7]
    e, f, g = spread[(row + 1) % 7], spread[(row + 2) % 7], spread[(row + 3) % 7]
    w0, w1, w2, w3 = weights[3], weights[2], weights[1], weights[0]
    for x in range(len(down)):
        down[x] = w0 * d[x] + w1 * (c[x] + e[x]) + w2 * (b[x] + f[x]) + w3 * (a[x] + g[x])
    total = 0.0
    for x in range(len(mask_row)):
        dependent = (
            w0 * down[x + 3]
            + w1 * (down[x + 2] + down[x + 4])
            + w2 * (down[x + 1] + down[x + 5])
            + w3 * (down[x] + down[x + 6])
        )
        total += min(d[x + 3], dependent) * (mask_row[x] == 1)
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def weighted_counts(
    source: Array, scale: Array, mask: Array, weights: Array, importance: Array
) -> tuple[float, float, int]:
    """Sum the weighted errors of Margolin et al. over one image.

    Args:
        source: Prediction, (H, W); see `common`, as for `scale` and `mask`.
        scale: What the source's values stand for.
        mask: (H, W).
        weights: One side of the separable Gaussian K, of length 7 and sum 1, float64.
        importance: What `importance_table` returns.

    Returns:
        Weighted true positives, weighted false positives, number of foreground pixels.
    """
    height, width = mask.shape
    top, bottom, left, right, positives = bounding_box(mask)
    columns = right - left + 1
    false = missed = 0.0
    alarms = np.empty(width, scale.dtype)
    only_background = np.zeros(3 * len(scale), scale.dtype)
    only_background[: len(scale)] = scale
    if positives == 0:
        for y in range(height):
            false += write_alarms(source[y], only_background, mask[y], alarms)
        return 0.0, false * importance[-1], 0

    above = rows_above(mask[top : bottom + 1, left : right + 1], top)
    below = np.full(columns, FAR, np.int32)
    nearest = np.empty(columns, np.int32)
    numbers, starts = np.arange(left, right + 1), np.empty(width + 1, np.uint8)
    room = envelope_room(width, columns)
    site, depth, end, _, _ = room
    # Ẽ of the seven rows that the window reads, over the foreground's columns and 3 around them; zero beyond the image.
    spread = np.zeros((7, columns + 6))
    down = np.empty(columns + 6)
    wrong = np.zeros(7)  # the foreground's errors in each of them
    for y in range(bottom + 3, top - 4, -1):
        spread_row = spread[y % 7]
        spread_row[:] = 0
        wrong[y % 7] = 0
        if 0 <= y < height:
            mask_row = mask[y]
            nearest_row(mask_row[left : right + 1], above[min(max(y - top, 0), bottom - top)], y, below, nearest)
            parts = lower_envelope(numbers, nearest, y, left, height, room)
            if write_alarms(source[y], only_background, mask_row, alarms) != 0:  # NaN too
                false += weighted_alarms(alarms, room, parts, starts, importance)
            inner = slice(left, right + 1)
            wrong[y % 7] = write_misses(source[y, inner], scale, mask_row[inner], spread_row[3 : columns + 3])
            start = 0
            for k in range(parts):
                # Within 3 pixels of foreground both ways, the nearest foreground is at most √18 away.
                if depth[k] <= 18 and (end[k] > start or mask_row[start] == 0):
                    column = site[k]
                    error = 1.0 - probability(source[nearest[column - left], column], scale)
                    for x in range(max(start, column - 4, left - 3), min(end[k], column + 4, right + 3) + 1):
                        if mask_row[x] == 0:
                            spread_row[x - left + 3] = error
                start = end[k] + 1
        done = y + 3
        if top <= done <= bottom and wrong[done % 7] != 0:
            missed += dependent_error(spread, done, mask[done, left : right + 1], weights, down)
    false += far_alarms(source, only_background, mask, bottom + 4, 1, left, above[bottom - top], importance)
    false += far_alarms(source, only_background, mask, top - 4, -1, left, below, importance)
    return positives - missed, false, positives
