r"""The weighted F-measure: one definition, for the metric and for the loss.

With ground truth :math:`G`, prediction :math:`D` and sums over the pixels of one image (Margolin, Zelnik-Manor and
Tal, *How to Evaluate Foreground Maps?*, CVPR 2014):

.. math::
    E^w = \min(E, E_A) \cdot B, \qquad
    TP^w = \sum G - \sum_{G=1} E^w, \qquad FP^w = \sum_{G=0} E^w, \qquad
    F^w_\beta = \frac{(1+\beta^2)\,TP^w}{\beta^2 \sum G + TP^w + FP^w}

:math:`E = |G - D|`; :math:`E_A` (the dependency) excuses an error whose neighbours are right, :math:`B` (the
importance) makes a false alarm cost more the farther it lies from the object. The last form equals
:math:`(1+\beta^2) P R / (\beta^2 P + R)` and needs no guard while there is foreground.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spatialseg.functional.arrays import nonzero, tensor, where
from spatialseg.functional.distance import distance_to_foreground, neighbour_offsets
from spatialseg.functional.maps import Maps

Dependency = Literal["reference", "local"] | None
Importance = Literal["distance"] | None


class WeightedError(NamedTuple):
    """The maps behind the weighted F-measure, each of shape (N, H, W); 0 at ignored pixels."""

    error: Tensor
    """E, the absolute error, in [0, 1]."""
    dependent: Tensor
    """E_A, the error smoothed over a foreground pixel's neighbourhood, in [0, 1]; E itself on background."""
    importance: Tensor
    """B, in [1, 2]."""
    weighted: Tensor
    """E^w, in [0, 2]."""


class WeightedCounts(NamedTuple):
    """The sums that the weighted F-measure is a ratio of, each of shape (N,), in pixels."""

    tp: Tensor
    fp: Tensor
    positives: Tensor


class WeightedFMeasureResult(NamedTuple):
    """Weighted F-measure, precision and recall, each of shape (N,), in [0, 1]; NaN where undefined."""

    f: Tensor
    precision: Tensor
    recall: Tensor


def weighted_error(
    prediction: Tensor,
    target: Tensor,
    *,
    dependency: Dependency = "reference",
    importance: Importance = "distance",
    window: int = 7,
    sigma: float = 5.0,
    ignore_index: int | None = 255,
    distance: Tensor | None = None,
) -> WeightedError:
    r"""Compute the maps of the weighted F-measure.

    Everything but E depends on the target alone and is constant to the gradient.

    Args:
        prediction: Foreground probability D in [0, 1], shape (N, H, W). Computed in float32, in float64 if given so.
        target: Ground truth G, shape (N, H, W): 0, 1 or `ignore_index`; boolean, integer or floating.
        dependency: How E_A is had at foreground pixels. `"reference"`: Margolin's definition, K * Ẽ with zero padding,
            where Ẽ at a background pixel is the error of its nearest foreground pixel (among equally near ones the
            smallest column, then the smallest row, as in SciPy). `"local"`: our reading of the dependency,
            (K * (E·G)) / (K * G), the mean error of the *foreground* pixels around; one convolution, no search, and
            borders of image and object are treated alike. `None`: E_A = E.
        importance: `"distance"`: :math:`B = 2 - 2^{-\Delta / 5}` on background, Δ the distance to the foreground in
            pixels. `None`: B = 1.
        window: Side in pixels of the Gaussian K, odd.
        sigma: Standard deviation in pixels of K.
        ignore_index: Target value of the pixels that take no part: neither as error, nor as foreground, nor as source
            of the convolution.
        distance: What `distance_to_foreground` gives for `target == 1`, if it is at hand.

    Returns:
        E, E_A, B and E^w.

    Raises:
        ValueError: Shapes differ or are not (N, H, W), the window is not odd and positive, sigma is not positive, or an
            option is unknown.
    """
    _check(prediction, target, dependency, importance, window, sigma, distance)
    prediction = prediction if prediction.dtype is torch.float64 else prediction.float()
    foreground = target == 1
    valid = torch.ones_like(foreground) if ignore_index is None else target != ignore_index
    error = torch.where(foreground, 1 - prediction, prediction) * valid

    with torch.autocast(prediction.device.type, enabled=False):
        if dependency == "reference":
            dependent = _dependent_by_nearest(error, foreground, valid, window, sigma)
        elif dependency == "local":
            dependent = _dependent_by_local_mean(error, foreground, window, sigma)
        else:
            dependent = error

    if importance is None:
        weight = torch.ones_like(error)
    else:
        distance = distance_to_foreground(foreground) if distance is None else distance
        weight = torch.where(foreground, 1.0, 2 - torch.exp2(-distance.to(error.dtype) / 5))
    return WeightedError(error, dependent, weight * valid, torch.minimum(error, dependent) * weight)


