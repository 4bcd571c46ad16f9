"""What a prediction and a target hold: the checks that every measure begins with, and the mask that it goes on with."""

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
        for x in range(target.shape[1]):
            one = row[x] == 1
            none = ignores & (row[x] == left_out)
            out_row[x] = 2 if none else one
            known += one | none | (row[x] == 0)
            ignored += none
    return target.size - known, ignored


@njit(cache=True, nogil=True)
def count_unsound(source: Array) -> int:
    """Count the values outside [0, 1], NaN among them."""
    sound = 0
    for y in range(source.shape[0]):
        row = source[y]
        for x in range(source.shape[1]):
            sound += (row[x] >= 0) & (row[x] <= 1)
    return source.size - sound


@njit(cache=True, nogil=True)
def extremes(source: Array, mask: Array, lowest: float, highest: float) -> tuple[float, float]:
    """Return the lowest and the highest value of the pixels that count; where nothing varies, those there can be.

    Args:
        source: Integers, (H, W); or the bits of floating-point numbers in [0, 1], which are ordered as the numbers are.
        mask: 0 background, 1 foreground, 2 ignored, (H, W), uint8.
        lowest: The lowest value there can be, of the source's type.
        highest: The highest.
    """
    low, high = highest, lowest
    for y in range(source.shape[0]):
        row, mask_row = source[y], mask[y]
        for x in range(source.shape[1]):
            low = min(low, row[x] if mask_row[x] < 2 else highest)
            high = max(high, row[x] if mask_row[x] < 2 else lowest)
    low = max(low, lowest)  # -0.0, whose bits are those of a negative integer
    return (low, high) if low < high else (lowest, highest)
