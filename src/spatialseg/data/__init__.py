"""Data sets and the batches made of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatialseg.data.folders import FolderPairs, VOCLayout
    from spatialseg.data.module import SegmentationDataModule
    from spatialseg.data.scenes import ProceduralScenes
    from spatialseg.data.shards import Shards, write_shards
    from spatialseg.data.sloppy import SloppyMasks
    from spatialseg.data.source import DataError, Sample, Source

__all__ = [
    "DataError",
    "FolderPairs",
    "ProceduralScenes",
    "Sample",
    "SegmentationDataModule",
    "Shards",
    "SloppyMasks",
    "Source",
    "VOCLayout",
    "write_shards",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the classes above, each when asked for: readers need no Lightning
    for module in ("source", "folders", "scenes", "shards", "sloppy", "module") if name in __all__ else ():
        if hasattr(home := import_module(f"{__name__}.{module}"), name):
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
