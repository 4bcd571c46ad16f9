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
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialseg import kernels
from spatialseg.functional.arrays import nonzero, where
from spatialseg.functional.dispatch import Floats, gathered, operator, per_image
from spatialseg.functional.distance import distance_to_foreground, steps_within
from spatialseg.functional.maps import Maps, as_maps, as_mask, plain_scale, to_probability

Dependency = Literal["reference", "local"] | None
Importance = Literal["distance"] | None


@dataclass(frozen=True)
class Weighting:
    """How errors are weighed; see `weighted_error`.

    Raises:
        ValueError: A value is out of its range.
    """

    dependency: Dependency = "reference"
    importance: Importance = "distance"
    window: int = 7
    sigma: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if self.dependency not in ("reference", "local", None):
            raise ValueError(f'dependency must be "reference", "local" or None, got {self.dependency!r}')
        if self.importance not in ("distance", None):
            raise ValueError(f'importance must be "distance" or None, got {self.importance!r}')
        if self.window < 1 or self.window % 2 == 0 or not self.sigma > 0:
            raise ValueError(
                f"window must be odd and positive, sigma positive, got window={self.window}, sigma={self.sigma}"
            )


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
        ValueError: Shapes differ, are not (N, H, W) or have an empty dimension, the window is not odd and positive,
            sigma is not positive, or an option is unknown.
    """
    return _error_maps(prediction, target, Weighting(dependency, importance, window, sigma), ignore_index, distance)


def _error_maps(
    prediction: Tensor, target: Tensor, weighting: Weighting, ignore_index: int | None, distance: Tensor | None
) -> WeightedError:
    prediction = _checked(prediction, target, distance)
    foreground = target == 1
    valid = torch.ones_like(foreground) if ignore_index is None else target != ignore_index
    error = torch.where(foreground, 1 - prediction, prediction) * valid

    kernel = _gaussian(weighting.window, weighting.sigma)
    if weighting.dependency == "reference":
        dependent = _dependent_by_nearest(error, foreground, valid, kernel)
    elif weighting.dependency == "local":
        dependent = _dependent_by_local_mean(error, foreground, kernel)
    else:
        dependent = error

    weight = _importance(foreground, _needed_distance(foreground, weighting.importance, distance), error.dtype)
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

    Arguments and errors are those of `weighted_error`. Differentiable in the prediction, once if the
    dependency is "local".

    Returns:
        Weighted true positives, weighted false positives and the number of foreground pixels.
    """
    return counts_with(prediction, target, Weighting(dependency, importance, window, sigma), ignore_index, distance)


def counts_with(
    prediction: Tensor, target: Tensor, weighting: Weighting, ignore_index: int | None, distance: Tensor | None
) -> WeightedCounts:
    """Do the same with options that are checked already."""
    prediction = _checked(prediction, target, distance)
    if weighting.dependency == "local":
        mask, _ = as_mask(target, ignore_index)
        distance = _needed_distance(mask == 1, weighting.importance, distance)
        kernel = _gaussian(weighting.window, weighting.sigma)
        return WeightedCounts(*_LocalCounts.apply(prediction, mask, distance, kernel).unbind())
    as_published = weighting == Weighting() and distance is None
    if as_published and not (prediction.requires_grad and torch.is_grad_enabled()):
        mask, _ = as_mask(target, ignore_index)
        return WeightedCounts(*_published_counts(prediction, plain_scale(prediction), mask))
    maps = _error_maps(prediction, target, weighting, ignore_index, distance)
    return WeightedCounts(*_summed(maps.weighted, target == 1))


