"""What `score` found, as tables, notes and pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialseg.conventions import Conventions
from spatialseg.data.files import few, read_map, read_mask
from spatialseg.data.pairs import Pairs
from spatialseg.report.statistics import NO_SEED, RESAMPLES, Arm
from spatialseg.report.table import Column, Table, columns_of
from spatialseg.scores import Scores


@dataclass(frozen=True)
class Result(Pairs):
    """The scores of one method on one data set."""

    scores: Scores
    resized: int
    """How many maps were resized to their masks."""

    @property
    def empty(self) -> int:
        """Number of masks without foreground."""
        return int((self.scores.columns["foreground"] == 0).sum())

    @property
    def expected(self) -> int:
        """Number of masks."""
        return len(self.scores) + len(self.missing)


def table_of(results: Sequence[Result], conventions: Conventions) -> Table:
    """Return the table: method, data set, images scored of those expected, and every measure."""
    columns = [Column(key, key) for key in ("method", "dataset", "images")] + columns_of(results[0].scores.measures)
    rows: list[dict[str, Any]] = [
        {"method": one.method, "dataset": one.dataset, "images": f"{len(one.scores)}/{one.expected}"}
        | {name: float(value) for name, value in one.scores.figures().items()}
        | {"missing": one.missing, "extra": one.extra, "resized": one.resized, "empty": one.empty}
        | {"maps": _maps_of(one)}
        for one in sorted(results, key=lambda one: one.dataset)
    ]
    facts = {"conventions": asdict(conventions)}
    return Table(columns, rows, caption=conventions.describe(), group="dataset", facts=facts)


def _maps_of(result: Result) -> str | dict[str, str]:
    """Return, for who wants to show them, the folder of the maps; each one where it is not called like its image."""
    maps = {name: path.absolute() for name, (path, _) in result.files.items()}
    if all(path.stem == name for name, path in maps.items()):
        return str(next(iter(maps.values())).parent)
    return {name: str(path) for name, path in maps.items()}


def intervals_of(results: Sequence[Result]) -> Table:
    """Return every figure with its 95 % interval, by the bootstrap over images: a row per result and measure."""
    rows: list[dict[str, Any]] = [
        {"method": one.method, "dataset": one.dataset, "measure": measure.describe(), "value": value}
        | {"low": low, "high": high}
        for one in results
        for arm in [Arm(one.method, {NO_SEED: one.scores})]
        for measure, value, (low, high) in zip(arm.measures, arm.means().values(), arm.intervals(), strict=True)
    ]
    columns = [Column(key, key) for key in ("method", "dataset", "measure")]
    columns += [Column("value", "figure"), Column("low", "from"), Column("high", "to")]
    return Table(columns, rows, caption=f"95 % intervals by the bootstrap over images ({RESAMPLES} resamples).")


def notes_of(results: Sequence[Result]) -> list[str]:
    """Say what was missing, left over, resized or empty."""
    lines = []
    for one in results:
        told = {
            f"of {one.expected} masks without a map, not averaged, {few(one.missing)}": one.missing,
            f"maps without a mask, not scored, {few(one.extra)}": one.extra,
            f"{one.resized} maps were resized to their masks": one.resized,
            f"{one.empty} masks are empty": one.empty,
        }
        lines += [f"{one.method} on {one.dataset}: {note}" for note, there_are in told.items() if there_are]
    return lines


def draw_results(results: Sequence[Result], out: Path, figures: str, sheet: int) -> list[Path]:
    """Draw curves and measures of each data set, and the worst and best maps of each result."""
    from spatialseg.report.pictures import draw_curves, draw_measures, draw_sheet

    drawn = {}
    for dataset in dict.fromkeys(one.dataset for one in results) if figures != "none" else ():
        scores = {one.method: one.scores for one in results if one.dataset == dataset}
        curves = {
            method: {name: each.mean_curve(name) for name in ("f", "precision", "recall")}
            for method, each in scores.items()
        }
        drawn[out / f"curves_{dataset}.{figures}"] = draw_curves(dataset, curves)
        better = {method: _higher_is_better(each) for method, each in scores.items()}
        images = {method: each.columns["weighted_f"] for method, each in scores.items()}
        drawn[out / f"measures_{dataset}.{figures}"] = draw_measures(dataset, better, "Fw of the images", images)
    for one in results if sheet > 0 else ():
        names, values = one.scores.names, one.scores.columns["weighted_f"]
        ranked = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
        count = min(sheet, max(1, len(ranked) // 2))
        threshold = one.scores.conventions["mask_threshold"]
        shown = [
            [(f"{names[row]}: {values[row]:.3f}", *_read(*one.files[names[row]], threshold)) for row in rows]
            for rows in (ranked[:count], ranked[::-1][:count])
        ]
        title = f"{one.method} on {one.dataset}: lowest (above) and highest weighted F-measure"
        drawn[out / f"sheet_{one.method}_{one.dataset}.png"] = draw_sheet(title, shown)
    for path, figure in drawn.items():
        figure.savefig(path, dpi=120)
    return list(drawn)


def _read(map_path: Path, mask_path: Path, threshold: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the probabilities that a map stands for (grey levels are of 255), and its mask."""
    values = read_map(map_path)
    return values / 255 if values.dtype == np.uint8 else values, read_mask(mask_path, 1, threshold)


def _higher_is_better(scores: Scores) -> dict[str, float]:
    """Return the figures in [0, 1] by label; of errors 1 less the error."""
    values = {measure: float(scores.figure(measure)) for measure in scores.measures if not measure.counts}
    higher = {measure.label: value for measure, value in values.items() if measure.better == "higher"}
    return higher | {f"1 − {each.label}": 1 - value for each, value in values.items() if each.better == "lower"}
