"""Is a loss sound? What the losses here are tested for, run on any loss, and the smallest example of what fails.

python -m spatialseg losses check my_package.losses.MyLoss
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from spatialseg.hints import command_parser
from spatialseg.losses.registry import make_loss
from spatialseg.strict_yaml import read_yaml

SHAPES = ((1, 1, 1), (1, 1, 3), (2, 2, 2), (1, 3, 4), (2, 9, 10))
"""Images, height and width that each check is run on, the smallest first."""
LARGE = (1, 384, 384)
"""Enough pixels for a sum of probabilities in float16 to overflow."""
CHANNELS = (1, 3)
TRIES = 400  # of a simpler example
MANY = 1000  # values to write out


@dataclass(frozen=True)
class Check:
    """Something that should hold.

    Args:
        name: What holds, in a few words.
        fault: Says of loss, float64 logits (N, C, H, W) and int64 target (N, H, W) what does not hold, or "".
        show: Code that shows it, given `loss`, `logits` in float32 and `target`.
        prepare: Turns a random batch and the ignored value into one that the check is about; leaves such a one alone.
        shapes: What it is run on.
        claim: Whether the loss says so; if not, nothing is claimed, and a fault is none.
        rounded: Whether an example may have rounder logits; those can lie where a loss has no derivative.
    """

    name: str
    fault: Callable[[nn.Module, Tensor, Tensor], str]
    show: str = "value = loss(logits.requires_grad_(), target)\nvalue.backward()\nprint(value, logits.grad)"
    prepare: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] = lambda logits, target, _: (logits, target)
    shapes: Sequence[tuple[int, int, int]] = SHAPES
    claim: Callable[[nn.Module], bool] = lambda loss: True
    rounded: bool = True


@dataclass(frozen=True)
class Finding:
    """What came of one check with one number of channels."""

    check: str
    channels: int
    fault: str
    """What does not hold; "" if all does."""
    claimed: bool
    """Whether the loss claims that it holds."""
    example: str
    """Code that shows the fault."""

    @property
    def verdict(self) -> str:
        """`holds`, `fails`, or `not claimed`: does not hold, nor does the loss say so."""
        return "holds" if not self.fault else "fails" if self.claimed else "not claimed"


def check_loss(name: str, args: Mapping[str, Any] | None = None, compiled: bool = False) -> list[Finding]:
    """Check a loss.

    Args:
        name: A registered name, or the dotted path of a class.
        args: Its arguments.
        compiled: Also check that `torch.compile` changes nothing; it takes a minute.

    Returns:
        What came of each check, for logits of one channel and of three, as far as the loss takes them.

    Raises:
        ValueError: There is no such loss or argument, or it takes neither number of channels.
    """
    args = dict(args or {})
    loss = make_loss(name, args)
    refusals = {channels: _fault(RUNS, loss, *draw_batch(channels, SHAPES[-1], 0)) for channels in CHANNELS}
    kinds = {1: getattr(loss, "binary", not refusals[1]), 3: getattr(loss, "multiclass", not refusals[3])}
    if not any(kinds.values()):
        reasons = "; ".join(f"C = {channels}: {refusal}" for channels, refusal in refusals.items())
        raise ValueError(f"{name} takes neither binary logits nor those of several classes: {reasons}")
    taken = [channels for channels in CHANNELS if kinds[channels]]
    checks = [*CHECKS, COMPILES] if compiled else CHECKS
    return [_found(check, loss, channels, name, args) for check in checks for channels in taken]


def _found(check: Check, loss: nn.Module, channels: int, name: str, args: dict[str, Any]) -> Finding:
    claimed = check.claim(loss)
    for shape in check.shapes:
        for seed in range(2 if shape[2] < 4 else 1):
            drawn = _prepared(check, loss, *draw_batch(channels, shape, seed))
            if _fault(check, loss, *drawn):
                batch = _simplest(check, loss, *drawn)
                lines = [f"logits = {_written(batch[0])}", f"target = {_written(batch[1])}"]
                if any(map(_many, batch)):
                    batch, lines = drawn, [f"logits, target = draw_batch({channels}, {shape}, {seed})"]
                fault = _fault(check, loss, *batch)
                return Finding(
                    check.name,
                    channels,
                    fault,
                    claimed,
                    _code(check.show.replace("{ignored}", str(_ignored(loss))), name, args, lines),
                )
    return Finding(check.name, channels, "", claimed, "")


def draw_batch(channels: int, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Return float64 logits and a target: noise if it is small, else blobs of 3 pixels."""
    generator = torch.Generator().manual_seed(seed)
    images, height, width = shape
    logits = 2 * torch.randn(images, channels, height, width, dtype=torch.float64, generator=generator)
    cell = 3 if height > 4 else 1
    noise = torch.rand(images, 1, -(-height // cell), -(-width // cell), generator=generator)
    target = F.interpolate(noise, scale_factor=cell)[:, 0, :height, :width] * max(channels, 2)
    return logits, target.long()


def _ignored(loss: nn.Module) -> int:
    """Return the value of ignored pixels; 255 if the loss knows none."""
    index = getattr(loss, "ignore_index", None)
    return 255 if index is None else int(index)


def _prepared(check: Check, loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return check.prepare(logits, target, _ignored(loss))


def _fault(check: Check, loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    """Return what the check finds; an exception is a fault too."""
    try:
        return check.fault(loss, logits.clone(), target.clone())
    except Exception as error:  # whatever somebody's loss may raise
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _simplest(check: Check, loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Make an example smaller and its values rounder as long as it fails, one step at a time."""
    best, tries = (logits, target), TRIES if check is not COMPILES else 0
    improved = True
    while improved and tries > 0:
        improved = False
        for candidate in _simpler(*best, check.rounded):
            candidate = _prepared(check, loss, *candidate)
            if _length(*candidate) < _length(*best):
                tries -= 1
                if _fault(check, loss, *candidate):
                    best, improved = candidate, True
                    break
    return best


def _simpler(logits: Tensor, target: Tensor, rounded: bool) -> Iterator[tuple[Tensor, Tensor]]:
    for axis, length in enumerate(target.shape):
        for part in _parts(length):
            places = torch.arange(length)[part]
            yield logits.index_select(axis + 1 if axis else 0, places), target.index_select(axis, places)
    yield logits, torch.zeros_like(target)
    yield logits, torch.ones_like(target)
    for place in range(target.numel() if target.numel() <= 64 else 0):
        yield logits, target.flatten().index_fill(0, torch.tensor(place), 0).view_as(target)
    yield logits.round(decimals=1), target
    if rounded:
        yield torch.zeros_like(logits), target
        yield logits.round(), target
        for place in range(logits.numel() if logits.numel() <= 64 else 0):
            yield logits.flatten().index_fill(0, torch.tensor(place), 0.0).view_as(logits), target


def _parts(length: int) -> Sequence[slice]:
    """Return what to try of the images, rows or columns: a half, and where there are few, all but one."""
    halves = slice(length // 2), slice(length // 2, None)
    return () if length == 1 else halves if length > 16 else (*halves, slice(1, None), slice(-1))


def _length(logits: Tensor, target: Tensor) -> tuple[int, int]:
    return target.numel(), sum(MANY if _many(each) else len(_written(each)) for each in (logits, target))


def _varied(tensor: Tensor) -> bool:
    return not bool((tensor == tensor.flatten()[0]).all())


def _many(tensor: Tensor) -> bool:
    """Say whether a tensor is too large to be written out."""
    return tensor.numel() > MANY and _varied(tensor)


def _written(tensor: Tensor) -> str:
    """Return code that makes a tensor; negative zeros lose their sign."""
    if tensor.numel() > 1 and not _varied(tensor):
        return f"torch.full({tuple(tensor.shape)}, {tensor.flatten()[0].item() + 0})"
    return f"torch.tensor({(tensor + 0).tolist()})"


def _code(show: str, name: str, args: dict[str, Any], batch: Sequence[str]) -> str:
    term = repr({"name": name, "args": args} if args else name)
    lines = ["import torch", "from spatialseg.losses import build_loss", "", f"loss = build_loss({term})", *batch]
    if "draw_batch" in batch[0]:
        lines.insert(2, "from spatialseg.losses.check import draw_batch")
    return "\n".join([*lines, show])


def _measured(loss: Callable[..., Tensor], logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value, summed if there are several, and the gradient of the logits."""
    logits = logits.detach().requires_grad_()
    value = loss(logits, target).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def _not_finite(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    value, gradient = _measured(loss, logits.float(), target)
    if not value.isfinite():
        return f"the value is {value:g}"
    return "" if gradient.isfinite().all() else f"the gradient holds {int((~gradient.isfinite()).sum())} times NaN or ∞"


def _differs(what: str, found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> str:
    """Say that two tensors are not the same, up to a tolerance relative to the largest value."""
    found, expected = found.double(), expected.double()
    gap = (found - expected).abs().max()
    if gap <= tolerance * expected.abs().max() + 1e-6:  # not if it is NaN
        return ""
    return f"{what}: {found:.6g} instead of {expected:.6g}" if found.ndim == 0 else f"{what} by up to {gap:.3g}"


def _both_differ(what: str, found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> str:
    value = _differs(f"{what} changes the value", found[0], expected[0])
    return value or _differs(f"{what} changes the gradient", found[1], expected[1])


def _with_ignored(logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    target = target.clone()
    if not (target == ignored).any():
        target[0, : -(-target.shape[1] // 2), : -(-target.shape[2] // 2)] = ignored
    return logits, target


def _ignored_matters(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    left_out = (target == _ignored(loss))[:, None]
    logits = logits.float()
    value, gradient = _measured(loss, logits, target)
    other, _ = _measured(loss, logits + 3 * left_out, target)
    if (gradient * left_out).any():
        return f"an ignored pixel has a gradient of {(gradient * left_out).abs().max():.3g}"
    return _differs("other logits at ignored pixels change the value", other, value)


def _padding_matters(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    value, _ = _measured(loss, logits.float(), target)
    labels = F.pad(target, (0, 2, 0, 3), value=_ignored(loss))
    wide, _ = _measured(loss, F.pad(logits.float(), (0, 2, 0, 3), value=3.0), labels)
    return _differs("3 rows and 2 columns of ignored pixels change the value", wide, value)


def _alarm_is_free(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    _, gradient = _measured(loss, logits.float(), target)
    right = gradient[:, :1] if logits.shape[1] > 1 else -gradient
    return "" if (right < 0).any() else "nothing draws a false alarm back to the background"


def _saturated(right: bool, logits: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    classes = max(logits.shape[1], 2)
    hot = F.one_hot(target.where(target != ignored, 0), classes).movedim(-1, 1)[:, -logits.shape[1] :]
    return (2.0 * hot.double() - 1) * (1e4 if right else -1e4), target


def _half_differs(dtype: torch.dtype, loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    half = logits.to(dtype)
    value, gradient = _measured(loss, half, target)
    if not (value.isfinite() and gradient.isfinite().all()):
        return f"value {value:g}, {int((~gradient.isfinite()).sum())} times NaN or ∞ in the gradient"
    expected, _ = _measured(loss, half.float(), target)
    return _differs("the value", value, expected, tolerance=1e-2)


def _layout_matters(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    logits = logits.float()
    expected = _measured(loss, logits, target)
    for what, strided in (
        ("channels last", (logits.to(memory_format=torch.channels_last), target)),
        ("every second value of a tensor", tuple(torch.stack([each, each], -1)[..., 0] for each in (logits, target))),
        ("a transposed tensor", (logits.mT.contiguous().mT, target.mT.contiguous().mT)),
    ):
        if fault := _both_differ(what, _measured(loss, *strided), expected):
            return fault
    return ""


def _input_changes(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    before = logits.clone(), target.clone()
    _measured(loss, logits, target)
    same = torch.equal(logits, before[0]) and torch.equal(target, before[1])
    return "" if same else "the loss writes to its logits or its target"


def _order_matters(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    found, _ = _measured(loss, logits.flip(0), target.flip(0))
    return _differs("the images in another order", found, _measured(loss, logits, target)[0])


def _batch_differs(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    each = [_measured(loss, logits[i : i + 1], target[i : i + 1])[0] for i in range(len(logits))]
    return _differs("the batch", _measured(loss, logits, target)[0], torch.stack(each).mean())


def _gradient_is_wrong(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    exact = loss(logits, target).dtype is torch.float64
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if exact else (1e-2, 1e-2, 1e-2)  # for one that computes in float32
    logits = logits.requires_grad_()

    def value(logits: Tensor) -> Tensor:
        found: Tensor = loss(logits, target).double().sum()
        return found

    torch.autograd.gradcheck(value, logits, eps=eps, atol=atol, rtol=rtol, fast_mode=logits.numel() > 24)  # raises
    return ""


def _compiled_differs(loss: nn.Module, logits: Tensor, target: Tensor) -> str:
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True)
    logits = logits.float()
    return _both_differ("torch.compile", _measured(compiled, logits, target), _measured(loss, logits, target))


RUNS = Check("runs", _not_finite)
COMPILES = Check("torch.compile, as one graph, changes nothing", _compiled_differs, shapes=SHAPES[-1:])
CHECKS = (
    Check("any size of image: finite value and gradient", _not_finite),
    Check(
        "gradient of the value, in float64 (gradcheck)",
        _gradient_is_wrong,
        "torch.autograd.gradcheck(lambda x: loss(x, target), logits.double().requires_grad_())",
        rounded=False,
    ),
    Check("ignored pixels change nothing", _ignored_matters, prepare=_with_ignored),
    Check(
        "padding with ignored pixels changes nothing",
        _padding_matters,
        "pad = torch.nn.functional.pad\n"
        "wide = pad(logits, (0, 2, 0, 3), value=3.0), pad(target, (0, 2, 0, 3), value={ignored})\n"
        "print(loss(logits, target), loss(*wide))",
    ),
    Check(
        "all ignored: finite, without gradient",
        lambda loss, logits, target: _not_finite(loss, logits, target) or _ignored_matters(loss, logits, target),
        prepare=lambda logits, target, ignored: (logits, torch.full_like(target, ignored)),
    ),
    Check("empty mask: finite", _not_finite, prepare=lambda logits, target, _: (logits, target * 0)),
    Check("empty mask: a false alarm costs", _alarm_is_free, prepare=lambda logits, target, _: (logits, target * 0)),
    Check("full mask: finite", _not_finite, prepare=lambda logits, target, _: (logits, target * 0 + 1)),
    Check("saturated logits, all right: finite", _not_finite, prepare=partial(_saturated, True)),
    Check("saturated logits, all wrong: finite", _not_finite, prepare=partial(_saturated, False)),
    *(
        Check(
            f"{kind}: as in float32, to 1%",
            partial(_half_differs, dtype),
            f"print(loss(logits.to({dtype}), target), loss(logits.to({dtype}).float(), target))",
            shapes=shapes,
        )
        for kind, dtype, shapes in (("float16", torch.float16, (*SHAPES, LARGE)), ("bfloat16", torch.bfloat16, SHAPES))
    ),
    Check(
        "layout in memory changes nothing",
        _layout_matters,
        "print(loss(logits, target), loss(logits.mT.contiguous().mT, target.mT.contiguous().mT))",
    ),
    Check("logits and target are left as they are", _input_changes, prepare=_with_ignored),
    Check(
        "order of the images changes nothing",
        _order_matters,
        "print(loss(logits, target), loss(logits.flip(0), target.flip(0)))",
    ),
    Check(
        "a batch is the mean of its images",
        _batch_differs,
        "each = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(len(logits))]\n"
        "print(loss(logits, target), sum(each) / len(each))",
        claim=lambda loss: getattr(loss, "per_image", False) and getattr(loss, "reduction", "mean") == "mean",
    ),
)
"""What should hold of every loss."""


def read_args(text: str) -> dict[str, Any]:
    """Return what a mapping in YAML says.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        values = read_yaml(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise ArgumentTypeError(f"expected a mapping such as '{{beta2: 0.3}}', each key once, got {text!r}")
    return values


def main(args: Sequence[str]) -> None:
    """Print what holds and what does not.

    Raises:
        SystemExit: With status 1 when something that is claimed does not hold, 2 when there is no such loss.
    """
    parser = command_parser(
        "losses check",
        "Check whether a loss is sound, and show the smallest example of what does not hold.",
        "wfb --args '{beta2: 0.3}'",
    )
    parser.add_argument("name", help="a registered name or the dotted path of a class")
    parser.add_argument("--args", type=read_args, default={}, metavar="YAML", help="arguments of the loss")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too; it takes a minute")
    options = parser.parse_args(args)
    try:
        findings = check_loss(options.name, options.args, options.compile)
    except (ValueError, TypeError, ImportError) as error:
        parser.error(str(error))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    channels = sorted({finding.channels for finding in findings})
    table = Table(options.name, *("binary" if each == 1 else f"{each} classes" for each in channels))
    styles = {"holds": "green", "fails": "red", "not claimed": "dim"}
    for first in range(0, len(findings), len(channels)):
        row = findings[first : first + len(channels)]
        table.add_row(row[0].check, *(Text(each.verdict, styles[each.verdict]) for each in row))
    console.print(table)
    failed = [finding for finding in findings if finding.verdict == "fails"]
    for finding in failed:
        print(f"\n# {finding.check}, C = {finding.channels}: {finding.fault}\n{finding.example}")
    if failed:
        sys.exit(1)
