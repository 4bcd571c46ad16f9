"""Help for whoever misspelt a name or asks for help."""

import argparse
import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` with the one name that begins so, or else is nearest; nothing where none is near."""
    known = list(known)
    begun = [each for each in known if each.startswith(str(name))]
    near = begun if len(begun) == 1 else difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def command_parser(command: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """Return the parser of a command, whose help ends with an example of its arguments."""
    return argparse.ArgumentParser(
        f"spatialseg {command}",
        description=description,
        epilog=f"example: python -m spatialseg {command} {example}".rstrip(),
        formatter_class=HelpFormatter,
    )


class HelpFormatter(argparse.HelpFormatter):
    """Leaves the example at the end of a help in one line, so that it can be pasted."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example: ") else super()._fill_text(text, width, indent)
