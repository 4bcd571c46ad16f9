"""What losses there are, as text: `python -m spatialseg losses`, which hands `check` over to its module."""

import inspect
import sys
from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from torch import nn

from spatialseg.hints import command_parser
from spatialseg.losses import check
from spatialseg.losses.registry import available_losses, loss_class


def describe_losses() -> Table:
    """Return a table of all registered losses: name, arguments with defaults, binary or multi-class, paper."""
    table = Table("name", "targets", "arguments", "paper", show_lines=True)
    for name in available_losses():
        try:
            cls = loss_class(name)
        except (ImportError, TypeError, ValueError) as error:  # one broken plug-in must not hide the others
            table.add_row(Text(name), "", Text(str(error), style="red"), "")
            continue
        arguments = ", ".join(f"{argument}={default}" if default else argument for argument, default in _arguments(cls))
        table.add_row(Text(name), _targets(cls), Text(arguments), Text(getattr(cls, "paper", "")))
    return table


def describe_loss(name: str) -> Group:
    """Return all about one loss: its class, paper, targets, documentation and arguments.

    Args:
        name: A registered name or a dotted path.

    Raises:
        ValueError: There is no such loss.
    """
    cls = loss_class(name)
    table = Table("argument", "default", title="arguments", title_justify="left")
    for argument, default in _arguments(cls):
        table.add_row(Text(argument), Text(default or "required"))
    paper = getattr(cls, "paper", "") or "–"
    head = f"{name}: {cls.__module__}.{cls.__qualname__}\npaper: {paper}\ntargets: {_targets(cls)}\n"
    return Group(Text(head), Text(inspect.getdoc(cls) or ""), Text(), table)


def _arguments(cls: type[nn.Module]) -> list[tuple[str, str]]:
    """Return each argument and its default, "" where it has none."""
    return [
        (str(each) if each.kind is each.VAR_KEYWORD else name, "" if each.default is each.empty else repr(each.default))
        for name, each in inspect.signature(cls).parameters.items()
    ]


def _targets(cls: type[nn.Module]) -> str:
    kinds = {"binary": getattr(cls, "binary", True), "multi-class": getattr(cls, "multiclass", True)}
    return ", ".join(kind for kind, taken in kinds.items() if taken)


def main(args: Sequence[str]) -> None:
    """Print the table, or all about the loss that is named; `check NAME` checks it.

    Raises:
        SystemExit: With status 2 when there is no such loss; see `check.main`.
    """
    if args[:1] == ["check"]:
        check.main(args[1:])
        return
    parser = command_parser(
        "losses", "List the losses, or explain one of them; `losses check NAME` says whether one is sound.", "wfb"
    )
    parser.add_argument("name", nargs="?", help="a registered name or a dotted path")
    name = parser.parse_args(args).name
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        console.print(describe_loss(name) if name else describe_losses())
    except (ValueError, TypeError, ImportError) as error:
        parser.error(str(error))
