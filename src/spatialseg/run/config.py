"""Configuration files, read strictly."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from spatialseg.losses import LossTerm
from spatialseg.run.folder import RunError
from spatialseg.strict_yaml import read_yaml


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file, making sure that it says each thing once.

    Args:
        path: YAML.

    Raises:
        RunError: Naming file, line and what is wrong.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RunError(f"the configuration {path}{line}: {error.problem}") from error
    except OSError as error:
        raise RunError(f"the configuration {path} cannot be read: {error.strerror}") from error
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
        RunError: A file cannot be read, see `read_config`, or a loss is a name alone.
    """
    resume: str | None = None
    names: set[str] = set()
    loss: Any = None
    for arg, following in zip(args, [*args, ""][1:], strict=True):
        option, equals, value = arg.partition("=")
        value = value if equals else following
        if option in ("-c", "--config", "--model"):
            model = _sections(Path(value)).get("model", {}) if option != "--model" else _settings(value)
            names |= model.keys()
            loss = model.get("loss", loss)
        elif option == "--resume":
            resume = None if value in ("null", "") else value
        elif match := re.match(r"--model\.(\w+)", option):
            names.add(match[1])
            if match[1] == "loss":
                loss = None  # appended to, or no YAML
                with suppress(yaml.YAMLError):
                    loss = read_yaml(value) if option == "--model.loss" else loss
    given = [loss] if isinstance(loss, str) else loss if isinstance(loss, list) else []
    if any(isinstance(term, str) for term in given):
        written = ", ".join(f"{{name: {term}}}" if isinstance(term, str) else "…" for term in given)
        raise RunError(f"model.loss must be a list of terms, got {loss!r}; write [{written}]")
    if not isinstance(loss, list):
        return Said(resume, names)
    defaults = asdict(LossTerm(""))
    terms = [{**defaults, **term} if isinstance(term, dict) and "name" in term else term for term in loss]
    return Said(resume, names, terms)


def _settings(value: str) -> dict[str, Any]:
    """Return what an option sets that takes YAML text or a file of it; nothing if that is no mapping."""
    if os.path.isfile(value):  # a Path does not take any text
        return read_config(Path(value))
    try:
        settings = read_yaml(value)
    except yaml.YAMLError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _sections(path: Path) -> dict[str, Any]:
    """Read a configuration file, and make sure that its sections are such."""
    sections = read_config(path)
    for name in ("trainer", "model", "data"):
        if not isinstance(section := sections.get(name, {}), dict):
            raise RunError(f"the configuration {path}: {name} must hold settings, `key: value`, got {section!r:.60}")
    return sections


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
