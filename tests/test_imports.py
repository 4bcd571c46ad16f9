"""What starts at once has to stay so: no module imports a library that it does not need."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image

from spatialseg.extras import how_to_install, libraries
from spatialseg.run.machine import circumstances

WATCHED = ("torch", "numba", "scipy", "rich", "matplotlib", "torchvision", "torchmetrics", "lightning", "timm", "wandb")
CODE = """
import importlib, json, sys
watched, *command = map(json.loads, sys.argv[1:])
found = lambda: [name for name in watched if name in sys.modules]
first = {}
for module in ("cli", "scores", "data.files", "run.folder", "functional", "metrics.images", "losses", "score"):
    importlib.import_module(f"spatialseg.{module}")
    first[module] = found()
importlib.import_module("spatialseg.cli").main(*command)
print(json.dumps(first | {"after score": found()}))
"""
BARE = """
import importlib, json, sys
import torch, torchmetrics  # before all, for torchmetrics uses what is installed, and is not asked here
missing = json.loads(sys.argv[1])
for name in [name for name in sys.modules if name.partition(".")[0] in missing]:
    del sys.modules[name]
class Missing:
    def find_spec(name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing)
from spatialseg.cli import main
from spatialseg.losses import available_losses, build_loss
from spatialseg.metrics import saliency_metrics
logits, target = torch.randn(2, 1, 9, 9), torch.eye(9).expand(2, -1, -1).long()
for name in set(available_losses()) - {"ce"}:
    try:
        build_loss(name)(logits, target)
    except ModuleNotFoundError as error:
        print(name, error)
metrics = saliency_metrics(full=True)
metrics.update(logits.sigmoid(), target)
print(len(metrics.compute()))
one = ["maps/one.png", "masks/one.png", "--pred", "maps/one.png"]
for command in (["score", "--pred", "maps", "--gt", "masks"], ["fit"], ["explain", *one, "--losses"]):
    try:
        main(command)
    except SystemExit as stopped:
        print(command[0], stopped)
"""


def test_modules_import_what_they_need_and_no_more(tmp_path):
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(9, dtype=np.uint8) * 200).save(tmp_path / folder / "one.png")
    command = ["score", "--pred", "maps", "--gt", "masks", "--figures", "none", "--sheet", "0"]
    arguments = [sys.executable, "-c", CODE, json.dumps(WATCHED), json.dumps(command)]
    done = subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    after = found.pop("after score")
    for module in ("cli", "scores", "data.files", "run.folder"):
        assert found.pop(module) == [], module
    assert found.pop("score") == found.pop("losses") == ["torch", "rich"]
    assert set(map(tuple, found.values())) == {("torch",)}, found  # and Numba when a kernel is called
    assert not {"matplotlib", "torchvision", "torchmetrics", "lightning", "timm", "wandb"} & set(after)


def test_without_the_extras_all_else_works_and_errors_name_them(tmp_path):
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(9, dtype=np.uint8) * 200).save(tmp_path / folder / "one.png")
    command = [
        sys.executable,
        "-c",
        BARE,
        json.dumps([name for name, extra in libraries().items() if extra == "train"]),
    ]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    advice = "is not installed; pip install 'spatialseg[train]' brings it"
    for name in ("dice", "jaccard", "tversky"):
        assert f"{name} segmentation_models_pytorch {advice}\n" in done.stdout
    assert done.stdout.count(advice) == 4  # the fourth is score, for want of pictures
    assert "no pictures: matplotlib" in done.stdout and (tmp_path / "scores" / "scores.csv").is_file()
    assert f"spatialseg fit: jsonargparse {advice}" in done.stderr and "fit 2" in done.stdout
    assert f"spatialseg explain: matplotlib {advice}" in done.stderr and "explain 2" in done.stdout


def test_a_package_that_runs_from_its_sources_has_no_version_and_no_extras(monkeypatch):
    def unknown(name):
        if name == "spatialseg":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("spatialseg.extras.requires", unknown)
    monkeypatch.setattr("spatialseg.run.machine.version", unknown)
    assert how_to_install(ModuleNotFoundError("No module named 'timm'", name="timm")) is None
    versions = circumstances()["versions"]
    assert versions["torch"] == version("torch") and "spatialseg" not in versions
