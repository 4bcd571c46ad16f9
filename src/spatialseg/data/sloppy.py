"""Masks as hurried annotators draw them, to see which losses forgive it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from spatialseg.data.samples import Batch, Wrapped
from spatialseg.data.source import IGNORE_INDEX, Sample, Source, Split

Mask = NDArray[np.bool_]


class SloppyMasks(Source):
    """Another data set whose training masks are drawn sloppily; those of validation and test stay as they are.

    Args:
        source: The data set; foreground against background.
        kind: `"dilated"` or `"eroded"` by a disc (a mask of which nothing would be left stays as it is), `"polygon"`:
            straight lines between corners that lie so far apart along the outline, `"shifted"` in a direction of each
            image's own.
        amount: The disc's radius, the corners' distance or the shift, as a share of the image's diagonal.
        seed: Of the directions.

    Raises:
        ValueError: The source has several classes, or an argument is out of its range.
    """

    def __init__(
        self,
        source: Source,
        kind: Literal["dilated", "eroded", "polygon", "shifted"],
        amount: float = 0.02,
        seed: int = 0,
    ) -> None:
        if source.classes > 1:
            raise ValueError(
                f"masks of one foreground can be made sloppy, {source.name!r} has {source.classes} classes"
            )
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if not 0 < amount < 1 or seed < 0:
            raise ValueError(
                f"amount must be between 0 and 1, a share of the diagonal, and seed >= 0: {amount}, {seed}"
            )
        super().__init__(source.name, source.classes, source.class_names)
        self.source = source
        self.kind = kind
        self.amount = amount
        self.seed = seed
        self.in_memory = source.in_memory

    def dataset(self, split: Split) -> Dataset[Any]:
        """Return one split; see `Source.dataset`."""
        samples = self.source.dataset(split)
        return _SloppySamples(samples, self) if split == "train" else samples

    def check(self) -> None:
        """Check the data set beneath."""
        self.source.check()

    def spoil(self, mask: Tensor, index: int) -> Tensor:
        """Return the mask of training image `index`, uint8 (H, W), drawn sloppily; ignored pixels stay ignored."""
        clean = mask.numpy()
        distance = max(1.0, self.amount * float(np.hypot(*clean.shape)))
        sloppy = KINDS[self.kind](clean == 1, distance, np.random.default_rng([self.seed, index]))
        return torch.from_numpy(np.where(clean == IGNORE_INDEX, IGNORE_INDEX, sloppy).astype(np.uint8))


class _SloppySamples(Wrapped):
    def __init__(self, samples: Dataset[Sample], source: SloppyMasks) -> None:
        super().__init__(samples)
        self.source = source

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        mask = self.source.spoil(sample["mask"].as_subclass(Tensor), index)
        return {**sample, "mask": tv_tensors.Mask(mask)}


def _dilated(mask: Mask, radius: float, _: np.random.Generator) -> Mask:
    near: Mask = ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask
    return near


def _eroded(mask: Mask, radius: float, _: np.random.Generator) -> Mask:
    deep: Mask = ndimage.distance_transform_edt(mask) > radius if not mask.all() else mask
    return deep if deep.any() else mask


def _polygon(mask: Mask, distance: float, _: np.random.Generator) -> Mask:
    import contourpy  # matplotlib's; takes long to load

    height, width = mask.shape
    outlines = contourpy.contour_generator(z=np.pad(mask.astype(np.float32), 1)).lines(0.5)
    drawn = Image.new("1", (width, height))
    for outline in map(np.asarray, outlines):
        steps = np.hypot(*np.diff(outline, axis=0).T).cumsum()
        corners = outline[np.searchsorted(steps, np.arange(0, steps[-1], distance))] - 1
        if len(corners) > 2:
            region = Image.new("1", (width, height))
            ImageDraw.Draw(region).polygon([tuple(corner) for corner in corners], fill=1)
            drawn = ImageChops.logical_xor(drawn, region)  # a hole's outline lies within another
    return np.array(drawn)


def _shifted(mask: Mask, distance: float, random: np.random.Generator) -> Mask:
    angle = random.uniform(0, 2 * np.pi)
    by = (distance * np.sin(angle), distance * np.cos(angle))
    moved: Mask = ndimage.shift(mask, by, order=0, mode="nearest")
    return moved


KINDS = {"dilated": _dilated, "eroded": _eroded, "polygon": _polygon, "shifted": _shifted}
