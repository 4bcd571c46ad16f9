import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep what the checks remember out of the user's cache, and apart from test to test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPATIALSEG_DATA", raising=False)
    return tmp_path / "cache" / "spatialseg"


@pytest.fixture
def make_pairs():
    """Return a function that writes `count` random pairs below a folder, named a00, a01, ..., 12 x 16 pixels.

    Folders and prefixes of other names hold other images.
    """

    def make(folder, count=10, values=(0, 255), images="images", masks="masks", prefix="a"):
        rng = np.random.default_rng(list(f"{folder.name} {prefix}".encode()))
        for part in (images, masks):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            name = f"{prefix}{index:02d}.png"
            Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(folder / images / name)
            Image.fromarray(rng.choice(np.array(values, np.uint8), (12, 16))).save(folder / masks / name)
        return folder

    return make
