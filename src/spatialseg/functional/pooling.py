"""Selective pooling: the mean over a window's pixels of one category."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

PoolingWeights = Literal["uniform", "gaussian"]


def selective_pooling(
    values: Tensor,
    labels: Tensor,
    *,
    window: int = 3,
    stride: int = 1,
    weights: PoolingWeights = "uniform",
    sigma: float = 1.0,
    ignore_index: int | None = 255,
) -> Tensor:
    r"""Average each window's pixels of the same category as its centre (Guo et al., arXiv 1802.08290, 2018).

    .. math::
        \bar x_c = \frac{\sum_i \mu_i w_i x_i}{\sum_i \mu_i w_i}, \qquad \mu_i = [y_i = y_c]

    over the pixels i of the window around the centre c, clipped at the borders. A sum over the window's shifts with its
    own backward: it needs no memory but the result's.

    Args:
        values: What is averaged, shape (N, C, H, W), float32 or float64.
        labels: The categories y, shape (N, H, W), boolean or integer.
        window: Side in pixels of the window, odd.
        stride: Distance in pixels between centres; the first is pixel (0, 0).
        weights: "uniform": w = 1. "gaussian": :math:`w = \exp(-d^2 / 2 \sigma^2)`, d the chessboard distance.
        sigma: Standard deviation in pixels of the Gaussian weights.
        ignore_index: Label of the pixels that are nobody's neighbour; the mean around such a centre is 0.

    Returns:
        The means, shape (N, C, ⌈H / stride⌉, ⌈W / stride⌉). Differentiable in `values`, once.

    Raises:
        TypeError: The values are neither float32 nor float64, or the labels are floating.
        ValueError: Shapes do not fit, or an argument is out of its range.
    """
    if values.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"selective_pooling needs float32 or float64 values, got {values.dtype}")
    if labels.is_floating_point():
        raise TypeError(f"selective_pooling needs boolean or integer labels, got {labels.dtype}")
    if values.ndim != 4 or labels.shape != (values.shape[0], *values.shape[2:]):
        raise ValueError(
            "selective_pooling needs values (N, C, H, W) and labels (N, H, W), "
            f"got {tuple(values.shape)} and {tuple(labels.shape)}"
        )
    if window < 1 or window % 2 == 0 or stride < 1 or sigma <= 0:
        raise ValueError(
            "window must be odd and positive, stride and sigma positive, "
            f"got window={window}, stride={stride}, sigma={sigma}"
        )
    if weights not in ("uniform", "gaussian"):
        raise ValueError(f'weights must be "uniform" or "gaussian", got {weights!r}')
    scale = 2 * sigma**2 if weights == "gaussian" else math.inf
    pooled: Tensor = _pool(values, labels, window, stride, scale, ignore_index)[0]
    return pooled


# Operators of their own, so that a compiled model calls them rather than unrolls their r² shifts. Each is the other's
# transpose; neither is differentiated twice.


@torch.library.custom_op("spatialseg::selective_pooling", mutates_args=())
def _pool(
    values: Tensor, labels: Tensor, window: int, stride: int, scale: float, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Return the means and the inverse of each mean's mass, (N, 1, h, w)."""
    labels, centres = _categories(labels, stride, ignore_index)
    total = values.new_zeros(*values.shape[:2], *centres.shape[2:])
    mass = values.new_zeros(centres.shape)
    for centre, pixel, weight in _shifts(values, window, stride, scale):
        share = (centres[centre] == labels[pixel]) * weight
        mass[centre] += share
        total[centre].addcmul_(values[pixel], share)
    inverse = mass.clamp_(min=torch.finfo(mass.dtype).tiny).reciprocal_()  # where the mass is 0, so is the sum
    total *= inverse
    return total, inverse


