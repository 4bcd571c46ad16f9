"""What starts at once has to stay so: no module imports a library that it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from spatialseg.extras import EXTRAS

MODULES = {"opencv_python_headless": "cv2", "scikit_image": "skimage"}  # where they are not called like their package
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
    command = [sys.executable, "-c", BARE, json.dumps(EXTRAS["train"])]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    advice = "is not installed; pip install 'spatialseg[train]' brings it"
    for name in ("dice", "jaccard", "tversky"):
        assert f"{name} segmentation_models_pytorch {advice}\n" in done.stdout
    assert done.stdout.count(advice) == 4  # the fourth is score, for want of pictures
    assert "no pictures: matplotlib" in done.stdout and (tmp_path / "scores" / "scores.csv").is_file()
    assert f"spatialseg fit: jsonargparse {advice}" in done.stderr and "fit 2" in done.stdout
    assert f"spatialseg explain: matplotlib {advice}" in done.stderr and "explain 2" in done.stdout


def test_extras_are_those_of_the_package():
    project = pytest.importorskip("tomllib").loads((Path(__file__).parents[1] / "pyproject.toml").read_text())[
        "project"
    ]
    for extra, packages in project["optional-dependencies"].items():
        if extra in EXTRAS:
            names = [Requirement(each).name.replace("-", "_") for each in packages]
            assert {MODULES.get(name, name) for name in names} == set(EXTRAS[extra]), extra
    base = {Requirement(each).name.replace("-", "_") for each in project["dependencies"]}
    assert not base & {name for names in EXTRAS.values() for name in names}
