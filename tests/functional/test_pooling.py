import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.functional import pooling, selective_pooling
from spatialseg.functional.pooling import Pooling, pooled_cross_entropy


def sample(height: int, width: int, seed: int, channels: int = 2):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 3, (2, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return values, labels


def brute_force(values, labels, window, stride, weights, sigma):
    """Visit every neighbour of every centre."""
    values, labels = values.numpy(), labels.numpy()
    count, channels, height, width = values.shape
    pooled = np.zeros((count, channels, -(-height // stride), -(-width // stride)))
    for n in range(count):
        for row in range(0, height, stride):
            for column in range(0, width, stride):
                total, mass = np.zeros(channels), 0.0
                for y in range(max(0, row - window // 2), min(height, row + window // 2 + 1)):
                    for x in range(max(0, column - window // 2), min(width, column + window // 2 + 1)):
                        if labels[n, y, x] == labels[n, row, column] != 255:
                            far = max(abs(y - row), abs(x - column))
                            weight = math.exp(-far * far / (2 * sigma * sigma)) if weights == "gaussian" else 1.0
                            total, mass = total + weight * values[n, :, y, x], mass + weight
                if mass:
                    pooled[n, :, row // stride, column // stride] = total / mass
    return torch.from_numpy(pooled)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 5]), st.integers(1, 4),
    st.sampled_from(["uniform", "gaussian"]), st.integers(0, 10**6),
)  # fmt: skip
def test_equals_a_direct_loop(height, width, window, stride, weights, seed):
    values, labels = sample(height, width, seed)
    pooled = selective_pooling(values, labels, window=window, stride=stride, weights=weights, sigma=1.5)
    torch.testing.assert_close(pooled, brute_force(values, labels, window, stride, weights, 1.5))


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
def test_gradcheck(window, stride, weights):
    values, labels = sample(5, 4, seed=window, channels=1)
    torch.autograd.gradcheck(
        lambda v: selective_pooling(v, labels, window=window, stride=stride, weights=weights), values.requires_grad_()
    )


def test_second_derivative_is_refused():
    values, labels = sample(5, 5, seed=0)
    pooled = selective_pooling(values.requires_grad_(), labels).square().sum()
    (gradient,) = torch.autograd.grad(pooled, values, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("ignore_index", [255, None])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooled_cross_entropy_equals_its_two_steps(ignore_index, stride):
    values, labels = sample(6, 7, seed=5, channels=3)
    values = (values.repeat(2, 1, 1, 1) * 50).requires_grad_()
    labels = labels.repeat(2, 1, 1) if ignore_index else labels.repeat(2, 1, 1) % 3
    options = {"window": 5, "stride": stride, "weights": "gaussian", "ignore_index": ignore_index}
    pooled, centres = selective_pooling(values, labels, **options), labels[:, ::stride, ::stride]
    expected = F.cross_entropy(pooled, centres, ignore_index=ignore_index or -1, reduction="none")
    cost = pooled_cross_entropy(values, labels, Pooling(**options))
    torch.testing.assert_close(cost, expected)
    weights = torch.rand_like(cost)
    torch.testing.assert_close(
        torch.autograd.grad((cost * weights).sum(), values), torch.autograd.grad((expected * weights).sum(), values)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
def test_kernels_equal_the_sums_of_shifts(dtype, stride, weights):
    for height, width, window in ((11, 17, 5), (3, 4, 7), (1, 9, 3)):
        values, labels = sample(height, width, seed=height)
        *options, ignore_index = pooling.checked(values, labels, Pooling(window, stride, weights))
        categories = pooling._categories(labels, stride, ignore_index)
        found = pooling._pool_by_kernel(values.to(dtype), *categories, *options)
        expected = pooling.pool_by_tensors(values.to(dtype), *categories, *options)
        torch.testing.assert_close(found, expected)
        results = []
        for spread in (pooling._add_spread_by_kernel, pooling.add_spread_by_tensors):
            results.append(torch.ones_like(values, dtype=dtype))
            spread(results[-1], expected[0] + 1, *categories, found[1], *options)
        torch.testing.assert_close(*results)


def test_memory_formats_and_label_types():
    values, labels = sample(8, 9, seed=1)
    expected = selective_pooling(values, labels)
    torch.testing.assert_close(selective_pooling(values.to(memory_format=torch.channels_last), labels), expected)
    torch.testing.assert_close(selective_pooling(values, labels.to(torch.uint8)), expected)
    turned = selective_pooling(values.transpose(2, 3), labels.transpose(1, 2))
    torch.testing.assert_close(turned.transpose(2, 3), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"window": 2}, ValueError, "window must be odd"),
        ({"stride": 0}, ValueError, "stride and sigma positive"),
        ({"sigma": 0.0}, ValueError, "sigma=0.0"),
        ({"weights": "box"}, ValueError, '"uniform" or "gaussian"'),
        ({"labels": torch.zeros(1, 3, 4).long()}, ValueError, "needs values"),
        ({"labels": torch.zeros(1, 4, 4)}, TypeError, "integer labels"),
        ({"values": torch.zeros(1, 1, 4, 4).half()}, TypeError, "float32 or float64"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        selective_pooling(**({"values": torch.zeros(1, 1, 4, 4), "labels": torch.zeros(1, 4, 4).long()} | arguments))
