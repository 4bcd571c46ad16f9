"""Titled images in a grid, as one image, by Pillow: made while a network trains, and by the dozen for a page.

A plotting library would take ten times as long.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spatialseg.data.source import IGNORE_INDEX

Array = NDArray[Any]

MARGIN = 8  # pixels between panels
HIGHEST = 1.6  # a panel is at most so many times as high as it is wide


class Photograph(NamedTuple):
    """An image with its ground truth."""

    name: str
    image: Array
    """uint8 (H, W, 3)."""
    mask: Array
    """(H, W): 0 and 1, or class indices; 255 is ignored."""


class Panel(NamedTuple):
    """An image with a title above it."""

    title: str
    pixels: Array
    """uint8 (H, W, 3)."""
    scale: tuple[str, float, float] | None = None
    """Colour map, lowest and highest value of a bar beside it."""


class Words(NamedTuple):
    """Text in place of an image, in two columns; it may reach over the free place to its right."""

    columns: tuple[Sequence[str], Sequence[str]]
    note: str = ""
    """Stands below them."""


def heat(title: str, values: Array, low: float, high: float, colours: str = "inferno") -> Panel:
    """Return a panel of values (H, W) in the colours of a matplotlib map, with its bar."""
    return Panel(title, coloured(values, low, high, colours), (colours, low, high))


def coloured(values: Array, low: float = 0.0, high: float = 1.0, colours: str = "gray") -> Array:
    """Return values in the colours of a matplotlib map, uint8 (..., 3)."""
    from matplotlib import colormaps  # takes a moment

    shown: Array = colormaps[colours]((values - low) / (high - low), bytes=True)[..., :3]
    return shown


def map_pixels(values: Array, classes: int = 1) -> Array:
    """Return a map as an image: probabilities or a mask in grey, class indices in colours; ignored pixels are white.

    Args:
        values: Probabilities in [0, 1], (H, W) or (classes, H, W); a mask or class indices, (H, W), 255 is ignored.
        classes: 1, or the number of classes.
    """
    flat = values.argmax(axis=0) if values.ndim == 3 else values
    ignored = flat == IGNORE_INDEX
    shown = np.where(ignored, 0, flat).astype(np.float64)
    pixels = coloured(shown) if classes == 1 else coloured(shown, 0, classes - 1, "tab20")
    pixels[ignored] = 255
    return pixels


def draw_panels(rows: Sequence[Sequence[Panel | Words]], width: int = 240) -> Image.Image:
    """Draw panels in rows, each row as high as its highest image needs.

    Args:
        rows: The panels; a row may be shorter than the others.
        width: Of an image, in pixels.
    """
    line = max(12, width // 15)
    bar = line * 2 if any(isinstance(each, Panel) and each.scale for row in rows for each in row) else 0
    step = width + bar + MARGIN
    heights = [max(_height(each, width, line) for each in row) for row in rows]
    size = (step * max(map(len, rows)) + MARGIN, sum(heights) + len(rows) * (line * 2) + MARGIN)
    sheet = Image.new("RGB", size, "white")
    pen, top = ImageDraw.Draw(sheet), MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, each in enumerate(row):
            left = MARGIN + column * step
            if isinstance(each, Words):
                _write(pen, each, (left, top + line), line)
                continue
            pen.text((left, top), each.title, "black", _font(line))
            shown = Image.fromarray(each.pixels)
            scale = min(width / shown.width, height / shown.height)
            enlarged = scale > 1
            shown = shown.resize(
                (max(1, round(shown.width * scale)), max(1, round(shown.height * scale))),
                Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX,
            )
            corner = (left, top + round(line * 1.5))
            sheet.paste(shown, corner)
            if each.scale:
                _draw_bar(sheet, each.scale, (corner[0] + shown.width + 3, corner[1]), line, shown.height)
        top += height + line * 2
    return sheet


def _height(each: Panel | Words, width: int, line: int) -> int:
    if isinstance(each, Words):
        return round(line * 1.5) * (len(each.columns[0]) + len(each.note.splitlines()))
    height, wide = each.pixels.shape[:2]
    return int(width * min(height / wide, HIGHEST))


def _draw_bar(
    sheet: Image.Image, scale: tuple[str, float, float], corner: tuple[int, int], line: int, height: int
) -> None:
    colours, low, high = scale
    values = np.linspace(1, 0, height)[:, None].repeat(line // 2, axis=1)
    sheet.paste(Image.fromarray(coloured(values, colours=colours)), corner)
    left, pen, font = corner[0] + line // 2 + 2, ImageDraw.Draw(sheet), _font(line - 3)
    pen.text((left, corner[1]), f"{high:g}", "black", font)
    pen.text((left, corner[1] + height), f"{low:g}".replace("-", "−"), "black", font, anchor="ls")


def _write(pen: ImageDraw.ImageDraw, words: Words, corner: tuple[int, int], line: int) -> None:
    left, top = corner
    font = _font(line)
    wide = max(pen.textlength(name, font) for name in words.columns[0])
    for name, value in zip(*words.columns, strict=True):
        pen.text((left, top), name, "black", font)
        pen.text((left + wide + 2 * line, top), value, "black", font)
        top += round(line * 1.5)
    pen.multiline_text((left, top + line // 2), words.note, "black", _font(line - 2), spacing=line // 3)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return matplotlib's own font, which has the signs of mathematics."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
