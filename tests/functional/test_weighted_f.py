import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from spatialseg.functional import weighted_counts, weighted_error, weighted_f_measure

DEPENDENCIES = ["reference", "local", None]


def block(rows: slice = slice(10, 20), columns: slice = slice(12, 24)) -> torch.Tensor:
    mask = torch.zeros(1, 32, 32, dtype=torch.float64)
    mask[:, rows, columns] = 1
    return mask


def changed(value: float, rows: int | slice, columns: int | slice) -> torch.Tensor:
    prediction = block()
    prediction[:, rows, columns] = value
    return prediction


VECTORS = {
    "the truth": (block(), 1, 1, 1),
    "nothing": (block() * 0, 0, 0, 0),
    "the complement": (1 - block(), 0, 0, 0),
    "everything": (block() * 0 + 1, 0.142807090562, 0.076894053297, 1),
    "half everywhere": (block() * 0 + 0.5, 0.133289731204, 0.076894053297, 0.5),
    "shifted": (block().roll((2, 1), (1, 2)), 0.768815588511, 0.723688136933, 0.819945412258),
    "one pixel missed": (changed(0, 14, 17), 0.999900674390, 1, 0.999801368510),
    "nine pixels missed": (changed(0, slice(14, 17), slice(16, 19)), 0.992307797132, 1, 0.984733030889),
    "a near false alarm": (changed(1, 20, 15), 0.995316003751, 0.990675682570, 1),
    "a far false alarm": (changed(1, 30, 2), 0.992257671915, 0.984634310043, 1),
}


@pytest.mark.parametrize("gradient", [False, True])  # compiled, and in tensor operations
@pytest.mark.parametrize("name", VECTORS)
def test_reference_vectors(name, gradient):
    prediction, *expected = VECTORS[name]
    result = weighted_f_measure(prediction.clone().requires_grad_(gradient), block())
    assert [value.item() for value in result] == pytest.approx(expected, abs=1e-9)


def test_reference_vectors_with_another_beta_and_a_missed_corner():
    shifted = weighted_f_measure(VECTORS["shifted"][0], block(), beta2=0.3)
    assert shifted.f.item() == pytest.approx(0.743839563698, abs=1e-9)
    corner = block(slice(0, 6), slice(0, 6))
    missed = weighted_f_measure(corner * 0, corner)
    assert [value.item() for value in missed] == pytest.approx([0.407119039563, 1, 0.255586606705], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "f", "precision", "recall", "f_03"),
    [
        ("0001.png", 0.8761355555108065, 0.9190693107, 0.8370340279, 0.8987424311393669),
        ("19.png", 0.7978082705808892, 0.7460964631, 0.8572221810, 0.7691047658946563),
    ],
)
def test_real_maps(shared_data, name, f, precision, recall, f_03):
    prediction, target = (
        np.asarray(Image.open(shared_data / "sod_maps" / kind / name).convert("L")) for kind in ("preds", "masks")
    )
    stretched = (prediction - prediction.min()) / (prediction.max() - prediction.min())
    result = weighted_f_measure(torch.from_numpy(stretched)[None], torch.from_numpy(target > 127)[None])
    assert [value.item() for value in result] == pytest.approx([f, precision, recall], abs=1e-9)
    assert weighted_f_measure(
        torch.from_numpy(stretched)[None], torch.from_numpy(target > 127)[None], beta2=0.3
    ).f.item() == pytest.approx(f_03, abs=1e-9)


def brute_force(prediction: np.ndarray, target: np.ndarray, beta2: float) -> float:
    """Evaluate the definition pixel by pixel, every pixel against every other."""
    height, width = target.shape
    points = [(column, row) for column in range(width) for row in range(height) if target[row, column]]
    error = np.abs(target - prediction)
    spread, distance = error.copy(), np.zeros_like(error)
    for row in range(height):
        for column in range(width):
            if not target[row, column]:
                squared, x, y = min(((x - column) ** 2 + (y - row) ** 2, x, y) for x, y in points)
                spread[row, column], distance[row, column] = error[y, x], math.sqrt(squared)
    kernel = np.array([[math.exp(-(i * i + j * j) / 50) for i in range(-3, 4)] for j in range(-3, 4)])
    kernel /= kernel.sum()
    tp = fp = 0.0
    for row in range(height):
        for column in range(width):
            if target[row, column]:
                smoothed = sum(
                    kernel[i + 3, j + 3] * spread[row + i, column + j]
                    for i in range(-3, 4)
                    for j in range(-3, 4)
                    if 0 <= row + i < height and 0 <= column + j < width
                )
                tp += 1 - min(error[row, column], smoothed)
            else:
                fp += error[row, column] * (2 - math.exp(math.log(0.5) / 5 * distance[row, column]))
    return (1 + beta2) * tp / (beta2 * len(points) + tp + fp)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.3, 1.0]))
