"""The command line: `python -m spatialseg COMMAND ...`."""

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from spatialseg.extras import how_to_install
from spatialseg.hints import did_you_mean

COMMANDS = {
    "fit": ("run.cli", "train a network, test its best checkpoint, and say where the results are"),
    "validate": ("run.cli", "score a checkpoint on the validation images"),
    "test": ("run.cli", "score a checkpoint on the test images with every measure"),
    "predict": ("predict", "write what a trained network sees in images: maps, masks, cut-outs, overlays"),
    "export": ("export", "hand a trained network on: ONNX, torch.export, segmentation-models-pytorch"),
    "score": ("score", "score saliency maps on disk against masks on disk"),
    "compare": ("compare", "show runs side by side: measures, differences, pictures"),
    "explain": ("explain", "draw how one image's score comes about, and where losses push"),
    "evidence": ("evidence", "train what is missing of a table of evidence, and keep what came out"),
    "tables": ("tables", "make the tables and figures of the evidence anew from its records"),
    "losses": ("losses.describe", "list the losses there are, or explain one of them"),
}
"""Of each command, the module whose `main` runs it, imported only then, and what it does."""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: The command and its arguments; those of the process by default.

    Raises:
        SystemExit: With status 2 when the arguments, the configuration or the data cannot be used.
    """
    _keep_freed_memory()
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        print(_overview())
        return
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        print(f"spatialseg: there is no command {command!r}{hint}\n\n{_overview()}", file=sys.stderr)
        sys.exit(2)
    module = COMMANDS[command][0]
    if module == "run.cli" and "GOMP_SPINCOUNT" not in os.environ and busy_cores() > 0.5:
        # Threads of GNU OpenMP wait for each other by spinning. When one has to wait for a core that others use, that
        # costs several times the work. This is for how long they spin where the library knows of too few cores itself.
        os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        # One module runs all the commands that go through Lightning, which has to know which.
        import_module(f"spatialseg.{module}").main([command, *rest] if module == "run.cli" else rest)
    except ModuleNotFoundError as error:
        if not (advice := how_to_install(error)):
            raise
        print(f"spatialseg {command}: {advice}", file=sys.stderr)
        raise SystemExit(2) from None


def busy_cores(seconds: float = 0.1) -> float:
    """Return how many cores other processes keep busy, by what Linux counts in that time; elsewhere 0."""

    def count() -> tuple[int, int]:
        times = [int(ticks) for ticks in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
        return sum(times), times[3] + times[4]  # idle, or waiting for a disk

    try:
        before, idle = count()
        time.sleep(seconds)
        after, still_idle = count()
    except (OSError, ValueError):
        return 0.0
    return (os.cpu_count() or 1) * (1 - (still_idle - idle) / max(1, after - before))


def _keep_freed_memory() -> None:
    """Have glibc hold on to freed memory, so that the next step's tensors need no new pages; elsewhere do nothing.

    By default every tensor of more than 32 MB is mapped and unmapped anew, and the kernel clears its pages each time.
    Where any of glibc's own variables `MALLOC_...` is set, nothing is done.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


def _overview() -> str:
    lines = [f"  {name:9} {what}" for name, (_, what) in COMMANDS.items()]
    example = "example: python -m spatialseg losses wfb"
    return "\n".join(["usage: python -m spatialseg COMMAND [--help] ...", "", *lines, "", example])
