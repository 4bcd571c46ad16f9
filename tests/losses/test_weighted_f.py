import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.functional import distance_maps, weighted_counts, weighted_f_measure
from spatialseg.losses import WeightedFBetaLoss, build_loss

from .batches import batch

DEPENDENCIES = ["reference", "local", None]


def disc(size: int = 40, radius: float = 9.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((y - size / 2) ** 2 + (x - size / 2) ** 2) < radius**2).long()[None]


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_is_one_minus_the_measure(dependency):
    logits, target = batch(1)
    target[:, 5:9, 4:8] = 1
    f = weighted_f_measure(logits.sigmoid()[:, 0], target, dependency=dependency, beta2=0.3, smooth=1.0).f
    loss = WeightedFBetaLoss(dependency=dependency, beta2=0.3)
    torch.testing.assert_close(loss(logits, target), (1 - f).mean())
    log = WeightedFBetaLoss(dependency=dependency, beta2=0.3, log=True)
    torch.testing.assert_close(log(logits, target), -f.log().mean())


def test_without_dependency_and_importance_is_the_soft_f_measure():
    logits, target = batch(1)
    loss = WeightedFBetaLoss(beta2=0.3, dependency=None, importance=None)
    torch.testing.assert_close(loss(logits, target), build_loss("floss")(logits, target))


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_reference_equals_the_definition_pixel_by_pixel(dependency):
    rng = np.random.default_rng(0)
    target, logits = rng.random((8, 9)) < 0.3, rng.normal(size=(8, 9))
    prediction = 1 / (1 + np.exp(-logits))
    error = abs(target - prediction)
    delta, (rows, columns) = ndimage.distance_transform_edt(~target, return_indices=True)
    spread = np.where(target, error, error[rows, columns]) if dependency == "reference" else error * target
    if dependency is not None:
        kernel = np.array([[math.exp(-(i * i + j * j) / 50) for j in range(-3, 4)] for i in range(-3, 4)])
        kernel /= kernel.sum()
        smoothed = ndimage.correlate(spread, kernel, mode="constant")
        if dependency == "local":
            smoothed /= ndimage.correlate(target.astype(float), kernel, mode="constant")
        error = np.where(target, np.minimum(error, smoothed), error)
    weighted = error * np.where(target, 1, 2 - 0.5 ** (delta / 5))
    tp, fp = (1 - weighted)[target].sum(), weighted[~target].sum()
    expected = 1 - (2 * tp + 1) / (target.sum() + tp + fp + 1)
    loss = WeightedFBetaLoss(dependency=dependency)
    value = loss(torch.from_numpy(logits)[None, None], torch.from_numpy(target)[None])
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_several_classes_are_each_against_the_rest():
    logits, target = batch(3)
    target[1][target[1] == 2] = 0  # a class is absent from one image
    each = []
    for index in range(3):
        region = torch.where(target == 255, 255, (target == index).long())
        counts = weighted_counts(logits.softmax(1)[:, index], region, dependency="local")
        each.append(1 - (2 * counts.tp + 1) / (counts.positives + counts.tp + counts.fp + 1))
    each = torch.stack(each, dim=1)
    present = torch.stack([(target == index).any(2).any(1) for index in range(3)], dim=1)
    assert not present.all()
    expected = torch.stack([row[mask].mean() for row, mask in zip(each, present, strict=True)])
    torch.testing.assert_close(WeightedFBetaLoss(reduction="none")(logits, target), expected)
    torch.testing.assert_close(WeightedFBetaLoss(reduction="sum")(logits, target), expected.sum())
    torch.testing.assert_close(WeightedFBetaLoss(classes="all")(logits, target), each.mean())
    torch.testing.assert_close(WeightedFBetaLoss(classes=[2, 0])(logits, target), each[:, [0, 2]].mean())


def test_a_pair_of_classes_equals_binary():
    logits, target = batch(1)
    pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(WeightedFBetaLoss(classes=[1])(pair, target), WeightedFBetaLoss()(logits, target))


def test_pooled_over_the_batch():
    logits, target = batch(1, (3, 12, 15))
    target[0] = target[0] * 0  # an image without foreground
    counts = weighted_counts(logits.sigmoid()[:, 0], target, dependency="local")
    tp, fp, positives = (each.sum() for each in counts)
    loss = WeightedFBetaLoss(per_image=False, reduction="none")(logits, target)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx((1 - (2 * tp + 1) / (positives + tp + fp + 1)).item())


