"""The compiled loops against SciPy, PySODMetrics and the tensor functions that they stand beside."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import py_sod_metrics
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.functional import boundary, compiled, structure, thresholds
from spatialseg.functional import maps as maps_module
from spatialseg.functional.maps import Maps
from spatialseg.functional.weighted_f import weighted_counts, weighted_counts_of, weighted_f_measure


@st.composite
def maps(draw, foreground=False):
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
    foreground, counts = torch.tensor(mask & valid)[None], None if valid.all() else torch.tensor(valid)[None]
    if dtype is torch.uint8:
        low, high = sorted(rng.choice(256, 2, replace=False))
        levels = ((torch.arange(256, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
        return Maps(torch.tensor(prediction * 255, dtype=dtype)[None], foreground, counts, levels[None])
    return Maps(torch.tensor(prediction, dtype=dtype)[None], foreground, counts)


@given(maps())
@settings(deadline=None, max_examples=150)
def test_distance_is_scipys(drawn):
    mask = drawn.foreground
    distance = compiled.distance_to_foreground(mask)[0].numpy()
    if mask.any():
        expected = ndimage.distance_transform_edt(~mask[0].numpy())
        np.testing.assert_allclose(distance, expected, rtol=1e-7)
    else:
        assert np.isinf(distance).all()


@given(maps())
@settings(deadline=None, max_examples=150)
def test_weighted_sums_equal_the_tensor_function(drawn):
    prediction = drawn.prediction.double()
    expected = weighted_counts(prediction.clone().requires_grad_(), drawn.target())
    found = torch.stack(weighted_counts(prediction, drawn.target()))
    if drawn.levels is not None:
        np.testing.assert_array_equal(np.stack(weighted_counts_of(drawn)), found)
    # The distances of the tensor function are rounded to float32, and there is no cap at 270 pixels.
    torch.testing.assert_close(found, torch.stack(expected).detach(), rtol=1e-7, atol=1e-6)
    single = torch.stack(weighted_counts(prediction.float(), drawn.target()))
    torch.testing.assert_close(single, found.float(), rtol=1e-5, atol=1e-4)


@given(maps(foreground=True))
@settings(deadline=None, max_examples=150)
def test_weighted_f_has_the_ties_of_pysodmetrics(drawn):
    drawn = replace(drawn, source=drawn.prediction.double(), levels=None, valid=None)
    if not drawn.foreground.any():
        return
    tp, fp, positives = (count.item() for count in weighted_counts(drawn.prediction, drawn.foreground))
    expected = py_sod_metrics.WeightedFmeasure().cal_wfm(drawn.prediction[0].numpy(), drawn.foreground[0].numpy())
    assert 2 * tp / (positives + tp + fp) == pytest.approx(expected, abs=1e-12)


def test_far_false_alarms_cost_twice():
    target = torch.zeros(1, 4, 900, dtype=torch.bool)
    target[0, 1, 2] = True
    prediction = torch.zeros(1, 4, 900, dtype=torch.float64)
    prediction[0, 1, [400, 899]] = 1.0
    assert weighted_counts(prediction, target).fp.item() == pytest.approx(4, abs=1e-15)


@given(maps())
@settings(deadline=None, max_examples=100)
def test_histograms_equal_the_tensor_function(drawn):
    assert torch.equal(compiled.level_histograms(drawn), thresholds.level_histograms(drawn))


@given(maps())
@settings(deadline=None, max_examples=100)
def test_quadrants_equal_the_tensor_function(drawn):
    torch.testing.assert_close(compiled.quadrant_sums(drawn), structure.quadrant_sums(drawn), rtol=1e-12, atol=1e-12)


@given(maps(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
@settings(deadline=None, max_examples=50)
def test_reaching_a_threshold_needs_no_probabilities(drawn, threshold):
    assert torch.equal(drawn.reaches(threshold), drawn.prediction >= threshold)


def test_ignored_pixels_beyond_the_stretch_count_nowhere():
    prediction = torch.tensor([[[0.0, 0.4, 0.5, 0.6, 1.0]]])
    target = torch.tensor([[[255, 0, 1, 1, 255]]])
    for given_map in (prediction, (prediction * 255).to(torch.uint8)):
        stretched = maps_module.as_maps(given_map, target, normalize=True)
        assert compiled.level_histograms(stretched)[0, :, :256].sum(dim=1).tolist() == [1, 2]
        assert torch.equal(compiled.level_histograms(stretched), thresholds.level_histograms(stretched))


@given(maps(), maps(), st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_boundary_counts_equal_the_tensor_functions(one, other, width):
    height, columns = (min(sizes) for sizes in zip(one.foreground.shape[1:], other.foreground.shape[1:], strict=True))
    masks = one.foreground[:, :height, :columns], other.foreground[:, :height, :columns]
    for name in ("boundary_region_counts", "contour_counts"):
        assert torch.equal(getattr(compiled, name)(*masks, width), getattr(boundary, name)(*masks, width))


def test_threads_change_nothing():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(5, 40, 50, generator=generator)
    several = Maps(prediction, torch.rand(5, 40, 50, generator=generator) > 0.95)

    def everything():
        return compiled.level_histograms(several), *weighted_counts(several.prediction, several.foreground)

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
def test_inspection_equals_the_tensor_function(drawn):
    prediction, target, ignore_index = drawn
    prediction = prediction if prediction.dtype in (torch.uint8, torch.float64) else prediction.float()
    found, expected = (look(prediction, target, ignore_index) for look in (compiled.inspect, maps_module._inspect))
    for name, one in found._asdict().items():
        other = getattr(expected, name)
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=name)
        else:
            assert one == other, name


def test_nan_is_passed_on():
    prediction, target = torch.rand(3, 9, 9), torch.zeros(3, 9, 9)
    target[:, 4, 4:] = 1
    prediction[0, 0, 0] = prediction[1, 4, 4] = torch.nan
    assert weighted_f_measure(prediction, target).f.isnan().tolist() == [True, True, False]


def test_numba_is_imported_only_when_needed():
    code = "import sys, spatialseg.metrics, spatialseg.functional; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
