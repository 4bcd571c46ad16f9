import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.functional import selective_pooling
from spatialseg.losses.lal import LocallyAdaptiveLoss, minkowski_mean

from .batches import batch


def minkowski(costs, factors, k):
    return np.average(np.array(costs) ** k, weights=factors) ** (1 / k) if sum(factors) else 0.0


def direct(logits, target, window, stride, k, merge, weights, sigma, class_weights):
    """Visit every neighbour of every centre."""
    x, y = logits.numpy(), target.numpy()
    if x.shape[1] == 1:
        x = np.concatenate([np.zeros_like(x), x], axis=1)
    costs, factors = [], []
    for n, row, column in np.ndindex(*y.shape):
        if row % stride or column % stride or y[n, row, column] == 255:
            continue
        vectors, masses = [], []
        for dy, dx in np.ndindex(window, window):
            i, j = row + dy - window // 2, column + dx - window // 2
            if 0 <= i < y.shape[1] and 0 <= j < y.shape[2] and y[n, i, j] == y[n, row, column]:
                vector = x[n, :, i, j]
                vectors.append(np.exp(vector) / np.exp(vector).sum() if merge == "probabilities" else vector)
                far = max(abs(i - row), abs(j - column))
                masses.append(math.exp(-far * far / (2 * sigma**2)) if weights == "gaussian" else 1.0)
        mean = np.average(vectors, axis=0, weights=masses)
        merged = mean if merge == "probabilities" else np.exp(mean) / np.exp(mean).sum()
        costs.append(-math.log(merged[y[n, row, column]]))
        factors.append(class_weights[y[n, row, column]])
    return minkowski(costs, factors, k)


def direct_of_all(logits, target, window, stride, k, merge, weights, sigma, class_weights):
    """Visit every category of every window."""
    x, y = logits.numpy(), target.numpy()
    if x.shape[1] == 1:
        x = np.concatenate([np.zeros_like(x), x], axis=1)
    costs, factors = [], []
    for n, row, column in np.ndindex(*y.shape):
        if row % stride or column % stride:
            continue
        rows, columns = (slice(max(0, at - window // 2), at + window // 2 + 1) for at in (row, column))
        labels = y[n, rows, columns]
        j, i = np.mgrid[: y.shape[1], : y.shape[2]][:, rows, columns]
        far = np.maximum(abs(j - row), abs(i - column))
        masses = np.exp(-(far**2) / (2 * sigma**2)) if weights == "gaussian" else np.ones(far.shape)
        for category in set(labels.ravel().tolist()) - {255}:
            vectors = x[n, :, rows, columns][:, labels == category].T
            if merge == "probabilities":
                vectors = np.exp(vectors) / np.exp(vectors).sum(axis=1, keepdims=True)
            mean = np.average(vectors, axis=0, weights=masses[labels == category])
            merged = mean if merge == "probabilities" else np.exp(mean) / np.exp(mean).sum()
            costs.append(-math.log(merged[category]))
            factors.append(class_weights[category])
    return minkowski(costs, factors, k)


CLASS_WEIGHTS = st.sampled_from([None, [0.2, 3.0, 1.5], [1e-3, 0.0, 2e-3]])


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 3]), st.sampled_from([1, 3, 5]), st.integers(1, 5), st.sampled_from([1.0, 2.5, 5.0]),
    st.sampled_from(["logits", "probabilities"]), st.sampled_from(["uniform", "gaussian"]), CLASS_WEIGHTS,
    st.integers(0, 10**6),
)  # fmt: skip
def test_all_groups_equal_a_direct_loop(channels, window, stride, k, merge, weights, class_weights, seed):
    logits, target = batch(channels, (2, 7, 6), seed=seed)
    class_weights = class_weights and class_weights[: max(channels, 2)]
    loss = LocallyAdaptiveLoss(window, stride, k, merge, weights, 1.2, groups="all", class_weights=class_weights)
    expected = direct_of_all(logits, target, window, stride, k, merge, weights, 1.2, class_weights or [1.0] * 3)
    assert loss(logits, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("merge", ["logits", "probabilities"])
def test_gradcheck_of_all_groups(channels, merge):
    logits, target = batch(channels, (2, 5, 4))
    loss = LocallyAdaptiveLoss(window=3, stride=2, k=2.5, merge=merge, weights="gaussian", groups="all")
    torch.autograd.gradcheck(loss, (logits.requires_grad_(), target))


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([1, 3]), st.sampled_from([1, 3, 5]), st.integers(1, 3), st.sampled_from([1.0, 2.5, 5.0]),
    st.sampled_from(["logits", "probabilities"]), st.sampled_from(["uniform", "gaussian"]), CLASS_WEIGHTS,
    st.integers(0, 10**6),
)  # fmt: skip
def test_equals_a_direct_loop(channels, window, stride, k, merge, weights, class_weights, seed):
    logits, target = batch(channels, (2, 7, 6), seed=seed)
    class_weights = class_weights and class_weights[: max(channels, 2)]
    loss = LocallyAdaptiveLoss(window, stride, k, merge, weights, 1.2, class_weights=class_weights)
    expected = direct(logits, target, window, stride, k, merge, weights, 1.2, class_weights or [1.0] * 3)
    assert loss(logits, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("groups", ["centre", "all"])
@pytest.mark.parametrize("merge", ["logits", "probabilities"])
def test_smallest_window_is_cross_entropy(merge, groups):
    logits, target = batch(3)
    loss = LocallyAdaptiveLoss(window=1, stride=1, k=1.0, merge=merge, groups=groups)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, ignore_index=255))
    weights = [0.25, 3.0, 0.0]
    weighted = LocallyAdaptiveLoss(1, 1, 1.0, merge, groups=groups, class_weights=weights)
    expected = F.cross_entropy(logits, target, logits.new_tensor(weights), ignore_index=255)
    torch.testing.assert_close(weighted(logits, target), expected)
    with pytest.raises(ValueError, match="one for each class, got 3 for 2 classes"):
        weighted(logits[:2, :1], (target[:2] == 1).long())
    logits, target = batch(1, ignored=False)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], target.double())
    torch.testing.assert_close(loss(logits, target), expected)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([3, 5]), st.integers(1, 3), st.sampled_from(["logits", "probabilities"]), st.integers(0, 10**6))
