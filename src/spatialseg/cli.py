"""The command line: `python -m spatialseg COMMAND ...`."""

import difflib
import sys
from collections.abc import Sequence

COMMANDS = {
    "fit": "train a network, test its best checkpoint, and say where the results are",
    "validate": "score a checkpoint on the validation images",
    "test": "score a checkpoint on the test images with every measure",
    "predict": "write the predictions of a checkpoint as PNG files",
    "score": "score saliency maps on disk against masks on disk",
    "compare": "show runs side by side: measures, differences, pictures",
    "explain": "draw how one image's score comes about, and where losses push",
    "evidence": "train what is missing of a table of evidence, and keep what came out",
    "tables": "make the tables and figures of the evidence anew from its records",
    "losses": "list the losses there are, or explain one of them",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: The command and its arguments; those of the process by default.

    Raises:
        SystemExit: With status 2 when the arguments, the configuration or the data cannot be used.
    """
    command, *rest = sys.argv[1:] if args is None else args or ["--help"]
    if command in ("-h", "--help"):
        print(_overview())
        return
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        sys.exit(f"spatialseg: there is no command {command!r}.{hint}\n\n{_overview()}")
    # Imported only when asked for, because the training stack takes seconds.
    if command == "losses":
        from spatialseg.losses.describe import main as describe

        describe(rest)
    elif command == "score":
        from spatialseg.score import main as score

        score(rest)
    elif command == "compare":
        from spatialseg.compare import main as compare

        compare(rest)
    elif command == "explain":
        from spatialseg.explain import main as explain

        explain(rest)
    elif command == "evidence":
        from spatialseg.evidence import main as evidence

        evidence(rest)
    elif command == "tables":
        from spatialseg.evidence import write_tables

        print("Written:", *write_tables(), sep="\n  ")
    else:
        from spatialseg.run.cli import run

        run([command, *rest])


def _overview() -> str:
    lines = [f"  {name:9} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: python -m spatialseg COMMAND [--help] ...", "", *lines])
