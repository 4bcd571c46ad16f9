"""Measures compiled for the CPU; one image each, without the GIL. `compiled` is their front.

A mask is uint8 here: 0 background, 1 foreground, 2 ignored.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# Sums may be reordered, so that they vectorise; infinities and NaN keep their meaning.
_FAST = {"reassoc", "nsz", "contract"}
_FAR = 1 << 24  # beyond every row


def importance_table() -> Array:
    """Tabulate B = 2 − 2^(−Δ/5) over the squared distance Δ², an integer; the last entry stands for all beyond.

    From Δ = 270 on B equals 2 in double precision.
    """
    return 2 - np.exp(math.log(0.5) / 5 * np.sqrt(np.arange(270**2 + 1, dtype=np.float64)))


@njit(cache=True, nogil=True)
def sort_out(target: Array, left_out: float, ignores: bool, out: Array) -> tuple[int, int]:
    """Write 1 where the target is 1, 2 where it is `left_out` (if that `ignores`), else 0.

    Args:
        target: (H, W), of any numeric type.
        left_out: Of the same type, so that the comparison needs no conversion.
        ignores: Whether `left_out` means anything.
        out: What is written, (H, W), uint8.

    Returns:
        The number of pixels that are neither 0 nor 1 nor left out, and of those left out.
    """
    known = ignored = 0
    for y in range(target.shape[0]):
        row, out_row = target[y], out[y]
        for x in range(target.shape[1]):
            one = row[x] == 1
            none = ignores & (row[x] == left_out)
            out_row[x] = 2 if none else one
            known += one | none | (row[x] == 0)
            ignored += none
    return target.size - known, ignored


@njit(cache=True, nogil=True)
def to_unit(source: Array, levels: Array, out: Array) -> None:
    """Write the probability that each pixel of a row stands for: itself, or its entry of `levels` if that has any."""
    if len(levels) > 0:
        for x in range(len(out)):
            out[x] = levels[np.intp(source[x])]
    else:
        for x in range(len(out)):
            out[x] = source[x]


@njit(cache=True, nogil=True, fastmath=_FAST)
def write_alarms(source: Array, levels: Array, mask: Array, out: Array) -> float:
    """Write the probability that each background pixel of a row stands for, 0 elsewhere; return the sum.

    Args:
        source: Foreground probability, float32 or float64, or grey levels, uint8; (W,).
        levels: What each grey level stands for on background, then on foreground and where ignored; empty without them.
        mask: 0 background, 1 foreground, 2 ignored, (W,), uint8.
        out: What is written, (W,), float64.
    """
    if len(levels) > 0:
        for x in range(len(out)):
            out[x] = levels[np.intp(source[x]) + 256 * np.intp(mask[x])]
    else:
        for x in range(len(out)):
            out[x] = source[x] * (mask[x] == 0)
    total = 0.0
    for x in range(len(out)):
        total += out[x]
    return total


@njit(cache=True, nogil=True)
def bounding_box(mask: Array) -> tuple[int, int, int, int, int]:
    """Return first and last row, first and last column and number of the pixels of value 1."""
    height, width = mask.shape
    top, bottom, left, right, count = height, -1, width, -1, 0
    for y in range(height):
        row = mask[y]
        inside = 0
        for x in range(width):
            inside += row[x] == 1
        if inside == 0:
            continue
        count += inside
        top = min(top, y)
        bottom = y
        first = 0
        while row[first] != 1:
            first += 1
        left = min(left, first)
        last = width - 1
        while last > right and row[last] != 1:
            last -= 1
        right = max(right, last)
    return top, bottom, left, right, count


@njit(cache=True, nogil=True)
def rows_above(mask: Array, top: int) -> Array:
    """For every pixel, find the lowest foreground row of its column that is not below it; −_FAR if there is none.

    The first row is called `top`.
    """
    height, width = mask.shape
    above = np.empty((height, width), np.int32)
    seen = np.full(width, -_FAR, np.int32)
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
def lower_envelope(
    columns: Array,
    rows: Array,
    y: int,
    left: int,
    height: int,
    width: int,
    site: Array,
    depth: Array,
    end: Array,
    lost: Array,
) -> int:
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
        width: Of the image.
        site: What is written, as `depth` and `end` are; (W,) each.
        depth: The same.
        end: The same.
        lost: Becomes 1 for columns that are nearest nowhere between the first and the last pixel of the row, not even
            between two pixels.

    Returns:
        The number of parts; the last reaches to the end of the row.
    """
    count = 0
    final = len(columns) - 1
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
            last = excess >> 1 if gap == 1 else math.floor(excess / (2 * gap))
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
    below = np.full(columns, _FAR, np.int32)
    nearest = np.empty(columns, np.int32)
    numbers, lost = np.arange(left, right + 1), np.empty(columns, np.uint8)
    site, depth, end = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    for y in range(height - 1, -1, -1):
        nearest_row(mask[y, left : right + 1], above[min(max(y - top, 0), bottom - top)], y, below, nearest)
        parts = lower_envelope(numbers, nearest, y, left, height, width, site, depth, end, lost)
        start = 0
        for k in range(parts):
            for x in range(start, end[k] + 1):
                step = x - site[k]
                out[y, x] = 0.0 if mask[y, x] == 1 else math.sqrt(float(step * step + depth[k]))
            start = end[k] + 1


