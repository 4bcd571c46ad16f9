"""Configuration files, read strictly."""

import argparse
import re
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from spatialseg.losses import LossTerm
from spatialseg.run.folder import RunError


class _StrictLoader(yaml.SafeLoader):
    """Refuses a mapping in which a key stands twice, of which YAML silently takes the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(name, str):
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {name!r} stands twice", problem_mark=key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file, making sure that it says each thing once.

    Args:
        path: YAML.

    Raises:
        RunError: Naming file, line and what is wrong.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RunError(f"the configuration {path}{line}: {error.problem}") from error
    except OSError as error:
        raise RunError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise RunError(f"the configuration {path} is no YAML text: it is nested too deeply") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"the configuration {path} is no YAML text: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise RunError(f"the configuration {path} must hold settings such as `model: ...`, got {content!r:.60}")
    return content


@dataclass(frozen=True)
class Said:
    """What a command line says, before anything is made of it.

    Args:
        resume: The value of `--resume`, if any.
        model: Names of the model's arguments that are given, by an option or in a file.
        loss: The terms of the loss that were said last, if any, each with all that it leaves to its defaults. Otherwise
            jsonargparse takes that from the terms of the same places in what was said before, such as the schedule of
            another loss.
    """

    resume: str | None
    model: set[str]
    loss: list[Any] | None = None


def listen(args: Sequence[str]) -> Said:
    """Look through a command line and its configuration files.

    Raises:
        RunError: A file cannot be read; see `read_config`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    parser.add_argument("-c", "--config", action="append", default=[], type=Path)
    found, _ = parser.parse_known_args(args)
    names = {match[1] for arg in args if (match := re.match(r"--model\.(\w+)", arg))}
    for path in found.config:
        sections = read_config(path)
        for name in ("trainer", "model", "data"):
            if not isinstance(section := sections.get(name, {}), dict):
                raise RunError(
                    f"the configuration {path}: {name} must hold settings, `key: value`, got {section!r:.60}"
                )
        names |= sections.get("model", {}).keys()
    return Said(None if found.resume == "null" else found.resume, names, _last_loss(args))


def _last_loss(args: Sequence[str]) -> list[Any] | None:
    """Return the terms of the loss as they were said last; nothing if they are no list or an option appends to them."""
    loss: Any = None
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        name, equals, value = arg.partition("=")
        value = value if equals else following
        if name in ("-c", "--config"):
            loss = (read_config(Path(value)).get("model") or {}).get("loss", loss)
        elif name == "--model.loss":
            try:
                loss = yaml.safe_load(value)
            except yaml.YAMLError:
                return None
        elif name.startswith("--model.loss"):
            return None
    if not isinstance(loss, list):
        return None
    return [{**asdict(LossTerm("")), **term} if isinstance(term, dict) and "name" in term else term for term in loss]


def plainly(message: str) -> str:
    """Shorten what jsonargparse says of a value to its name, what was expected, and what was given."""
    name = re.match(r'Parser key "([^"]+)": *(.*)', message)
    given = re.search(r"^ *Given value: (.*)", message, re.MULTILINE)
    if not (name or given):
        return message
    chatter = (
        "Does not validate",
        "Subtypes:",
        "Errors:",
        "Given value",
        "Expected a path but",
        "Parser key",
        "Problem",
    )
    lines = [*([name[2]] if name else []), *(line.strip().removeprefix("- ") for line in message.splitlines())]
    reasons = [line for line in lines if line and not line.startswith(chatter) and "NoneType'>" not in line]
    reason = "; or ".join(dict.fromkeys(re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", each) for each in reasons))
    reason = reason.replace("Expected", "expected").replace(". Got value:", ", got")
    found = f", got {given[1]:.80}" if given and not given[1].startswith("Namespace") else ""
    return (f"--{name[1]}: " if name else "") + reason + found
