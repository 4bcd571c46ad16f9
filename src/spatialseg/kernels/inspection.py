"""What a prediction and a target hold: the checks that every measure begins with, and the mask that it goes on with."""

import numpy as np
from numba import njit

from spatialseg.kernels.common import Array


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
        known_here = ignored_here = np.int32(0)  # which vectorises better
        for x in range(target.shape[1]):
            one = row[x] == 1
            none = ignores & (row[x] == left_out)
            out_row[x] = 2 if none else one
            known_here = np.int32(known_here + (one | none | (row[x] == 0)))
            ignored_here = np.int32(ignored_here + none)
        known += known_here
        ignored += ignored_here
    return target.size - known, ignored


@njit(cache=True, nogil=True)
def inspect(bits: Array, mask: Array, stretches: bool, lowest: int, highest: int, scale: Array) -> bool:
    """Find the scale that stretches the values of the pixels that count, and tell whether any value at all is unsound.

    Args:
        bits: Grey levels, (H, W); or the bits, as integers, of floating-point numbers. Those in [0, 1] are ordered as
            the numbers are; all others, NaN too, are negative or beyond those of 1, and the lowest integer is -0.0.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        stretches: Whether the scale is asked for; else it leaves all as it is.
        lowest: The lowest integer of the bits' type.
        highest: The highest sound value, of the bits' type.
        scale: What is written, see `common`: by it the extremes become 0 and 1; where nothing varies, all stay.
    """
    zero = bits.dtype.type(0)
    low, high = highest, zero
    unsound = 0
    for y in range(bits.shape[0]):
        row, mask_row = bits[y], mask[y]
        unsound_here = np.int32(0)  # which vectorises better
        for x in range(bits.shape[1]):
            value = row[x]
            unsound_here = np.int32(unsound_here + (((value < zero) & (value != lowest)) | (value > highest)))
        unsound += unsound_here
        if stretches:
            for x in range(bits.shape[1]):
                value = row[x]
                low = min(low, value if mask_row[x] < 2 else highest)
                high = max(high, value if mask_row[x] < 2 else zero)
    low = max(low, zero)  # -0.0
    ends = np.empty(2, bits.dtype)
    ends[0], ends[1] = (low, high) if low < high else (zero, highest)
    # Subtract, then divide, as NumPy toolboxes do: a product with the reciprocal can land in the next lower grey level.
    if len(scale) == 256:
        first, span = ends[0] / 255, ends[1] / 255 - ends[0] / 255
        for level in range(256):
            scale[level] = min(max((level / 255 - first) / span, 0), 1)
    else:
        values = ends.view(scale.dtype)
        scale[0], scale[1] = values[0], values[1] - values[0]
    return unsound > 0