@njit(cache=True, nogil=True, fastmath=_FAST)
def weighted_alarms(
    alarms: Array,
    site: Array,
    depth: Array,
    end: Array,
    parts: int,
    starts: Array,
    importance: Array,
) -> float:
    """Sum the false alarms of one row, each times its importance.

    Args:
        alarms: Probability on background, 0 elsewhere, (W,).
        site: What `lower_envelope` wrote, as `depth` and `end` are.
        depth: The same.
        end: The same.
        parts: What it returned.
        starts: Space for W + 1 values, uint8.
        importance: What `importance_table` returns.
    """
    starts[:] = 0
    for k in range(parts):
        starts[end[k] + 1] = 1
    cap = len(importance) - 1
    total = 0.0
    k = 0
    for x in range(len(alarms)):
        k += starts[x]
        distance = (x - site[k]) * (x - site[k]) + depth[k]
        total += alarms[x] * importance[min(distance, cap)]
    return total


@njit(cache=True, nogil=True, fastmath=_FAST)
def far_alarms(
    source: Array, levels: Array, mask: Array, first: int, step: int, left: int, profile: Array, importance: Array
) -> float:
    """Sum the weighted false alarms of the rows above or below all foreground, going away from it.

    A column that holds the nearest foreground nowhere in one row holds it in no row beyond, since the region nearest to
    a point is convex; so there are ever fewer to look at.

    Args:
        source: What `weighted_counts` takes, as `mask` and `importance` are.
        levels: What `write_alarms` takes.
        mask: See `source`.
        first: The first row.
        step: 1 to go down, −1 to go up.
        left: First column with foreground.
        profile: The foreground row that each column from there on shows to this side; outside the image without any.
        importance: See `source`.
    """
    height, width = mask.shape
    alarms = np.empty(width)
    columns, rows, lost = (
        np.empty(len(profile), np.int64),
        np.empty(len(profile), np.int64),
        np.zeros(len(profile), np.uint8),
    )
    count = 0
    for i in range(len(profile)):
        if 0 <= profile[i] < height:
            columns[count], rows[count] = left + i, profile[i]
            count += 1
    site, depth, end = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    starts = np.empty(width + 1, np.uint8)
    total = 0.0
    y = first
    while 0 <= y < height:
        sounding = write_alarms(source[y], levels, mask[y], alarms)
        if sounding != 0:  # NaN too
            parts = lower_envelope(columns[:count], rows[:count], y, left, height, width, site, depth, end, lost)
            total += weighted_alarms(alarms, site, depth, end, parts, starts, importance)
            kept = 0
            for i in range(count):
                columns[kept], rows[kept] = columns[i], rows[i]
                kept += 1 - lost[columns[i] - left]
            count = kept
        y += step
    return total


@njit(cache=True, nogil=True, fastmath=_FAST)
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


