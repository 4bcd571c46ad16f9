import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.conventions import Conventions
from spatialseg.functional import boundary_f_measure, boundary_iou, intersection_and_union, multiscale_iou
from spatialseg.functional.iou import overlap_by_tensors, overlap_counts
from spatialseg.kernels.boundary import around_both, contour


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = []
    for _ in range(2):
        mask = ndimage.gaussian_filter(rng.normal(size=(height, width)), 3) > 0
        pair.append(mask & draw(st.booleans()) | draw(st.sampled_from([False, False, False, True])))
    return pair


@given(masks(), st.sampled_from([0.02, 0.1]))
@settings(deadline=None, max_examples=100)
def test_boundary_iou_by_morphology(pair, ratio):
    width = max(1, round(ratio * math.hypot(*pair[0].shape)))
    regions = [mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0) for mask in pair]
    union = (regions[0] | regions[1]).sum()
    expected = (regions[0] & regions[1]).sum() / union if union else 1
    prediction, target = (torch.tensor(mask)[None] for mask in pair)
    assert boundary_iou(prediction.float(), target, dilation_ratio=ratio).item() == pytest.approx(expected)


@given(masks(), st.sampled_from([0.008, 0.1]))
@settings(deadline=None, max_examples=100)
def test_boundary_f_by_brute_force(pair, ratio):
    radius = math.ceil(ratio * math.hypot(*pair[0].shape))
    contours = []
    for mask in pair:
        rows, columns = np.nonzero(mask & ~ndimage.binary_erosion(mask, border_value=1))
        contours.append(np.stack([rows, columns], axis=1))
    if all(len(contour) == 0 for contour in contours):
        precision = recall = 1
    elif any(len(contour) == 0 for contour in contours):
        precision = recall = 0
    else:
        distance = np.linalg.norm(contours[0][:, None] - contours[1][None], axis=2)
        precision, recall = (distance.min(axis=1) <= radius).mean(), (distance.min(axis=0) <= radius).mean()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    prediction, target = (torch.tensor(mask)[None] for mask in pair)
    found = boundary_f_measure(prediction.float(), target, tolerance_ratio=ratio)
    assert found.f.item() == pytest.approx(expected)
    assert (found.precision.item(), found.recall.item()) == pytest.approx((precision, recall))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 5)])
def test_empty_masks_have_no_contour(shape):
    empty = np.zeros(shape, np.uint8)
    assert not any(contour.py_func(part).any() for part in around_both(empty, empty))  # by Python, which checks bounds
    prediction = torch.zeros(1, *shape)
    assert boundary_f_measure(prediction, prediction).f.item() == boundary_iou(prediction, prediction).item() == 1


@pytest.mark.parametrize("ratio", [-0.1, math.nan, math.inf])
def test_a_width_is_a_share_of_the_diagonal(ratio):
    grey = torch.zeros(1, 4, 5, dtype=torch.uint8)
    for measure, name in ((boundary_iou, "dilation_ratio"), (boundary_f_measure, "tolerance_ratio")):
        with pytest.raises(ValueError, match=f"must be finite and at least 0, got {ratio}"):
            measure(grey, grey, **{name: ratio})
        with pytest.raises(ValueError, match=f"{name} must be finite and at least 0, got {ratio}"):
            Conventions(**{name: ratio})


@pytest.mark.parametrize("threshold", [0, 1.004, 127, math.nan])
def test_a_threshold_is_a_probability(threshold):
    grey = torch.zeros(1, 4, 5, dtype=torch.uint8)
    for measure in (boundary_iou, boundary_f_measure, intersection_and_union, multiscale_iou):
        with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\]"):
            measure(grey, grey, threshold=threshold)


def test_ignored_pixels_are_background():
    target = torch.zeros(1, 20, 20, dtype=torch.long)
    target[0, 5:15, 5:15] = 1
    ignored = target.clone()
    ignored[0, :, 15:] = 255
    prediction = target.float()
    prediction[0, 5:15, 15:] = 1
    assert boundary_iou(prediction, ignored).item() == 1
    assert boundary_f_measure(prediction, ignored).f.item() == 1
    assert boundary_iou(prediction, target).item() < 0.9


def test_overlap_is_counted_alike_by_kernel_and_tensors():
    generator = torch.Generator().manual_seed(0)
    predicted, true = (torch.rand(3, 17, 23, generator=generator) > share for share in (0.4, 0.7))
    predicted[1] = false = torch.zeros(17, 23, dtype=torch.bool)
    true[1] = false
    found = overlap_counts(predicted, true)
    assert torch.equal(found, overlap_by_tensors(predicted, true))
    assert torch.equal(found, overlap_counts(predicted.mT.contiguous().mT, true.mT.contiguous().mT))
    assert found[:, 1].tolist() == [0, 0]
