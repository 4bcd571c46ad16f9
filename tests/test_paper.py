"""The papers' own protocols: they parse, build and run a few steps on small folders laid out as the real sets are."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from spatialseg.cli import main
from spatialseg.report.examples import make_source
from spatialseg.run.folder import RunFolder

PAPER = Path(__file__).resolve().parents[1] / "experiments" / "paper"
BASE = ["--config", str(PAPER.parent / "base.yaml")]
LAYOUTS = {  # images and masks as the archives of each set have them, below the folder that its overlay names
    "duts": ("DUTS-TR/DUTS-TR-Image/{}.jpg", "DUTS-TR/DUTS-TR-Mask/{}.png"),
    "msra_b": ("MSRA-B/images/{}.jpg", "MSRA-B/masks/{}.png"),
    "test_ecssd": ("ECSSD/images/{}.jpg", "ECSSD/ground_truth_mask/{}.png"),
    "test_pascal_s": ("datasets/imgs/pascal/{}.jpg", "datasets/masks/pascal/{}.png"),
    "test_hku_is": ("HKU-IS/imgs/{}.png", "HKU-IS/gt/{}.png"),
    "test_dut_omron": ("DUT-OMRON/DUT-OMRON-image/{}.jpg", "DUT-OMRON/pixelwiseGT-new-PNG/{}.png"),
}
TINY = ["--data.size=64", "--data.eval_size=64", "--trainer.accelerator=cpu", "--trainer.devices=1"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Make folders with the layout of every set, a few images in each."""
    rng = np.random.default_rng(0)

    def write(image: Path, mask: Path, values: np.ndarray) -> None:
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(image)
        Image.fromarray(values.astype(np.uint8)).save(mask)

    root = tmp_path / "data"
    for number in range(8):
        square = np.zeros((48, 64))
        square[10:30, 5 + number : 40] = 255
        for image, mask in LAYOUTS.values():
            write(root / image.format(f"{number:04d}"), root / mask.format(f"{number:04d}"), square)
    voc = root / "VOCdevkit" / "VOC2012"
    lists = {"trainaug": [], "val": []}
    for number in range(6):
        name = f"2007_{number:06d}"
        lists["val" if number < 2 else "trainaug"].append(name)
        values = np.zeros((48, 64))
        values[10:30, 5:40], values[9, 5:40] = 15, 255
        write(voc / "JPEGImages" / f"{name}.jpg", voc / "SegmentationClassAug" / f"{name}.png", values)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, names in lists.items():
        (voc / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(names))
    monkeypatch.setenv("SPATIALSEG_DATA", str(root))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_saliency_network_is_tested_on_sets_that_it_was_not_trained_on(data):
    experiment = ["--config", str(PAPER.parent / "saliency_wfb.yaml"), "--config", str(PAPER / "duts.yaml")]
    main(["fit", *BASE, *experiment, *TINY, "--data.batch_size=2", "--trainer.max_epochs=1"])
    (run,) = map(RunFolder, Path("runs/saliency_wfb/duts/seed0").iterdir())
    assert run.finished and len(run.scores()) == 1
    for name in LAYOUTS:
        source = make_source(yaml.safe_load((PAPER / f"{name}.yaml").read_text())["data"])
        assert len(source.dataset("test" if name.startswith("test") else "train")) == (
            8 if name.startswith("test") else 6
        )
    for overlay in sorted(PAPER.glob("test_*.yaml"))[-1:]:
        main(["test", "--config", str(run.config), "--config", str(overlay), "--ckpt_path", str(run.last)])
    (tested,) = map(RunFolder, Path("runs/saliency_wfb/pascal_s/seed0").iterdir())
    assert len(tested.scores()) == 8


def test_deeplab_learns_voc(data, capsys):
    configs = [part for name in ("voc", "voc_lal") for part in ("--config", str(PAPER / f"{name}.yaml"))]
    main(["fit", *BASE, *configs, *TINY, "--model.encoder_weights=null", "--trainer.fast_dev_run=2"])
    assert "1·lal" in capsys.readouterr().out
    lal, ce = (yaml.safe_load((PAPER / f"voc_{loss}.yaml").read_text())["model"] for loss in ("lal", "ce"))
    assert lal.keys() == ce.keys() == {"loss"} and ce["loss"] == [{"name": "ce"}]
