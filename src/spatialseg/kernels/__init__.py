"""What is compiled for the CPU with Numba: NumPy arrays in, numbers out, one image a call, without the GIL.

A module is imported when it is first used, since Numba takes a second. The first call of each kernel compiles it (a few
seconds); later processes load it from Numba's cache.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a module of kernels."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
