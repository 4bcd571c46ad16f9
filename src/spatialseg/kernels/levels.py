"""Pixels counted by grey level, behind everything that is thresholded."""

import math

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array, to_unit


@njit(cache=True, nogil=True, fastmath=FAST)
def reached_counts(source: Array, scale: Array, mask: Array, counts: Array) -> None:
    """Count the pixels of one image that reach each grey level, and twice the mean.

    Args:
        source: Prediction p, (H, W), float32 or float64, in whose precision ⌊255 p⌋ is taken; see `common`, as for
            `scale` and `mask`.
        scale: What the source's values stand for.
        mask: (H, W).
        counts: What is written: (2, 257), int64; background, then foreground; the levels 0 to 255, then the adaptive
            threshold min(1, twice the mean).
    """
    height, width = mask.shape
    white = scale.dtype.type(255)
    plain = scale[0] == 0 and scale[1] == 1  # what is ignored may then be any value in [0, 1]
    row = np.empty(width, scale.dtype)
    total, pixels = 0.0, 0
    for y in range(height):
        mask_row = mask[y]
        if plain:
            row = source[y]
        else:
            to_unit(source[y], scale, mask_row, row)
        for x in range(width):
            total += row[x] * (mask_row[x] < 2)
            pixels += mask_row[x] < 2
    threshold = min(2 * (total / max(pixels, 1)), 1.0)
    # Neighbours often have the same level; two histograms let their increments overlap.
    bins = np.zeros((2, 3 * 256), np.int64)
    places = np.empty(width, np.int32)
    background = foreground = 0
    for y in range(height):
        mask_row = mask[y]
        if plain:
            row = source[y]
        else:
            to_unit(source[y], scale, mask_row, row)
        for x in range(width):
            places[x] = np.int32(row[x] * white) + np.int32(256) * np.int32(mask_row[x])
        for x in range(width):
            background += (row[x] >= threshold) & (mask_row[x] == 0)
            foreground += (row[x] >= threshold) & (mask_row[x] == 1)
        for x in range(width // 2):
            bins[0, places[2 * x]] += 1
            bins[1, places[2 * x + 1]] += 1
        if width % 2:
            bins[0, places[width - 1]] += 1
    counts[0, 256], counts[1, 256] = background, foreground
    counts[:, :256] = (bins[0] + bins[1])[: 2 * 256].reshape(2, 256)
    add_from_above(counts)


@njit(cache=True, nogil=True)
def reached_counts_of_greys(source: Array, scale: Array, mask: Array, counts: Array) -> None:
    """Do the same for grey levels, (H, W), uint8, quicker: how many pixels are of which is all that is needed."""
    bins = np.zeros((2, 3 * 256), np.int64)  # as above
    for y in range(mask.shape[0]):
        row, mask_row = source[y], mask[y]
        for x in range(mask.shape[1]):
            bins[x & 1, np.intp(row[x]) + 256 * np.intp(mask_row[x])] += 1
    greys = (bins[0] + bins[1]).reshape(3, 256)
    total, pixels = 0.0, 0
    for grey in range(256):
        here = greys[0, grey] + greys[1, grey]
        total += here * scale[grey]
        pixels += here
    threshold = min(2 * (total / max(pixels, 1)), 1.0)
    counts[:] = 0
    for kind in range(2):
        for grey in range(256):
            counts[kind, int(scale[grey] * 255)] += greys[kind, grey]
            if scale[grey] >= threshold:
                counts[kind, 256] += greys[kind, grey]
    add_from_above(counts)


@njit(cache=True, nogil=True)
def add_from_above(counts: Array) -> None:
    """Turn the counts of pixels at the levels 0 to 255 into those at or above them."""
    for level in range(254, -1, -1):
        counts[:, level] += counts[:, level + 1]


@njit(cache=True, nogil=True, fastmath=FAST)
def mean_absolute_error(source: Array, scale: Array, mask: Array) -> float:
    """Return the mean of |prediction − ground truth| over the pixels of one image that count; arguments as above."""
    total, pixels = 0.0, 0
    row = np.empty(mask.shape[1], scale.dtype)
    wrong = np.zeros(3 * 256)  # of each grey level on background, on foreground and where ignored
    if len(scale) == 256:
        wrong[:256], wrong[256:512] = scale, 1 - scale
    for y in range(mask.shape[0]):
        mask_row, source_row = mask[y], source[y]
        for x in range(len(row)):
            pixels += mask_row[x] < 2
        if len(scale) == 256:
            for x in range(len(row)):
                total += wrong[np.intp(source_row[x]) + 256 * np.intp(mask_row[x])]
        else:
            to_unit(source_row, scale, mask_row, row)
            for x in range(len(row)):
                total += abs(row[x] - row.dtype.type(mask_row[x] == 1))
    return total / pixels if pixels else math.nan