@njit(cache=True, nogil=True, fastmath=_FAST)
def weighted_counts(
    source: Array, levels: Array, mask: Array, weights: Array, importance: Array
) -> tuple[float, float, int]:
    """Sum the weighted errors of Margolin et al. over one image.

    Args:
        source: Foreground probability, float32 or float64, or grey levels, uint8; (H, W).
        levels: Foreground probability of each grey level, (256,), float64; empty without grey levels.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        weights: One side of the separable Gaussian K, of length 7 and sum 1, float64.
        importance: What `importance_table` returns.

    Returns:
        Weighted true positives, weighted false positives, number of foreground pixels.
    """
    height, width = mask.shape
    top, bottom, left, right, positives = bounding_box(mask)
    columns = right - left + 1
    false = missed = 0.0
    alarms = np.empty(width)
    # The probability of each grey level where there is background (0), foreground (1) or nothing that counts (2).
    alarm_levels = np.zeros(3 * len(levels))
    alarm_levels[: len(levels)] = levels
    if positives == 0:
        for y in range(height):
            false += write_alarms(source[y], alarm_levels, mask[y], alarms)
        return 0.0, false * importance[-1], 0

    above = rows_above(mask[top : bottom + 1, left : right + 1], top)
    below = np.full(columns, _FAR, np.int32)
    nearest = np.empty(columns, np.int32)
    numbers, lost = np.arange(left, right + 1), np.empty(columns, np.uint8)
    site, depth, end = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    starts = np.empty(width + 1, np.uint8)
    prediction_row = np.empty(columns)
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
            parts = lower_envelope(numbers, nearest, y, left, height, width, site, depth, end, lost)
            if write_alarms(source[y], alarm_levels, mask_row, alarms) != 0:  # NaN too
                false += weighted_alarms(alarms, site, depth, end, parts, starts, importance)
            to_unit(source[y, left : right + 1], levels, prediction_row)
            for x in range(columns):
                error = (1.0 - prediction_row[x]) * (mask_row[left + x] == 1)
                spread_row[x + 3] = error
                wrong[y % 7] += error
            start = 0
            for k in range(parts):
                # Within 3 pixels of foreground both ways, the nearest foreground is at most √18 away.
                if depth[k] <= 18 and (end[k] > start or mask_row[start] == 0):
                    column = site[k]
                    found = source[nearest[column - left], column]
                    error = 1.0 - (levels[np.intp(found)] if len(levels) > 0 else np.float64(found))
                    for x in range(max(start, column - 4, left - 3), min(end[k], column + 4, right + 3) + 1):
                        if mask_row[x] == 0:
                            spread_row[x - left + 3] = error
                start = end[k] + 1
        done = y + 3
        if top <= done <= bottom and wrong[done % 7] != 0:
            missed += dependent_error(spread, done, mask[done, left : right + 1], weights, down)
    false += far_alarms(source, alarm_levels, mask, bottom + 4, 1, left, above[bottom - top], importance)
    false += far_alarms(source, alarm_levels, mask, top - 4, -1, left, below, importance)
    return positives - missed, false, positives


