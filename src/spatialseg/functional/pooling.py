"""Selective pooling: the mean over a window's pixels of one category."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialseg import kernels
from spatialseg.functional.dispatch import Floats, operator, per_image

PoolingWeights = Literal["uniform", "gaussian"]


@dataclass(frozen=True)
class Pooling:
    """What is pooled around each centre; see `selective_pooling`.

    Raises:
        ValueError: A value is out of its range.
    """

    window: int = 3
    stride: int = 1
    weights: PoolingWeights = "uniform"
    sigma: float = 1.0
    ignore_index: int | None = 255

    def __post_init__(self) -> None:
        """Refuse what is no window."""
        if self.window < 1 or self.window % 2 == 0 or self.stride < 1 or self.sigma <= 0:
            raise ValueError(
                "window must be odd and positive, stride and sigma positive, "
                f"got window={self.window}, stride={self.stride}, sigma={self.sigma}"
            )
        if self.weights not in ("uniform", "gaussian"):
            raise ValueError(f'weights must be "uniform" or "gaussian", got {self.weights!r}')


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
    return pooled_means(values, labels, Pooling(window, stride, weights, sigma, ignore_index))


def pooled_means(values: Tensor, labels: Tensor, pooling: Pooling) -> Tensor:
    """Do the same with options that are checked already."""
    means: Tensor = _SelectivePooling.apply(values, labels, *checked(values, labels, pooling))
    return means


def pooled_cross_entropy(logits: Tensor, labels: Tensor, pooling: Pooling) -> Tensor:
    r"""Compute the cross-entropy of each centre's label under the softmax of the pooled logits around it.

    It equals `cross_entropy(selective_pooling(logits, labels), centres)`, but keeps a single map of the logits' size
    for the backward pass, which takes half a batch's more at most, besides the gradient itself.

    Args:
        logits: Scores of C ≥ 2 classes, shape (N, C, H, W), float32 or float64.
        labels: Classes in [0, C) or `ignore_index`, shape (N, H, W), int64.
        pooling: See `selective_pooling`, as for what is raised; the cost of an ignored centre is 0.

    Returns:
        The costs, shape (N, ⌈H / stride⌉, ⌈W / stride⌉). Differentiable in `logits`, once.
    """
    weights, stride, ignore_index = checked(logits, labels, pooling)
    if torch.compiler.is_compiling():  # the compiler saves the memory itself
        pooled = _SelectivePooling.apply(logits, labels, weights, stride, ignore_index)
        centres = labels[:, ::stride, ::stride]
        absent = _NO_LABEL if ignore_index is None else ignore_index
        return F.cross_entropy(pooled, centres, ignore_index=absent, reduction="none")
    cost: Tensor = _PooledCrossEntropy.apply(logits, labels, weights, stride, ignore_index)
    return cost


class _SelectivePooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, labels: Tensor, *options: Any) -> Tensor:  # noqa: ANN401
        pooled, inverse = _pool(values, *_categories(labels, *options[1:]), *options[:2])
        ctx.save_for_backward(labels, inverse)
        ctx.options = options
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        labels, inverse = ctx.saved_tensors
        spread = gradient.new_zeros(*gradient.shape[:2], *labels.shape[1:])
        _add_spread(spread, gradient, *_categories(labels, *ctx.options[1:]), inverse, *ctx.options[:2])
        return spread, None, None, None, None


class _PooledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, *options: Any) -> Tensor:  # noqa: ANN401
        weights, stride, ignore_index = options
        scores, inverse = _pool(logits, *_categories(labels, stride, ignore_index), weights, stride)
        own = labels[:, None, ::stride, ::stride]
        ignored = None if ignore_index is None else own == ignore_index
        own = own if ignored is None else own.masked_fill(ignored, 0)
        # In place from here on: the pooled scores become the softmax.
        scores -= scores.amax(dim=1, keepdim=True)
        chosen = scores.gather(1, own)
        total = scores.exp_().sum(dim=1, keepdim=True)
        scores /= total
        ctx.save_for_backward(labels, own, inverse, scores)
        ctx.options = options
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
            categories = _categories(labels[part], *ctx.options[1:])
            _add_spread(spread[part], owed, *categories, inverse[part], *ctx.options[:2])
            del owed  # or it would live on while the next is made
        return spread, None, None, None, None


def checked(values: Tensor, labels: Tensor, pooling: Pooling) -> tuple[list[float], int, int | None]:
    """Return the weight of each pixel of a window, row by row, stride and `ignore_index`, or raise.

    See `selective_pooling`.
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
    scale = 2 * pooling.sigma**2 if pooling.weights == "gaussian" else math.inf
    far = (max(abs(dy), abs(dx)) for dy, dx in _steps(pooling.window))
    # The bound keeps the mean of a category that is only far from the centre within single precision.
    weights = [max(math.exp(-(distance**2) / scale), 1e-30) for distance in far]
    return weights, pooling.stride, pooling.ignore_index


