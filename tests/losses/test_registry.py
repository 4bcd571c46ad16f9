import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from spatialseg.losses import LossSum, LossTerm, available_losses, build_loss, register_loss
from spatialseg.losses.registry import loss_class

from .batches import batch


def test_sum_of_terms_is_weighted_and_each_term_is_available():
    logits, target = batch(1)
    loss = build_loss(["wfb", {"name": "bce", "weight": 0.5}, LossTerm("wfb", 2.0, {"beta2": 0.3})])
    assert isinstance(loss, LossSum)
    values = loss.terms(logits, target)
    assert list(values) == ["wfb", "bce", "wfb_2"]
    assert loss.weights == {"wfb": 1.0, "bce": 0.5, "wfb_2": 2.0}
    expected = values["wfb"] + 0.5 * values["bce"] + 2 * values["wfb_2"]
    torch.testing.assert_close(loss(logits, target), expected)
    torch.testing.assert_close(loss.total(values), expected)
    torch.testing.assert_close(values["bce"], build_loss("bce")(logits, target))


def test_scheduled_weights_depend_on_the_epoch_alone():
    terms = [{"name": "dice"}, {"name": "bce", "weight": 2.0, "schedule": {"kind": "linear", "start": 1.0, "end": 0.0}}]
    loss, resumed = build_loss(terms), build_loss(terms)
    history = []
    for epoch in range(5):
        loss.set_epoch(epoch, 5)
        history.append(loss.weights["bce"])
    assert history == [2.0, 1.5, 1.0, 0.5, 0.0]
    resumed.set_epoch(3, 5)
    assert resumed.weights == {"dice": 1.0, "bce": 0.5}


def test_distance_reaches_the_terms_that_use_it():
    logits, target = batch(1)
    loss = build_loss(["wfb", "bce"])
    with pytest.raises(AssertionError):  # a wrong distance must change the value
        torch.testing.assert_close(loss(logits, target, torch.zeros(target.shape)), loss(logits, target))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("wfbeta", r"no loss 'wfbeta', did you mean 'wfb'\?; known losses: .*bce.*dice.*wfb"),
        ("zzzz", "no loss 'zzzz'; known losses: "),
        (
            {"name": "wfb", "args": {"beta": 1.0}},
            r"loss 'wfb' has no argument 'beta', did you mean 'beta2'.*dependency",
        ),
        ({"name": "bce", "wieght": 2.0}, "no argument 'wieght', did you mean 'weight'"),
        ({"name": "wfb", "args": {2: 1.0}}, "has no argument 2; its arguments: beta2"),
        ({"name": "bce", "args": {"pos_weight": None}}, "loss 'bce' cannot be made with {'pos_weight': None}: '>' not"),
        ({"name": "wfb", "args": {"smooth": math.inf}}, "loss 'wfb': smooth must be finite, got inf"),
        ({"name": "bce", "schedule": {"kind": "linear", "last": "abc"}}, "schedule 'linear' cannot be made with"),
        ({"weight": 2.0}, "needs a name"),
        ({"name": "bce", "weight": 0}, "weight of loss 'bce' must be positive and finite, got 0; .* schedule"),
        (["wfb", {"name": "bce", "weight": -0.5}], "positive and finite, got -0.5"),
        ({"name": "bce", "weight": math.nan}, "positive and finite, got nan"),
        ({"name": "bce", "weight": math.inf}, "positive and finite, got inf"),
        ({"name": "bce", "schedule": {"kind": "expo"}}, "must be one of linear, cosine, step"),
        ("nosuch.module.Loss", "no loss at 'nosuch.module.Loss'"),
        ("torch.nn.NoSuchLoss", "no loss at 'torch.nn.NoSuchLoss'"),
        ([], "at least one term"),
    ],
)
def test_wrong_descriptions_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        build_loss(terms)


def test_dotted_path():
    loss = build_loss({"name": "spatialseg.losses.weighted_f.WeightedFBetaLoss", "args": {"beta2": 0.3}})
    assert list(loss.weights) == ["WeightedFBetaLoss"]
    with pytest.raises(TypeError, match="must be a class derived from"):
        build_loss("torch.nn.functional.mse_loss")


def test_two_losses_of_one_name_are_refused_with_both_places():
    with pytest.raises(ValueError, match=r'named "wfb": spatialseg.*weighted_f\.py.* and .*Mine.*test_registry\.py'):

        @register_loss("wfb")
        class Mine(nn.Module):
            pass

    assert register_loss("wfb")(loss_class("wfb")) is loss_class("wfb")  # the same class again, as on a reload
    with pytest.raises(ValueError, match="without dots"):
        register_loss("my.loss")


PLUGIN = """
from torch import nn

class BrierLoss(nn.Module):
    '''Mean squared error of the probability.'''
    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale
    def forward(self, logits, target):
        return self.scale * (logits.sigmoid()[:, 0] - target).square().mean()
"""


def wheel(folder: Path, name: str, points: dict[str, str], source: str) -> str:
    """Write a package of one module with entry points."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    lines = "\n".join(f"{point} = {value}" for point, value in points.items())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[spatialseg.losses]\n{lines}\n")
        archive.writestr(f"{info}/RECORD", "")
    return str(path)


def test_plugins_through_entry_points(tmp_path):
    points = {"brier": "brier_plugin:BrierLoss", "dice": "brier_plugin:BrierLoss"}
    wheels = [
        wheel(tmp_path, "brier_plugin", points, PLUGIN),
        wheel(tmp_path, "broken_plugin", {"broken": "broken_plugin:Loss"}, "import no_such_module"),
    ]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), *wheels], check=True, capture_output=True)
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
import torch
from spatialseg.losses import available_losses, build_loss
assert {{"brier", "broken", "wfb"}} <= set(available_losses()), available_losses()
loss = build_loss({{"name": "brier", "args": {{"scale": 2.0}}}})
assert loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2)).item() == 0.5
build_loss("wfb")
for name in ("dice", "broken"):
    try:
        build_loss(name)
    except (ValueError, ImportError) as error:
        print(error)
from spatialseg.cli import main
main(["losses", "check", "brier", "--args", "{{scale: 2.0}}"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # it takes ignored pixels for a class
    twice, broken, *checked = done.stdout.splitlines()
    assert "loss = build_loss({'name': 'brier', 'args': {'scale': 2.0}})" in checked
    assert any(line.startswith("# ignored pixels change nothing, C = 1: an ignored pixel has") for line in checked)
    assert 'two losses are named "dice"' in twice and "overlap.py" in twice and "brier_plugin.py" in twice
    assert 'the loss "broken" of package broken_plugin cannot be loaded' in broken and "no_such_module" in broken


def test_every_loss_of_the_zoo_is_there():
    zoo = "bce ce dice jaccard lovasz focal tversky floss structure boundary hausdorff ssim rmi wfb lal"
    assert set(zoo.split()) <= set(available_losses())