@pytest.mark.parametrize("channels", [1, 3])
def test_given_distance_changes_nothing(channels):
    logits, target = batch(channels)
    distance = torch.stack([distance_maps(each.to(torch.uint8), channels) for each in target])
    assert distance.shape == (target.shape if channels == 1 else logits.shape) and distance.dtype is torch.float32
    for loss in (WeightedFBetaLoss(), WeightedFBetaLoss(classes=[0] if channels > 1 else "present")):
        torch.testing.assert_close(loss(logits, target, distance=distance), loss(logits, target))
    with pytest.raises(ValueError, match="distance must have"):
        WeightedFBetaLoss()(logits, target, distance=distance[..., :-1])


@pytest.mark.parametrize("dependency", DEPENDENCIES)
@pytest.mark.parametrize("log", [False, True])
def test_falls_below_two_percent_on_any_mask(dependency, log):
    masks = torch.zeros(3, 24, 24, dtype=torch.long)
    masks[0, 23, 0] = 1
    masks[1, 4:6, 2:22] = masks[1, 10:20, 5] = 1
    masks[2] = 1
    logits = torch.zeros(3, 1, 24, 24, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    loss = WeightedFBetaLoss(dependency=dependency, log=log, reduction="none")
    for _ in range(150):
        optimizer.zero_grad()
        loss(logits, masks).sum().backward()
        optimizer.step()
    assert (loss(logits, masks) < 0.02).all()


@pytest.mark.parametrize("log", [False, True])
def test_every_false_alarm_on_an_image_without_foreground_costs(log):
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    target = torch.zeros(1, 16, 16)
    loss = WeightedFBetaLoss(log=log)
    value = loss(logits, target)
    value.backward()
    assert value.isfinite() and (logits.grad > 0).all()
    single = torch.full((1, 1, 16, 16), -20.0)
    nothing = loss(single, target)
    single[..., 3, 4] = 20.0
    assert nothing < 1e-4 < 0.3 < loss(single, target)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3), st.integers(0, 36), st.integers(1, 3), st.sampled_from(DEPENDENCIES))
def test_moving_a_false_alarm_away_never_lowers_the_loss(row, near, step, dependency):
    target = torch.zeros(1, 40, 40, dtype=torch.long)
    target[:, 10:30, 0:3] = 1  # every column to the right is farther
    column = min(3 + near, 38)
    logits = torch.full((2, 1, 40, 40), -20.0, dtype=torch.float64)
    logits[:, 0][target.expand(2, -1, -1) == 1] = 2.0
    logits[0, 0, 18 + row, column] = 1.0
    logits[1, 0, 18 + row, min(column + step, 39)] = 1.0
    values = WeightedFBetaLoss(dependency=dependency, reduction="none")(logits, target.expand(2, -1, -1))
    assert values[1] > values[0]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 5), st.sampled_from(["reference", "local"]), st.integers(0, 10**6))
def test_merging_scattered_misses_never_lowers_the_loss(side, dependency, seed):
    target = torch.zeros(2, 60, 60, dtype=torch.long)
    target[:, 2:58, 2:58] = 1
    logits = torch.where(target == 1, 20.0, -20.0).double()[:, None]
    generator = torch.Generator().manual_seed(seed)
    slots = torch.randperm(36, generator=generator)[: side * side]  # 8 px apart: no window holds two
    for slot in slots.tolist():
        logits[0, 0, 8 + 8 * (slot // 6), 8 + 8 * (slot % 6)] = -20.0
    logits[1, 0, 20 : 20 + side, 30 : 30 + side] = -20.0
    scattered, merged = WeightedFBetaLoss(dependency=dependency, reduction="none")(logits, target)
    assert merged > scattered


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiles_into_one_graph():
    logits, target = batch(1, (2, 32, 32), ignored=False)
    logits = logits.float().requires_grad_()
    distance = torch.stack([distance_maps(each) for each in target])
    loss = WeightedFBetaLoss()
    (expected,) = torch.autograd.grad(loss(logits, target, distance), logits)
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(compiled(logits, target, distance), loss(logits, target, distance))
    torch.testing.assert_close(torch.autograd.grad(compiled(logits, target, distance), logits)[0], expected)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"beta2": 0.0}, "beta2 must be positive"),
        ({"smooth": 0.0}, "smooth must be positive"),
        ({"window": 6}, "window must be odd"),
        ({"classes": "some"}, "classes must be"),
        ({"classes": []}, "at least one class"),
        ({"reduction": "max"}, "reduction must be"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        WeightedFBetaLoss(**args)


def test_a_class_beyond_the_channels_is_refused():
    logits, target = batch(3)
    with pytest.raises(ValueError, match=r"classes must be in 0 … 2, got \[3\]"):
        WeightedFBetaLoss(classes=[3])(logits, target)
