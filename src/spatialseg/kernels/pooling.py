"""Selective pooling and its transpose.

All shifts of a row are done while it is in the cache, which the shifts of a whole batch are not.
"""

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array


@njit(cache=True, nogil=True, fastmath=FAST)
def pool(
    values: Array, labels: Array, centres: Array, weights: Array, stride: int, total: Array, inverse: Array
) -> None:
    """Write the means of values (C, H, W) into `total` (C, h, w), and the inverse of each mean's mass (h, w)."""
    window = len(weights)
    shares = np.zeros((window * window, centres.shape[1]), values.dtype)
    for row in range(centres.shape[0]):
        share_of(labels, centres, weights, stride, row, shares)
        mass = inverse[row]
        mass[:] = 0
        for shift in range(window * window):
            share = shares[shift]
            for column in range(len(mass)):
                mass[column] += share[column]
        for column in range(len(mass)):
            mass[column] = 1 / mass[column] if mass[column] > 0 else 0
        for channel in range(len(values)):
            out = total[channel, row]
            out[:] = 0
            for shift in range(window * window):
                dy, dx = shift // window - window // 2, shift % window - window // 2
                if 0 <= row * stride + dy < labels.shape[0]:
                    share, source = shares[shift], values[channel, row * stride + dy]
                    first, last = columns_inside(labels.shape[1], len(out), dx, stride)
                    if stride == 1:
                        add_product(out[first:last], share[first:last], source[first + dx : last + dx])
                    else:
                        for column in range(first, last):
                            out[column] += share[column] * source[column * stride + dx]
            for column in range(len(out)):
                out[column] *= mass[column]


@njit(cache=True, nogil=True, fastmath=FAST)
def spread(
    gradient: Array, labels: Array, centres: Array, weights: Array, stride: int, inverse: Array, out: Array
) -> None:
    """Add to `out` (C, H, W) what the gradient (C, h, w) of the means owes to each value."""
    window = len(weights)
    shares = np.zeros((window * window, centres.shape[1]), gradient.dtype)
    for row in range(centres.shape[0]):
        share_of(labels, centres, weights, stride, row, shares)
        for shift in range(window * window):
            share = shares[shift]
            for column in range(len(share)):
                share[column] *= inverse[row, column]
        for channel in range(len(gradient)):
            source = gradient[channel, row]
            for shift in range(window * window):
                dy, dx = shift // window - window // 2, shift % window - window // 2
                if 0 <= row * stride + dy < labels.shape[0]:
                    share, target = shares[shift], out[channel, row * stride + dy]
                    first, last = columns_inside(labels.shape[1], len(source), dx, stride)
                    if stride == 1:
                        add_product(target[first + dx : last + dx], share[first:last], source[first:last])
                    else:
                        for column in range(first, last):
                            target[column * stride + dx] += share[column] * source[column]


@njit(cache=True, nogil=True, fastmath=FAST)
def add_product(total: Array, share: Array, source: Array) -> None:
    """Do the inner loop, on views that start at 0: so it vectorises."""
    for column in range(len(total)):
        total[column] += share[column] * source[column]


@njit(cache=True, nogil=True)
def share_of(labels: Array, centres: Array, weights: Array, stride: int, row: int, shares: Array) -> None:
    """Write the weight of each shift's neighbour of each centre in a row: 0 if of another category, or outside."""
    window = len(weights)
    shares[:] = 0
    for shift in range(window * window):
        dy, dx = shift // window - window // 2, shift % window - window // 2
        if 0 <= row * stride + dy < labels.shape[0]:
            share, own, others = shares[shift], centres[row], labels[row * stride + dy]
            weight = weights[shift // window, shift % window]
            first, last = columns_inside(labels.shape[1], len(own), dx, stride)
            for column in range(first, last):
                share[column] = weight if own[column] == others[column * stride + dx] else 0


@njit(cache=True, nogil=True)
def columns_inside(width: int, columns: int, dx: int, stride: int) -> tuple[int, int]:
    """Return the first centre, and the one after the last, whose neighbour at this shift is inside."""
    return max(0, -(dx // stride)), min((width - 1 - dx) // stride + 1, columns)
