import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.functional import distance_to_foreground, weighted_counts, weighted_error
from spatialseg.functional.weighted_f import _gaussian, _local_counts_by_kernel, _local_counts_by_tensors


def by_autograd(prediction, target, **arguments):
    """Sum the maps, and differentiate the sums."""
    prediction = prediction.clone().requires_grad_()
    weighted = weighted_error(prediction, target, dependency="local", **arguments).weighted
    missed, fp = ((weighted * where).sum(dim=(1, 2)) for where in (target == 1, target != 1))
    positives = (target == 1).sum(dim=(1, 2)).to(fp.dtype)
    (slope,) = torch.autograd.grad((fp - missed).sum(), prediction)
    return torch.stack([positives - missed, fp, positives]), slope


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 7]), st.sampled_from(["distance", None]),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.sampled_from([255, 7, None]), st.integers(0, 10**6),
)  # fmt: skip
def test_kernel_and_definition_equal_autograd(height, width, window, importance, share, ignore, seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    target = (torch.rand(3, height, width, generator=generator) < share).long()
    if ignore is not None:
        target[torch.rand(target.shape, generator=generator) < 0.2] = ignore
    expected = by_autograd(prediction, target, window=window, importance=importance, ignore_index=ignore)
    mask = torch.where(target == 1, 1, 0).masked_fill(target == (-1 if ignore is None else ignore), 2).byte()
    distance = distance_to_foreground(mask == 1) if importance else None
    for count in (_local_counts_by_kernel, _local_counts_by_tensors):
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
            found = count(prediction.to(dtype), mask, distance, _gaussian(window, 5.0))
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


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
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
