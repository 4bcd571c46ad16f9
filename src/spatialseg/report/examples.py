"""Test images with the maps of all that is compared: which are shown, and how.

PyTorch is imported only where weighted errors are drawn, or the photographs do not come from files.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spatialseg.data.files import read_image, read_map, read_mask
from spatialseg.data.folders import FolderPairs
from spatialseg.report.entries import Entry
from spatialseg.report.page import Example, Picture
from spatialseg.report.sheet import Panel, Photograph, coloured, draw_panels, map_pixels
from spatialseg.run.folder import RunError

if TYPE_CHECKING:
    from spatialseg.data import Source

ANATOMY_SIDE = 180  # pixels, the width of a panel


def make_source(settings: dict[str, Any]) -> "Source":
    """Make the data set of a run's resolved configuration, without the libraries that train."""
    module, _, name = settings["source"]["class_path"].rpartition(".")
    source: Source = getattr(import_module(module), name)(**settings["source"].get("init_args", {}))
    return source


def ranked(entries: Sequence[Entry]) -> list[str]:
    """Return the test images from the greatest loss of the last entry against the first to the greatest gain.

    What counts is the first measure, of the first seeds, whose maps are shown. With one entry: from its worst image to
    its best.
    """
    measure = entries[0].arm.measures[0]
    scores = [entry.arm.first_seed for entry in entries]
    values = [(1 if measure.better == "higher" else -1) * each.columns[measure.name] for each in scores]
    gain = values[-1] - values[0] if len(values) > 1 else values[0]
    return [scores[0].names[index] for index in np.argsort(gain)[: int((~np.isnan(gain)).sum())]]


def equally_spaced(names: Sequence[str], count: int) -> list[str]:
    """Return some of the names at equal distances, with the first and the last."""
    return [names[index] for index in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)]


def extremes(names: Sequence[str], count: int) -> list[str]:
    """Return half as many of the first names, the first one first, and as many of the last ones, the last one first."""
    half = min((count + 1) // 2, len(names) // 2)
    return [*names[:half], *names[: -half - 1 : -1]]


def photographs(entries: Sequence[Entry], names: Sequence[str]) -> tuple[list[Photograph], int]:
    """Read test images, and return them with the number of classes.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    for entry in entries:
        if lost := [name for name in names if name not in entry.maps]:
            raise RunError(f"{entry.place} does not hold the maps, such as that of {lost[0]}; test or score it again")
    trained = [entry.runs[0] for entry in entries if entry.runs]
    if not trained:
        raise RunError("scored maps come without photographs; name a run of the same images beside them")
    source = make_source(trained[0].read_config()["data"])
    found: dict[str, Photograph] = {}
    if isinstance(source, FolderPairs):
        for pair in source.pairs("test"):
            if pair.name in names:
                mask = read_mask(pair.mask, source.classes)
                found[pair.name] = Photograph(pair.name, read_image(pair.image), mask)
    else:
        samples: Any = source.dataset("test")
        for sample in (samples[index] for index in range(len(samples))):
            if sample["name"] in names:
                image = sample["image"].permute(1, 2, 0).numpy()
                found[sample["name"]] = Photograph(sample["name"], image, sample["mask"].numpy())
            if len(found) == len(names):
                break
    if missing := set(names) - found.keys():
        raise RunError(f"the test images of {source.name} here do not include {', '.join(sorted(missing)[:5])}")
    return [found[name] for name in names], source.classes


def maps_of(entries: Sequence[Entry], photograph: Photograph, classes: int) -> list[tuple[str, NDArray[Any]]]:
    """Return the map of each entry's first seed, titled by entry and score: probabilities, or class indices."""
    maps = []
    for entry in entries:
        scores, name = entry.arm.first_seed, photograph.name
        score = scores.columns[entry.arm.measures[0].name][scores.names.index(name)]
        if classes > 1:
            values = np.asarray(Image.open(entry.maps[name]))
        else:
            values = read_map(entry.maps[name])
            if values.shape != photograph.mask.shape:  # as `score` does
                size = photograph.mask.shape[::-1]
                values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
            values = values / 255 if values.dtype == np.uint8 else values
        maps.append((f"{entry.arm.name}: {score:.3f}", values))
    return maps


def draw(entries: Sequence[Entry], count: int) -> Image.Image:
    """Draw test images at equally spaced ranks of the difference, with the maps of each entry's first seed.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    shown, classes = photographs(entries, equally_spaced(ranked(entries), count))
    rows = []
    for one in shown:
        maps = [("ground truth", one.mask), *maps_of(entries, one, classes)]
        rows.append([Panel(one.name, one.image), *(Panel(title, map_pixels(each, classes)) for title, each in maps)])
    return draw_panels(rows)


def examples(entries: Sequence[Entry], count: int) -> list[Example]:
    """Return, for the page, the test images where the entries disagree most.

    Each has image, truth, maps and weighted errors; and how the score of the first and of the last entry comes about,
    if it is of foreground.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    shown, classes = photographs(entries, extremes(ranked(entries), count))
    from spatialseg.report.anatomy import dissect, draw_anatomy, weigh

    found, exact = [], classes > 1
    for one in shown:
        pictures = [Picture("image", one.image), Picture("ground truth", map_pixels(one.mask, classes), exact)]
        anatomies = []
        for index, (title, values) in enumerate(maps_of(entries, one, classes)):
            pictures.append(Picture(title, map_pixels(values, classes), exact))
            if classes > 1:
                cost, _ = weigh((values == np.arange(classes)[:, None, None]).astype(np.float64), one.mask)
            else:
                conventions = entries[index].arm.first_seed.conventions
                anatomy = dissect(values, one.mask, cut=conventions["cut"] if conventions.get("cuts") else 0.5)
                cost = anatomy.weighted
                if index in (0, len(entries) - 1):
                    anatomies.append(Picture(title, np.asarray(draw_anatomy(one, anatomy, ANATOMY_SIDE))))
            pictures.append(Picture("weighted error", coloured(cost, 0, 2, "inferno")))
        found.append(Example(_heading(entries, one.name), pictures, anatomies))
    return found


def _heading(entries: Sequence[Entry], name: str) -> str:
    """Return the name of an image with its score, or by how much the last entry's differs from the first's."""
    measure = entries[0].arm.measures[0]
    row = entries[0].arm.first_seed.names.index(name)
    first, *others = (each.arm.first_seed.columns[measure.name][row] for each in entries)
    return f"{name}: " + (f"Δ {measure.label} {others[-1] - first:+.3f}" if others else f"{measure.label} {first:.3f}")
