"""The context measure (Wang et al., *Contextualizing Metric for Camouflage*, arXiv 2512.07076, 2025)."""

import math

import torch
from torch import Tensor

from spatialseg.functional.maps import Maps, as_maps

REACH = 6.0


def context_measure(
    prediction: Tensor,
    target: Tensor,
    *,
    beta2: float = 1.0,
    normalize: bool = False,
    ignore_index: int | None = 255,
) -> Tensor:
    r"""Compute the context measure of each image, that without photographs.

    With a Gaussian :math:`K` of the foreground's own shape, the foreground G and the prediction D:

    .. math::
        F = \frac{\sum D (K * G)}{\sum D}, \quad R = \frac{e}{e - 1} \frac{\sum G (1 - e^{-K * D})}{\sum G}, \quad
        C = \frac{(1 + \beta^2) F R}{\beta^2 F + R}

    The covariance of K is that of the foreground's rows and columns, scaled to variances that sum to 36 pixels²; K ends
    at three standard deviations, and images are mirrored at their borders, as in PySODMetrics. Since K reaches over
    edges, even D = G scores below 1, but where it fills the image.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        beta2: β², positive.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count; they are background in both.

    Returns:
        One value in [0, 1] for each image, (N,), float64; 0 where target or prediction is empty, NaN where no
            pixel counts.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return maps.scored(context_measure_of(maps, beta2))


def context_measure_of(maps: Maps, beta2: float = 1.0) -> Tensor:
    """Do the same for maps that `as_maps` has checked."""
    predicted = (maps.prediction * (maps.mask < 2)).double()
    values = []
    for d, g in zip(predicted, maps.foreground, strict=True):
        points, total = g.nonzero(), d.sum()
        if not len(points):
            values.append(torch.zeros_like(total))
            continue
        kernel = _gaussian(points)
        low, high = points.amin(dim=0).tolist(), points.amax(dim=0).tolist()
        # Beyond its reach from the foreground K * G is 0.
        part = tuple(
            slice(max(0, start - side // 2 - 1), end + side // 2 + 2)
            for start, end, side in zip(low, high, kernel.shape, strict=True)
        )
        d, g = d[part], g[part].double()
        completeness, relevance = _smoothed(torch.stack([d, g]).float(), kernel.float()).double()
        forward = (d * relevance).sum() / total
        reverse = (g * -torch.expm1(-completeness)).sum() / len(points) * math.e / (math.e - 1)
        values.append((1 + beta2) * forward * reverse / (beta2 * forward + reverse))
    return torch.stack(values).nan_to_num(0)  # as in an image without prediction


def _gaussian(points: Tensor) -> Tensor:
    """Return K for the rows and columns of the foreground, (n, 2): its sides are odd, its sum is 1."""
    covariance, reach = torch.eye(2, dtype=torch.float64) / 4, [1, 1]
    if len(points) > 1:
        covariance = points.double().T.cov().cpu()
        variance = covariance.diagonal().clamp_(min=torch.finfo(torch.float64).eps)  # a row or a column
        limit = (1 - 1e-9) * variance.prod().sqrt()  # on an oblique line the matrix has no inverse
        covariance[0, 1] = covariance[1, 0] = covariance[0, 1].clamp(-limit, limit)
        covariance *= REACH**2 / variance.sum()
        reach = [round(3 * each) for each in covariance.diagonal().sqrt().tolist()]
    rows, columns = (torch.arange(-each, each + 1.0, dtype=torch.float64) for each in reach)
    steps = torch.cartesian_prod(rows, columns)
    kernel = torch.exp(-0.5 * (steps @ covariance.inverse() * steps).sum(dim=1)).view(len(rows), len(columns))
    return (kernel / kernel.sum()).to(points.device)


def _smoothed(images: Tensor, kernel: Tensor) -> Tensor:
    """Convolve images (N, H, W), mirrored at their borders, with a kernel that is symmetric about its centre."""
    for axis, (length, side) in enumerate(zip(images.shape[1:], kernel.shape, strict=True), 1):
        period = max(2 * (length - 1), 1)
        places = torch.arange(-(side // 2), length + side // 2, device=images.device).remainder(period)
        images = images.index_select(axis, torch.minimum(places, period - places))
    rows, columns = images.shape[1:]
    size = [-(-length // 16) * 16 for length in (rows, columns)]  # many times as fast as a large prime
    product = torch.fft.rfft2(images, size) * torch.fft.rfft2(kernel, size)
    smoothed: Tensor = torch.fft.irfft2(product, size)
    return smoothed[:, kernel.shape[0] - 1 : rows, kernel.shape[1] - 1 : columns]
