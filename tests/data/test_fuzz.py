"""Whatever bytes a file holds, a reader returns what it promises or says what is wrong, and never anything else.

`pytest tests/data/test_fuzz.py -n 0 --hypothesis-profile=long` tries for a quarter of an hour and more.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spatialseg.data import DataError, FolderPairs
from spatialseg.data.files import read_image, read_map, read_mask
from spatialseg.run.checkpoints import read_checkpoint
from spatialseg.run.config import read_config
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.scores import Scores

FORMATS = {"bmp": "L", "jpg": "RGB", "pgm": "16 bits", "png": "P", "tif": "F", "webp": "RGBA"}


def picture(suffix: str) -> bytes:
    """Return a small sound file."""
    pixels = np.random.default_rng(0).integers(0, 2, (6, 5), np.uint8) * 255
    if suffix == "pgm":
        return b"P5 5 6 65535\n" + pixels.astype(">u2").tobytes()
    held = io.BytesIO()
    Image.fromarray(pixels).convert(FORMATS[suffix]).save(held, Image.registered_extensions()[f".{suffix}"])
    return held.getvalue()


SOUND = {suffix: picture(suffix) for suffix in FORMATS}


def checkpoint() -> bytes:
    """Return a small sound checkpoint."""
    held = io.BytesIO()
    settings = {"hyper_parameters": {"classes": 1}, "epoch": 0, "global_step": 1}
    torch.save({"state_dict": {"weight": torch.ones(2)}, **settings}, held)
    return held.getvalue()


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Change some bytes of a file, then cut it or put something in its middle."""
    content = bytearray(sound)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255)), max_size=6)):
        content[place] = value
    end = draw(st.integers(0, len(sound)))
    kind = draw(st.sampled_from(["whole", "cut", "spliced"]))
    return bytes({"whole": content, "cut": content[:end]}.get(kind, content[:end] + draw(st.binary()) + content[end:]))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None)
@given(data=st.data(), suffix=st.sampled_from(sorted(FORMATS)), classes=st.sampled_from([1, 3]))
def test_images_masks_and_maps(place, data, suffix, classes):
    path = place / f"some.{suffix}"
    path.write_bytes(data.draw(st.one_of(damaged(SOUND[suffix]), st.binary())))
    for read, kinds in (
        (read_image, {"uint8"}),
        (lambda path: read_mask(path, classes), {"uint8"}),
        (read_map, {"uint8", "float32"}),
    ):
        try:
            values = read(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert values.dtype.name in kinds and values.ndim == (3 if read is read_image else 2) and values.size


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.one_of(damaged(b"trainer: {max_epochs: 3}\nmodel:\n  loss: [{name: wfb}]\n"), st.binary()))
def test_configurations(place, content):
    path = place / "some.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_config(path), dict)
    except RunError as error:
        assert str(path) in str(error)


@settings(deadline=None)
@given(content=st.one_of(damaged(b"a\nb.png\n\nsub/c\n"), st.binary()))
def test_lists(place, content):
    folder = place / "pairs"
    for part in ("images", "masks"):
        (folder / part / "sub").mkdir(parents=True, exist_ok=True)
        for name in ("a", "b", "sub/c"):
            (folder / part / f"{name}.png").write_bytes(SOUND["png"])
    (folder / "train.txt").write_bytes(content)
    try:
        pairs = FolderPairs(folder).pairs("train")
    except DataError as error:
        assert "train" in str(error)
    else:
        assert {pair.name for pair in pairs} <= {"a", "b", "sub/c"}


@settings(deadline=None)
@given(content=st.one_of(damaged(checkpoint()), st.binary()))
def test_checkpoints(place, content):
    path = place / "some.ckpt"
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except RunError as error:
        assert str(path) in str(error)
    else:
        assert found.keys() >= {"state_dict", "hyper_parameters"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(["images.csv", "curves.npz", "summary.json"]))
def test_what_a_run_left(place, data, name):
    run = RunFolder(place)
    Scores(["a", "b"], {"height": np.ones(2), "f": np.ones(2)}, {"curve": np.ones((2, 3))}).save(run.path)
    run.write_summary({"experiment": "some", "finished": True})
    path = run.path / name
    path.write_bytes(data.draw(st.one_of(damaged(path.read_bytes()), st.binary())))
    try:
        run.read_summary(), run.scores()
    except ValueError as error:
        assert str(run) in str(error)
