"""One image after the other: what is counted in each, and the scores of all that follow."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from spatialseg.conventions import DEFAULT, Conventions
from spatialseg.functional.maps import as_maps, without
from spatialseg.functional.one_vs_rest import maps_of_classes, most_probable
from spatialseg.metrics.registry import Measuring, OfClasses, families
from spatialseg.scores import FACTS, Array, Scores, mean_of_known

AT_ONCE = 64  # images whose measures are computed together, which takes little longer than for one


class ImageCounts(NamedTuple):
    """What is counted in one image; small, whatever its size."""

    name: str
    height: int
    """In pixels, as is the width."""
    width: int
    foreground: float
    """Share of foreground, of all classes but the first; NaN where no pixel counts."""
    counts: list[Tensor]
    """What each family that is taken counts: (1, ...), or a row per class."""


def count_image(
    name: str, prediction: Tensor, target: Tensor, conventions: Conventions = DEFAULT, classes: int = 1
) -> ImageCounts:
    """Count in one image what its measures need.

    Args:
        name: What to call the image.
        prediction: Foreground probability, or uint8 grey levels, (H, W); probabilities of C > 1 classes, (C, H, W).
        target: Ground truth, (H, W): 0, 1 or `ignore_index`; the class index or `ignore_index`.
        conventions: How to score.
        classes: 1, or C.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    prediction, target = prediction[None], target[None]
    soft = prediction, target
    if classes > 1:
        soft = maps_of_classes(prediction, target, classes, conventions.ignore_index)
    maps = as_maps(*soft, normalize=conventions.normalize, ignore_index=conventions.ignore_index)
    kinds = dict.fromkeys(get_args(OfClasses), maps)
    if classes > 1:
        kinds["hard"] = maps.of_masks(most_probable(prediction))
    counts = [each.count(kinds[each.of_classes], conventions) for each in _taken(classes, conventions)]
    foreground = maps.foreground[1:] if classes > 1 else maps.foreground
    pixels = target.numel() if maps.valid is None else int(maps.valid[0].sum())
    share = int(foreground.sum()) / pixels if pixels else math.nan
    height, width = target.shape[1:]
    return ImageCounts(name, height, width, share, counts)


def scores_of(
    images: Sequence[ImageCounts],
    conventions: Conventions = DEFAULT,
    class_names: Sequence[str] = ("foreground",),
) -> Scores:
    """Turn counts into scores, sorted by name; NaN where no pixel counts.

    Args:
        images: What `count_image` returned, at least one; an image that was counted twice counts once.
        conventions: Those of the counting.
        class_names: A name per class; one for foreground maps.
    """
    parts = [
        _some(images[first : first + AT_ONCE], conventions, class_names) for first in range(0, len(images), AT_ONCE)
    ]
    return Scores.merge(parts)


def _taken(classes: int, conventions: Conventions) -> list[Measuring]:
    """Return the families of measures that are taken."""
    return [each for each in families(conventions.further) if classes == 1 or each.of_classes]


def _some(images: Sequence[ImageCounts], conventions: Conventions, class_names: Sequence[str]) -> Scores:
    classes = len(class_names)
    facts = {name: np.array([getattr(image, name) for image in images], dtype=np.float64) for name in FACTS}
    columns: dict[str, Array] = {}
    curves: dict[str, Array] = {}
    unknown = torch.from_numpy(np.isnan(facts["foreground"]).repeat(classes))
    taken = _taken(classes, conventions)
    for family, counts in zip(taken, zip(*(image.counts for image in images), strict=True), strict=True):
        for name, value in family.values(torch.cat(counts), conventions).items():
            (columns if value.ndim == 1 else curves)[name] = without(value, unknown).numpy()
    measures = tuple(measure for family in taken for measure in family.measures if measure.name in columns)
    if classes > 1:
        nowhere = columns["union"].reshape(-1, classes) == 0
        columns = _by_class(columns, {measure.name for measure in measures}, class_names, nowhere)
        for name, curve in curves.items():
            of_classes = np.where(nowhere[..., None], np.nan, curve.reshape(*nowhere.shape, -1))
            curves[name] = mean_of_known(of_classes.swapaxes(0, 1))
    settings = json.loads(json.dumps(asdict(conventions)))  # as it is read back, with lists for tuples
    if not conventions.further:
        del settings["further"]  # as in what was scored before there were any
    return Scores([image.name for image in images], facts | columns, curves, measures, settings)


def _by_class(
    columns: dict[str, Array], measures: set[str], class_names: Sequence[str], nowhere: Array
) -> dict[str, Array]:
    """Give each class its columns, and each image the mean over the classes that it has, (N·C,) to (N,) each."""
    each = {name: column.reshape(nowhere.shape) for name, column in columns.items()}
    means = {}
    for name in measures & each.keys():
        each[name] = np.where(nowhere, np.nan, each[name])
        means[name] = mean_of_known(each[name].T)
    split = {f"{name}/{label}": each[name][:, i] for name in each for i, label in enumerate(class_names)}
    return {name: means[name] for name in each if name in means} | split