def _categories(labels: Tensor, stride: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return the labels (N, 1, H, W) and those of the centres, which equal no label where they are ignored."""
    labels = labels.int()[:, None]
    centres = labels[:, :, ::stride, ::stride]
    return labels, centres if ignore_index is None else centres.masked_fill(centres == ignore_index, _NO_LABEL)


_NO_LABEL = torch.iinfo(torch.int32).min
_Region = tuple[Any, slice, slice]


def _steps(window: int) -> Iterator[tuple[int, int]]:
    """Yield the (row, column) steps from the centre to each pixel of a window, row by row."""
    reach = range(-(window // 2), window // 2 + 1)
    return product(reach, reach)


def _shifts(size: torch.Size, weights: Floats, stride: int) -> Iterator[tuple[_Region, _Region, float]]:
    """Yield, for each shift of the window, the centres with such a neighbour, those neighbours, and their weight."""
    for (dy, dx), weight in zip(_steps(math.isqrt(len(weights))), weights, strict=True):
        rows, pixel_rows = _along(size[2], dy, stride)
        columns, pixel_columns = _along(size[3], dx, stride)
        if rows.start < rows.stop and columns.start < columns.stop:
            yield (..., rows, columns), (..., pixel_rows, pixel_columns), weight


def as_window(weights: Floats, like: Tensor) -> NDArray[Any]:
    """Return the weights as (window, window), of a tensor's type."""
    side = math.isqrt(len(weights))
    return torch.tensor(weights, dtype=like.dtype).view(side, side).numpy()


def _along(length: int, shift: int, stride: int) -> tuple[slice, slice]:
    """Return, of one axis, the centres whose neighbour at this shift is inside, if any, and those neighbours."""
    first, last = max(0, -(shift // stride)), min((length - 1 - shift) // stride + 1, -(-length // stride))
    return slice(first, last), slice(first * stride + shift, (last - 1) * stride + shift + 1, stride)


# Each is the other's transpose. Labels and those of the centres are (N, 1, H, W) and (N, 1, h, w), int32.


def pool_by_tensors(
    values: Tensor, labels: Tensor, centres: Tensor, weights: Floats, stride: int
) -> tuple[Tensor, Tensor]:
    """Return the means of each centre's category around it, and the inverse of their mass, (N, 1, h, w); 0 if none."""
    total = values.new_zeros(*values.shape[:2], *centres.shape[2:])
    mass = values.new_zeros(centres.shape)
    for centre, pixel, weight in _shifts(values.shape, weights, stride):
        share = (centres[centre] == labels[pixel]).to(values.dtype) * weight
        mass[centre] += share
        total[centre].addcmul_(values[pixel], share)
    inverse = (1 / mass).where(mass > 0, 0)
    total *= inverse
    return total, inverse


def _pool_by_kernel(
    values: Tensor, labels: Tensor, centres: Tensor, weights: Floats, stride: int
) -> tuple[Tensor, Tensor]:
    total = values.new_empty(*values.shape[:2], *centres.shape[2:])
    inverse = values.new_empty(centres.shape)
    window = as_window(weights, values)
    per_image(kernels.pooling.pool, values, labels[:, 0], centres[:, 0], window, stride, total, inverse[:, 0])
    return total, inverse


def add_spread_by_tensors(
    out: Tensor, gradient: Tensor, labels: Tensor, centres: Tensor, inverse: Tensor, weights: Floats, stride: int
) -> None:
    """Add the gradient of the pooled values to `out`, given that of their means."""
    for centre, pixel, weight in _shifts(out.shape, weights, stride):
        share = (centres[centre] == labels[pixel]) * (inverse[centre] * weight)
        out[pixel].addcmul_(gradient[centre], share)


def _add_spread_by_kernel(
    out: Tensor, gradient: Tensor, labels: Tensor, centres: Tensor, inverse: Tensor, weights: Floats, stride: int
) -> None:
    window = as_window(weights, out)
    per_image(kernels.pooling.spread, gradient, labels[:, 0], centres[:, 0], window, stride, inverse[:, 0], out)


_pool = operator("selective_pooling", pool_by_tensors, _pool_by_kernel)
_add_spread = operator("add_selective_spread", add_spread_by_tensors, _add_spread_by_kernel, mutates=("out",))
