"""The compiled loops against SciPy, PySODMetrics and the tensor functions that they stand beside."""

import subprocess
import sys

import numpy as np
import py_sod_metrics
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.functional import boundary, compiled, structure, thresholds
from spatialseg.functional.maps import Maps
from spatialseg.functional.weighted_f import weighted_counts


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
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return Maps(
        torch.tensor(prediction, dtype=dtype)[None],
        torch.tensor(mask & valid)[None],
        None if valid.all() else torch.tensor(valid)[None],
    )


def target_of(drawn):
    target = drawn.foreground.long()
    return target if drawn.valid is None else target.masked_fill(~drawn.valid, 255)


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
    drawn = drawn._replace(prediction=drawn.prediction.double())
    distance = compiled.distance_to_foreground(drawn.foreground).double()
    expected = weighted_counts(drawn.prediction, target_of(drawn), distance=distance)
    # The distances of the tensor function are rounded to float32, and there is no cap at 270 pixels.
    torch.testing.assert_close(compiled.weighted_sums(drawn), torch.stack(expected), rtol=1e-7, atol=1e-6)


@given(maps(foreground=True))
@settings(deadline=None, max_examples=150)
def test_weighted_f_has_the_ties_of_pysodmetrics(drawn):
    drawn = drawn._replace(prediction=drawn.prediction.double(), valid=None)
    if not drawn.foreground.any():
        return
    tp, fp, positives = compiled.weighted_sums(drawn)[:, 0].tolist()
    expected = py_sod_metrics.WeightedFmeasure().cal_wfm(drawn.prediction[0].numpy(), drawn.foreground[0].numpy())
    assert 2 * tp / (positives + tp + fp) == pytest.approx(expected, abs=1e-12)


def test_far_false_alarms_cost_twice():
    target = torch.zeros(1, 4, 900, dtype=torch.bool)
    target[0, 1, 2] = True
    prediction = torch.zeros(1, 4, 900, dtype=torch.float64)
    prediction[0, 1, [400, 899]] = 1.0
    _, fp, _ = compiled.weighted_sums(Maps(prediction, target, None))[:, 0].tolist()
    assert fp == pytest.approx(4, abs=1e-15)


@given(maps())
@settings(deadline=None, max_examples=100)
def test_histograms_equal_the_tensor_function(drawn):
    assert torch.equal(compiled.level_histograms(drawn), thresholds.level_histograms(drawn))


@given(maps())
@settings(deadline=None, max_examples=100)
def test_quadrants_equal_the_tensor_function(drawn):
    torch.testing.assert_close(compiled.quadrant_sums(drawn), structure.quadrant_sums(drawn), rtol=1e-12, atol=1e-12)


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
    several = Maps(prediction, torch.rand(5, 40, 50, generator=generator) > 0.95, None)
    one = [function(several) for function in (compiled.weighted_sums, compiled.level_histograms)]
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        three = [function(several) for function in (compiled.weighted_sums, compiled.level_histograms)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(left, right) for left, right in zip(one, three, strict=True))


def test_layout_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 30, 20, generator=generator)
    target = torch.rand(2, 30, 20, generator=generator) > 0.9
    turned = Maps(prediction.mT.contiguous().mT, target.mT.contiguous().mT, None)
    assert not turned.prediction.is_contiguous()
    assert torch.equal(compiled.weighted_sums(turned), compiled.weighted_sums(Maps(prediction, target, None)))


def test_numba_is_imported_only_when_needed():
    code = "import sys, spatialseg.metrics, spatialseg.functional; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