@njit(cache=True, nogil=True, fastmath=_FAST)
def level_histograms(prediction: Array, mask: Array, scale: float, counts: Array) -> None:
    """Count the pixels of one image by grey level, and those that reach twice the mean.

    Args:
        prediction: Foreground probability, (H, W), float32 or float64.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        scale: 255 in the precision of the prediction, in which the level ⌊255 p⌋ is then taken.
        counts: What is written: (2, 257), int64; background, then foreground; 256 levels, then the pixels that reach
            the adaptive threshold min(1, twice the mean).
    """
    height, width = mask.shape
    total, pixels = 0.0, 0
    for y in range(height):
        prediction_row, mask_row = prediction[y], mask[y]
        for x in range(width):
            total += prediction_row[x] * (mask_row[x] < 2)
            pixels += mask_row[x] < 2
    threshold = min(2 * (total / max(pixels, 1)), 1.0)
    # Neighbours often have the same level; two histograms let their increments overlap.
    bins = np.zeros((2, 3 * 256), np.int64)
    places = np.empty(width, np.int32)
    background = foreground = 0
    for y in range(height):
        prediction_row, mask_row = prediction[y], mask[y]
        for x in range(width):
            places[x] = np.int32(prediction_row[x] * scale) + np.int32(256) * np.int32(mask_row[x])
        for x in range(width):
            background += (prediction_row[x] >= threshold) & (mask_row[x] == 0)
            foreground += (prediction_row[x] >= threshold) & (mask_row[x] == 1)
        for x in range(width // 2):
            bins[0, places[2 * x]] += 1
            bins[1, places[2 * x + 1]] += 1
        if width % 2:
            bins[0, places[width - 1]] += 1
    for level in range(256):
        counts[0, level] = bins[0, level] + bins[1, level]
        counts[1, level] = bins[0, 256 + level] + bins[1, 256 + level]
    counts[0, 256] = background
    counts[1, 256] = foreground


@njit(cache=True, nogil=True)
def grey_histograms(levels: Array, mask: Array, counts: Array) -> None:
    """Count the pixels of one image by grey level.

    Args:
        levels: Grey levels, (H, W), uint8.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        counts: What is written: (2, 256), int64; background, then foreground.
    """
    # Neighbours often have the same level; two histograms let their increments overlap.
    bins = np.zeros((2, 3 * 256), np.int64)
    for y in range(mask.shape[0]):
        row, mask_row = levels[y], mask[y]
        for x in range(mask.shape[1]):
            bins[x & 1, np.intp(row[x]) + 256 * np.intp(mask_row[x])] += 1
    for level in range(256):
        counts[0, level] = bins[0, level] + bins[1, level]
        counts[1, level] = bins[0, 256 + level] + bins[1, 256 + level]


@njit(cache=True, nogil=True, fastmath=_FAST)
def quadrant_sums(source: Array, levels: Array, mask: Array, sums: Array) -> None:
    """Sum what the S-measure needs over the four parts of one image that meet at the centroid of its foreground.

    Args:
        source: Foreground probability, float32 or float64, or grey levels, uint8; (H, W).
        levels: Foreground probability of each grey level, (256,), float64; empty without grey levels.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
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
    prediction_row = np.empty(width)
    for y in range(height):
        mask_row = mask[y]
        to_unit(source[y], levels, prediction_row)
        below = int(y >= down)
        for side in range(2):
            foreground = background = 0
            inside = inside_squares = outside = outside_squares = 0.0
            for x in range(right if side else 0, width if side else right):
                value = prediction_row[x]
                one, zero = mask_row[x] == 1, mask_row[x] == 0
                foreground += one
                background += zero
                inside += value * one
                inside_squares += value * value * one
                outside += value * zero
                outside_squares += value * value * zero
            part = sums[below, side]
            part[0, 0] += background
            part[0, 1] += outside
            part[0, 2] += outside_squares
            part[1, 0] += foreground
            part[1, 1] += inside
            part[1, 2] += inside_squares


@njit(cache=True, nogil=True)
def eroded(mask: Array, width: int) -> Array:
    """Erode a mask of values 0 and 1 by a square of side 2·width + 1; beyond the image is 0."""
    height, columns = mask.shape
    out = np.zeros(mask.shape, np.uint8)
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
                row[x - width] = 1
        leaving = mask[y - width]
        for x in range(columns):
            down[x] -= leaving[x]
    return out


@njit(cache=True, nogil=True)
def boundary_region_counts(predicted: Array, true: Array, width: int) -> tuple[int, int]:
    """Count the pixels in the intersection and in the union of two masks' inner boundary regions."""
    inner_predicted, inner_true = eroded(predicted, width), eroded(true, width)
    intersection = union = 0
    for y in range(true.shape[0]):
        a, b, c, d = predicted[y], inner_predicted[y], true[y], inner_true[y]
        for x in range(true.shape[1]):
            one, other = a[x] & (b[x] ^ 1), c[x] & (d[x] ^ 1)
            intersection += one & other
            union += one | other
    return intersection, union


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
