"""What W&B shows as pictures: arrays in, its own types out. Small, so that a run with many stays light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.data.source import IGNORE_INDEX
from spatialseg.report.anatomy import dissect, draw_anatomy, weigh
from spatialseg.report.sheet import Photograph, coloured, map_pixels
from spatialseg.scores import Scores

if TYPE_CHECKING:
    import wandb

Array = NDArray[Any]

PANEL_SIDE = 256
"""Longest side of a validation image, in pixels."""
ANATOMY_SIDE = 160
"""Width of a panel of the anatomy, in pixels."""
THUMBNAIL_SIDE = 128
"""Longest side of an image in a table, in pixels."""


def validation_panels(rows: Sequence[tuple[Photograph, Array]], class_names: Sequence[str]) -> dict[str, Any]:
    """Return validation images with truth and prediction as masks that can be switched, and their weighted error.

    Of the first one, if it is of foreground, also how its score comes about.

    Args:
        rows: A photograph, and probabilities in [0, 1], (H, W) or (classes, H, W).
        class_names: A name per class, one for foreground.

    Returns:
        Lists of `wandb.Image` by the name under which they are logged. Captions give the weighted F of the image; the
        weighted error E^w runs from black, 0, to yellow, 2.
    """
    import wandb

    names = list(class_names) if len(class_names) > 1 else ["background", *class_names]
    labels = {**dict(enumerate(names)), IGNORE_INDEX: "ignored"}
    predictions, errors = [], []
    photographs = _on_one_canvas([row.image for row, _ in rows], 128)
    truths = _on_one_canvas([row.mask for row, _ in rows], IGNORE_INDEX)
    indices = [each.argmax(axis=0) if each.ndim == 3 else each > 0.5 for _, each in rows]
    found = _on_one_canvas(indices, IGNORE_INDEX)
    costs, scores = zip(*(weigh(probability, row.mask) for row, probability in rows), strict=True)
    heats = _on_one_canvas([coloured(cost, 0, 2, "inferno") for cost in costs], 128)
    for (row, _), image, truth, index, heat, f in zip(rows, photographs, truths, found, heats, scores, strict=True):
        caption = f"{row.name}, weighted F {f:.3f}"
        masks = {
            kind: {"mask_data": np.asarray(mask), "class_labels": labels}
            for kind, mask in (("truth", truth), ("prediction", index))
        }
        predictions.append(wandb.Image(image, caption=caption, masks=masks))
        errors.append(wandb.Image(heat, caption=caption))
    panels: dict[str, Any] = {"pictures/predictions": predictions, "pictures/weighted_error": errors}
    first, probability = rows[0]
    if probability.ndim == 2:
        anatomy = draw_anatomy(first, dissect(probability, first.mask), ANATOMY_SIDE)
        panels["pictures/anatomy"] = wandb.Image(anatomy, caption=first.name, file_type="jpg")
    return panels


def thumbnails(photograph: Photograph, probability: Array) -> tuple[Image.Image, ...]:
    """Return image, truth and prediction, small: grey levels of foreground, or a colour a class; ignored is white."""
    classes = len(probability) if probability.ndim == 3 else 1
    shown = (photograph.image, map_pixels(photograph.mask, classes), map_pixels(probability, classes))
    return tuple(_small(each, THUMBNAIL_SIDE) for each in shown)


def test_table(scores: Scores, pictures: Mapping[str, Sequence[Image.Image]]) -> wandb.Table:
    """Return a table with a row for each test image: its measures and, where they are given, its pictures.

    Args:
        scores: Of the images.
        pictures: By name, what `thumbnails` returned.
    """
    import wandb

    table = wandb.Table(["name", "image", "truth", "prediction", *scores.columns])
    values = zip(*(column.tolist() for column in scores.columns.values()), strict=True)
    for name, row in zip(scores.names, values, strict=True):
        shown = [wandb.Image(each) for each in pictures[name]] if name in pictures else [None] * 3
        table.add_data(name, *shown, *(None if math.isnan(value) else value for value in row))
    return table


def _on_one_canvas(arrays: Sequence[Array], blank: int) -> list[Image.Image]:
    """Shrink images and fill them up to one size, which W&B takes all images of a list to have."""
    images = [_small(array, PANEL_SIDE) for array in arrays]
    size = (max(image.width for image in images), max(image.height for image in images))
    canvases = [Image.new(image.mode, size, (blank,) * len(image.getbands())) for image in images]
    for canvas, image in zip(canvases, images, strict=True):
        canvas.paste(image)
    return canvases


def _small(array: Array, side: int) -> Image.Image:
    """Shrink an image, (H, W) or (H, W, 3), to a longest side; no value comes in that was not there."""
    image = Image.fromarray(array.astype(np.uint8))
    image.thumbnail((side, side), Image.Resampling.NEAREST)
    return image
