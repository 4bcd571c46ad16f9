"""The cost of what each category of a window predicts together."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spatialseg import kernels
from spatialseg.functional.dispatch import Floats, operator, per_image
from spatialseg.functional.one_vs_rest import one_vs_rest
from spatialseg.functional.pooling import Pooling, add_spread_by_tensors, as_window, checked, pool_by_tensors


def grouped_cross_entropy(logits: Tensor, labels: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    r"""Compute the cross-entropy of every category present in a window under the softmax of its pixels' mean logits.

    As `pooled_cross_entropy`, but a window stands for each category g in it, not for its centre's alone:

    .. math::
        \bar x_{cg} = \frac{\sum_i [y_i = g] w_i x_i}{\sum_i [y_i = g] w_i}, \qquad
        \ell_{cg} = -\log \operatorname{softmax}(\bar x_{cg})_g

    Args:
        logits: Scores of C ≥ 2 classes, shape (N, C, H, W), float32 or float64.
        labels: Classes in [0, C), shape (N, H, W), integer; all else takes no part, as centre neither.
        pooling: See `selective_pooling`, as for what is raised.

    Returns:
        The costs, shape (N, C, ⌈H / stride⌉, ⌈W / stride⌉), 0 where a category is absent, and the number of
        windows with each category, shape (C,), integer. Differentiable in `logits`, once.
    """
    weights, stride, ignore_index = checked(logits, labels, pooling)
    costs, counts = _GroupCosts.apply(logits, _without(labels, ignore_index), weights, stride)
    return costs, counts


def grouped_likelihood(likelihood: Tensor, labels: Tensor, classes: int, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Average the likelihood of their own category over each window's pixels of each category.

    Args:
        likelihood: Probability that each pixel gives to its own category, shape (N, H, W), float32 or float64.
        labels: See `grouped_cross_entropy`.
        classes: C.
        pooling: The same.

    Returns:
        The means, shape (N, C, ⌈H / stride⌉, ⌈W / stride⌉), differentiable, and whether the category is present.
    """
    weights, stride, ignore_index = checked(likelihood[:, None], labels, pooling)
    window = pooling.window
    kernel = likelihood.new_tensor(weights).view(window, window).expand(classes, 1, window, window)
    region = one_vs_rest(_without(labels, ignore_index), classes).to(likelihood.dtype)
    total, mass = (
        F.conv2d(each, kernel, stride=stride, padding=window // 2, groups=classes)
        for each in (region * likelihood[:, None], region)
    )
    return total / mass.where(mass > 0, 1), mass > 0


class _GroupCosts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, *options: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        costs, counts = _costs(logits, labels, *options)
        counts = counts.sum(dim=0)
        ctx.mark_non_differentiable(counts)
        ctx.save_for_backward(logits, labels)
        ctx.options = options
        return costs, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_costs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        logits, labels = ctx.saved_tensors
        return _gradient(logits, labels, of_costs, *ctx.options), None, None, None


def _without(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Return the labels as int32, -1 where they are ignored."""
    labels = labels.int()
    return labels if ignore_index is None else labels.masked_fill(labels == ignore_index, -1)


def _merged(logits: Tensor, labels: Tensor, weights: Floats, stride: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, for each category, a map of centres that all have it, and what is pooled around them: means, inverses."""
    for category in range(logits.shape[1]):
        centres = torch.full_like(labels[:, None, ::stride, ::stride], category)
        yield centres, *pool_by_tensors(logits, labels[:, None], centres, weights, stride)


def _costs_by_tensors(logits: Tensor, labels: Tensor, weights: Floats, stride: int) -> tuple[Tensor, Tensor]:
    """Return the costs and the number of windows with each category in each image, (N, C)."""
    costs, counts = [], []
    for category, (_, means, inverse) in enumerate(_merged(logits, labels, weights, stride)):
        present = inverse[:, 0] > 0
        costs.append((means.logsumexp(dim=1) - means[:, category]).where(present, 0))
        counts.append(present.sum(dim=(1, 2)))
    return torch.stack(costs, dim=1), torch.stack(counts, dim=1)


def _costs_by_kernel(logits: Tensor, labels: Tensor, weights: Floats, stride: int) -> tuple[Tensor, Tensor]:
    costs = logits.new_empty(*logits.shape[:2], *labels[:, ::stride, ::stride].shape[1:])
    counts = labels.new_empty(logits.shape[:2], dtype=torch.int64)
    window = as_window(weights, logits)
    per_image(kernels.grouping.group_costs, logits.movedim(1, -1), labels, window, stride, costs, counts)
    return costs, counts


def _gradient_by_tensors(logits: Tensor, labels: Tensor, of_costs: Tensor, weights: Floats, stride: int) -> Tensor:
    gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)
    for category, (centres, means, inverse) in enumerate(_merged(logits, labels, weights, stride)):
        owed = means.softmax(dim=1)
        owed[:, category] -= 1
        owed *= of_costs[:, category, None]
        add_spread_by_tensors(gradient, owed, labels[:, None], centres, inverse, weights, stride)
    return gradient


def _gradient_by_kernel(logits: Tensor, labels: Tensor, of_costs: Tensor, weights: Floats, stride: int) -> Tensor:
    gradient = logits.new_empty(*labels.shape, logits.shape[1])
    window = as_window(weights, logits)
    per_image(kernels.grouping.group_gradient, logits.movedim(1, -1), labels, window, stride, of_costs, gradient)
    return gradient.movedim(-1, 1).contiguous()


_costs = operator("grouped_cross_entropy", _costs_by_tensors, _costs_by_kernel)
_gradient = operator("grouped_cross_entropy_gradient", _gradient_by_tensors, _gradient_by_kernel)
