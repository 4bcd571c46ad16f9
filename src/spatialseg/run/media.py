"""What W&B shows as pictures: arrays in, its own types out. Small, so that a run with many stays light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from spatialseg.functional import weighted_f_measure
from spatialseg.report.pictures import IGNORE_INDEX, Photograph, weighted_cost
from spatialseg.scores import Scores

if TYPE_CHECKING:
    import wandb

Array = NDArray[Any]

PANEL_SIDE = 256
"""Longest side of a validation image, in pixels."""
THUMBNAIL_SIDE = 128
"""Longest side of an image in a table, in pixels."""


def validation_panels(rows: Sequence[tuple[Photograph, Array]], class_names: Sequence[str]) -> dict[str, Any]:
    """Return validation images with truth and prediction as masks that can be switched, and their weighted error.

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
    inferno = matplotlib.colormaps["inferno"]
    predictions, errors = [], []
    photographs = _on_one_canvas([row.image for row, _ in rows], 128)
    truths = _on_one_canvas([row.mask for row, _ in rows], IGNORE_INDEX)
    indices = _on_one_canvas([_most_probable(probability) for _, probability in rows], IGNORE_INDEX)
    costs = [inferno(weighted_cost(probability, row.mask) / 2, bytes=True)[..., :3] for row, probability in rows]
    for (row, probability), image, truth, index, cost in zip(
        rows, photographs, truths, indices, _on_one_canvas(costs, 128), strict=True
    ):
        caption = f"{row.name}, weighted F {weighted_f(probability, row.mask):.3f}"
        masks = {
            kind: {"mask_data": np.asarray(mask), "class_labels": labels}
            for kind, mask in (("truth", truth), ("prediction", index))
        }
        predictions.append(wandb.Image(image, caption=caption, masks=masks))
        errors.append(wandb.Image(cost, caption=caption))
    return {"pictures/predictions": predictions, "pictures/weighted_error": errors}


def thumbnails(photograph: Photograph, probability: Array) -> tuple[Image.Image, ...]:
    """Return image, truth and prediction, small: grey levels of foreground, or a colour a class; ignored is grey."""
    ignored = photograph.mask == IGNORE_INDEX
    if probability.ndim == 3:
        truth, prediction = (_coloured(each) for each in (photograph.mask, probability.argmax(axis=0)))
    else:
        truth, prediction = photograph.mask * 255, (probability * 255).round()
    truth[ignored] = 128
    return tuple(_small(each, THUMBNAIL_SIDE) for each in (photograph.image, truth, prediction))


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


def weighted_f(probability: Array, mask: Array) -> float:
    """Return the weighted F of one image, of several classes the mean over those in it; NaN where there is none.

    Args:
        probability: In [0, 1], (H, W) or (classes, H, W).
        mask: Ground truth, (H, W): 0 and 1, or class indices; 255 is ignored.
    """
    targets = mask[None]
    if probability.ndim == 3:
        targets = np.where(targets == IGNORE_INDEX, targets, targets == np.arange(len(probability))[:, None, None])
    each = weighted_f_measure(torch.from_numpy(probability.reshape(targets.shape)), torch.from_numpy(targets)).f
    return each.nanmean().item()


def _most_probable(probability: Array) -> Array:
    return probability.argmax(axis=0) if probability.ndim == 3 else probability > 0.5


def _coloured(indices: Array) -> Array:
    colours: Array = matplotlib.colormaps["tab20"](indices % 20, bytes=True)[..., :3]
    return colours


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
