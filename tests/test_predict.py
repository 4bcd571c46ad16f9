"""The command: which images it takes, what it writes, and what it leaves alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spatialseg
from spatialseg.cli import main
from spatialseg.data.files import read_map, read_mask
from spatialseg.inference.outputs import class_colours, contact_sheet, render
from spatialseg.predict import find_images
from trained import make_run

SIZES = {"wide": (40, 90), "tall": (77, 31), "square": (50, 50), "tall2": (77, 31)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "runs"
    make_run(folder)
    make_run(folder, classes=4, name="kinds")
    make_run(folder, keep_aspect=True, name="aspect")
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return the arrays of a folder `photos` in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for name, size in SIZES.items():
        name = f"more/{name}" if name == "tall2" else name
        small = Image.fromarray(rng.integers(0, 255, (5, 5, 3), np.uint8))
        arrays[name] = np.asarray(small.resize(size[::-1], Image.Resampling.BILINEAR))
        Image.fromarray(arrays[name]).save(f"photos/{name}.png")
    return arrays


def predict(runs, *arguments, run="tiny/shapes"):
    main(["predict", run, *arguments, "--runs", str(runs)])


def fails(runs, *arguments, status, capsys, run="tiny/shapes"):
    with pytest.raises(SystemExit) as stop:
        predict(runs, *arguments, run=run)
    assert stop.value.code == status
    return capsys.readouterr().err


@pytest.mark.parametrize("run", ["tiny/shapes", "aspect/shapes"])
def test_maps_and_masks_at_native_size(run, runs, photos, tmp_path, capsys):
    predict(runs, "photos", "--out", "out", "--batch", "2", run=run)
    model = spatialseg.load(run, runs)
    for name, array in photos.items():
        level = read_map(tmp_path / "out" / "maps" / f"{name}.png")
        mask = read_mask(tmp_path / "out" / "masks" / f"{name}.png", 1)
        expected = model.probabilities(array)
        assert np.abs(level - expected * 255).max() <= 0.5 + 1e-3
        sure = np.abs(expected - 0.35) > 1e-5  # batches of another size round otherwise
        np.testing.assert_array_equal(mask[sure], (expected >= 0.35)[sure])
        assert 0 < mask.mean() < 1 or name != "wide"
    shown = capsys.readouterr().out
    assert "best.ckpt, cut at 0.35" in shown and "4 predicted. Written to out: maps, masks" in shown
    assert not list((tmp_path / "out").rglob("*.part"))


def test_all_that_can_be_written(runs, photos, tmp_path):
    predict(runs, "photos/wide.png", "photos/more", "--write", "maps", "cutouts", "overlays", "sheet", "--cut", "0.6")
    out = tmp_path / "predictions"
    cutout, level = np.asarray(Image.open(out / "cutouts/wide.png")), np.asarray(Image.open(out / "maps/wide.png"))
    np.testing.assert_array_equal(cutout, np.dstack([photos["wide"], level]))
    mask = read_mask(out / "masks/wide.png", 1)
    assert abs(int(level[mask == 1].min()) - 0.6 * 255) <= 1
    overlay = np.asarray(Image.open(out / "overlays/wide.jpg")).astype(int)
    assert np.abs(overlay - photos["wide"])[mask == 0].mean() < 12 < np.abs(overlay - photos["wide"])[mask == 1].mean()
    assert Image.open(out / "sheet_1.jpg").width > 600
    assert {path.stem for path in (out / "maps").iterdir()} == {"wide", "tall2"}


def test_several_classes_are_indices_with_a_palette(runs, photos):
    predict(runs, "photos", "--out", "out", run="kinds/shapes")
    mask = Image.open("out/masks/wide.png")
    assert mask.mode == "P" and mask.getpalette()[3:6] == [128, 0, 0]
    model = spatialseg.load("kinds/shapes", runs)
    probabilities = model.probabilities(photos["wide"])
    np.testing.assert_array_equal(np.asarray(mask), probabilities.argmax(axis=0))
    assert np.abs(np.asarray(Image.open("out/maps/wide.png")) - probabilities.max(axis=0) * 255).max() <= 0.51


def test_it_goes_on_where_it_stopped_and_overwrites_nothing(runs, photos, tmp_path, capsys):
    predict(runs, "photos", "--out", "out")
    first, gone = tmp_path / "out/maps/wide.png", tmp_path / "out/masks/tall.png"
    gone.unlink()
    first.write_bytes(b"mine")
    capsys.readouterr()
    predict(runs, "photos", "--out", "out")
    assert "1 predicted; 3 were there already" in capsys.readouterr().out
    assert gone.is_file() and first.read_bytes() == b"mine"
    said = fails(runs, "photos", "--out", "out", "--cut", "0.7", status=2, capsys=capsys)
    assert "made with cut 0.35, not with cut 0.7; choose another folder, or --overwrite" in said
    assert "sha256" in fails(runs, "photos", "--out", "out", status=2, capsys=capsys, run="aspect/shapes")
    predict(runs, "photos", "--out", "out", "--cut", "0.7", "--overwrite")
    assert first.read_bytes() != b"mine" and json.loads((tmp_path / "out/predict.json").read_text())["cut"] == 0.7
    predict(runs, "photos", "--out", "out", "--cut", "0.7", "--write", "overlays")  # another kind joins
    assert (tmp_path / "out/overlays/wide.jpg").is_file()
    (tmp_path / "other" / "maps").mkdir(parents=True)
    (tmp_path / "other" / "maps" / "wide.png").write_bytes(b"mine")
    assert "no prediction wrote, 1: other/maps/wide.png" in fails(
        runs, "photos", "--out", "other", status=2, capsys=capsys
    )


def test_a_folder_holds_predictions_of_one_network_and_one_cut(runs, photos, tmp_path, capsys):
    out, wide, tall = ("--out", "out"), "photos/wide.png", "photos/tall.png"
    masks = {name: tmp_path / f"out/masks/{name}.png" for name in ("wide", "tall")}
    predict(runs, wide, *out, "--cut", "0.05")
    first = masks["wide"].read_bytes()
    for further in ([tall], [tall, "--overwrite"], [wide, tall], [wide, "--overwrite", "--write", "masks"]):
        said = fails(runs, *further, *out, "--cut", "0.9", status=2, capsys=capsys)
        assert "made with cut 0.05, not with cut 0.9; choose another folder, or" in said and said.count("\n") == 1
        assert ("remove what --overwrite would leave" in said) == (further != [wide, tall])
        assert masks["wide"].read_bytes() == first and not masks["tall"].exists()
    predict(runs, tall, *out, "--cut", "0.05", "--write", "masks", "sheet")
    other = {"run": "aspect/shapes"}
    assert "sha256" in fails(runs, wide, *out, "--overwrite", status=2, capsys=capsys, **other)
    said = fails(runs, wide, tall, *out, "--overwrite", status=2, capsys=capsys, **other)
    assert "would leave, 1: out/sheet_1.jpg" in said
    predict(runs, wide, tall, *out, "--overwrite", "--write", "maps", "masks", "sheet", **other)
    assert masks["wide"].read_bytes() != first and masks["tall"].exists()
    (tmp_path / "foreign" / "masks").mkdir(parents=True)
    (tmp_path / "foreign" / "masks" / "truth.png").write_bytes(b"mine")
    said = fails(runs, wide, "--out", "foreign", status=2, capsys=capsys)
    assert "no prediction wrote, 1: foreign/masks/truth.png; choose another folder, or first remove" in said


def test_nothing_of_the_old_is_left_when_overwriting_is_interrupted(runs, photos, tmp_path, monkeypatch, capsys):
    def render_but_wide(kind, image, *rest):
        if image.shape[:2] == SIZES["wide"]:
            raise KeyboardInterrupt
        return render(kind, image, *rest)

    predict(runs, "photos", "--out", "out", "--cut", "0.3")
    again = ("photos", "--out", "out", "--cut", "0.6")
    with monkeypatch.context() as patched:
        patched.setattr("spatialseg.inference.pipeline.render", render_but_wide)
        fails(runs, *again, "--overwrite", "--batch", "1", status=130, capsys=capsys)
    assert not (tmp_path / "out/masks/wide.png").exists()
    predict(runs, *again)
    predict(runs, "photos", "--out", "new", "--cut", "0.6")
    for name in photos:
        assert (tmp_path / f"out/masks/{name}.png").read_bytes() == (tmp_path / f"new/masks/{name}.png").read_bytes()


def test_bad_files_are_named_at_the_end_and_the_rest_is_done(runs, photos, tmp_path, capsys):
    (tmp_path / "photos" / "broken.png").write_bytes(b"GIF")
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "moving.gif").touch()
    (tmp_path / "notes.txt").touch()
    said = fails(runs, "photos", "notes.txt", "gone", "*.webp", "--out", "out", status=1, capsys=capsys)
    for part in ("6 files could not be predicted", "broken.png: cannot be read", "empty.jpg: the file is empty"):
        assert part in said
    for part in ("moving.gif", "notes.txt: no image", "gone: no such file", "*.webp: no such file or folder, and no"):
        assert part in said
    assert len(list((tmp_path / "out/masks").rglob("*.png"))) == 4
    assert "broken.png" in fails(runs, "photos", "--out", "tiles", "--tile", "32", status=1, capsys=capsys)
    assert len(list((tmp_path / "tiles/maps").rglob("*.png"))) == 4


def test_inputs_are_files_folders_and_patterns(photos, tmp_path):
    found, problems = find_images(["photos/*.png", "photos", "photos/wide.png"], tmp_path / "out")
    assert list(found) == ["more/tall2", "square", "tall", "wide"] and not problems
    found, problems = find_images([".", "photos"], tmp_path / "photos" / "more")
    assert "photos/wide" in found and "wide" in found and "photos/more/tall2" not in found
    Image.new("RGB", (4, 4)).save("wide.png")
    _, problems = find_images(["photos", "wide.png"], tmp_path / "out")
    assert problems == ["wide.png: photos/wide.png has the same name, and would be overwritten; predict it by itself"]


def test_what_cannot_be_done_is_said_in_a_line(runs, photos, capsys):
    for arguments, run, said in (
        (["photos"], "tiny/shape", "is no finished run"),
        (["nothing"], "tiny/shapes", "nothing: no such file or folder"),
        (["photos", "--write", "cutouts"], "kinds/shapes", "the network has 4 classes"),
        (["photos", "--overlap", "3"], "tiny/shapes", "overlap must be"),
        (["photos", "--cut", "128"], "tiny/shapes", "the cut is a threshold in [0, 1], got 128"),
        (["photos", "--cut", "nan"], "tiny/shapes", "the cut is a threshold in [0, 1], got nan"),
        (["photos", "--batch", "0"], "tiny/shapes", "a batch has at least 1 image, got 0"),
        (["photos", "--batch", "-1"], "tiny/shapes", "a batch has at least 1 image, got -1"),
    ):
        error = fails(runs, *arguments, status=2, capsys=capsys, run=run)
        assert said in error and error.startswith("spatialseg predict: ") and error.count("\n") == 1
    assert not Path("predictions").exists()


def test_the_palette_is_that_of_pascal_voc():
    colours = class_colours()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 255: (224, 224, 192)}
    assert {index: tuple(colours[index].tolist()) for index in known} == known and len(
        np.unique(colours, axis=0)
    ) == 256


def test_pictures_of_several_classes(tmp_path):
    image, mask = np.full((4, 7, 3), 100, np.uint8), np.array([[0, 0, 1, 1, 2, 2, 3]] * 4, np.uint8)
    overlay = np.asarray(render("overlays", image, mask, mask, 4))
    assert (overlay[:, 0] == 100).all() and tuple(overlay[0, 2]) == (50 + 64, 50, 50)
    assert (overlay[:, [1, 3, 5]] == 255).all() and not (overlay[:, 6] == 255).any()  # where classes meet
    render("masks", image, mask, mask, 4).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 4), mask)
    page = contact_sheet([("a" * 200, Image.fromarray(image), Image.fromarray(overlay))] * 5)
    columns = np.flatnonzero((np.asarray(page) != 255).any(axis=(0, 2)))
    assert columns[-1] < page.width == 8 * (160 + 8) + 8 and np.asarray(page).std() > 1
