"""What the kernels share.

A mask is uint8 here: 0 background, 1 foreground, 2 ignored. A `source` is a prediction in any of three forms, which a
`scale` explains: grey levels, uint8, of which the scale names the probability of each, (256,), float64; or float32 or
float64 and a scale of the same type, (2,): the value that stands for probability 0, and what lies between it and 1.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# Sums may be reordered, so that they vectorise; infinities and NaN keep their meaning.
FAST = {"reassoc", "nsz", "contract"}


@lru_cache
def importance_table(dtype: type[np.floating[Any]]) -> Array:
    """Tabulate B = 2 − 2^(−Δ/5) over the squared distance Δ², an integer; the last entry stands for all beyond.

    Args:
        dtype: Of the table; from Δ = 270 on, and in single precision from Δ = 125 on, B equals 2.
    """
    table: Array = (2 - np.exp(math.log(0.5) / 5 * np.sqrt(np.arange(270**2 + 1)))).astype(dtype)
    return table[: int(np.argmax(table == 2)) + 1]


@njit(cache=True, nogil=True)
def probability(value: float, scale: Array) -> float:
    """Return the probability that a value of a source stands for."""
    found: float = scale[np.intp(value)] if len(scale) == 256 else (value - scale[0]) / scale[1]
    return found


@njit(cache=True, nogil=True)
def to_unit(source: Array, scale: Array, mask: Array, out: Array) -> None:
    """Write the probability that each pixel of a row stands for, 0 where it is ignored; all are (W,)."""
    if len(scale) == 256:
        for x in range(len(out)):
            out[x] = scale[np.intp(source[x])] if mask[x] < 2 else 0
    else:
        low, span = scale[0], scale[1]
        for x in range(len(out)):
            out[x] = (source[x] - low) / span if mask[x] < 2 else 0
