"""What is compared: the seeds of a training, or one method's maps that `score` has scored, on the same test images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spatialseg.hints import did_you_mean
from spatialseg.report.statistics import NO_SEED, Arm
from spatialseg.run.folder import RunError, RunFolder, find_runs
from spatialseg.scores import FACTS, Scores, stem_of

CUT = "weighted_f_cut"
"""The measure whose threshold is each run's own."""


class Entry(NamedTuple):
    """One run, all seeds of an experiment, or a method whose maps were scored."""

    arm: Arm
    runs: Sequence[RunFolder]
    """In the order of the seeds; none if only maps were scored."""
    maps: Mapping[str, Path]
    """By image, where the map of the first seed lies, if it was kept."""
    data: str
    """Name of the data set."""
    place: str
    """Where it is, to be told apart by."""


def open_entries(names: Sequence[str | Path], runs: str | Path = "runs") -> list[Entry]:
    """Open what is to be compared.

    Args:
        names: Run folders, `EXPERIMENT/DATA` for all seeds of it, or folders that `score` wrote to, for all their
            methods, of which `FOLDER/METHOD` is one, on one of several data sets `FOLDER/METHOD/DATASET`; the baseline
            first.
        runs: The folder of all runs.

    Returns:
        The entries. Maps may have been scored on more images than the runs were tested on. Of what only some have
        measured they keep what is averaged over images, with no value for the others.

    Raises:
        RunError: There is no such run, it was not tested, one is named twice, or they are of different images or scored
            differently.
    """
    scored = [_read_index(name) for name in names]
    trained = [[] if index else find_runs(name, runs) for name, index in zip(names, scored, strict=True)]
    labels = iter(_labels([each[0] for each in trained if each]))
    opened = [[_open_runs(next(labels), each)] if each else [] for each in trained]
    images = next((entry.arm.first_seed.names for each in opened for entry in each), None)
    entries = []
    for index, each in zip(scored, opened, strict=True):
        entries += each or _open_scored(index, images)
    _check_labels(entries)
    _check_alike(entries)
    return [
        entry._replace(arm=replace(entry.arm, seeds=seeds))
        for entry, seeds in zip(entries, _shared(entries), strict=True)
    ]


def _open_runs(label: str, runs: Sequence[RunFolder]) -> Entry:
    arm = Arm(label, {run.seed: run.scores() for run in runs})
    first = runs[0]
    maps = {name: first.maps / f"{name}.png" for name in arm.first_seed.names}
    return Entry(arm, runs, {name: path for name, path in maps.items() if path.is_file()}, first.data, str(first))


def _read_index(name: str | Path) -> list[dict[str, Any]]:
    """Return what `score` wrote down in a folder: of all methods, of one, or of one on one data set; else nothing."""
    place = Path(name)
    for folder, wanted in ((place, ()), (place.parent, (place.name,)), (place.parent.parent, place.parts[-2:])):
        path = folder / "scores.json"
        if not path.is_file():
            continue
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        names = [(row["method"], row["dataset"]) for row in rows]
        chosen = [
            {**row, "folder": folder} for row, own in zip(rows, names, strict=True) if own[: len(wanted)] == wanted
        ]
        if not chosen:
            known = dict.fromkeys("/".join(own[: len(wanted)]) for own in names)
            hint = did_you_mean("/".join(wanted), known)
            raise RunError(f"{path} tells of no method {'/'.join(wanted)!r}{hint}; there are: {', '.join(known)}")
        return chosen
    return []


def _open_scored(index: Sequence[Mapping[str, Any]], images: Sequence[str] | None) -> list[Entry]:
    """Open methods of a folder that `score` wrote to: those of the data set that holds the images, if it has several.

    Args:
        index: What is written there of each method and data set.
        images: Those of the runs; all of them by default.
    """
    entries = []
    for row in index:
        method, dataset, folder = row["method"], row["dataset"], row["folder"]
        scores = Scores.load(folder, stem_of(method, dataset))
        if images is not None and set(images) <= set(scores.names):
            scores = scores.take(images)
        maps = _maps_of(row["maps"])
        entries.append(Entry(Arm(method, {NO_SEED: scores}), [], maps, dataset, str(folder / method / dataset)))
    if images is not None and len({entry.data for entry in entries}) > 1:
        entries = [entry for entry in entries if entry.arm.first_seed.names == list(images)] or entries
    return entries


