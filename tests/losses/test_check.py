"""Each check finds the loss that is broken in its way, and shows it with a small example that runs."""

import pytest
import torch
from torch import nn

from spatialseg.losses import available_losses
from spatialseg.losses.check import check_loss, main

PER_PIXEL = nn.functional.binary_cross_entropy_with_logits


class Recall(nn.Module):
    """Undefined without foreground, blind to false alarms, ignores nothing."""

    def forward(self, logits, target):
        return 1 - (logits.sigmoid()[:, 0] * (target == 1)).sum() / (target == 1).sum()


class Padded(nn.Module):
    """Divides by ignored pixels too."""

    def forward(self, logits, target):
        return PER_PIXEL(logits[:, 0], (target == 1).to(logits.dtype), weight=(target != 255).to(logits.dtype))


class Leaky(nn.Module):
    """Takes ignored pixels for background."""

    def forward(self, logits, target):
        return PER_PIXEL(logits[:, 0], (target == 1).to(logits.dtype))


class Unsafe(nn.Module):
    """Takes the logarithm of a probability."""

    def forward(self, logits, target):
        score = logits.sigmoid()[:, 0]
        cost = torch.where(target == 1, -score.log(), -(1 - score).log()) * (target != 255)
        return cost.sum() / (target != 255).sum().clamp(min=1)


class Detached(nn.Module):
    """Gives half of its gradient."""

    def forward(self, logits, target):
        error = (logits.sigmoid()[:, 0] - (target == 1).to(logits.dtype)) * (target != 255)
        return (error * error.detach()).sum() / (target != 255).sum().clamp(min=1)


class Overflowing(nn.Module):
    """Sums in the precision of its input, and says that it takes each image by itself."""

    per_image = True

    def forward(self, logits, target):
        inside, valid = (target == 1).to(logits.dtype), (target != 255).to(logits.dtype)
        score = logits.sigmoid()[:, 0] * valid
        return 1 - (2 * (score * inside).sum() + 1) / (score.sum() + inside.sum() + 1)


class Flat(nn.Module):
    """Assumes one layout, writes to the target, and weighs the first image twice."""

    def forward(self, logits, target):
        target[target == 255] = 0
        inside = (target == 1).to(logits.dtype).view(-1)
        cost = PER_PIXEL(logits.view(-1), inside, reduction="none").view(len(logits), -1)
        return cost.mean() + cost[0].mean()


class Fails(nn.Module):
    """Takes nothing."""

    def forward(self, logits, target):
        raise NotImplementedError("not yet")


def failures(name: str, **args) -> dict:
    found = check_loss(name, args)
    return {finding.check: finding for finding in found if finding.verdict == "fails"}


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Recall, {"empty mask: finite": 1, "any size of image: finite value and gradient": 1}),
        (Padded, {"padding with ignored pixels changes nothing": 1}),
        (Leaky, {"ignored pixels change nothing": 1, "padding with ignored pixels changes nothing": 1}),
        (Unsafe, {"saturated logits, all wrong: finite": 1}),
        (Detached, {"gradient of the value, in float64 (gradcheck)": 1}),
        (Overflowing, {"float16: as in float32, to 1%": 400**2, "a batch is the mean of its images": 2}),
        (
            Flat,
            {
                "layout in memory changes nothing": 9,
                "logits and target are left as they are": 1,
                "order of the images changes nothing": 2,
            },
        ),
    ],
)
def test_broken_losses_are_found_with_a_small_example(cls, expected, capsys):
    found = failures(f"{__name__}.{cls.__name__}")
    assert expected.keys() <= found.keys()
    for check, pixels in expected.items():
        scope = {}
        try:
            exec(found[check].example, scope)
        except RuntimeError as error:  # what the fault is about
            assert str(error).partition("\n")[0] in found[check].fault
        assert scope["target"].numel() <= pixels and len(found[check].example) < 1000, found[check].example


class Hundred(Leaky):
    """Ignores -100, as PyTorch does."""

    ignore_index = -100


def test_examples_pad_with_what_the_loss_ignores():
    (found,) = (found for check, found in failures(f"{__name__}.Hundred").items() if check.startswith("padding"))
    assert "value=-100)" in found.example


def test_a_loss_that_ignores_nothing_is_checked():
    name = "segmentation_models_pytorch.losses.DiceLoss"
    assert "any size of image: finite value and gradient" in {
        each.check for each in check_loss(name, {"mode": "binary"})
    }


def test_an_unknown_argument_and_a_loss_that_takes_nothing_are_refused(capsys):
    with pytest.raises(ValueError, match="did you mean 'beta2'"):
        check_loss("wfb", {"beta": 2.0})
    with pytest.raises(ValueError, match=r"takes neither binary logits.*not yet"):
        check_loss(f"{__name__}.Fails")
    with pytest.raises(SystemExit, match="2"):
        main(["nosuch"])
    assert "there is no loss 'nosuch'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{beta2: 0.3", "3", "", "{beta2: 1, beta2: 2}"])
def test_arguments_that_are_no_mapping_are_refused(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["wfb", "--args", text])
    assert f"expected a mapping such as '{{beta2: 0.3}}', each key once, got {text!r}" in capsys.readouterr().err


ALARM = "empty mask: a false alarm costs"
KNOWN = {name: {ALARM} for name in ("boundary", "dice", "hausdorff", "jaccard", "tversky")}
"""What does not hold of losses of the field, by their definition or as their library has them."""


@pytest.mark.parametrize("name", available_losses())
def test_losses_here_are_sound(name):
    assert failures(name).keys() == KNOWN.get(name, set())


def test_command_shows_what_holds_and_what_fails(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["dice", "--args", "{smooth: 0e0}"])
    shown = capsys.readouterr().out
    assert "3 classes" in shown and "not claimed" in shown
    assert "build_loss({'name': 'dice', 'args': {'smooth': 0.0}})" in shown and "torch.tensor([[[0]]])" in shown


def test_compiled_loss_is_compared():
    (found,) = (finding for finding in check_loss("bce", compiled=True) if "compile" in finding.check)
    assert found.verdict == "holds"
