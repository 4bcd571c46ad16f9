"""The E-measure (Fan et al., *Enhanced-alignment Measure for Binary Foreground Map Evaluation*, IJCAI 2018)."""

from typing import NamedTuple

from torch import Tensor

from spatialseg.functional.arrays import nonzero, positive, tensor, where
from spatialseg.functional.maps import as_maps
from spatialseg.functional.thresholds import positives_of, reached_counts_of


class AlignmentResult(NamedTuple):
    """Float64 values, NaN for an image without a counting pixel; index k of the curve is the threshold k/255."""

    adaptive: Tensor
    """E-measure at the adaptive threshold min(1, twice the mean of the prediction), (N,)."""
    curve: Tensor
    """E-measure at each threshold, (N, 256)."""


def enhanced_alignment_measure(
    prediction: Tensor, target: Tensor, *, normalize: bool = False, ignore_index: int | None = 255
) -> AlignmentResult:
    r"""Compute the E-measure of each image at 256 thresholds and at the adaptive one.

    With :math:`\varphi` a binary map minus its mean, the alignment of prediction and ground truth at a pixel is
    :math:`\xi = 2 \varphi_P \varphi_G / (\varphi_P^2 + \varphi_G^2)`, and the measure is the sum of
    :math:`(1 + \xi)^2 / 4` over the image divided by the number of pixels minus 1, as the authors' code has it; so it
    can slightly exceed 1. Both maps are binary, so there are but four kinds of pixels, and counting them is enough.
    Where the ground truth is all background (or all foreground), the value is the part of the prediction that is so.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        Adaptive value and curve.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return AlignmentResult(*map(maps.scored, alignment_from_counts(reached_counts_of(maps))))


def alignment_from_counts(counts: Tensor) -> AlignmentResult:
    """Do the same from what `reached_counts_of` returns."""
    tp, fp = positives_of(counts)
    positives, pixels = tp[:, :1], tp[:, :1] + fp[:, :1]
    predicted, true = (tp + fp) / positive(pixels), positives / positive(pixels)
    total = 0 * tp
    for count, p, g in (
        (tp, 1 - predicted, 1 - true),
        (fp, 1 - predicted, -true),
        (positives - tp, -predicted, 1 - true),
        (pixels - positives - fp, -predicted, -true),
    ):
        aligned = 2 * p * g / nonzero(p * p + g * g)
        total = total + count * (1 + aligned) ** 2 / 4
    total = where(positives == 0, pixels - tp - fp, total)
    total = where(positives == pixels, tp + fp, total)
    # A single pixel has no variance to divide by; its value is that of the pixel.
    values = tensor(total / positive(pixels - 1))
    return AlignmentResult(values[:, 256], values[:, :256])
