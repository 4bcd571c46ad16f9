"""Per-image scores: the source of every figure. A row per image, and the data set's figures that follow from the rows.

NumPy alone is needed here, so that what only reads scores starts at once.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FACTS = ("height", "width", "foreground")
"""Columns that are no measures: the size in pixels, and the share of foreground (of all but the first class)."""


@dataclass(frozen=True)
class Measure:
    """What a measure is called, which way it points, and how the figure of a data set follows from its images."""

    name: str
    """The key in files and logs."""
    label: str
    """What tables print."""
    better: Literal["higher", "lower"] = "higher"
    average: Literal["images", "data set", "mean curve"] = "images"
    """`images`: the mean of the images' values. `data set`: a ratio of sums over all images, so that large objects
    count more. `mean curve`: the maximum of the curve that is the mean of the images' curves."""
    of: tuple[str, ...] = ()
    """What is averaged, where that is not the measure's own column: numerator and denominator of a ratio, or the curve.
    """
    counts: bool = False
    """Whether it is a number of things, 0 or more; all else lies in [0, 1]."""

    def describe(self) -> str:
        """Return the label with an arrow to the better side, and how it is averaged unless over images."""
        how = "" if self.average == "images" else f", of the {self.average}"
        return f"{self.label} {'↑' if self.better == 'higher' else '↓'}{how}"


@dataclass
class Scores:
    """The scores of some predictions, a row per image; names are unique and sorted.

    With several classes, columns such as `weighted_f/car` hold a class's values, NaN where the image has none, and the
    figure of a measure is the mean over the classes that have one.
    """

    names: list[str]
    columns: dict[str, Array]
    """Values, (N,) each: those of `FACTS`, of every measure, and what measures of the data set are ratios of; NaN, but
    for the size, where no pixel of the image counts."""
    curves: dict[str, Array] = field(default_factory=dict)
    """Values over thresholds, (N, thresholds) each: k/255, or the cuts of the conventions for `weighted_f`."""
    measures: tuple[Measure, ...] = ()
    conventions: dict[str, Any] = field(default_factory=dict)
    """How the images were scored."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; none for foreground maps."""
        return [name.partition("/")[2] for name in self.columns if name.startswith("union/")]

    def figures(self, weights: Array | None = None) -> dict[str, Any]:
        """Return the figure of the data set for each measure.

        Args:
            weights: How often each image counts, (..., N); once by default.

        Returns:
            By name, a value, or an array of the shape of the weights without the last dimension. NaN where no image
            has a value.
        """
        return {measure.name: self.figure(measure, weights) for measure in self.measures}

    def figure(self, measure: Measure, weights: Array | None = None) -> Any:  # noqa: ANN401
        """Return one measure's figure; see `figures`."""
        if not self.classes:
            return self._figure(measure, "", weights)
        return mean_of_known(np.stack([self._figure(measure, f"/{name}", weights) for name in self.classes]))

    def by_class(self) -> dict[str, dict[str, float]]:
        """Return for each class the figure of each measure."""
        return {
            name: {measure.name: float(self._figure(measure, f"/{name}", None)) for measure in self.measures}
            for name in self.classes
        }

    def mean_curve(self, name: str, weights: Array | None = None) -> Array:
        """Return the mean over images of a curve, (..., thresholds); images without a value are left out."""
        return mean_of_known(self.curves[name], weights)

    def _figure(self, measure: Measure, of_class: str, weights: Array | None) -> Any:  # noqa: ANN401
        if measure.average == "mean curve":
            return self.mean_curve(measure.of[0], weights).max(axis=-1)
        if measure.average == "images":
            return mean_of_known(self.columns[measure.name + of_class], weights)
        weights = np.ones(len(self)) if weights is None else weights
        parts = np.stack([self.columns[part + of_class] for part in measure.of])
        known = ~np.isnan(parts).any(axis=0)
        top, bottom = (weights @ np.where(known, part, 0) for part in parts)
        # Two empty masks agree; a class that is nowhere has no value, nor have images without a counting pixel.
        nothing = np.full_like(bottom, np.nan if of_class or not known.any() else 1.0)
        return np.divide(top, bottom, out=nothing, where=bottom > 0)[()]

    def take(self, names: Sequence[str]) -> "Scores":
        """Return the rows of some images, in their order."""
        place = {name: index for index, name in enumerate(self.names)}
        rows = [place[name] for name in names]
        return replace(
            self,
            names=list(names),
            columns={name: column[rows] for name, column in self.columns.items()},
            curves={name: curve[rows] for name, curve in self.curves.items()},
        )

    @classmethod
    def merge(cls, parts: Sequence["Scores"]) -> "Scores":
        """Join the rows of several parts, sorted by name; an image that several hold counts once."""
        first = parts[0]
        joined = replace(
            first,
            names=[name for part in parts for name in part.names],
            columns={name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns},
            curves={name: np.concatenate([part.curves[name] for part in parts]) for name in first.curves},
        )
        return joined.take(sorted(set(joined.names)))

    def save(self, folder: Path, stem: str = "images") -> list[Path]:
        """Write `images.csv`, a row per image in full precision, and `curves.npz` with all that a row cannot hold.

        Returns:
            The files written.
        """
        rows, rest = _files(folder, stem)
        with rows.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", *self.columns])
            columns = [column.tolist() for column in self.columns.values()]
            # repr has all digits, and a whole number needs no point
            texts = [[repr(value).removesuffix(".0") for value in column] for column in columns]
            writer.writerows(zip(self.names, *texts, strict=True))
        about = {"measures": [asdict(measure) for measure in self.measures], "conventions": self.conventions}
        curves: Mapping[str, Any] = {"names": self.names, "about": json.dumps(about), **self.curves}
        np.savez_compressed(rest, **curves)
        return [rows, rest]

    @classmethod
    def load(cls, folder: Path, stem: str = "images") -> "Scores":
        """Read what `save` wrote.

        Raises:
            ValueError: A file is missing or damaged, or the two do not belong together; names it.
        """
        table, curves = _files(folder, stem)
        try:
            with table.open(newline="") as file:
                (_, *head), *rows = csv.reader(file)
            with np.load(curves) as found:
                arrays = dict(found)
            names = [row[0] for row in rows]
            about = json.loads(arrays.pop("about").item())
            same = arrays.pop("names").tolist() == names
            values = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), len(head))
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename} is missing: there are no per-image scores in {folder}") from None
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(
                f"the per-image scores in {folder} cannot be read ({error}); test the run again"
            ) from error
        if not same:
            raise ValueError(f"{table} and {curves} hold different images; test the run again")
        measures = tuple(Measure(**{**each, "of": tuple(each["of"])}) for each in about["measures"])
        return cls(names, dict(zip(head, values.T.copy(), strict=True)), arrays, measures, about["conventions"])


def stem_of(method: str, dataset: str) -> str:
    """Return the stem under which the scores of a method on a data set are saved."""
    return f"images_{method}_{dataset}"


def _files(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}.csv", folder / f"{stem.replace('images', 'curves', 1)}.npz"


def mean_of_known(values: Array, weights: Array | None = None) -> Array:
    """Return the (weighted) mean over the first dimension of the values that there are, NaN where there is none."""
    weights = np.ones(len(values)) if weights is None else weights
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        if known.all():  # half the time
            total = weights.sum(axis=-1)
            means: Array = np.tensordot(weights, values, 1) / total.reshape(total.shape + (1,) * (values.ndim - 1))
            return means
        return np.tensordot(weights, np.where(known, values, 0), 1) / np.tensordot(weights, known, 1)
