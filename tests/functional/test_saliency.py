"""S-, E-, F-measure and MAE against PySODMetrics and against their definitions."""

import warnings

import numpy as np
import py_sod_metrics
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg import functional
from spatialseg.functional import (
    enhanced_alignment_measure,
    mean_absolute_error,
    saliency_f_measure,
    structure_measure,
    threshold_counts,
)
from spatialseg.functional.maps import as_maps


@st.composite
def grey_maps(draw):
    height, width = draw(st.integers(1, 64)), draw(st.integers(1, 64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.1]))
    if draw(st.booleans()):
        mask[rng.integers(height) :, rng.integers(width) :] = True
    prediction = rng.integers(0, draw(st.sampled_from([2, 50, 256])), (height, width)).astype(np.uint8)
    return prediction, mask


def theirs(kind, prediction, mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measure = kind()
        measure.step(prediction, mask.astype(np.uint8) * 255)
    return measure


@given(grey_maps())
@settings(deadline=None, max_examples=150)
def test_pysodmetrics_on_anything(drawn):
    prediction, mask = torch.tensor(drawn[0])[None], torch.tensor(drawn[1])[None]
    f = saliency_f_measure(prediction, mask, normalize=True)
    expected = theirs(py_sod_metrics.Fmeasure, *drawn)
    levels = as_maps(prediction, mask, normalize=True).prediction
    tied = ((levels - 2 * levels.mean()).abs() < 1e-12).any()  # then the order of a sum decides who is foreground
    assert tied or f.adaptive.item() == pytest.approx(expected.adaptive_fms[0], abs=1e-12)
    for ours, reference in (
        (f.curve, expected.changeable_fms),
        (f.precision, expected.precisions),
        (f.recall, expected.recalls),
    ):
        np.testing.assert_allclose(ours[0].flip(0).numpy(), reference[0], atol=1e-12)

    if mask.numel() > 1:  # of a single pixel PySODMetrics returns 1 / 2e-16
        e = enhanced_alignment_measure(prediction, mask, normalize=True)
        expected = theirs(py_sod_metrics.Emeasure, *drawn)
        assert tied or e.adaptive.item() == pytest.approx(expected.adaptive_ems[0], abs=1e-9)
        np.testing.assert_allclose(e.curve[0].flip(0).numpy(), expected.changeable_ems[0], atol=1e-9)

    error = mean_absolute_error(prediction, mask, normalize=True).item()
    assert error == pytest.approx(theirs(py_sod_metrics.MAE, *drawn).maes[0], abs=1e-12)


def structure_by_definition(prediction, mask):
    """Follow the paper with NumPy's own mean, deviation and covariance; an empty quadrant adds nothing."""
    share = mask.mean()
    if share in (0, 1):
        return prediction.mean() if share else 1 - prediction.mean()

    def similar(values):
        spread = values.std(ddof=1) if values.size > 1 and np.ptp(values) > 0 else 0
        return 2 * values.mean() / (values.mean() ** 2 + 1 + spread)

    object_term = share * similar(prediction[mask]) + (1 - share) * similar(1 - prediction[~mask])
    row, column = (int(place) + 1 for place in np.argwhere(mask).mean(axis=0).round())
    region_term = 0
    for rows in (slice(0, row), slice(row, None)):
        for columns in (slice(0, column), slice(column, None)):
            x, y = prediction[rows, columns], mask[rows, columns].astype(float)
            if x.size == 0:
                continue
            covariance = np.zeros((2, 2)) if x.size == 1 else np.cov(x.ravel(), y.ravel())
            if np.ptp(x) == 0:
                covariance[0] = covariance[:, 0] = 0
            numerator = 4 * x.mean() * y.mean() * covariance[0, 1]
            denominator = (x.mean() ** 2 + y.mean() ** 2) * (covariance[0, 0] + covariance[1, 1])
            ssim = numerator / denominator if numerator != 0 else float(denominator == 0)
            region_term += ssim * x.size / mask.size
    return max(0, (object_term + region_term) / 2)


@given(grey_maps())
@settings(deadline=None, max_examples=150)
def test_structure_measure_by_its_definition(drawn):
    prediction, mask = drawn
    ours = structure_measure(torch.tensor(prediction)[None], torch.tensor(mask)[None]).item()
    assert ours == pytest.approx(structure_by_definition(prediction / 255, mask), abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_structure_measure_is_pysodmetrics(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(rng.integers(20, 60, 2), bool)
    mask[rng.integers(15) : 15, rng.integers(15) : 15] = True
    prediction = rng.integers(0, 256, mask.shape).astype(np.uint8)
    ours = structure_measure(torch.tensor(prediction)[None], torch.tensor(mask)[None], normalize=True).item()
    assert ours == pytest.approx(theirs(py_sod_metrics.Smeasure, prediction, mask).sms[0], abs=1e-12)


def test_levels_of_every_precision():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    target = torch.zeros(1, 16, 16)
    expected = torch.arange(256, 0, -1)
    assert torch.equal(threshold_counts(levels, target).fp[0], expected)
    assert torch.equal(threshold_counts(levels.double() / 255, target).fp[0], expected)
    assert torch.equal(threshold_counts(levels.float() / 255, target).fp[0], expected)


@pytest.mark.parametrize(
    "measure",
    [
        structure_measure,
        mean_absolute_error,
        lambda *maps: enhanced_alignment_measure(*maps).adaptive,
        lambda *maps: enhanced_alignment_measure(*maps).curve.mean(dim=1),
        lambda *maps: saliency_f_measure(*maps).adaptive,
        lambda *maps: saliency_f_measure(*maps).curve.mean(dim=1),
    ],
)
def test_ignored_pixels_take_no_part(measure):
    generator = torch.Generator().manual_seed(1)
    prediction = torch.rand(3, 20, 30, generator=generator).double()
    target = (torch.rand(3, 20, 30, generator=generator) > 0.8).long()
    half = target.clone()
    half[:, :, 22:] = 255
    expected = measure(prediction[:, :, :22], target[:, :, :22])
    assert torch.allclose(measure(prediction, half), expected, atol=1e-12)
    assert not torch.allclose(measure(prediction, target), expected, atol=1e-4)


@pytest.mark.parametrize(
    "measure",
    [
        structure_measure,
        enhanced_alignment_measure,
        saliency_f_measure,
        mean_absolute_error,
        functional.weighted_f_measure,
        functional.boundary_iou,
        functional.boundary_f_measure,
        functional.multiscale_iou,
        functional.context_measure,
        functional.human_correction_effort,
        functional.size_invariant_error,
        functional.size_invariant_f_measure,
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_image_without_a_counting_pixel_has_no_value(measure):
    target = torch.zeros(3, 20, 30)
    target[:2, 3:15, 4:20] = 1
    target[1] = 255
    prediction = (target == 1) * 0.9
    values, expected = measure(prediction, target), measure(prediction[::2], target[::2])
    for value, known in zip(*([each] if torch.is_tensor(each) else each for each in (values, expected)), strict=True):
        assert value[1].isnan().all()
        torch.testing.assert_close(value[::2], known, rtol=0, atol=0, equal_nan=True)


def test_perfect_maps():
    target = torch.zeros(2, 20, 30)
    target[0, 3:9, 4:20] = target[1, 10:, :7] = 1
    assert torch.allclose(structure_measure(target, target), torch.ones(2).double())
    assert torch.allclose(saliency_f_measure(target, target).curve[:, 1:], torch.ones(2, 255).double())
    assert torch.allclose(enhanced_alignment_measure(target, target).adaptive, torch.full((2,), 600 / 599).double())


def test_alpha_is_checked():
    with pytest.raises(ValueError, match="alpha must be in"):
        structure_measure(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), alpha=2)
