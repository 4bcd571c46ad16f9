import pytest
import torch

from spatialseg.functional import grouping
from spatialseg.functional.grouping import grouped_cross_entropy, grouped_likelihood
from spatialseg.functional.pooling import Pooling, checked


def sample(height: int, width: int, seed: int, channels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, channels, (2, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("options", [("uniform",), ("gaussian", 1.0), ("gaussian", 0.07)])
def test_kernels_equal_the_definitions(dtype, stride, options):
    for height, width, window in ((11, 17, 5), (3, 4, 7), (1, 9, 3)):
        logits, labels = sample(height, width, seed=height)
        logits, labels = logits.to(dtype), labels.masked_fill(labels == 255, -1).int()
        weights, *_ = checked(logits, labels, Pooling(window, stride, *options))
        (costs, counts), expected = (
            compute(logits, labels, weights, stride)
            for compute in (grouping._costs_by_kernel, grouping._costs_by_tensors)
        )
        torch.testing.assert_close(costs, expected[0])
        assert torch.equal(counts, expected[1])
        of_costs = torch.rand(costs.shape, dtype=dtype)
        found, expected = (
            compute(logits, labels, of_costs, weights, stride)
            for compute in (grouping._gradient_by_kernel, grouping._gradient_by_tensors)
        )
        torch.testing.assert_close(found, expected)


def test_operators_are_sound():
    logits, labels = sample(5, 6, seed=0)
    arguments = labels.masked_fill(labels == 255, -1).int(), [1.0] * 9, 2
    costs, _ = grouping._costs(logits, *arguments)
    for op, given in (
        (grouping._costs, (logits, *arguments)),
        (grouping._gradient, (logits, arguments[0], costs, *arguments[1:])),
    ):
        torch.library.opcheck(op, given, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("weights", ["uniform", "gaussian"])
def test_gradcheck(window, stride, weights):
    logits, labels = sample(5, 4, seed=window)
    options = Pooling(window, stride, weights)
    torch.autograd.gradcheck(lambda x: grouped_cross_entropy(x, labels, options)[0], logits.requires_grad_())
    likelihood = torch.rand(2, 5, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: grouped_likelihood(x, labels, 3, options)[0], likelihood)


def test_second_derivative_is_refused():
    logits, labels = sample(5, 5, seed=0)
    costs, _ = grouped_cross_entropy(logits.requires_grad_(), labels, Pooling())
    (gradient,) = torch.autograd.grad(costs.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