def weighted_counts(
    prediction: Tensor,
    target: Tensor,
    *,
    dependency: Dependency = "reference",
    importance: Importance = "distance",
    window: int = 7,
    sigma: float = 5.0,
    ignore_index: int | None = 255,
    distance: Tensor | None = None,
) -> WeightedCounts:
    """Sum the weighted errors of each image.

    Arguments and errors are those of `weighted_error`. On the CPU the sums are compiled: the measure as published when
    no gradient is wanted, and `dependency="local"` in float32 with its gradient.

    Returns:
        Weighted true positives, weighted false positives and the number of foreground pixels.
    """
    compiled = (prediction.device.type, prediction.dtype, dependency) == ("cpu", torch.float32, "local")
    if compiled and not torch.compiler.is_compiling():
        _check(prediction, target, dependency, importance, window, sigma, distance)
        return _compiled_counts(prediction, target, importance, window, sigma, ignore_index, distance)
    as_published = (dependency, importance, window, sigma) == ("reference", "distance", 7, 5.0) and distance is None
    no_gradient = not (prediction.requires_grad and torch.is_grad_enabled())
    if as_published and no_gradient and prediction.device.type == "cpu" and not torch.compiler.is_compiling():
        _check(prediction, target, dependency, importance, window, sigma, distance)
        prediction = prediction if prediction.dtype is torch.float64 else prediction.float()
        valid = None if ignore_index is None or target.dtype is torch.bool else target != ignore_index
        return WeightedCounts(*map(tensor, weighted_counts_of(Maps(prediction, target == 1, valid))))
    maps = weighted_error(
        prediction,
        target,
        dependency=dependency,
        importance=importance,
        window=window,
        sigma=sigma,
        ignore_index=ignore_index,
        distance=distance,
    )
    foreground = target == 1
    positives = foreground.sum(dim=(1, 2)).to(maps.weighted.dtype)
    missed = (maps.weighted * foreground).sum(dim=(1, 2))
    return WeightedCounts(positives - missed, (maps.weighted * ~foreground).sum(dim=(1, 2)), positives)


def weighted_counts_of(maps: Maps) -> WeightedCounts:
    """Sum the weighted errors of the measure as published, without gradient, over maps that `as_maps` has checked.

    The sums are NumPy arrays on the CPU, tensors elsewhere.
    """
    if maps.source.device.type == "cpu":
        from spatialseg.functional import compiled  # imports Numba, which takes a second

        return WeightedCounts(*compiled.weighted_sums(maps))
    return weighted_counts(maps.prediction.detach(), maps.target())


def f_measure_from_counts(counts: WeightedCounts, beta2: float = 1.0, smooth: float = 0.0) -> WeightedFMeasureResult:
    r"""Turn sums into F-measure, precision and recall.

    .. math::
        F = \frac{(1+\beta^2) TP + \varepsilon}{\beta^2 N_+ + TP + FP + \varepsilon}

    Args:
        counts: Sums, of any common shape; tensors or NumPy arrays.
        beta2: β², the weight of recall against precision; positive.
        smooth: ε ≥ 0 in pixels. With ε > 0 an image without foreground is defined, and each false alarm on it costs.

    Returns:
        F, precision and recall, of the counts' type. With `smooth=0` all three are NaN where there is no foreground;
        precision is 0 where nothing is predicted at all.

    Raises:
        ValueError: `beta2` is not positive, or `smooth` is negative.
    """
    if beta2 <= 0 or smooth < 0:
        raise ValueError(f"beta2 must be positive and smooth non-negative, got beta2={beta2}, smooth={smooth}")
    tp, fp, positives = counts
    predicted, true = tp + fp + smooth, positives + smooth
    f = ((1 + beta2) * tp + smooth) / nonzero(beta2 * positives + predicted)
    precision, recall = (tp + smooth) / nonzero(predicted), (tp + smooth) / nonzero(true)
    if smooth == 0:
        f, precision, recall = (where(positives == 0, math.nan, value) for value in (f, precision, recall))
    return WeightedFMeasureResult(f, precision, recall)


