import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.functional import distance_to_foreground, weighted_counts


def counts_and_gradient(prediction, target, **arguments):
    prediction = prediction.clone().requires_grad_()
    counts = weighted_counts(prediction, target, dependency="local", **arguments)
    scale = torch.arange(1, len(target) + 1, dtype=prediction.dtype)
    (gradient,) = torch.autograd.grad((counts.tp * scale - 0.3 * counts.fp * scale).sum(), prediction)
    return torch.stack(counts).double(), gradient.double()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 7]), st.sampled_from(["distance", None]),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.sampled_from([255, 7, None]), st.integers(0, 10**6),
)  # fmt: skip
def test_compiled_twin_equals_the_tensor_functions(height, width, window, importance, share, ignore, seed):
    """Float32 on the CPU is compiled, float64 is not."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(3, height, width, generator=generator)
    target = (torch.rand(3, height, width, generator=generator) < share).long()
    if ignore is not None:
        target[torch.rand(target.shape, generator=generator) < 0.2] = ignore
    arguments = {"window": window, "importance": importance, "ignore_index": ignore}
    counts, gradient = counts_and_gradient(prediction, target, **arguments)
    expected, slopes = counts_and_gradient(prediction.double(), target, **arguments)
    torch.testing.assert_close(counts, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient, slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_given_distance_threads_and_layouts(threads):
    prediction, target = torch.rand(3, 40, 30), (torch.rand(3, 40, 30) < 0.02).to(torch.uint8)
    expected = weighted_counts(prediction.double(), target, dependency="local")
    distance = 0.9 * distance_to_foreground(target == 1)  # as after resizing
    shrunk = weighted_counts(prediction.double(), target, dependency="local", distance=distance)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for ours, theirs in (({}, expected), ({"distance": distance}, shrunk)):
            counts = weighted_counts(prediction, target, dependency="local", **ours)
            torch.testing.assert_close(torch.stack(counts), torch.stack(theirs).float(), rtol=1e-5, atol=1e-4)
        turned = weighted_counts(prediction.mT, target.mT, dependency="local")
        torch.testing.assert_close(torch.stack(turned), torch.stack(expected).float(), rtol=1e-5, atol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_second_derivative_is_refused():
    prediction = torch.rand(1, 5, 5, requires_grad=True)
    counts = weighted_counts(prediction, torch.ones(1, 5, 5), dependency="local")
    (gradient,) = torch.autograd.grad(counts.tp.square().sum(), prediction, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
