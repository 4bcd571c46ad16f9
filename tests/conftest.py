"""Fixtures and settings that all tests share."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
settings.register_profile("long", max_examples=20_000)
torch.set_num_threads(1)  # workers of pytest-xdist share the cores; more threads each only fight over them


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images and masks, or skip where there is none."""
    folder = Path(os.environ.get("SPATIALSEG_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ecssd").is_dir():
        pytest.skip(f"no real images at {folder}; set SPATIALSEG_DATA to the folder that holds ecssd/")
    return folder
