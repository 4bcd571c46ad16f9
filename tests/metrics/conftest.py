"""Maps to score: real masks with predictions of every quality."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image


class Pair(NamedTuple):
    prediction: np.ndarray  # uint8 grey levels
    mask: np.ndarray  # uint8, 0 or 255


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def spoil(mask: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Make a prediction out of a mask: moved, warped, blurred, with a missed part, a false alarm and noise."""

    def rand(*size):
        return torch.rand(size, generator=generator)

    height, width = mask.shape
    truth = torch.tensor(mask > 127)[None, None].float()
    warp = F.interpolate(rand(1, 2, 6, 6) - 0.5, (height, width), mode="bicubic") * rand(1) * 0.4
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    soft = F.grid_sample(truth, grid + warp.permute(0, 2, 3, 1), align_corners=False)
    side = int(rand(1) * 12)
    soft = F.avg_pool2d(soft, 2 * side + 1, 1, side, count_include_pad=False)[0, 0]
    for sign in (-1, 1):  # a hole, then a blob
        row, column, size = (rand(3) * torch.tensor([height, width, 60])).int().tolist()
        soft[row : row + size, column : column + size] += sign * rand(1)
    soft = soft * (1 + rand(1)) / 2 + (rand(1) < 0.5) * 0.1 * rand(height, width)
    return (soft.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.fixture(scope="session")
def sod_maps(shared_data: Path) -> list[Pair]:
    folder = shared_data / "sod_maps"
    return [Pair(read(folder / "preds" / path.name), read(path)) for path in sorted((folder / "masks").iterdir())]


@pytest.fixture(scope="session")
def many_maps(shared_data: Path) -> list[Pair]:
    generator = torch.Generator().manual_seed(0)
    masks = [read(path) for path in sorted((shared_data / "ecssd" / "masks").glob("*.png"))[::10]]
    return [Pair(spoil(mask, generator), np.where(mask > 127, np.uint8(255), np.uint8(0))) for mask in masks]
