"""Losses for segmentation, by name: `build_loss("wfb")(logits, target)`."""

import importlib
import pkgutil

from spatialseg.losses.base import SegmentationLoss
from spatialseg.losses.lal import LocallyAdaptiveLoss
from spatialseg.losses.registry import LossSum, LossTerm, available_losses, build_loss, register_loss
from spatialseg.losses.weighted_f import WeightedFBetaLoss

__all__ = [
    "LocallyAdaptiveLoss",
    "LossSum",
    "LossTerm",
    "SegmentationLoss",
    "WeightedFBetaLoss",
    "available_losses",
    "build_loss",
    "register_loss",
]

# Each module here registers its losses when imported, so adding one is adding a file.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
