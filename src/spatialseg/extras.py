"""Libraries that not every use needs, and which extra of the package brings them."""

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

IMPORTED_AS = {"opencv_python_headless": "cv2", "scikit_image": "skimage"}


def libraries() -> dict[str, str]:
    """Return the extra that brings each library, as the package's metadata has it, by the name that is imported.

    Nothing where the package is not installed, but runs from its sources.
    """
    extra = re.compile(r"""([\w-]+).* extra == ['"](hce|onnx|shards|train)['"]""")
    try:
        found = map(extra.match, requires("spatialseg") or ())
    except PackageNotFoundError:
        return {}
    names = {match[1].replace("-", "_"): match[2] for match in found if match}
    return {IMPORTED_AS.get(name, name): extra for name, extra in names.items()}


def how_to_install(error: ModuleNotFoundError) -> str | None:
    """Say which extra brings the module that was not found, or nothing if none does."""
    missing = (error.name or "").partition(".")[0]
    extra = libraries().get(missing)
    return f"{missing} is not installed; pip install 'spatialseg[{extra}]' brings it" if extra else None


def import_extra(module: str) -> Any:  # noqa: ANN401
    """Import a module of such a library, at the place that needs it.

    Raises:
        ModuleNotFoundError: It is not installed; says which extra brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(how_to_install(error) or str(error), name=error.name) from error
