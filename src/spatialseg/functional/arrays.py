"""Arithmetic on a few numbers per image, written once for NumPy arrays and for tensors; see `dispatch.quick`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A `numpy.ndarray` or a `torch.Tensor`; both take `axis` and Python's operators."""


def tensor(array: Array) -> Tensor:
    """Return the tensor that `quick` or arithmetic on what it returned stands for."""
    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array


def stack(arrays: Sequence[Array]) -> Tensor:
    """Return a tensor of several arrays of one shape (N,), along a new last dimension."""
    if isinstance(arrays[0], np.ndarray):
        return torch.from_numpy(np.array(arrays).T)
    return torch.stack(list(arrays), dim=-1)


def joined(arrays: Sequence[Array]) -> Array:
    """Join several arrays (N, M) to one of as many rows."""
    return np.hstack(arrays) if isinstance(arrays[0], np.ndarray) else torch.hstack(list(arrays))


def where(condition: Array, chosen: Array | float, other: Array | float) -> Array:
    """Choose element by element."""
    choose: Any = np.where if isinstance(condition, np.ndarray) else torch.where
    return choose(condition, chosen, other)


def positive(count: Array) -> Array:
    """Return the count of pixels, at least 1: a divisor that is safe where the dividend is 0."""
    return np.maximum(count, 1) if isinstance(count, np.ndarray) else count.clamp(min=1)


def nonzero(value: Array) -> Array:
    """Return the value, 1 where it is 0; NaN stays."""
    return value + (value == 0)
