"""What a prediction is written as: maps, masks, cut-outs, overlays and contact sheets."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[Any]

KINDS = {"maps": ".png", "masks": ".png", "cutouts": ".png", "overlays": ".jpg"}
"""Of each thing that is written for an image, the suffix of its file."""
FOREGROUND = (213, 94, 0)
"""Colour of the foreground of a binary mask in overlays."""
FAST = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Runs of equal bytes alone: maps are as small as by zlib's default, in half of the time."""
COLUMNS, ROWS, THUMBNAIL, LINE = 4, 12, 160, 14
"""Of a contact sheet: pairs beside each other and below, side of a thumbnail and height of a line of text in pixels."""


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
    """Return a page of small images, each beside its overlay and over its name; at most `COLUMNS * ROWS` of them."""
    width, height = 2 * THUMBNAIL + 12, THUMBNAIL + LINE + 8
    columns = min(COLUMNS, len(rows))
    page = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    draw = ImageDraw.Draw(page)
    for index, (name, *pair) in enumerate(rows):
        left, top = index % columns * width + 4, index // columns * height + 4
        for place, picture in enumerate(pair):
            small = picture.copy()
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            page.paste(small, (left + place * (THUMBNAIL + 2), top + THUMBNAIL - small.height))
        draw.text((left, top + THUMBNAIL + 1), _shortened(name, draw, width - 12), fill="black")
    return page


def _shortened(name: str, draw: ImageDraw.ImageDraw, width: int) -> str:
    """Leave out the beginning of a name that is too long for a line."""
    shown = name
    while draw.textlength(shown) > width:
        name = name[1:]
        shown = f"...{name}"
    return shown