def test_merged_cost_is_at_most_the_mean_of_the_pixel_costs(window, stride, merge, seed):
    logits, target = batch(3, seed=seed)
    cost = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    pooled = selective_pooling(cost[:, None], target, window=window, stride=stride)[:, 0]
    bound = pooled[target[:, ::stride, ::stride] != 255].mean()
    loss = LocallyAdaptiveLoss(window=window, stride=stride, k=1.0, merge=merge)
    assert loss(logits, target) <= bound + 1e-12


def test_several_channels_of_binary_equal_one():
    logits, target = batch(1)
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(LocallyAdaptiveLoss()(pair, target), LocallyAdaptiveLoss()(logits, target))


def test_minkowski_mean_neither_overflows_nor_divides_by_zero():
    cost = torch.tensor([0.0, 1e9, 1e10], requires_grad=True)
    value = minkowski_mean(cost, torch.tensor(3), 5.0)
    value.backward()
    assert value.item() == pytest.approx(1e10 * (1e-5 / 3 + 1 / 3) ** 0.2) and cost.grad.isfinite().all()
    zeros = torch.zeros(3, requires_grad=True)
    value = minkowski_mean(zeros, torch.tensor(3), 5.0)
    value.backward()
    assert value.item() == 0 and not zeros.grad.any()


@pytest.mark.parametrize("merge", ["logits", "probabilities"])
def test_a_hopeless_pixel_keeps_its_gradient(merge):
    """Probabilities that underflow must not silence the pixel."""
    logits = torch.tensor([[[[-200.0, 5.0]]]], requires_grad=True)
    value = LocallyAdaptiveLoss(window=1, merge=merge)(logits, torch.tensor([[[1, 1]]]))
    value.backward()
    assert value > 100 and logits.grad[0, 0, 0, 0] < 0


def test_second_derivative_is_refused():
    logits, target = batch(3)
    (gradient,) = torch.autograd.grad(LocallyAdaptiveLoss()(logits.requires_grad_(), target), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("groups", ["centre", "all"])
def test_compiles_into_one_graph(groups):
    logits, target = batch(3, (2, 24, 24))
    logits = logits.float().requires_grad_()
    loss = LocallyAdaptiveLoss(groups=groups)
    (expected,) = torch.autograd.grad(loss(logits, target), logits)
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    torch.testing.assert_close(torch.autograd.grad(compiled(logits, target), logits)[0], expected)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"window": 2}, "window must be odd"),
        ({"k": 0.5}, "k must be at least 1"),
        ({"merge": "scores"}, "merge must be"),
        ({"groups": "any"}, "groups must be"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        LocallyAdaptiveLoss(**args)
