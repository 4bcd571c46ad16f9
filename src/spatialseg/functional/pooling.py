"""Selective pooling: the mean over a window's pixels of one category."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    own backward, which needs no memory but the result's; on the CPU it is compiled.

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
    scale = _checked_scale(values, labels, window, stride, weights, sigma)
    pooled: Tensor = _pool(values, labels, window, stride, scale, ignore_index)[0]
    return pooled


def pooled_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    window: int = 3,
    stride: int = 1,
    weights: PoolingWeights = "uniform",
    sigma: float = 1.0,
    ignore_index: int | None = 255,
) -> Tensor:
    r"""Compute the cross-entropy of each centre's label under the softmax of the pooled logits around it.

    It equals `cross_entropy(selective_pooling(logits, labels), centres)`, but keeps a single map of the logits' size
    for the backward pass, which takes half a batch's more at most, besides the gradient itself.

    Args:
        logits: Scores of C ≥ 2 classes, shape (N, C, H, W), float32 or float64.
        labels: Classes in [0, C) or `ignore_index`, shape (N, H, W), int64.
        window: See `selective_pooling`, as for the other arguments and what is raised.
        stride: The same.
        weights: The same.
        sigma: The same.
        ignore_index: The same; the cost of such a centre is 0.

    Returns:
        The costs, shape (N, ⌈H / stride⌉, ⌈W / stride⌉). Differentiable in `logits`, once.
    """
    scale = _checked_scale(logits, labels, window, stride, weights, sigma)
    if torch.compiler.is_compiling():  # the compiler saves the memory itself
        pooled = _pool(logits, labels, window, stride, scale, ignore_index)[0]
        centres = labels[:, ::stride, ::stride]
        absent = _NO_LABEL if ignore_index is None else ignore_index
        return F.cross_entropy(pooled, centres, ignore_index=absent, reduction="none")
    cost: Tensor = _PooledCrossEntropy.apply(logits, labels, window, stride, scale, ignore_index)
    return cost


class _PooledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        labels: Tensor,
        window: int,
        stride: int,
        scale: float,
        ignore_index: int | None,
    ) -> Tensor:
        scores, inverse = _pool(logits, labels, window, stride, scale, ignore_index)
        own = labels[:, None, ::stride, ::stride]
        ignored = None if ignore_index is None else own == ignore_index
        own = own if ignored is None else own.masked_fill(ignored, 0)
        # In place from here on: the pooled scores become the softmax.
        scores -= scores.amax(dim=1, keepdim=True)
        chosen = scores.gather(1, own)
        total = scores.exp_().sum(dim=1, keepdim=True)
        scores /= total
        ctx.save_for_backward(labels, own, inverse, scores)
        ctx.options = window, stride, scale, ignore_index
        cost: Tensor = total.log_().sub_(chosen)[:, 0]
        return cost if ignored is None else cost.masked_fill_(ignored[:, 0], 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        labels, own, inverse, softmax = ctx.saved_tensors
        spread = softmax.new_zeros(*softmax.shape[:2], *labels.shape[1:])
        count = max(1, min(len(labels) // 2, torch.get_num_threads()))  # a few images at a time, to save memory
        for first in range(0, len(labels), count):
            part = slice(first, first + count)
            cost = gradient[part, None]
            owed = softmax[part] * cost
            owed.scatter_(1, own[part], owed.gather(1, own[part]) - cost)
            _add_spread(spread[part], owed, labels[part], inverse[part], *ctx.options)
            del owed  # or it would live on while the next is made
        return spread, None, None, None, None, None


def _checked_scale(
    values: Tensor, labels: Tensor, window: int, stride: int, weights: PoolingWeights, sigma: float
) -> float:
    """Return what squared distances are divided by in the weights, or raise; see `selective_pooling`."""
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
    return 2 * sigma**2 if weights == "gaussian" else math.inf


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
    if _is_compiled(values):
        from spatialseg.functional import _pooling_kernels  # imports Numba, which takes a second

        inputs = [each.contiguous().numpy() for each in (values, labels[:, 0], centres[:, 0])]
        means, inverses = total.numpy(), mass[:, 0].numpy()

        def pool(image: int, weights: Any) -> None:  # noqa: ANN401
            one, label, centre = (array[image] for array in inputs)
            _pooling_kernels.pool(one, label, centre, weights, stride, means[image], inverses[image])

        _compiled(window, scale, len(values), pool)
        return total, mass
    for centre, pixel, weight in _shifts(values.shape, window, stride, scale):
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
    spread = gradient.new_zeros(*gradient.shape[:2], *labels.shape[1:])
    _add_spread(spread, gradient, labels, inverse, window, stride, scale, ignore_index)
    return spread


def _add_spread(
    spread: Tensor,
    gradient: Tensor,
    labels: Tensor,
    inverse: Tensor,
    window: int,
    stride: int,
    scale: float,
    ignore_index: int | None,
) -> None:
    """Add the gradient of the pooled values to `spread`, given that of their means."""
    labels, centres = _categories(labels, stride, ignore_index)
    if _is_compiled(gradient):
        from spatialseg.functional import _pooling_kernels  # imports Numba, which takes a second

        inputs = [each.contiguous().numpy() for each in (gradient, labels[:, 0], centres[:, 0])]
        inverses, out = inverse[:, 0].contiguous().numpy(), spread.numpy()

        def add(image: int, weights: Any) -> None:  # noqa: ANN401
            one, label, centre = (array[image] for array in inputs)
            _pooling_kernels.spread(one, label, centre, weights, stride, inverses[image], out[image])

        _compiled(window, scale, len(gradient), add)
        return
    for centre, pixel, weight in _shifts(spread.shape, window, stride, scale):
        share = (centres[centre] == labels[pixel]) * (inverse[centre] * weight)
        spread[pixel].addcmul_(gradient[centre], share)


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
_Region = tuple[slice, slice, slice, slice]


def _shifts(size: torch.Size, window: int, stride: int, scale: float) -> Iterator[tuple[_Region, _Region, float]]:
    """Yield, for each shift of the window, the centres with such a neighbour, those neighbours, and their weight."""
    everything = slice(None)
    for dy in range(-(window // 2), window // 2 + 1):
        for dx in range(-(window // 2), window // 2 + 1):
            top, bottom = _span(size[2], dy, stride)
            left, right = _span(size[3], dx, stride)
            if top < bottom and left < right:
                centre = (everything, everything, slice(top, bottom), slice(left, right))
                pixel = (everything, everything, _strided(top, bottom, stride, dy), _strided(left, right, stride, dx))
                yield centre, pixel, _weight(dy, dx, scale)


def _weight(dy: int, dx: int, scale: float) -> float:
    return math.exp(-(max(abs(dy), abs(dx)) ** 2) / scale)


def _is_compiled(values: Tensor) -> bool:
    return values.device.type == "cpu"


def _compiled(window: int, scale: float, images: int, work: Callable[[int, Any], None]) -> None:
    """Do the work on each image, given its index and the window's weights (window, window)."""
    import numpy as np  # here, since only the compiled twin needs it

    from spatialseg.functional.compiled import for_each_image

    reach = range(-(window // 2), window // 2 + 1)
    weights = np.array([[_weight(dy, dx, scale) for dx in reach] for dy in reach])
    for_each_image(images, lambda image: work(image, weights))


def _span(length: int, shift: int, stride: int) -> tuple[int, int]:
    """Return the first centre, and the one after the last, whose neighbour at this shift is inside."""
    return max(0, -(shift // stride)), min((length - 1 - shift) // stride + 1, -(-length // stride))


def _strided(first: int, last: int, stride: int, shift: int) -> slice:
    """Return where the neighbours at this shift of the centres `first` to `last` are."""
    return slice(first * stride + shift, (last - 1) * stride + shift + 1, stride)
