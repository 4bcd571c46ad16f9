"""What others may rely on: API.txt lists it, and nothing of it changes unannounced.

`python tests/test_public_api.py` writes the list anew.
"""

import inspect
from importlib import import_module
from pathlib import Path

import yaml

from spatialseg.cli import COMMANDS
from spatialseg.losses import available_losses
from spatialseg.metrics import available_measures

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "API.txt"
MODULES = ("spatialseg", "spatialseg.data", "spatialseg.functional", "spatialseg.losses", "spatialseg.metrics")
CLASSES = {"spatialseg.inference.model": ("Inference", "Model")}


def signature(of: object) -> str:
    """Return names and defaults of the parameters; types are spelt differently from Python to Python."""
    parameters = inspect.signature(of).parameters.values()
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters if each.name != "self"]
    return str(inspect.Signature(plain))


def describe(name: str, thing: object) -> list[str]:
    if not callable(thing):
        return [f"{name}: {type(thing).__name__}"]
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return [f"{name}: {thing.__base__.__name__}"]
    if inspect.isclass(thing) and issubclass(thing, dict):
        return [f"{name}: {', '.join(thing.__annotations__)}"]
    lines = [name + signature(thing)]
    if inspect.isclass(thing):
        own = [key for key in vars(thing) if not key.startswith("_") and inspect.isfunction(vars(thing)[key])]
        lines += [f"{name}.{key}{signature(getattr(thing, key))}" for key in sorted(own)]
    return lines


def public_api() -> str:
    lines = ["# The public interface. Written by `python tests/test_public_api.py`; say in CHANGELOG.md what changed."]
    for module, names in ({module: public_names(module) for module in MODULES} | CLASSES).items():
        lines += ["", *(line for name in names for line in describe(f"{module}.{name}", get(module, name)))]
    measures = available_measures(further=True)
    for what, known in (("command", COMMANDS), ("loss", available_losses()), ("measure", measures)):
        lines += ["", *(f"{what} {name}" for name in sorted(known))]
    return "\n".join(lines) + "\n"


def public_names(module: str) -> list[str]:
    found = import_module(module)
    here = [name for name, thing in vars(found).items() if not (name.startswith("_") or inspect.ismodule(thing))]
    return sorted(getattr(found, "__all__", here))


def get(module: str, name: str) -> object:
    return getattr(import_module(module), name)


def test_the_public_interface_is_the_one_that_is_listed():
    listed, found = (set(text.splitlines()) for text in (LIST.read_text(), public_api()))
    gone, new = sorted(listed - found), sorted(found - listed)
    assert not gone and not new, (
        f"gone or changed: {gone}; new: {new}. If that is meant, say so in CHANGELOG.md and run "
        "python tests/test_public_api.py"
    )


def test_every_supported_python_is_tested():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    job = workflow["jobs"]["test"]
    pythons = {each["python"] for each in job["strategy"]["matrix"]["include"]}
    named = {
        line.strip().strip('",').rpartition(" ")[2]
        for line in (ROOT / "pyproject.toml").read_text().splitlines()
        if "Programming Language :: Python :: 3." in line
    }
    assert pythons == named
    assert any(step.get("run") == "make test" for step in job["steps"])


if __name__ == "__main__":
    LIST.write_text(public_api())
