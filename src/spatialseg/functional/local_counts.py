"""Weighted counts with the local dependency, and their gradient, compiled for the CPU: one pass each over an image.

The twin of what `weighted_counts` does with tensors, tested to equal it; training spends its loss here.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialseg.functional.compiled import for_each_image

Array = NDArray[Any]

_FAST = {"reassoc", "nsz", "contract"}  # sums may be reordered, so that they vectorise


class LocalCounts(torch.autograd.Function):
    """True positives, false positives and foreground pixels, (N,) each; one map holds the slopes of both counts.

    Not differentiable twice.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        prediction: Tensor,
        mask: Tensor,
        distance: Tensor | None,
        kernel: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Count.

        Args:
            ctx: Autograd's.
            prediction: D, (N, H, W), float32 on the CPU.
            mask: 0 background, 1 foreground, anything else ignored; (N, H, W), uint8.
            distance: Δ, (N, H, W), float32; `None`: B = 1.
            kernel: One side of the separable K, (window,), float32.
        """
        mask = mask.contiguous()
        slope = torch.empty(mask.shape)
        counts = torch.empty(3, len(mask), dtype=torch.float64)
        if distance is None:  # a table of ones, and a distance that is not read
            distance, table = prediction, np.ones(1, np.float32)
        else:
            table = _importance_table()
        predictions, far = (each.detach().float().contiguous().numpy() for each in (prediction, distance))
        masks, slopes, sums, side = mask.numpy(), slope.numpy(), counts.numpy(), kernel.numpy()

        def one(image: int) -> None:
            sums[:, image] = _count(predictions[image], masks[image], far[image], table, side, slopes[image])

        for_each_image(len(masks), one)
        ctx.save_for_backward(slope, mask)
        tp, fp, positives = counts.float()
        ctx.mark_non_differentiable(positives)
        return tp, fp, positives

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_tp: Tensor, of_fp: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradient of the prediction: the slope of TP on foreground, that of FP on background."""
        slope, mask = ctx.saved_tensors
        gradient = torch.empty(mask.shape)
        slopes, masks, out = slope.numpy(), mask.numpy(), gradient.numpy()
        tps, fps = of_tp.float().numpy(), of_fp.float().numpy()
        for_each_image(
            len(masks), lambda image: _scale(slopes[image], masks[image], tps[image], fps[image], out[image])
        )
        return gradient, None, None, None


@lru_cache(maxsize=1)
def _importance_table() -> Array:
    """Tabulate B = 2 − 2^(−Δ/5) over Δ²; from Δ = 150 on B is 2 in float32."""
    table: Array = (2 - np.exp2(-np.sqrt(np.arange(150**2 + 1)) / 5)).astype(np.float32)
    return table


@njit(cache=True, nogil=True, fastmath=_FAST)
def _count(
    prediction: Array, mask: Array, distance: Array, table: Array, kernel: Array, slope: Array
) -> tuple[float, float, int]:
    """Return TP, FP and N₊ of one image, and write their derivatives by the prediction into `slope`."""
    height, width = mask.shape
    top, bottom, left, right = height, -1, width, -1
    fp = 0.0
    positives = 0
    beyond = len(table) - 1
    for y in range(height):
        row_fp = np.float32(0)
        first, last = width, -1
        for x in range(width):
            b = np.float32(0)
            if mask[y, x] == 0:
                b = table[beyond]
                squared = distance[y, x] * distance[y, x]
                if squared < beyond:
                    step = int(squared + np.float32(0.5))
                    if abs(squared - step) < np.float32(0.01):
                        b = table[step]
                    else:  # a distance map that was resized
                        b = np.float32(2 - 2 ** (-distance[y, x] / 5))
            slope[y, x] = b
            row_fp += prediction[y, x] * b
            if mask[y, x] == 1:
                first = min(first, x)
                last = x
                positives += 1
        fp += row_fp
        if last >= 0:
            top, bottom, left, right = min(top, y), y, min(left, first), max(right, last)
    if bottom < 0:
        return 0.0, fp, 0

    # Only the foreground's bounding box has anything to smooth; a margin of zeros spares the border cases.
    window = len(kernel)
    radius = window // 2
    rows, columns = bottom - top + 1, right - left + 1
    error = np.zeros((rows + 2 * radius, columns + 2 * radius), np.float32)
    inside = np.zeros((rows + 2 * radius, columns + 2 * radius), np.float32)
    one, half = np.float32(1), np.float32(0.5)  # plain numbers would turn all into float64
    for y in range(rows):
        marks, scores = mask[top + y, left : right + 1], prediction[top + y, left : right + 1]
        errors, insides = error[radius + y, radius:], inside[radius + y, radius:]
        for x in range(columns):
            g = one if marks[x] == 1 else np.float32(0)
            insides[x] = g
            errors[x] = g * (one - scores[x])
    mean = _smooth(error, kernel)
    mass = _smooth(inside, kernel)

    tp = 0.0
    share = np.zeros_like(error)  # what each pixel's E_A, if it is the smaller error, owes to each neighbour's error
    for y in range(rows):
        errors, insides, shares = error[radius + y, radius:], inside[radius + y, radius:], share[radius + y, radius:]
        means, masses, slopes = mean[y], mass[y], slope[top + y, left : right + 1]
        row_tp = np.float32(0)
        for x in range(columns):
            g = insides[x]
            inverse = g / max(masses[x], np.float32(1e-30))
            around = means[x] * inverse
            row_tp += g * (one - min(errors[x], around))
            # Where both are equal, each is half of the derivative, as autograd has it.
            by_mean = (half if around < errors[x] else np.float32(0)) + (half if around <= errors[x] else np.float32(0))
            shares[x] = by_mean * inverse
            slopes[x] += g * (one - by_mean)
        tp += row_tp
    spread = _smooth(share, kernel)
    for y in range(rows):
        insides, spreads, slopes = inside[radius + y, radius:], spread[y], slope[top + y, left : right + 1]
        for x in range(columns):
            slopes[x] += insides[x] * spreads[x]
    return tp, fp, positives


@njit(cache=True, nogil=True)
def _scale(slope: Array, mask: Array, of_tp: float, of_fp: float, gradient: Array) -> None:
    """Write the slopes times what they are slopes of."""
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            gradient[y, x] = slope[y, x] * (of_tp if mask[y, x] == 1 else of_fp)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _smooth(padded: Array, kernel: Array) -> Array:
    """Convolve with the separable kernel; the result lacks the margin."""
    window = len(kernel)
    rows, columns = padded.shape[0] - window + 1, padded.shape[1] - window + 1
    smooth = np.zeros((rows, columns), np.float32)
    down = np.empty(padded.shape[1], np.float32)
    for y in range(rows):
        down[:] = 0
        for step in range(window):
            _add(down, kernel[step], padded[y + step])
        for step in range(window):
            _add(smooth[y], kernel[step], down[step : step + columns])
    return smooth


@njit(cache=True, nogil=True, fastmath=_FAST)
def _add(total: Array, factor: float, source: Array) -> None:
    """Do the inner loop, on views that start at 0: so it vectorises."""
    for x in range(len(total)):
        total[x] += factor * source[x]