def weighted_counts_of(maps: Maps) -> Tensor:
    """Sum the weighted errors of the measure as published, without gradient, over maps that `as_maps` has checked.

    Returns:
        What `WeightedCounts` holds, (N, 3).
    """
    return _published_counts(maps.source, maps.scale, maps.mask).T


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
    hits, predicted, true = tp + smooth, tp + fp + smooth, positives + smooth
    f = ((1 + beta2) * tp + smooth) / nonzero(beta2 * positives + predicted)
    precision, recall = hits / nonzero(predicted), hits / nonzero(true)
    if smooth == 0:
        undefined = where(positives == 0, math.nan, 0.0)
        f, precision, recall = f + undefined, precision + undefined, recall + undefined
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
    `weighted_error` and `f_measure_from_counts`. Values are looked at on the CPU, where no gradient is asked for.

    Returns:
        F, precision and recall of each image, shape (N,), in [0, 1].

    Raises:
        ValueError: An argument is not what `weighted_error` or `f_measure_from_counts` expects; or a value, where
            looked at, is none of those that `as_maps` does.

    Example:
        >>> target = torch.zeros(1, 32, 32)
        >>> target[:, 10:20, 12:24] = 1
        >>> round(weighted_f_measure(target.roll((2, 1), (1, 2)), target).f.item(), 6)
        0.768816
    """
    weighting = Weighting(dependency, importance, window, sigma)
    if prediction.is_cpu and not (prediction.requires_grad and torch.is_grad_enabled()):
        maps = as_maps(_checked(prediction, target, distance), target, ignore_index=ignore_index)
        prediction, target, ignore_index = maps.source, maps.mask, 2
    return f_measure_from_counts(counts_with(prediction, target, weighting, ignore_index, distance), beta2, smooth)


def _checked(prediction: Tensor, target: Tensor, distance: Tensor | None) -> Tensor:
    """Return the prediction in at least float32, or raise; see `weighted_error`."""
    if prediction.ndim != 3 or prediction.shape != target.shape or 0 in prediction.shape:
        raise ValueError(
            "prediction and target must share a shape (N, H, W) without an empty dimension, "
            f"got {tuple(prediction.shape)}, {tuple(target.shape)}"
        )
    if distance is not None and distance.shape != target.shape:
        raise ValueError(f"distance must have the target's shape {tuple(target.shape)}, got {tuple(distance.shape)}")
    return prediction if prediction.dtype is torch.float64 else prediction.float()


def _gaussian(window: int, sigma: float) -> list[float]:
    """Return one side of the separable K, normalised to sum 1 like the whole."""
    weights = [math.exp(-((step - window // 2) ** 2) / (2 * sigma**2)) for step in range(window)]
    return [weight / sum(weights) for weight in weights]


def _smooth(maps: Tensor, weights: Floats) -> Tensor:
    """Convolve (N, H, W) with the Gaussian K, with zero padding: down the columns, then across the rows.

    A sum of shifted maps; a GPU's convolution rounds to ten bits (TF32) unless the whole process forbids it.
    """
    radius = len(weights) // 2
    padded = F.pad(maps, (radius, radius, radius, radius))
    height, width = maps.shape[1:]
    down: Any = sum(weight * padded[:, step : step + height] for step, weight in enumerate(weights))
    across: Tensor = sum(weight * down[:, :, step : step + width] for step, weight in enumerate(weights))
    return across


def _needed_distance(foreground: Tensor, importance: Importance, distance: Tensor | None) -> Tensor | None:
    if importance is None:
        return None
    return distance_to_foreground(foreground) if distance is None else distance


def _importance(foreground: Tensor, distance: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return B, (N, H, W), which is 1 without distance."""
    if distance is None:
        return torch.ones_like(foreground, dtype=dtype)
    return torch.where(foreground, 1.0, 2 - torch.exp2(-distance.to(dtype) / 5))


def _summed(weighted: Tensor, foreground: Tensor) -> Tensor:
    """Return true positives, false positives and positives, (3, N), of the weighted error."""
    positives = foreground.sum(dim=(1, 2)).to(weighted.dtype)
    missed = (weighted * foreground).sum(dim=(1, 2))
    return torch.stack([positives - missed, (weighted * ~foreground).sum(dim=(1, 2)), positives])


def _dependent_by_local_mean(error: Tensor, foreground: Tensor, weights: Floats) -> Tensor:
    inside = foreground.to(error.dtype)
    mass = _smooth(inside, weights).where(foreground, 1)  # positive on foreground: the pixel is its own neighbour
    return torch.where(foreground, _smooth(error * inside, weights) / mass, error)


