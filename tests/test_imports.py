"""What starts at once has to stay so: no module imports a library that it does not need."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

WATCHED = ("torch", "numba", "scipy", "rich", "matplotlib", "torchvision", "torchmetrics", "lightning", "timm", "wandb")
CODE = """
import importlib, json, sys
watched, *command = map(json.loads, sys.argv[1:])
found = lambda: [name for name in watched if name in sys.modules]
first = {}
for module in ("cli", "scores", "data.files", "run.folder", "functional", "metrics", "metrics.images", "score"):
    importlib.import_module(f"spatialseg.{module}")
    first[module] = found()
importlib.import_module("spatialseg.cli").main(*command)
print(json.dumps(first | {"after score": found()}))
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
    assert found.pop("score") == ["torch", "rich"]
    assert set(map(tuple, found.values())) == {("torch",)}, found  # and Numba when a kernel is called
    assert not {"matplotlib", "torchvision", "torchmetrics", "lightning", "timm", "wandb"} & set(after)
