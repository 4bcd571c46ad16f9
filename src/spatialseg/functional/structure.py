"""The S-measure (Fan et al., *Structure-measure: A New Way to Evaluate Foreground Maps*, ICCV 2017)."""

import torch
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.arrays import Array, joined, nonzero, positive, tensor, where
from spatialseg.functional.dispatch import operator, per_image, quick
from spatialseg.functional.maps import Maps, as_maps, to_probability

# Of the squares' sum, below which a variance is the rounding of constant values.
_ROUNDING = 1e-13


def structure_measure(
    prediction: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    normalize: bool = False,
    ignore_index: int | None = 255,
) -> Tensor:
    r"""Compute the S-measure of each image: :math:`S = \max(0, \alpha S_o + (1 - \alpha) S_r)`.

    :math:`S_o` compares mean and spread of the prediction on foreground and on background with the ideal.
    :math:`S_r` cuts the image in four at the centroid of the foreground and takes the mean of their structural
    similarities, weighted by area. Ground truth that is all background scores 1 minus the mean prediction, all
    foreground the mean prediction. A part that is empty (the centroid in the last row or column) adds nothing, where
    PySODMetrics gives NaN.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        alpha: Weight α in [0, 1] of the object term.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        One value in [0, 1] for each image, (N,), float64; NaN for an image without a counting pixel.

    Raises:
        ValueError: Bad input, see `as_maps`; or `alpha` is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return maps.scored(structure_measure_from_sums(quadrant_sums_of(maps), alpha))


def structure_measure_from_sums(sums: Tensor, alpha: float = 0.5) -> Tensor:
    """Do the same from what `quadrant_sums_of` returns."""
    parts = quick(sums)
    whole = parts.sum(axis=(1, 2))
    pixels, total = whole[..., 0].sum(axis=1), whole[..., 1].sum(axis=1)
    positives = whole[:, 1, 0]
    score = alpha * _object_similarity(whole) + (1 - alpha) * _region_similarity(parts)
    mean = total / positive(pixels)
    score = where(positives == 0, 1 - mean, where(positives == pixels, mean, score))
    return tensor(where(score < 0, 0.0, score))


def quadrant_sums_of(maps: Maps) -> Tensor:
    """Sum the prediction over the four parts of the image that meet at the centroid of the foreground.

    Args:
        maps: What `as_maps` returns.

    Returns:
        Sums, (N, 2, 2, 2, 3), float64: upper or lower, left or right, background or foreground; pixels, sum, squares.
    """
    return _quadrant_sums(maps.source, maps.scale, maps.mask)


def _quadrant_sums_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    prediction = to_probability(source, scale).double()
    outside, inside = (mask == 0).double(), (mask == 1).double()
    _, height, width = prediction.shape
    row = torch.arange(height, dtype=torch.float64, device=prediction.device)
    column = torch.arange(width, dtype=torch.float64, device=prediction.device)
    positives = inside.sum(dim=(1, 2)).clamp(min=1)
    # The part above (left of) the centroid contains it, as in the authors' code.
    upper = row <= ((inside.sum(dim=2) @ row) / positives).round()[:, None]
    lefty = column <= ((inside.sum(dim=1) @ column) / positives).round()[:, None]
    rows = torch.stack([upper, ~upper], dim=1).double()
    columns = torch.stack([lefty, ~lefty], dim=1).double()
    kinds = torch.stack([outside, inside], dim=1)
    powers = torch.stack([torch.ones_like(prediction), prediction, prediction**2], dim=1)
    maps6 = (kinds[:, :, None] * powers[:, None]).flatten(1, 2)
    sums = torch.einsum("nuh,nmhw,nlw->nulm", rows, maps6, columns)
    return sums.view(-1, 2, 2, 2, 3)


def _quadrant_sums_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    sums = torch.empty(len(mask), 2, 2, 2, 3, dtype=torch.float64)
    per_image(kernels.quadrants.quadrant_sums, source, scale, mask, sums)
    return sums


_quadrant_sums = operator("quadrant_sums", _quadrant_sums_by_tensors, _quadrant_sums_by_kernel)


def _moments(sums: Array) -> tuple[Array, Array]:
    """Return mean and unbiased variance, 0 for constant values and for fewer than two, from sums (..., 3)."""
    count, total, squares = sums[..., 0], sums[..., 1], sums[..., 2]
    mean = total / positive(count)
    deviation = squares - total * mean
    return mean, deviation * (deviation > _ROUNDING * squares) / positive(count - 1)


def _object_similarity(sums: Array) -> Array:
    """Return S_o from sums over the whole image, (N, 2, 3); equations 5 to 7."""
    count = sums[..., 0]
    mean, variance = _moments(sums)
    ideal = joined([1 - mean[:, :1], mean[:, 1:]])  # on background, the lower the prediction the better
    return (count * 2 * ideal / (ideal**2 + 1 + variance**0.5)).sum(axis=1) / positive(count.sum(axis=1))


def _region_similarity(sums: Array) -> Array:
    """Return S_r from sums over the four parts, (N, 2, 2, 2, 3); equations 1 to 4."""
    sums = sums.reshape(-1, 4, 2, 3)
    whole = sums.sum(axis=2)
    count, inside = whole[..., 0], sums[..., 1, 0]
    (x, variance), y = _moments(whole), inside / positive(count)
    free = positive(count - 1)
    covariance = (sums[..., 1, 1] - whole[..., 1] * y) / free
    numerator = 4 * x * y * covariance * ((inside < count) & (variance > 0))
    denominator = (x**2 + y**2) * (variance + inside * (1 - y) / free)
    similarity = (numerator + (denominator == 0)) / nonzero(denominator)
    return (similarity * count).sum(axis=1) / positive(count.sum(axis=1))
