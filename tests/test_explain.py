"""One score explained: the numbers are those of the measure, and the pictures of what they are made of."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from spatialseg.cli import main
from spatialseg.data import ProceduralScenes
from spatialseg.functional import weighted_counts, weighted_f_measure
from spatialseg.losses import available_losses, build_loss
from spatialseg.losses.registry import loss_class
from spatialseg.report.anatomy import SURE, dissect, draw_anatomy, draw_predictions, weigh
from spatialseg.report.anatomy import panels as anatomy_panels
from spatialseg.report.sheet import Photograph, coloured
from spatialseg.task import SegmentationTask


@pytest.fixture(scope="module")
def scene():
    image, mask = ProceduralScenes(size=64).draw("test", 0)
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(mask)[None].float(), 9, 1, 4)[0].numpy()
    noise = np.random.default_rng(0).random(mask.shape, dtype=np.float32)
    return image, mask, (0.8 * smooth + 0.2 * noise).clip(0, 1)


@pytest.mark.parametrize("beta2", [1.0, 0.3])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_numbers_are_those_of_the_measure(scene, beta2, ignored):
    _, mask, probability = scene
    mask = mask.copy()
    if ignored:
        mask[:20] = 255
    anatomy = dissect(probability, mask, cut=0.4, beta2=beta2)
    prediction, target = torch.from_numpy(probability)[None].double(), torch.from_numpy(mask)[None]
    f, precision, recall = (each.item() for each in weighted_f_measure(prediction, target, beta2=beta2))
    assert (anatomy.f, anatomy.precision, anatomy.recall) == pytest.approx((f, precision, recall), abs=1e-9)
    tp, fp, positives = (each.item() for each in weighted_counts(prediction, target))
    assert (anatomy.hits.sum(), anatomy.alarms.sum()) == pytest.approx((tp, fp), abs=1e-6)
    assert (anatomy.tp, anatomy.fp, anatomy.positives) == pytest.approx((tp, fp, positives), abs=1e-6)
    assert not anatomy.hits[mask != 1].any() and not anatomy.alarms[mask != 0].any()
    cut = weighted_f_measure((prediction >= 0.4).double(), target, beta2=beta2).f.item()
    assert anatomy.mask_f == pytest.approx(cut, abs=1e-9)


def test_the_published_vector_is_explained():
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, 12:24] = 1
    anatomy = dissect(np.roll(mask, (2, 1), (0, 1)) * np.uint8(255), mask, beta2=0.3)
    assert anatomy.f == pytest.approx(0.743839563698, abs=1e-9)
    assert anatomy.precision == pytest.approx(0.723688136933, abs=1e-9)
    assert anatomy.recall == pytest.approx(0.819945412258, abs=1e-9)
    assert anatomy.describe()["Fʷ (β² = 0.3)"] == "0.7438"


def test_gradients_are_those_of_autograd(scene):
    _, mask, probability = scene
    names = [name for name in available_losses() if getattr(loss_class(name), "binary", True)]
    gradients = dissect(probability, mask, names).gradients
    assert list(gradients) == names and {"wfb", "lal", "bce"} <= gradients.keys()
    for name, gradient in gradients.items():
        logits = torch.from_numpy(probability).logit(SURE).requires_grad_()
        build_loss(name)(logits[None, None], torch.from_numpy(mask)[None]).backward()
        torch.testing.assert_close(torch.from_numpy(gradient).float(), logits.grad)
        assert gradient.any()


def test_certain_maps_have_gradients_too():
    mask = np.zeros((16, 16), np.uint8)
    mask[4:10, 4:10] = 1
    for wrong in (np.where(mask, 0, 255).astype(np.uint8), 1.0 - mask):
        gradient = dissect(wrong, mask, ["bce"]).gradients["bce"]
        assert np.isfinite(gradient).all() and (np.sign(gradient) == np.where(mask, -1, 1)).all()


def test_without_foreground_the_ratios_say_so():
    anatomy = dissect(np.full((8, 8), 0.5), np.zeros((8, 8), np.uint8))
    assert np.isnan(anatomy.f) and anatomy.describe()["Fʷ"] == "–, no foreground"


@pytest.mark.parametrize(
    ("prediction", "mask", "said"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), "(4, 4) and (4, 5)"),
        (np.full((4, 4), 2.0), np.zeros((4, 4)), "spans 2 to 2"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), "spans nan to nan"),
        (np.zeros((4, 4)), np.full((4, 4), 7), "also 7"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(prediction, mask, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        dissect(prediction, mask)


def test_every_step_has_its_picture(scene):
    image, mask, probability = scene
    anatomy = dissect(probability, mask, ["bce", "wfb"], cut=0.3)
    photograph = Photograph("scene", image, mask)
    *panels, words, bce, wfb = (each for row in anatomy_panels(photograph, anatomy) for each in row)
    shown = {panel.title: panel.pixels for panel in [*panels, bce, wfb]}
    titles = list(shown)
    assert titles[:6] == ["scene", "ground truth G", "prediction D", "D cut at 0.3", "error E", "dependency Eₐ"]
    assert titles[-2:] == ["bce pushes", "wfb pushes"] and len(titles) == 12
    assert np.array_equal(shown["error E"], coloured(anatomy.error, 0, 1, "inferno"))
    redder = shown["bce pushes"][..., 0].astype(int) - shown["bce pushes"][..., 2]
    strong = np.abs(anatomy.gradients["bce"]) > np.abs(anatomy.gradients["bce"]).max() / 3
    assert (np.sign(redder) == -np.sign(anatomy.gradients["bce"]))[strong].all() and strong.any()
    assert f"{anatomy.f:.4f}" in words.columns[1]
    assert draw_anatomy(photograph, anatomy, 100).width > 400


def test_predictions_stand_beside_their_weighted_error(scene):
    image, mask, probability = scene
    rows = [(Photograph("scene", image, mask), probability)] * 2
    assert draw_predictions(rows, 64).height > 2 * 64
    several = np.stack([1 - probability, probability])
    assert draw_predictions([(rows[0][0], several)], 64).width > 4 * 64


def test_of_several_classes_the_largest_error_and_the_mean_score_count(scene):
    _, mask, probability = scene
    mask = mask.copy()
    mask[:10] = 255
    cost, f = weigh(probability, mask)
    assert not cost[:10].any() and (cost[mask == 0].sum(), f) == pytest.approx(
        (dissect(probability, mask).fp, dissect(probability, mask).f)
    )
    several = np.stack([1 - probability, probability, np.zeros_like(probability)])
    costs, mean = weigh(several, mask)
    each = [dissect(several[index], np.where(mask == 255, 255, mask == index)) for index in range(2)]
    assert mean == pytest.approx(np.mean([one.f for one in each]))
    assert costs == pytest.approx(np.maximum(*(one.weighted for one in each)))


@pytest.fixture
def files(scene, tmp_path, monkeypatch):
    image, mask, probability = scene
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image).save("scene.png")
    Image.fromarray(mask * 255).save("mask.png")
    Image.fromarray((255 * probability).round().astype(np.uint8)).save("map.png")
    return tmp_path


def test_the_command_draws_a_map_on_disk(files, capsys):
    main(["explain", "scene.png", "mask.png", "--pred", "map.png", "--losses", "bce", "--cut", "0.25"])
    prediction, mask = (np.asarray(Image.open(name)) for name in ("map.png", "mask.png"))
    f = weighted_f_measure(torch.from_numpy(prediction / 255)[None], torch.from_numpy(mask > 127)[None]).f.item()
    said = capsys.readouterr().out
    assert f"{f:.4f}" in said and "cut at 0.25" in said
    with Image.open("scene_explained.png") as picture:
        assert picture.width > 1200


def test_a_map_of_another_size_is_resized(files, capsys):
    Image.open("map.png").resize((32, 32)).save("small.png")
    main(["explain", "scene.png", "mask.png", "--pred", "small.png", "--losses", "--out", "new/picture.pdf"])
    assert (files / "new" / "picture.pdf").is_file() and "Fʷ" in capsys.readouterr().out


@pytest.fixture
def run(files):
    """Make the folder of a run that was never trained."""
    folder = files / "runs" / "tiny" / "shapes" / "seed0" / "2026-01-01_00-00-00"
    (folder / "checkpoints").mkdir(parents=True)
    config = {"data": {"size": 32, "eval_size": 64, "keep_aspect": False, "stride": 32}}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    (folder / "summary.json").write_text(json.dumps({"finished": True, "cut": 0.35, "best_checkpoint": "best.ckpt"}))
    save(folder, SegmentationTask(encoder="tu-tf_efficientnet_lite0", encoder_weights=None))
    return folder


def save(folder, task):
    state = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    state |= {"pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 1}
    torch.save(state, folder / "checkpoints" / "best.ckpt")
    return task


def test_the_command_predicts_with_a_run(run, capsys):
    main(["explain", "scene.png", "mask.png", "--run", "tiny/shapes", "--losses", "bce"])
    said = capsys.readouterr().out
    assert "cut at 0.35" in said  # the run's own
    image, mask = (np.asarray(Image.open(name)) for name in ("scene.png", "mask.png"))
    task = SegmentationTask.load_from_checkpoint(run / "checkpoints" / "best.ckpt", weights_only=True).eval()
    resized = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    if image.shape[:2] != (64, 64):
        from torchvision.transforms.v2.functional import resize

        resized = resize(resized, [64, 64], antialias=True)
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(task(resized), image.shape[:2], mode="bilinear")
    f = weighted_f_measure(logits[:, 0].sigmoid().double(), torch.from_numpy(mask > 127)[None]).f.item()
    assert f"{f:.4f}" in said


def test_a_run_of_several_classes_or_without_checkpoint_is_refused(run, capsys):
    save(run, SegmentationTask(classes=3, encoder_weights=None))
    fails(["scene.png", "mask.png", "--run", str(run)], "of 3 classes", capsys)
    (run / "checkpoints" / "best.ckpt").unlink()
    fails(["scene.png", "mask.png", "--run", str(run)], "no checkpoint checkpoints/best.ckpt", capsys)


def fails(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_what_cannot_be_explained_is_said_in_a_line(files, capsys):
    good = ["scene.png", "mask.png", "--pred", "map.png"]
    fails(["none.png", *good[1:]], "none.png: no such file", capsys)
    fails([*good[:3], "scene.png"], "a colour image", capsys)
    fails([*good, "--cut", "1.5"], "a threshold in [0, 1], got 1.5", capsys)
    fails([*good, "--losses", "bcee"], "did you mean 'bce'?", capsys)
    fails([*good, "--losses", "ce"], 'use "bce"', capsys)
    fails([*good, "--losses", "--out", "picture.doc"], "doc", capsys)
    fails([*good[:2], "--run", "none/none"], "is no finished run", capsys)
    Image.new("L", (7, 5)).save("small.png")
    fails(["scene.png", "small.png", *good[2:]], "its mask small.png 7×5", capsys)
