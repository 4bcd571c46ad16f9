"""Networks of segmentation-models-pytorch by name."""

import inspect
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from spatialseg.encoder import load_bundled_weights
from spatialseg.hints import did_you_mean

OURS = {"encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs"}
"""Arguments of the library that are set here, or would make the network's output something else than logits."""


def standardise(image: Tensor, mean: Tensor, std: Tensor, channels_last: bool = False) -> Tensor:
    """Scale RGB images, uint8 in [0, 255] or floating in [0, 1], to what an encoder expects.

    Args:
        image: Shape (N, 3, H, W).
        mean: Of each channel in [0, 1], shape (1, 3, 1, 1).
        std: The same.
        channels_last: Return them in this memory format, of a network that is in it too.
    """
    scaled = ((image / 255 if not image.is_floating_point() else image) - mean) / std
    return scaled.contiguous(memory_format=torch.channels_last) if channels_last else scaled


def make_network(
    architecture: str, encoder: str, encoder_weights: str | None, classes: int, args: Mapping[str, Any] | None = None
) -> nn.Module:
    """Make a network, with pretrained weights where asked for.

    Args:
        architecture: Name in `smp.create_model`.
        encoder: Name of the encoder; timm's begin with `tu-`.
        encoder_weights: `"bundled"`, `"imagenet"` or `None`.
        classes: Output channels.
        args: Further arguments of the architecture, such as `decoder_channels`.

    Raises:
        ValueError: There is no such architecture, encoder or argument, or there are no such weights; names the nearest.
    """
    architectures = smp.MODEL_ARCHITECTURES_MAPPING
    if architecture not in architectures:
        raise ValueError(
            f"there is no architecture {architecture!r}{did_you_mean(architecture, architectures)}; "
            f"there are: {', '.join(architectures)}"
        )
    timms = {f"tu-{name}" for name in timm.list_models()}
    if encoder not in smp.encoders.encoders and encoder.partition(".")[0] not in timms:
        raise ValueError(
            f"there is no encoder {encoder!r}{did_you_mean(encoder, [*smp.encoders.encoders, *timms])}; there are: "
            f"{', '.join(sorted(smp.encoders.encoders))}, and all networks of timm as tu-NAME"
        )
    known = inspect.signature(architectures[architecture]).parameters.keys() - OURS
    for name in args or {}:
        if name not in known:
            raise ValueError(
                f"{architecture} has no argument {name!r}{did_you_mean(name, known)}; network_args may hold: "
                f"{', '.join(sorted(known))}; --model.network_args=null takes the architecture's own"
            )
    library_weights = None if encoder_weights == "bundled" else encoder_weights
    network: nn.Module = architectures[architecture](
        encoder_name=encoder, encoder_weights=library_weights, classes=classes, **(args or {})
    )
    if encoder_weights == "bundled":
        load_bundled_weights(encoder, network.get_submodule("encoder"))
    return network
