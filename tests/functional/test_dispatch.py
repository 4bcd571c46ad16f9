"""The kernels against PySODMetrics and the definitions in tensor operations that they stand for."""

import math

import numpy as np
import py_sod_metrics
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.functional import boundary, error, maps, pooling, structure, thresholds, weighted_f
from spatialseg.functional.maps import as_maps
from spatialseg.functional.weighted_f import f_measure_from_counts, weighted_counts


@st.composite
def batches(draw, foreground=False):
    """Draw a batch of one: sizes 1x1 to 64x64; sparse, dense, blocky, empty, full and single-pixel masks; with ties."""
    height, width = draw(st.integers(1, 64)), draw(st.integers(1, 64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["sparse", "dense", "blocks", "empty", "full", "pixel"]))
    mask = rng.random((height, width)) < {"sparse": 0.03, "dense": 0.6, "full": 1.1}.get(kind, 0)
    if kind == "blocks":
        coarse = rng.random((height // 9 + 1, width // 9 + 1)) < 0.3
        mask = np.kron(coarse, np.ones((9, 9), bool))[:height, :width]
    if kind == "pixel" or (foreground and not mask.any()):
        mask[rng.integers(height), rng.integers(width)] = True
    prediction = rng.random((height, width)) * (rng.random((height, width)) < draw(st.sampled_from([0.1, 1.0])))
    valid = rng.random((height, width)) < 0.8 if draw(st.booleans()) else np.ones_like(mask)
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.uint8]))
    values = torch.tensor(prediction * (255 if dtype is torch.uint8 else 0.8), dtype=dtype)[None]
    return as_maps(values, torch.tensor(np.where(valid, mask, 255))[None], normalize=draw(st.booleans()))


@given(batches())
@settings(deadline=None, max_examples=150)
def test_weighted_sums_equal_the_definition(drawn):
    given_maps = drawn.source, drawn.scale, drawn.mask
    found, expected = (
        weighted_f._published_counts_by_kernel(*given_maps),
        weighted_f._published_counts_by_tensors(*given_maps),
    )
    # The distances of the definition are rounded to float32, and there is no cap at 270 pixels.
    single = drawn.source.dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5 if single else 1e-7, atol=1e-4 if single else 1e-6)
    unstretched = torch.stack(weighted_counts(drawn.prediction, drawn.mask, ignore_index=2))
    torch.testing.assert_close(found, unstretched, rtol=0, atol=0)


@given(batches(foreground=True))
@settings(deadline=None, max_examples=150)
def test_weighted_f_has_the_ties_of_pysodmetrics(drawn):
    prediction, foreground = drawn.prediction.double(), drawn.foreground
    if not foreground.any():
        return
    tp, fp, positives = (count.item() for count in weighted_counts(prediction, foreground))
    expected = py_sod_metrics.WeightedFmeasure().cal_wfm(prediction[0].numpy(), foreground[0].numpy())
    assert 2 * tp / (positives + tp + fp) == pytest.approx(expected, abs=1e-12)


def test_far_false_alarms_cost_twice():
    target = torch.zeros(1, 4, 900, dtype=torch.bool)
    target[0, 1, 2] = True
    prediction = torch.zeros(1, 4, 900, dtype=torch.float64)
    prediction[0, 1, [400, 899]] = 1.0
    assert weighted_counts(prediction, target).fp.item() == pytest.approx(4, abs=1e-15)


