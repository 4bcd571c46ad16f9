"""Measures on request, against PySODMetrics on real masks."""

import numpy as np
import py_sod_metrics
import pytest
import torch
from scipy import ndimage

from spatialseg.conventions import Conventions
from spatialseg.functional import (
    context_measure,
    human_correction_effort,
    multiscale_iou,
    size_invariant_error,
    size_invariant_f_measure,
)
from spatialseg.metrics import available_measures
from spatialseg.metrics.images import count_image, scores_of


def draw(count=12):
    """Return maps of several objects, large and tiny, with what was missed and imagined; one of tiny ones alone."""
    rng = np.random.default_rng(0)
    for index in range(count):
        mask = np.zeros(rng.integers(60, 120, 2), bool)
        for _ in range(index % 4 + 1):
            row, column = (int(rng.integers(0, side - 9)) for side in mask.shape)
            height, width = rng.integers(2, 7 if index == 3 else 40, 2)
            mask[row : row + height, column : column + width] = True
        soft = np.roll(mask, 3, axis=index % 2) * rng.integers(90, 255) * (rng.random(mask.shape) < 0.95)
        yield (soft + rng.integers(0, 40, mask.shape)).clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def blobs(count=12):
    """Return maps of blobs, some of which fill the image, others thin, whose outlines waver; all from 0 to 255."""
    rng = np.random.default_rng(0)
    for index in range(count):
        shape = rng.integers(60, 150, 2)
        field, wrong = (ndimage.gaussian_filter(rng.standard_normal(shape), s[index % 4]) for s in BLOBS)
        mask = field > np.quantile(field, (0.6, 0.8, 0.5, 0.9)[index % 4])
        soft = ndimage.gaussian_filter(mask * 1.0, 2) + wrong / wrong.std() / 4
        grey = (255 * (soft - soft.min()) / np.ptp(soft)).round().astype(np.uint8)
        yield grey, mask.astype(np.uint8) * 255


BLOBS = ((3, 8, 15, 25), (1.2, 6, 3, 10))  # how smooth masks and mistakes are


def test_human_correction_effort_is_that_of_pysodmetrics():
    theirs, found = py_sod_metrics.HumanCorrectionEffortMeasure(), []
    square = np.pad(np.full((30, 30), 255, np.uint8), 20)
    for grey, mask in [*blobs(24), *draw(), (square, np.roll(square, 20)), (square, 0 * square), (0 * square, square)]:
        theirs.step(grey / 255, mask > 128, normalize=False)
        found.append(human_correction_effort(torch.tensor(grey)[None], torch.tensor(mask > 128)[None]).item())
    assert found == theirs.hces and 0 in found and max(found) > 50


def test_context_measure_is_that_of_pysodmetrics():
    line, dot, small = np.zeros((3, 40, 50), np.uint8)
    line[20, 5:30], dot[3, 4], small = 255, 255, dot[:6, :5]
    theirs, found = py_sod_metrics.ContextMeasure(), []
    for grey, mask in [*blobs(), *draw(), (line, line), (dot, dot), (small, small), (dot, line), (dot, 0 * dot)]:
        theirs.step(grey, mask)
        found.append(context_measure(torch.tensor(grey)[None], torch.tensor(mask > 128)[None], normalize=True).item())
    np.testing.assert_allclose(found, theirs.scores, atol=1e-6)
    oblique = torch.eye(30)[None]  # of which theirs has no value; mirrored, it goes on
    assert context_measure(oblique, oblique).item() == pytest.approx(1)


def test_size_invariant_measures_are_those_of_pysodmetrics():
    handler = py_sod_metrics.FmeasureHandler(beta=0.3, with_dynamic=True, with_adaptive=False)
    error, f = py_sod_metrics.SizeInvarianceMAE(), py_sod_metrics.SizeInvarianceFmeasureV2({"f": handler})
    errors, curves = [], []
    for grey, mask in draw():
        error.step(grey, mask)
        f.step(grey, mask)
        pair = torch.tensor(grey)[None], torch.tensor(mask > 128)[None]
        errors.append(size_invariant_error(*pair, normalize=True).item())
        curves.append(size_invariant_f_measure(*pair, normalize=True)[0])
    np.testing.assert_allclose(errors, error.maes, atol=1e-12)
    expected = [each.mean(axis=0)[::-1] for each in f.get_results()["f"]["dynamic"]]
    np.testing.assert_allclose(torch.stack(curves), expected, atol=1e-12)


