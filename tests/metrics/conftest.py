"""Maps to score: real masks with predictions of every quality."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage


class Pair(NamedTuple):
    prediction: np.ndarray  # uint8 grey levels
    mask: np.ndarray  # uint8, 0 or 255


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def spoil(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a prediction out of a mask: moved, warped, blurred, with a missed part, a false alarm and noise."""
    truth = mask.astype(np.float64) / 255
    height, width = truth.shape
    wave = [ndimage.gaussian_filter(rng.normal(size=truth.shape), 12) * rng.uniform(0, 250) for _ in range(2)]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    moved = ndimage.map_coordinates(
        truth, [rows + wave[0] + rng.normal(0, 3), columns + wave[1] + rng.normal(0, 3)], order=1
    )
    soft = ndimage.gaussian_filter(moved, rng.uniform(0, 6))
    for sign in (-1, 1):  # a hole, then a blob
        spot = np.hypot(rows - rng.uniform(0, height), columns - rng.uniform(0, width)) < rng.uniform(5, 40)
        soft = soft + sign * rng.uniform(0, 1) * ndimage.gaussian_filter(spot.astype(np.float64), 4)
    soft = soft * rng.uniform(0.5, 1) + rng.normal(0, rng.choice([0, 0.02, 0.1]), truth.shape)
    return np.rint(np.clip(soft, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def sod_maps(shared_data: Path) -> list[Pair]:
    folder = shared_data / "sod_maps"
    return [Pair(read(folder / "preds" / path.name), read(path)) for path in sorted((folder / "masks").iterdir())]


@pytest.fixture(scope="session")
def many_maps(shared_data: Path) -> list[Pair]:
    rng = np.random.default_rng(0)
    masks = [read(path) for path in sorted((shared_data / "ecssd" / "masks").glob("*.png"))[::5]]
    return [Pair(spoil(mask, rng), np.where(mask > 127, np.uint8(255), np.uint8(0))) for mask in masks]