def _dependent_by_nearest(error: Tensor, foreground: Tensor, valid: Tensor, weights: Floats) -> Tensor:
    """Smooth Ẽ; only background within the window's radius of foreground is ever read, so only it is searched for."""
    radius = len(weights) // 2
    _, height, width = foreground.shape
    reach = int(radius * 2**0.5)
    padded = F.pad(foreground, (reach, reach, reach, reach))
    index = torch.arange(height * width, device=error.device).view(1, height, width)
    nearest = index.expand_as(foreground)
    for dy, dx in reversed(steps_within(2 * radius**2).tolist()):  # the nearest is written last, and stays
        hit = padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
        nearest = torch.where(hit, index + (dy * width + dx), nearest)
    spread = (error.flatten(1).gather(1, nearest.flatten(1)).view_as(error)) * valid
    return torch.where(foreground, _smooth(spread, weights), error)


def _published_counts_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    return _summed(weighted_error(to_probability(source, scale), mask, ignore_index=2).weighted, mask == 1)


def _published_counts_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    # Summed in float64; all else, the result too, in the prediction's precision, float64 for grey levels.
    dtype = np.float32 if scale.dtype is torch.float32 else np.float64
    importance = kernels.common.importance_table(dtype)
    return gathered(per_image(kernels.weighted.weighted_counts, source, scale, mask, _K, importance), dtype)


_K = np.array(_gaussian(7, 5.0))
_published_counts = operator("published_counts", _published_counts_by_tensors, _published_counts_by_kernel)


def _local_counts_by_tensors(
    prediction: Tensor, mask: Tensor, distance: Tensor | None, weights: Floats
) -> tuple[Tensor, Tensor]:
    """Return the three sums, (3, N), and the derivative of TP on foreground and of FP elsewhere, (N, H, W)."""
    foreground, background = mask == 1, (mask == 0).to(prediction.dtype)
    inside = foreground.to(prediction.dtype)
    error = (1 - prediction) * inside
    inverse = inside / _smooth(inside, weights).where(foreground, 1)
    around = _smooth(error, weights) * inverse
    # Where both are equal, each is half of the derivative, as autograd has it.
    by_mean = ((around < error).to(error.dtype) + (around <= error)) / 2
    importance = _importance(foreground, distance, prediction.dtype) * background
    slope = importance + inside * (1 - by_mean + _smooth(by_mean * inverse, weights))
    tp, fp = inside * (1 - torch.minimum(error, around)), prediction * importance
    return torch.stack([each.sum(dim=(1, 2)) for each in (tp, fp, inside)]), slope


def _local_counts_by_kernel(
    prediction: Tensor, mask: Tensor, distance: Tensor | None, weights: Floats
) -> tuple[Tensor, Tensor]:
    slope = torch.empty(mask.shape, dtype=prediction.dtype)
    dtype = slope.numpy().dtype
    kernel = np.array(weights, dtype)
    if distance is None:  # a table of ones, and a distance that is not read
        distance, table = mask.new_zeros(()).float().expand(mask.shape), np.ones(1, dtype)
    else:
        distance, table = distance.float(), kernels.common.importance_table(dtype.type)
    sums = per_image(kernels.local.local_counts, prediction, mask, distance, table, kernel, slope)
    return gathered(sums, dtype), slope


def _local_gradient_by_tensors(slope: Tensor, mask: Tensor, of_tp: Tensor, of_fp: Tensor) -> Tensor:
    return slope * torch.where(mask == 1, of_tp[:, None, None], of_fp[:, None, None])


def _local_gradient_by_kernel(slope: Tensor, mask: Tensor, of_tp: Tensor, of_fp: Tensor) -> Tensor:
    gradient = torch.empty(slope.shape, dtype=slope.dtype)
    per_image(kernels.local.scale_slopes, slope, mask, of_tp, of_fp, gradient)
    return gradient


_local_counts = operator("local_counts", _local_counts_by_tensors, _local_counts_by_kernel)
_local_gradient = operator("local_gradient", _local_gradient_by_tensors, _local_gradient_by_kernel)


class _LocalCounts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, mask: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
        sums, slope = _local_counts(prediction, mask, *rest)
        ctx.save_for_backward(slope, mask)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        slope, mask = ctx.saved_tensors
        return _local_gradient(slope, mask, of_sums[0], of_sums[1]), None, None, None
