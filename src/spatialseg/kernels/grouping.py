"""Cross-entropy of what each category of a window predicts together, and its gradient.

Logits lie pixel by pixel here, so that a pixel's are added in one vector.
"""

import math

import numpy as np
from numba import njit

from spatialseg.kernels.common import FAST, Array


@njit(cache=True, nogil=True, fastmath=FAST)
def group_costs(logits: Array, labels: Array, weights: Array, stride: int, costs: Array, counts: Array) -> None:
    """Write the cost of each category in each window, 0 where it is absent, and count its windows.

    Args:
        logits: (H, W, C).
        labels: Category of each pixel, in [0, C), all else takes no part; (H, W).
        weights: Of a window's pixels, (window, window), of the logits' type.
        stride: Distance between windows.
        costs: What is written, (C, h, w).
        counts: The same: in how many windows each category is, (C,).
    """
    costs[:] = 0
    counts[:] = 0
    room = _room(logits, weights)
    means, _, categories, _ = room
    for row in range(costs.shape[1]):
        for column in range(costs.shape[2]):
            count = _merge(logits, labels, weights, row * stride, column * stride, room)
            for group in range(count):
                costs[categories[group], row, column] = _softmax(means[group], categories[group])
                counts[categories[group]] += 1


@njit(cache=True, nogil=True, fastmath=FAST)
def group_gradient(logits: Array, labels: Array, weights: Array, stride: int, of_costs: Array, gradient: Array) -> None:
    """Write the gradient of the logits, (H, W, C), given that of the costs, (C, h, w); else as `group_costs`."""
    gradient[:] = 0
    room = _room(logits, weights)
    means, masses, categories, place = room
    radius = len(weights) // 2
    for row in range(of_costs.shape[1]):
        for column in range(of_costs.shape[2]):
            y, x = row * stride, column * stride
            count = _merge(logits, labels, weights, y, x, room)
            for group in range(count):
                category = categories[group]
                _softmax(means[group], category)
                means[group, category] -= 1
                factor = of_costs[category, row, column] / masses[group]
                for channel in range(len(means[group])):
                    means[group, channel] *= factor
                place[category] = group
            for j in range(max(0, y - radius), min(len(labels), y + radius + 1)):
                for i in range(max(0, x - radius), min(labels.shape[1], x + radius + 1)):
                    weight = weights[j - y + radius, i - x + radius]
                    if 0 <= labels[j, i] < len(place):
                        group = place[labels[j, i]]
                        for channel in range(means.shape[1]):
                            gradient[j, i, channel] += weight * means[group, channel]
            for group in range(count):
                place[categories[group]] = -1


@njit(cache=True, nogil=True)
def _room(logits: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
    """Return space for the groups of one window: means, masses and categories; and the group of each category, −1."""
    most = min(weights.size, logits.shape[2])
    means, masses = np.empty((most, logits.shape[2]), logits.dtype), np.empty(most, logits.dtype)
    return means, masses, np.empty(most, np.int64), np.full(logits.shape[2], -1, np.int64)


@njit(cache=True, nogil=True, fastmath=FAST)
def _merge(logits: Array, labels: Array, weights: Array, y: int, x: int, room: tuple[Array, ...]) -> int:
    """Write mean, mass and category of each group in the window around a pixel; return their number."""
    means, masses, categories, place = room
    radius, count = len(weights) // 2, 0
    for j in range(max(0, y - radius), min(len(labels), y + radius + 1)):
        for i in range(max(0, x - radius), min(labels.shape[1], x + radius + 1)):
            category, weight = labels[j, i], weights[j - y + radius, i - x + radius]
            if not 0 <= category < len(place):
                continue
            group = place[category]
            if group < 0:
                group = count
                means[group] = 0
                masses[group] = 0
                categories[group], place[category] = category, group
                count += 1
            masses[group] += weight
            for channel in range(means.shape[1]):
                means[group, channel] += weight * logits[j, i, channel]
    for group in range(count):
        place[categories[group]] = -1
        for channel in range(means.shape[1]):
            means[group, channel] /= masses[group]
    return count


@njit(cache=True, nogil=True, fastmath=FAST)
def _softmax(scores: Array, own: int) -> float:
    """Turn scores into their softmax; return the cross-entropy of one of them."""
    largest = scores[0]
    for channel in range(len(scores)):
        largest = max(largest, scores[channel])
    chosen = scores[own] - largest
    total = 0.0
    for channel in range(len(scores)):
        scores[channel] = math.exp(scores[channel] - largest)
        total += scores[channel]
    for channel in range(len(scores)):
        scores[channel] /= total
    cost: float = math.log(total) - chosen
    return cost