@torch.library.custom_op("spatialseg::selective_spreading", mutates_args=())
def _spread(
    gradient: Tensor,
    labels: Tensor,
    inverse: Tensor,
    window: int,
    stride: int,
    scale: float,
    ignore_index: int | None,
) -> Tensor:
    """Return the gradient of the pooled values, given that of their means."""
    labels, centres = _categories(labels, stride, ignore_index)
    spread = gradient.new_zeros(*gradient.shape[:2], *labels.shape[2:])
    for centre, pixel, weight in _shifts(spread, window, stride, scale):
        share = (centres[centre] == labels[pixel]) * (inverse[centre] * weight)
        spread[pixel].addcmul_(gradient[centre], share)
    return spread


@_pool.register_fake
def _(
    values: Tensor, labels: Tensor, window: int, stride: int, scale: float, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    grid = labels[:, None, ::stride, ::stride].shape
    return values.new_empty(*values.shape[:2], *grid[2:]), values.new_empty(grid)


@_spread.register_fake
def _(
    gradient: Tensor,
    labels: Tensor,
    inverse: Tensor,
    window: int,
    stride: int,
    scale: float,
    ignore_index: int | None,
) -> Tensor:
    return gradient.new_empty(*gradient.shape[:2], *labels.shape[1:])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    ctx.save_for_backward(inputs[1], output[1])
    ctx.options = inputs[2:]


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    return _spread(gradient, *ctx.saved_tensors, *ctx.options), None, None, None, None, None


_pool.register_autograd(_backward, setup_context=_remember)


def _categories(labels: Tensor, stride: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return the labels (N, 1, H, W) and those of the centres, which equal no label where they are ignored."""
    labels = labels.int()[:, None]
    centres = labels[:, :, ::stride, ::stride]
    return labels, centres if ignore_index is None else centres.masked_fill(centres == ignore_index, _NO_LABEL)


_NO_LABEL = torch.iinfo(torch.int32).min
_BAND_BYTES = 2**21  # what a CPU core's cache holds of one image
_Region = tuple[slice, slice, slice, slice]


def _shifts(values: Tensor, window: int, stride: int, scale: float) -> Iterator[tuple[_Region, _Region, float]]:
    """Yield, for each shift of the window, the centres that have such a neighbour, those neighbours, and their weight.

    `values` (N, C, H, W) is at the neighbours' resolution. The CPU goes through all shifts of one band of rows before
    the next, since it would fetch the whole batch r² times from the main memory otherwise.
    """
    height, width = values.shape[2:]
    radius = window // 2
    shifts = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
    for image, top, bottom in _bands(values, stride):
        for dy, dx in shifts:
            first, last = _span(height, dy, stride)
            first, last = max(first, top), min(last, bottom)
            left, right = _span(width, dx, stride)
            if first < last and left < right:
                centre = (image, slice(None), slice(first, last), slice(left, right))
                pixel = (image, slice(None), _strided(first, last, stride, dy), _strided(left, right, stride, dx))
                yield centre, pixel, math.exp(-(max(abs(dy), abs(dx)) ** 2) / scale)


def _bands(values: Tensor, stride: int) -> Iterator[tuple[slice, int, int]]:
    """Yield images, the first row of centres and the one after the last."""
    rows = -(-values.shape[2] // stride)
    if values.device.type != "cpu":
        yield slice(None), 0, rows
        return
    step = max(1, _BAND_BYTES // (values[0, :, 0].numel() * values.element_size() * stride))
    for image in range(len(values)):
        for top in range(0, rows, step):
            yield slice(image, image + 1), top, min(top + step, rows)


def _span(length: int, shift: int, stride: int) -> tuple[int, int]:
    """Return the first centre, and the one after the last, whose neighbour at this shift is inside."""
    return max(0, -(shift // stride)), min((length - 1 - shift) // stride + 1, -(-length // stride))


def _strided(first: int, last: int, stride: int, shift: int) -> slice:
    """Return where the neighbours at this shift of the centres `first` to `last` are."""
    return slice(first * stride + shift, (last - 1) * stride + shift + 1, stride)