def weighted_f_measure(
    prediction: Tensor,
    target: Tensor,
    *,
    beta2: float = 1.0,
    smooth: float = 0.0,
    dependency: Dependency = "reference",
    importance: Importance = "distance",
    window: int = 7,
    sigma: float = 5.0,
    ignore_index: int | None = 255,
    distance: Tensor | None = None,
) -> WeightedFMeasureResult:
    """Compute the weighted F-measure of each image (Margolin et al., CVPR 2014), differentiable almost everywhere.

    With the defaults this is the measure exactly as its authors define it. The other arguments are those of
    `weighted_error` and `f_measure_from_counts`.

    Returns:
        F, precision and recall of each image, shape (N,), in [0, 1].

    Example:
        >>> target = torch.zeros(1, 32, 32)
        >>> target[:, 10:20, 12:24] = 1
        >>> round(weighted_f_measure(target.roll((2, 1), (1, 2)), target).f.item(), 6)
        0.768816
    """
    counts = weighted_counts(
        prediction,
        target,
        dependency=dependency,
        importance=importance,
        window=window,
        sigma=sigma,
        ignore_index=ignore_index,
        distance=distance,
    )
    return f_measure_from_counts(counts, beta2, smooth)


def _check(
    prediction: Tensor,
    target: Tensor,
    dependency: Dependency,
    importance: Importance,
    window: int,
    sigma: float,
    distance: Tensor | None,
) -> None:
    if prediction.ndim != 3 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must share a shape (N, H, W), got {tuple(prediction.shape)}, {tuple(target.shape)}"
        )
    if distance is not None and distance.shape != target.shape:
        raise ValueError(f"distance must have the target's shape {tuple(target.shape)}, got {tuple(distance.shape)}")
    if dependency not in ("reference", "local", None):
        raise ValueError(f'dependency must be "reference", "local" or None, got {dependency!r}')
    if importance not in ("distance", None):
        raise ValueError(f'importance must be "distance" or None, got {importance!r}')
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}")
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}")


def _gaussian(window: int, sigma: float) -> tuple[float, ...]:
    """Return one side of the separable K, normalised to sum 1 like the whole."""
    weights = [math.exp(-((step - window // 2) ** 2) / (2 * sigma**2)) for step in range(window)]
    return tuple(weight / sum(weights) for weight in weights)


def _smooth(maps: Tensor, window: int, sigma: float) -> Tensor:
    """Convolve (N, H, W) with the Gaussian K, with zero padding: down the columns, then across the rows."""
    kernel = torch.tensor(_gaussian(window, sigma), dtype=maps.dtype, device=maps.device)
    down = F.conv2d(maps[:, None], kernel.view(1, 1, -1, 1), padding=(window // 2, 0))
    return F.conv2d(down, kernel.view(1, 1, 1, -1), padding=(0, window // 2))[:, 0]


def _compiled_counts(
    prediction: Tensor,
    target: Tensor,
    importance: Importance,
    window: int,
    sigma: float,
    ignore_index: int | None,
    distance: Tensor | None,
) -> WeightedCounts:
    """Count with the local dependency in float32 on the CPU."""
    from spatialseg.functional.local_counts import LocalCounts  # imports Numba, which takes a second

    if target.dtype is torch.uint8 and ignore_index is not None and ignore_index > 1:
        mask = target
    else:
        mask = (target == 1).to(torch.uint8)
        if ignore_index is not None:
            mask.masked_fill_(target == ignore_index, 2)
    if importance is None:
        distance = None
    elif distance is None:
        distance = distance_to_foreground(mask == 1)
    counts = LocalCounts.apply(prediction, mask, distance, torch.tensor(_gaussian(window, sigma)))
    return WeightedCounts(*counts)


def _dependent_by_local_mean(error: Tensor, foreground: Tensor, window: int, sigma: float) -> Tensor:
    inside = foreground.to(error.dtype)
    mass = _smooth(inside, window, sigma).where(foreground, 1)  # positive on foreground: the pixel is its own neighbour
    return torch.where(foreground, _smooth(error * inside, window, sigma) / mass, error)


def _dependent_by_nearest(error: Tensor, foreground: Tensor, valid: Tensor, window: int, sigma: float) -> Tensor:
    """Smooth Ẽ; only background within the window's radius of foreground is ever read, so only it is searched for."""
    radius = window // 2
    offsets = neighbour_offsets(radius)
    _, height, width = foreground.shape
    reach = int(radius * 2**0.5)
    padded = F.pad(foreground, (reach, reach, reach, reach))
    index = torch.arange(height * width, device=error.device).view(1, height, width)
    nearest = index.expand_as(foreground)
    for dy, dx in reversed(offsets):  # the nearest is written last, and stays
        hit = padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
        nearest = torch.where(hit, index + (dy * width + dx), nearest)
    nearest = torch.where(foreground, index, nearest)
    spread = (error.flatten(1).gather(1, nearest.flatten(1)).view_as(error)) * valid
    return torch.where(foreground, _smooth(spread, window, sigma), error)
