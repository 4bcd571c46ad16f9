"""Pixels counted by grey level, behind everything that is thresholded."""

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
    prediction_row = np.empty(width, scale.dtype)
    total, pixels = 0.0, 0
    for y in range(height):
        mask_row = mask[y]
        to_unit(source[y], scale, mask_row, prediction_row)
        for x in range(width):
            total += prediction_row[x]
            pixels += mask_row[x] < 2
    threshold = min(2 * (total / max(pixels, 1)), 1.0)
    # Neighbours often have the same level; two histograms let their increments overlap.
    bins = np.zeros((2, 3 * 256), np.int64)
    places = np.empty(width, np.int32)
    background = foreground = 0
    for y in range(height):
        mask_row = mask[y]
        to_unit(source[y], scale, mask_row, prediction_row)
        for x in range(width):
            places[x] = np.int32(prediction_row[x] * white) + np.int32(256) * np.int32(mask_row[x])
        for x in range(width):
            background += (prediction_row[x] >= threshold) & (mask_row[x] == 0)
            foreground += (prediction_row[x] >= threshold) & (mask_row[x] == 1)
        for x in range(width // 2):
            bins[0, places[2 * x]] += 1
            bins[1, places[2 * x + 1]] += 1
        if width % 2:
            bins[0, places[width - 1]] += 1
    counts[0, 256], counts[1, 256] = background, foreground
    for kind in range(2):
        above = 0
        for level in range(255, -1, -1):
            above += bins[0, 256 * kind + level] + bins[1, 256 * kind + level]
            counts[kind, level] = above


@njit(cache=True, nogil=True)
def reached_counts_of_greys(greys: Array, scale: Array, counts: Array) -> None:
    """Do the same from what `grey_histograms` wrote, (2, 256), and what each grey level stands for, ascending."""
    total, pixels = 0.0, 0
    for grey in range(256):
        here = greys[0, grey] + greys[1, grey]
        total += here * scale[grey]
        pixels += here
    threshold = min(2 * (total / max(pixels, 1)), 1.0)
    for kind in range(2):
        counts[kind, 256] = above = 0
        level = 255
        for grey in range(255, -1, -1):
            while level > scale[grey] * 255:
                counts[kind, level] = above
                level -= 1
            above += greys[kind, grey]
            if scale[grey] >= threshold:
                counts[kind, 256] = above
        counts[kind, : level + 1] = above


@njit(cache=True, nogil=True)
def grey_histograms(source: Array, mask: Array, counts: Array) -> None:
    """Count the pixels of one image by grey level.

    Args:
        source: Grey levels, (H, W), uint8.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        counts: What is written: (2, 256), int64; background, then foreground.
    """
    # Neighbours often have the same level; two histograms let their increments overlap.
    bins = np.zeros((2, 3 * 256), np.int64)
    for y in range(mask.shape[0]):
        row, mask_row = source[y], mask[y]
        for x in range(mask.shape[1]):
            bins[x & 1, np.intp(row[x]) + 256 * np.intp(mask_row[x])] += 1
    for level in range(256):
        counts[0, level] = bins[0, level] + bins[1, level]
        counts[1, level] = bins[0, 256 + level] + bins[1, 256 + level]
