"""Train segmentation networks with spatially sensitive losses and score them with the weighted F-measure."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatialseg.inference.model import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - only who loads a network needs the libraries of networks
    if name == "load":
        from spatialseg.extras import import_extra

        return import_extra("spatialseg.inference.model").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
