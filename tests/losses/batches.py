"""Random batches, and the losses that every test of all losses runs over."""

import pytest
import torch

from spatialseg.losses import available_losses
from spatialseg.losses.registry import loss_class

CHANNELS = (1, 3)


def cases() -> list:
    """Return each built-in loss with each number of channels that it takes."""
    return [
        pytest.param(name, channels, id=f"{name}-{channels}")
        for name in available_losses()
        for channels in CHANNELS
        if (loss_class(name).binary if channels == 1 else loss_class(name).multiclass)
    ]


def batch(channels: int, shape: tuple[int, ...] = (2, 12, 15), seed: int = 0, ignored: bool = True):
    """Return float64 logits and a target with a few ignored pixels, blobs rather than noise."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], channels, *shape[1:], dtype=torch.float64, generator=generator)
    noise = torch.rand(shape[0], 1, *(-(-side // 4) for side in shape[1:]), generator=generator)
    target = torch.nn.functional.interpolate(noise, size=shape[1:])[:, 0].mul(max(channels, 2)).long()
    if ignored:
        target[0, : shape[1] // 4, : shape[2] // 2] = 255
    return logits, target