@given(batches())
@settings(deadline=None, max_examples=100)
def test_histograms_equal_the_definition(drawn):
    expected = thresholds._reached_counts_by_tensors(drawn.source, drawn.scale, drawn.mask)
    assert torch.equal(thresholds.reached_counts_of(drawn), expected)
    found, expected = (
        of(drawn.source, drawn.scale, drawn.mask)
        for of in (error._mean_absolute_error_by_kernel, error._mean_absolute_error_by_tensors)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@given(batches())
@settings(deadline=None, max_examples=100)
def test_quadrants_equal_the_definition(drawn):
    found, expected = (
        add(drawn.source, drawn.scale, drawn.mask)
        for add in (structure._quadrant_sums_by_kernel, structure._quadrant_sums_by_tensors)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(batches(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
@settings(deadline=None, max_examples=50)
def test_reaching_a_threshold_needs_no_probabilities(drawn, threshold):
    assert torch.equal(drawn.reaches(threshold), drawn.prediction >= threshold)


def test_ignored_pixels_beyond_the_stretch_count_nowhere():
    prediction = torch.tensor([[[0.0, 0.4, 0.5, 0.6, 1.0]]])
    target = torch.tensor([[[255, 0, 1, 1, 255]]])
    for given_map in (prediction, (prediction * 255).to(torch.uint8)):
        stretched = as_maps(given_map, target, normalize=True)
        found = thresholds.reached_counts_of(stretched)
        assert found[0, :, 0].tolist() == [1, 2]
        expected = thresholds._reached_counts_by_tensors(stretched.source, stretched.scale, stretched.mask)
        assert torch.equal(found, expected)


@given(batches(), batches(), st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_boundary_counts_equal_the_definitions(one, other, width):
    height, columns = (min(sizes) for sizes in zip(one.foreground.shape[1:], other.foreground.shape[1:], strict=True))
    masks = one.foreground[:, :height, :columns], other.foreground[:, :height, :columns]
    for name in ("_region_counts", "_contour_counts"):
        found, expected = (getattr(boundary, name + by)(*masks, width) for by in ("_by_kernel", "_by_tensors"))
        assert torch.equal(found, expected)


def test_threads_change_nothing():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(5, 40, 50, generator=generator)
    several = as_maps(prediction, torch.rand(5, 40, 50, generator=generator) > 0.95)

    def everything():
        return thresholds.reached_counts_of(several), *weighted_counts(several.prediction, several.foreground)

    one = everything()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        three = everything()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(left, right) for left, right in zip(one, three, strict=True))


def test_layout_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 30, 20, generator=generator)
    target = torch.rand(2, 30, 20, generator=generator) > 0.9
    turned = prediction.mT.contiguous().mT, target.mT.contiguous().mT
    assert not turned[0].is_contiguous()
    for one, other in zip(weighted_counts(*turned), weighted_counts(prediction, target), strict=True):
        assert torch.equal(one, other)


@st.composite
def inputs(draw):
    """Draw what `as_maps` takes: every type, right and wrong values, with and without ignored pixels."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    prediction = torch.rand(shape, generator=generator)
    dtype = draw(st.sampled_from([torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    prediction = (prediction * 255).to(dtype) if dtype is torch.uint8 else prediction.to(dtype)
    if dtype is not torch.uint8:
        prediction[-1, -1, -1] = draw(st.sampled_from([0.5, 0.5, 0.5, 0.0, -0.0, 1.0, math.nan, -0.01, 1.01, math.inf]))
    kinds = [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16]
    kind = draw(st.sampled_from([*kinds, torch.float32, torch.float64]))
    target = torch.randint(0, 2, shape, generator=generator)
    ignore_index = draw(st.sampled_from([None, 255, 7, -1, 0]))
    value = draw(st.sampled_from([1, 1, ignore_index or 0, 3, 255]))
    target = target.masked_fill(torch.rand(shape, generator=generator) < 0.1, value)
    return prediction, target.to(kind), ignore_index


@given(inputs())
@settings(deadline=None, max_examples=300)
def test_inspection_equals_the_definitions(drawn):
    prediction, target, ignore_index = drawn
    prediction = prediction if prediction.dtype in (torch.uint8, torch.float64) else prediction.float()
    target = target.byte() if target.dtype is torch.bool else target  # whose mask is the target itself
    found, expected = (
        sort_out(target, ignore_index) for sort_out in (maps._sort_out_by_kernel, maps._sort_out_by_tensors)
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    inspections = maps._inspect_by_kernel, maps._inspect_by_tensors
    sound = prediction if prediction.dtype is torch.uint8 else prediction.clamp(0, 1).nan_to_num()
    for stretches in (True, False):
        assert torch.equal(*(inspect(prediction, found[0], stretches)[1] for inspect in inspections))
        assert torch.equal(*(inspect(sound, found[0], stretches)[0] for inspect in inspections))


def test_nan_is_passed_on():
    prediction, target = torch.rand(3, 9, 9), torch.zeros(3, 9, 9)
    target[:, 4, 4:] = 1
    prediction[0, 0, 0] = prediction[1, 4, 4] = torch.nan
    assert f_measure_from_counts(weighted_counts(prediction, target)).f.isnan().tolist() == [True, True, False]


def test_operators_are_sound():
    """PyTorch's own checks: schema, and that a compiled graph can call the operator."""
    generator = torch.Generator().manual_seed(0)
    source, mask = (
        torch.rand(2, 9, 12, generator=generator),
        torch.randint(0, 3, (2, 9, 12), generator=generator).byte(),
    )
    labels, scale = mask.long(), torch.tensor([[0.0, 1.0]]).repeat(2, 1)
    categories = pooling._categories(labels, 1, 2)
    for op, arguments in (
        (maps.sort_out, (labels, 2)),
        (maps.inspect, (source, mask, True)),
        (weighted_f._published_counts, (source, scale, mask)),
        (weighted_f._local_counts, (source, mask, None, [0.2, 0.6, 0.2])),
        (pooling._pool, (source[:, None], *categories, [1.0] * 9, 1)),
    ):
        torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))