def test_reference_equals_brute_force(height, width, seed, beta2):
    rng = np.random.default_rng(seed)
    target = rng.random((height, width)) < rng.choice([0.05, 0.3, 0.8])
    target[rng.integers(height), rng.integers(width)] = True
    prediction = rng.random((height, width))
    expected = brute_force(prediction, target.astype(float), beta2)
    for gradient in (False, True):  # compiled, and in tensor operations
        given = torch.from_numpy(prediction)[None].requires_grad_(gradient)
        result = weighted_f_measure(given, torch.from_numpy(target)[None], beta2=beta2)
        assert result.f.item() == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_local_dependency_is_the_mean_error_of_the_foreground_around(height, width, seed):
    rng = np.random.default_rng(seed)
    target = rng.random((height, width)) < 0.5
    prediction = rng.random((height, width))
    maps = weighted_error(torch.from_numpy(prediction)[None], torch.from_numpy(target)[None], dependency="local")
    for row, column in np.argwhere(target):
        near = [(y, x) for y, x in np.argwhere(target) if max(abs(y - row), abs(x - column)) <= 3]
        weights = [math.exp(-((y - row) ** 2 + (x - column) ** 2) / 50) for y, x in near]
        mean = np.average([1 - prediction[y, x] for y, x in near], weights=weights)
        assert maps.dependent[0, row, column].item() == pytest.approx(mean, abs=1e-9)


def test_importance_reads_scipys_distance():
    target = torch.zeros(1, 40, 50, dtype=torch.bool)
    target[0, 5, 7] = target[0, 30, 41] = True
    distance = ndimage.distance_transform_edt(~target[0].numpy())
    expected = np.where(target[0], 1, 2 - np.exp(np.log(0.5) / 5 * distance))
    maps = weighted_error(torch.rand(1, 40, 50, dtype=torch.float64), target)
    np.testing.assert_allclose(maps.importance[0], expected, atol=1e-6)


@pytest.mark.parametrize("dependency", DEPENDENCIES)
@pytest.mark.parametrize("importance", ["distance", None])
def test_gradcheck(dependency, importance):
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 7, 9, dtype=torch.float64, generator=generator, requires_grad=True)
    target = (torch.rand(2, 7, 9, generator=generator) < 0.4).long()
    target[0, :2, :3] = 255
    torch.autograd.gradcheck(
        lambda p: weighted_f_measure(p, target, dependency=dependency, importance=importance, smooth=1.0).f, prediction
    )


@pytest.mark.parametrize("dependency", DEPENDENCIES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_padding_with_ignored_pixels_changes_nothing(dependency, seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(2, 9, 11, dtype=torch.float64, generator=generator)
    target = (torch.rand(2, 9, 11, generator=generator) < 0.3).long()
    target[:, 4, 4] = 1
    wide = torch.full((2, 17, 16), 255)
    wide[:, 3:12, 2:13] = target
    noise = torch.rand(2, 17, 16, dtype=torch.float64, generator=generator)
    noise[:, 3:12, 2:13] = prediction
    plain = weighted_f_measure(prediction, target, dependency=dependency)
    padded = weighted_f_measure(noise, wide, dependency=dependency)
    for one, other in zip(plain, padded, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_images_without_foreground():
    prediction, target = torch.full((1, 8, 8), 0.5), torch.zeros(1, 8, 8)
    assert all(value.isnan().all() for value in weighted_f_measure(prediction, target))
    assert weighted_f_measure(prediction, target, smooth=1.0).f.item() == pytest.approx(1 / (2 * 0.5 * 64 + 1))
    counts = weighted_counts(prediction, target)
    assert (counts.tp.item(), counts.fp.item(), counts.positives.item()) == (0, 64, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    prediction, target = torch.rand(2, 33, 17).to(dtype), torch.rand(2, 33, 17) < 0.3
    half = weighted_f_measure(prediction, target).f
    assert half.dtype is torch.float32
    torch.testing.assert_close(half, weighted_f_measure(prediction.float(), target).f)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(weighted_f_measure(prediction, target).f, half)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": torch.rand(1, 4, 5)}, "share a shape"),
        ({"prediction": torch.rand(0, 4, 4), "target": torch.zeros(0, 4, 4)}, "without an empty dimension"),
        ({"prediction": torch.full((1, 4, 4), 1.5)}, r"image 0 of the batch spans \[1.5, 1.5\], expected \[0, 1\]"),
        ({"prediction": torch.full((1, 4, 4), 9, dtype=torch.uint8)}, "divide grey levels by 255"),
        ({"prediction": torch.full((1, 4, 4), torch.nan), "dependency": "local"}, "holds NaN at 16 pixels"),
        ({"target": torch.full((1, 4, 4), 2)}, "target of image 0 of the batch holds the values 2"),
        ({"dependency": "global"}, "dependency must be"),
        ({"importance": "area"}, "importance must be"),
        ({"window": 4}, "odd and positive"),
        ({"sigma": 0.0}, "sigma positive, got window=7, sigma=0"),
        ({"distance": torch.zeros(1, 3, 3)}, "distance must have"),
        ({"beta2": 0.0}, "beta2 must be positive"),
        ({"smooth": -1.0}, "smooth non-negative"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        weighted_f_measure(**({"prediction": torch.rand(1, 4, 4), "target": torch.zeros(1, 4, 4)} | arguments))
