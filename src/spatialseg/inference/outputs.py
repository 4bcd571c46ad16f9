"""What a prediction is written as: maps, masks, cut-outs, overlays and contact sheets."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.report.sheet import Panel, draw_panels

Array = NDArray[Any]

KINDS = {"maps": ".png", "masks": ".png", "cutouts": ".png", "overlays": ".jpg"}
"""Of each thing that is written for an image, the suffix of its file."""
FOREGROUND = (213, 94, 0)
"""Colour of the foreground of a binary mask in overlays."""
FAST = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Runs of equal bytes alone: maps are as small as by zlib's default, in half of the time."""
COLUMNS, ROWS, THUMBNAIL, LONGEST = 4, 12, 160, 42
"""Of a contact sheet: pairs beside each other and below, width of a thumbnail in pixels, letters of a name."""


def target(out: Path, kind: str, name: str) -> Path:
    """Return where a file of an image goes."""
    return out / kind / f"{name}{KINDS[kind]}"


def class_colours() -> NDArray[np.uint8]:
    """Return the colours of Pascal VOC for 256 classes, (256, 3): 0 is black."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> channel) & 1) << (7 - bit)).astype(np.uint8)
        index >>= 3
    return colours


def render(kind: str, image: Array, level: Array, mask: Array, classes: int) -> Image.Image:
    """Make the picture of one kind.

    Args:
        kind: One of `KINDS`.
        image: RGB, uint8 (H, W, 3).
        level: Probability of foreground, or of the class that is most probable: grey levels, uint8 (H, W).
        mask: 0 and 1, or class indices, uint8 (H, W).
        classes: Number of classes; 1 is foreground against background.

    Returns:
        `maps`: the grey levels. `masks`: 0 and 255, or class indices with the colours of Pascal VOC as palette.
        `cutouts`: the image with the grey levels as alpha. `overlays`: the image, half covered with the colour of the
        foreground, or of every class but the first, which are outlined in white.
    """
    if kind == "maps":
        return Image.fromarray(level)
    if kind == "masks":
        if classes == 1:
            return Image.fromarray(mask * np.uint8(255))
        indexed = Image.fromarray(mask).convert("P")
        indexed.putpalette(class_colours().tobytes())
        return indexed
    if kind == "cutouts":
        return Image.fromarray(np.dstack([image, level]))
    covered = image.copy()
    where = mask > 0
    colour = np.array(FOREGROUND, np.uint8) if classes == 1 else class_colours()[mask[where]]
    covered[where] = image[where] // 2 + colour // 2
    width = 1 + max(mask.shape) // 400
    for lines, labels in ((covered, mask), (covered.swapaxes(0, 1), mask.T)):
        lines[width // 2 : width // 2 + max(0, len(labels) - width)][labels[width:] != labels[:-width]] = 255
    return Image.fromarray(covered)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture beside its place and move it there when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".jpg":
            picture.save(beside, "JPEG", quality=92)
        else:
            picture.save(beside, "PNG", **FAST)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def contact_sheet(rows: Sequence[tuple[str, Image.Image, Image.Image]]) -> Image.Image:
    """Return a page of small images, each below its name and beside its overlay; at most `COLUMNS * ROWS` of them."""
    panels: list[Panel] = []
    for name, image, overlay in rows:
        shown = name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
        panels += [Panel(shown, np.asarray(image)), Panel("", np.asarray(overlay))]
    return draw_panels([panels[first : first + 2 * COLUMNS] for first in range(0, len(panels), 2 * COLUMNS)], THUMBNAIL)
