"""Losses for segmentation, by name: `build_loss("wfb")(logits, target)`."""

import importlib
import pkgutil

from spatialseg.losses.base import SegmentationLoss as SegmentationLoss
from spatialseg.losses.lal import LocallyAdaptiveLoss as LocallyAdaptiveLoss
from spatialseg.losses.registry import LossSum as LossSum
from spatialseg.losses.registry import LossTerm as LossTerm
from spatialseg.losses.registry import available_losses as available_losses
from spatialseg.losses.registry import build_loss as build_loss
from spatialseg.losses.registry import register_loss as register_loss
from spatialseg.losses.weighted_f import WeightedFBetaLoss as WeightedFBetaLoss

# Each module here registers its losses when imported, so adding one is adding a file.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