def _maps_of(place: str | Mapping[str, str]) -> dict[str, Path]:
    """Return where the maps are, by image, those that are still there."""
    if isinstance(place, str):
        return {path.stem: path for path in sorted(Path(place).glob("*"))}
    return {name: Path(path) for name, path in place.items() if Path(path).is_file()}


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    """Return a name for each run, no longer than what tells them apart."""
    experiments = [run.experiment for run in runs]
    seeds = [f"{run.experiment} seed{run.seed}" for run in runs]
    paths = [str(run) for run in runs]
    return next((labels for labels in (experiments, seeds) if len(set(labels)) == len(labels)), paths)


def _check_labels(entries: Sequence[Entry]) -> None:
    names = [entry.arm.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            places = [entry.place for entry in entries if entry.arm.name == name]
            raise RunError(
                f"{len(places)} of what is compared are called {name!r}: {', '.join(places)}; name each once, of "
                "scored maps one data set, FOLDER/METHOD/DATASET, and call others otherwise with --pred NAME=DIR"
            )


def _check_alike(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for entry in entries:
        for scores in entry.arm.seeds.values():
            if fault := _unlike(first.arm.first_seed, scores, trained=bool(first.runs and entry.runs)):
                raise RunError(f"{first.place} and {entry.place} cannot be compared: {fault}")


def _unlike(first: Scores, second: Scores, trained: bool) -> str | None:
    """Say why two scores cannot be compared, if so.

    Args:
        first: Of the baseline.
        second: Of another.
        trained: Whether both are of runs.
    """
    if lonely := sorted(set(first.names) ^ set(second.names)):
        return (
            f"they are of different test images, {len(first)} and {len(second)}, of which only one has {len(lonely)} "
            f"({', '.join(lonely[:5])}{', …' * (len(lonely) > 5)}); compare runs on the same data"
        )
    for fact in FACTS:
        unequal = ~np.isclose(first.columns[fact], second.columns[fact], rtol=0, atol=1e-9, equal_nan=True)
        if unequal.any():
            index = int(unequal.argmax())
            values = " and ".join(f"{each.columns[fact][index]:.4g}" for each in (first, second))
            return (
                f"the ground truth differs in {unequal.sum()} images, such as {first.names[index]!r} with a {fact} of "
                f"{values}; compare runs on the same data"
            )
    # Each run's cut is chosen on its own validation images, and maps of others have none, but perhaps further measures.
    own = {"cut"} if trained else {"cut", "cuts", "further"}
    for key in (first.conventions.keys() | second.conventions.keys()) - own:
        one, two = (each.conventions.get(key) for each in (first, second))
        if one != two:
            return f"they were scored with {key} = {one} and {two}; test or score one of them again"
    if first.classes != second.classes:
        return "they were scored with different classes; test one of them again"
    theirs = {measure.name: measure for measure in second.measures}
    if differing := [each.name for each in first.measures if theirs.get(each.name, each) != each]:
        return f"they mean different things by {', '.join(differing)}; test or score one of them again"
    return None


def _shared(entries: Sequence[Entry]) -> list[dict[int, Scores]]:
    """Return the seeds of each entry, all with the same measures.

    What some have not measured image by image has no value there; what needs more than that is left out.
    """
    every = [scores.measures for entry in entries for scores in entry.arm.seeds.values()]
    shared = tuple(
        measure
        for measure in max(every, key=len)
        if measure.average == "images" or all(measure in each for each in every)
    )
    unknown = {measure.name: np.full(len(entries[0].arm.first_seed), np.nan) for measure in shared}
    return [
        {
            seed: replace(scores, measures=shared, columns={**unknown, **scores.columns})
            for seed, scores in entry.arm.seeds.items()
        }
        for entry in entries
    ]