def test_multiscale_iou_is_that_of_pysodmetrics(monkeypatch):
    # It sums edges in half precision, which is exact up to 2048 of them: these masks have fewer.
    monkeypatch.setattr(np, "trapz", np.trapezoid if hasattr(np, "trapezoid") else np.trapz, raising=False)
    theirs = py_sod_metrics.MSIoU(with_dynamic=False, with_adaptive=False, with_binary=True)
    found = []
    for grey, mask in draw():
        theirs.step(grey / 255, mask > 128, normalize=False)
        found.append(multiscale_iou(torch.tensor(grey)[None], torch.tensor(mask > 128)[None]).item())
    np.testing.assert_allclose(found, theirs.binary_results, atol=1e-7)


def test_ignored_pixels_take_no_part_and_an_image_may_be_empty():
    (grey, mask), *_ = draw()
    target = torch.tensor(mask > 128).long()[None]
    target[:, :, -8:] = 255
    spoilt = torch.tensor(grey)[None].clone()
    spoilt[:, :, -8:] = 255
    measures = size_invariant_error, size_invariant_f_measure, multiscale_iou, context_measure, human_correction_effort
    for measure in measures:
        assert torch.equal(measure(torch.tensor(grey)[None], target), measure(spoilt, target))
    nothing = torch.zeros(1, 9, 9)
    assert size_invariant_error(nothing + 0.25, nothing).item() == 0.25
    assert size_invariant_f_measure(nothing, nothing).sum() == 0 and multiscale_iou(nothing, nothing).item() == 1


def parts(mask):
    """Return the connected parts of a mask, each a set of (row, column), by filling one after the other."""
    left, found = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        part, front = set(), [left.pop()]
        while front:
            row, column = front.pop()
            part.add((row, column))
            beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= beside
            front += beside
        found.append(part)
    return found


def test_spurious_components_are_those_that_touch_nothing_true_or_unknown():
    rng = np.random.default_rng(0)
    predicted, target = rng.random((3, 40, 30)) < 0.4, rng.choice([0, 1, 255], (3, 40, 30), p=[0.96, 0.02, 0.02])
    conventions = Conventions(further=("spurious",))
    pairs = [(f"{place}", *map(torch.tensor, pair)) for place, pair in enumerate(zip(predicted, target, strict=True))]
    scores = scores_of([count_image(n, p.float(), t, conventions) for n, p, t in pairs], conventions)
    expected = [
        sum(not any(truth[pixel] for pixel in part) for part in parts(mask))
        for mask, truth in zip(predicted, target, strict=True)
    ]
    assert scores.columns["spurious"].tolist() == expected and min(expected) > 20
    assert scores.figures()["spurious"] == np.mean(expected)


def test_they_are_taken_on_request():
    images = [(str(place), torch.tensor(grey), torch.tensor(mask > 128)) for place, (grey, mask) in enumerate(draw(3))]
    plain = scores_of([count_image(*each) for each in images])
    conventions = Conventions(further=("si_f_max", "multiscale_iou"))
    scores = scores_of([count_image(*each, conventions) for each in images], conventions)
    assert list(scores.figures()) == [*plain.figures(), "multiscale_iou", "si_f_mean", "si_f_max"]
    assert scores.conventions["further"] == ["si_f_max", "multiscale_iou"] and "further" not in plain.conventions
    assert "si_mae" not in available_measures() and "si_mae" in available_measures(further=True)
    with pytest.raises(ValueError, match="no measure named nosuch; there are: weighted_f"):
        count_image(*images[0], Conventions(further=("nosuch",)))
