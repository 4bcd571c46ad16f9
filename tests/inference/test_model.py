"""A trained network for use gives what the trainer's own test gives, whatever the image comes as."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import spatialseg
from spatialseg.data import DataError, ProceduralScenes
from spatialseg.data.samples import EvaluationSamples, PadToStride
from spatialseg.inference.model import Inference
from spatialseg.run.folder import RunError
from spatialseg.task import SegmentationTask
from trained import make_run

SCENES = ProceduralScenes(test=3, size=96).dataset("test")


def pixels(index=0):
    return SCENES[index]["image"].permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("model") / "runs")


@pytest.fixture(scope="module")
def model(run):
    return spatialseg.load(run)


@pytest.mark.parametrize(("classes", "keep_aspect"), [(1, False), (1, True), (4, False)])
def test_it_predicts_what_the_test_of_the_run_scores(classes, keep_aspect, tmp_path):
    folder = make_run(tmp_path, classes, keep_aspect=keep_aspect)
    task = SegmentationTask.load_from_checkpoint(folder.best, weights_only=True).eval()
    model = spatialseg.load(folder)
    samples = EvaluationSamples(SCENES, 64, keep_aspect)
    for index in range(len(SCENES)):
        with torch.inference_mode():
            (expected,) = task.predict_step(PadToStride(32)([samples[index]]), 0).values()
        found = model.probabilities(pixels(index))
        assert found.dtype == np.float32 and found.shape == expected.shape and found.std() > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-6)
        mask = model.predict(pixels(index))
        np.testing.assert_array_equal(mask, found >= 0.35 if classes == 1 else found.argmax(axis=0))
        assert mask.dtype == np.uint8


def test_a_run_is_found_by_name_folder_and_checkpoint(run, model):
    expected = model.probabilities(pixels())
    for name in ("tiny/shapes", "tiny/shapes/seed0", run.path, str(run.best)):
        again = spatialseg.load(name, runs=run.runs)
        assert (again.cut, again.class_names, again.origin.epoch) == (0.35, ["salient"], 4)
        np.testing.assert_array_equal(again.probabilities(pixels()), expected)
    with pytest.raises(RunError, match="no finished run"):
        spatialseg.load("tiny/shape", runs=run.runs)
    with pytest.raises(RunError, match="no checkpoint"):
        spatialseg.load(run.path / "none.ckpt")


def test_a_checkpoint_by_itself_knows_all_but_the_cut(run, model, tmp_path):
    lone = tmp_path / "lone.ckpt"
    state = torch.load(run.best, weights_only=True)
    torch.save(state, lone)
    again = spatialseg.load(lone)
    np.testing.assert_array_equal(again.probabilities(pixels()), model.probabilities(pixels()))
    assert again.cut == 0.5 and again.origin.folder is None
    del state["SegmentationDataModule"]  # as before checkpoints told
    torch.save(state, lone)
    with pytest.raises(RunError, match="put it back into the folder of its run"):
        spatialseg.load(lone)


def test_whatever_an_image_comes_as(model, tmp_path):
    array = pixels()
    expected = model.predict(array)
    path = tmp_path / "image.png"
    Image.fromarray(array).save(path)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for image in (path, str(path), Image.open(path), array / 255, array.astype(np.float32) / 255, tensor, tensor / 255):
        np.testing.assert_array_equal(model.predict(image), expected)
    grey = array[..., 0]
    for image in (grey, grey[..., None], torch.from_numpy(grey.copy())[None], Image.fromarray(grey)):
        np.testing.assert_array_equal(model.predict(image), model.predict(np.repeat(grey[..., None], 3, axis=2)))
    turned = Image.fromarray(np.rot90(array).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        np.testing.assert_array_equal(model.predict(image), expected)
    lower, higher = model.predict(array, cut=0.0), model.predict(array, cut=1.0)
    assert lower.all() and not higher.any()
    with pytest.raises(ValueError, match=r"the cut is a threshold in \[0, 1\], got 128"):
        model.predict(array, cut=128)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 8, 8, 3)), r"\(H, W, 3\) or \(H, W\), got \(2, 8, 8, 3\)"),
        (torch.zeros(1, 3, 8, 8), r"\(3, H, W\) or \(1, H, W\), got \(1, 3, 8, 8\)"),
        (np.zeros((8, 8, 3), np.int64), "uint8, or floating in .*, got int64"),
        (np.full((8, 8, 3), 200.0), r"in \[0, 1\], got 200 to 200"),
        (np.full((8, 8, 3), np.nan), "got nan to nan"),
        (np.zeros((0, 8, 3), np.uint8), "got"),
    ],
)
def test_what_is_no_image_is_refused(image, message, model):
    with pytest.raises(ValueError, match=message):
        model.predict(image)


def test_a_file_that_cannot_be_read_is_named(model, tmp_path):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        model.predict(tmp_path / "none.png")


def test_mirrored_images_have_mirrored_maps_once_flips_are_averaged(model):
    array = pixels()[:64, :64]  # as the network takes it: resizing may round grey levels of a mirror the other way
    once = model.probabilities(array)
    for flips, axes in ((("horizontal",), (1,)), (("vertical",), (0,)), (("horizontal", "vertical"), (0, 1))):
        inference = Inference(flips=flips)
        found = model.probabilities(array, inference)
        for axis in axes:
            mirrored = model.probabilities(np.flip(array, axis).copy(), inference)
            np.testing.assert_allclose(np.flip(mirrored, axis), found, atol=1e-4)
        assert np.abs(found - once).max() > 1e-3


def test_scales_are_averaged_as_logits(model):
    image = SCENES[0]["image"]

    def logits(*scales):
        inference = Inference(scales=scales)
        return model.infer([model.prepare(image, inference)], inference)[0]

    assert model.size_at(1.5) == 96 and model.size_at(0.1) == 32
    larger = torch.nn.functional.interpolate(logits(1.5)[None], (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(logits(1.0, 1.5), (logits(1.0) + larger) / 2)
    assert logits(1.5).shape == (1, 96, 96) and logits(1.0, 1.5).std() > 0.1


@pytest.mark.parametrize("native", [(50, 300), (299, 41)])
def test_bands_are_the_whole_map(native, model, monkeypatch):
    logits = torch.randn(1, 48, 64)
    ((_, whole),) = model.native_bands(logits, native)
    monkeypatch.setattr("spatialseg.inference.model.BAND", 2000)
    rows, bands = zip(*model.native_bands(logits, native), strict=True)
    assert len(bands) > 3 and rows[1] == bands[0].shape[1]
    torch.testing.assert_close(torch.cat(bands, dim=1), whole)


def test_tiles_of_an_image_that_is_one_tile_are_the_image_at_its_own_size(model):
    array = pixels()[:, :64]
    tiled = model.probabilities(array, Inference(tile=96))
    with torch.inference_mode():
        canvas = PadToStride(32)([{"image": torch.from_numpy(array.copy()).permute(2, 0, 1), "size": array.shape[:2]}])
        expected = model(canvas["image"])[0, 0, : array.shape[0], :64].sigmoid()
    np.testing.assert_allclose(tiled, expected, atol=1e-6)
    for inference in (Inference(tile=32, overlap=16), Inference(tile=64, flips=("horizontal",), scales=(0.5, 1.0))):
        found = model.probabilities(array, inference)
        assert found.shape == tiled.shape and np.isfinite(found).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": ()}, "scales must be factors"),
        ({"scales": (0.0,)}, "scales must be factors"),
        ({"flips": ("left",)}, "flips must be 'horizontal' or 'vertical', got 'left'"),
        ({"tile": 0}, "tile must be at least 1"),
        ({"overlap": 8}, "less than the tile"),
        ({"tile": 8, "overlap": 8}, "less than the tile"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Inference(**arguments)


def test_the_package_itself_is_light():
    heavy = "torch", "lightning", "numpy"
    code = f"import sys, spatialseg; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = spatialseg.lode
