"""The weighted F-measure's sums with the local dependency, and their slopes: what training spends on its loss."""

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array
from spatialseg.kernels.distance import bounding_box


@njit(cache=True, nogil=True, fastmath=FAST)
def local_counts(
    prediction: Array, mask: Array, distance: Array, importance: Array, kernel: Array, slope: Array
) -> tuple[float, float, int]:
    """Sum the weighted errors over one image, and write the derivatives of both sums by the prediction.

    Args:
        prediction: D, (H, W), float32 or float64.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        distance: Δ, (H, W), float32; not read if the table has one entry.
        importance: What `importance_table` returns, of the prediction's type; or [1].
        kernel: One side of the separable Gaussian K, (window,), of the prediction's type.
        slope: What is written, as large as the prediction: the derivative of TP on foreground, that of FP elsewhere.

    Returns:
        Weighted true positives, weighted false positives, number of foreground pixels.
    """
    kind = prediction.dtype.type  # plain numbers would turn all into float64
    zero, half, one, tiny = kind(0), kind(0.5), kind(1), kind(1e-30)
    height, width = mask.shape
    top, bottom, left, right, positives = bounding_box(mask)
    fp = 0.0
    beyond = len(importance) - 1
    for y in range(height):
        row_fp = zero
        for x in range(width):
            b = zero
            if mask[y, x] == 0:
                b = importance[beyond]
                squared = distance[y, x] * distance[y, x]
                if squared < beyond:
                    step = int(squared + np.float32(0.5))
                    if abs(squared - step) < np.float32(0.01):
                        b = importance[step]
                    else:  # a distance map that was resized
                        b = kind(2 - 2 ** (-distance[y, x] / 5))
            slope[y, x] = b
            row_fp += prediction[y, x] * b
        fp += row_fp
    if positives == 0:
        return 0.0, fp, 0

    # Only the foreground's bounding box has anything to smooth; a margin of zeros spares the border cases.
    window = len(kernel)
    radius = window // 2
    rows, columns = bottom - top + 1, right - left + 1
    error = np.zeros((rows + 2 * radius, columns + 2 * radius), prediction.dtype)
    inside = np.zeros((rows + 2 * radius, columns + 2 * radius), prediction.dtype)
    for y in range(rows):
        marks, scores = mask[top + y, left : right + 1], prediction[top + y, left : right + 1]
        errors, insides = error[radius + y, radius:], inside[radius + y, radius:]
        for x in range(columns):
            g = one if marks[x] == 1 else zero
            insides[x] = g
            errors[x] = g * (one - scores[x])
    mean = smoothed(error, kernel)
    mass = smoothed(inside, kernel)

    tp = 0.0
    share = np.zeros_like(error)  # what each pixel's E_A, if it is the smaller error, owes to each neighbour's error
    for y in range(rows):
        errors, insides, shares = error[radius + y, radius:], inside[radius + y, radius:], share[radius + y, radius:]
        means, masses, slopes = mean[y], mass[y], slope[top + y, left : right + 1]
        row_tp = zero
        for x in range(columns):
            g = insides[x]
            inverse = g / max(masses[x], tiny)
            around = means[x] * inverse
            row_tp += g * (one - min(errors[x], around))
            # Where both are equal, each is half of the derivative, as autograd has it.
            by_mean = (half if around < errors[x] else zero) + (half if around <= errors[x] else zero)
            shares[x] = by_mean * inverse
            slopes[x] += g * (one - by_mean)
        tp += row_tp
    spread = smoothed(share, kernel)
    for y in range(rows):
        insides, spreads, slopes = inside[radius + y, radius:], spread[y], slope[top + y, left : right + 1]
        for x in range(columns):
            slopes[x] += insides[x] * spreads[x]
    return tp, fp, positives


@njit(cache=True, nogil=True)
def scale_slopes(slope: Array, mask: Array, of_tp: float, of_fp: float, gradient: Array) -> None:
    """Write the slopes times what they are slopes of."""
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            gradient[y, x] = slope[y, x] * (of_tp if mask[y, x] == 1 else of_fp)


@njit(cache=True, nogil=True, fastmath=FAST)
def smoothed(padded: Array, kernel: Array) -> Array:
    """Convolve with the separable kernel; the result lacks the margin."""
    window = len(kernel)
    rows, columns = padded.shape[0] - window + 1, padded.shape[1] - window + 1
    out = np.zeros((rows, columns), padded.dtype)
    down = np.empty(padded.shape[1], padded.dtype)
    for y in range(rows):
        down[:] = 0
        for step in range(window):
            add_scaled(down, kernel[step], padded[y + step])
        for step in range(window):
            add_scaled(out[y], kernel[step], down[step : step + columns])
    return out


@njit(cache=True, nogil=True, fastmath=FAST)
def add_scaled(total: Array, factor: float, source: Array) -> None:
    """Do the inner loop, on views that start at 0: so it vectorises."""
    for x in range(len(total)):
        total[x] += factor * source[x]
