"""Runs against runs: the same test images, the measures side by side, and pictures of where they differ.

Run folders are all that is needed. Neither the training libraries nor PyTorch are imported but for the picture, which
needs the photographs as well.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spatialseg.report.statistics import RESAMPLES, Arm, differences
from spatialseg.report.table import Column, Table
from spatialseg.run.folder import RunError, RunFolder, find_runs
from spatialseg.scores import FACTS, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialseg.data import SegmentationDataModule

FORMATS = ("csv", "json", "md", "tex", "html")


class Entry(NamedTuple):
    """What is compared: one run, or all seeds of an experiment."""

    runs: list[RunFolder]
    arm: Arm


def open_runs(names: Sequence[str | Path], runs: str | Path = "runs") -> list[Entry]:
    """Open what is to be compared.

    Args:
        names: Run folders, or `EXPERIMENT/DATA` for all seeds of it; the baseline first.
        runs: The folder of all runs.

    Raises:
        RunError: There is no such run, it was not tested, one is named twice, or they are of different images or scored
            differently.
    """
    found = [find_runs(name, runs) for name in names]
    pairs = zip(_labels([each[0] for each in found]), found, strict=True)
    entries = [Entry(each, Arm(label, {run.seed: run.scores() for run in each})) for label, each in pairs]
    first = found[0][0]
    scores = entries[0].arm.seeds[first.seed]
    for entry in entries:
        for run, other in zip(entry.runs, entry.arm.seeds.values(), strict=True):
            if fault := _unlike(scores, other):
                raise RunError(f"{first} and {run} cannot be compared: {fault}")
    return entries


def _labels(runs: Sequence[RunFolder]) -> list[str]:
    """Return a name for each run, no longer than what tells them apart."""
    experiments = [run.experiment for run in runs]
    seeds = [f"{run.experiment} seed{run.seed}" for run in runs]
    paths = [str(run) for run in runs]
    for labels in (experiments, seeds, paths):
        if len(set(labels)) == len(labels):
            return labels
    raise RunError(f"a run cannot be compared with itself, got {', '.join(paths)}; name each once")


def _unlike(first: Scores, second: Scores) -> str | None:
    """Say why two scores cannot be compared, if so."""
    if lonely := sorted(set(first.names) ^ set(second.names)):
        return (
            f"they are of different test images, {len(first)} and {len(second)}, of which only one has {len(lonely)} "
            f"({', '.join(lonely[:5])}{', …' * (len(lonely) > 5)}); compare runs on the same data"
        )
    for fact in FACTS:
        unequal = ~np.isclose(first.columns[fact], second.columns[fact], rtol=0, atol=1e-9)
        if unequal.any():
            index = int(unequal.argmax())
            values = " and ".join(f"{each.columns[fact][index]:.4g}" for each in (first, second))
            return (
                f"the ground truth differs in {unequal.sum()} images, such as {first.names[index]!r} with a {fact} of "
                f"{values}; compare runs on the same data"
            )
    # Each run's cut is chosen on its own validation images.
    for key in (first.conventions.keys() | second.conventions.keys()) - {"cut"}:
        one, two = (each.conventions.get(key) for each in (first, second))
        if one != two:
            return f"they were scored with {key} = {one} and {two}; test one of them again"
    if first.measures != second.measures or first.classes != second.classes:
        return "they were scored with different measures or classes; test one of them again"
    return None


def tabulate_figures(arms: Sequence[Arm]) -> Table:
    """Return every measure of every arm, means over seeds."""
    count = len(next(iter(arms[0].seeds.values())))
    columns = [Column("run", "run"), Column("seeds", "seeds")]
    columns += [Column(measure.name, measure.label, measure.better) for measure in arms[0].measures]
    rows = []
    for arm in arms:
        means = zip([measure.name for measure in arm.measures], arm.figures.mean(axis=1).tolist(), strict=True)
        rows.append({"run": arm.name, "seeds": len(arm.seeds), **dict(means)})
    conventions = next(iter(arms[0].seeds.values())).conventions
    caption = "Scored with " + ", ".join(f"{name} = {value}" for name, value in conventions.items()) + "."
    return Table(columns, rows, f"{count} test images", caption, facts={"conventions": conventions})


def tabulate_differences(arms: Sequence[Arm]) -> Table:
    """Return by how much each later arm differs from the first, a row per measure."""
    rows: list[dict[str, Any]] = []
    for arm in arms[1:]:
        for each in differences(arms[0], arm):
            low, high = each.images
            row = {"run": arm.name, "measure": each.measure.describe(), "difference": each.value}
            row |= {"images_low": low, "images_high": high, "improvement": each.improvement}
            if each.crossed:
                row |= dict(zip(("low", "high"), each.crossed, strict=True)) | {"p_value": each.p_value}
            rows.append(row)
    columns = [
        Column("run", "run"),
        Column("measure", "measure"),
        Column("difference", "Δ", signed=True),
        Column("images_low", "images: from", signed=True),
        Column("images_high", "images: to", signed=True),
        Column("low", "seeds, images: from", signed=True),
        Column("high", "seeds, images: to", signed=True),
        Column("p_value", "p", digits=3),
        Column("improvement", "better", digits=3),
    ]
    caption = (
        f"95 % intervals by the bootstrap ({RESAMPLES} resamples), over the images of these very runs and, with "
        "several seeds, over seeds and images; p: exact sign-flip test over paired seeds; better: the share of images "
        "(and pairs of seeds) whose score is better, ties half."
    )
    shown = [column for column in columns if any(column.key in row for row in rows)]
    return Table(shown, rows, f"Difference to {arms[0].name}", caption, group="run")


def make_data(settings: dict[str, Any]) -> "SegmentationDataModule":
    """Make the data of a run's configuration."""
    from jsonargparse import ArgumentParser

    from spatialseg.data import SegmentationDataModule

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmentationDataModule, "data")
    data: SegmentationDataModule = parser.instantiate(parser.parse_object({"data": settings})).data
    return data


def draw(entries: Sequence[Entry], count: int) -> "Figure":
    """Draw test images with the maps of each entry's first seed.

    The images stand at equally spaced ranks of the difference of their first measure between the last entry and the
    first, from the greatest loss to the greatest gain.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    measure = entries[0].arm.measures[0]
    scores = [entry.arm.seeds[entry.runs[0].seed] for entry in entries]
    gain = scores[-1].columns[measure.name] - scores[0].columns[measure.name]
    order = np.argsort(gain if measure.better == "higher" else -gain)[: int((~np.isnan(gain)).sum())]
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    chosen = {scores[0].names[index]: int(index) for index in order[ranks]}
    for entry in entries:
        if not all((entry.runs[0].maps / f"{name}.png").is_file() for name in chosen):
            raise RunError(f"{entry.runs[0].maps} does not hold the maps; test the run again")
    settings = entries[0].runs[0].read_config()["data"]
    if root := settings["source"].get("init_args", {}).get("root"):
        from spatialseg.data.files import find_root

        find_root(root)  # at once: what follows imports for seconds

    from PIL import Image

    from spatialseg.report.pictures import Photograph, draw_comparison

    source = make_data(settings).source
    samples = source.dataset("test")
    photographs: dict[str, Photograph] = {}
    for index in range(len(samples)):  # type: ignore[arg-type]
        if len(photographs) == len(chosen):
            break
        sample = samples[index]
        if sample["name"] in chosen:
            image = sample["image"].permute(1, 2, 0).numpy()
            photographs[sample["name"]] = Photograph(sample["name"], image, sample["mask"].numpy())
    if lost := chosen.keys() - photographs.keys():
        raise RunError(f"the test images of {source.name} here do not include {', '.join(sorted(lost)[:5])}")
    rows = []
    for name, row in chosen.items():
        maps = {}
        for entry, score in zip(entries, scores, strict=True):
            grey = np.asarray(Image.open(entry.runs[0].maps / f"{name}.png"))
            title = f"{entry.arm.name}: {score.columns[measure.name][row]:.3f}"
            maps[title] = grey / 255 if source.classes == 1 else grey
        rows.append((photographs[name], maps))
    return draw_comparison(rows, source.classes)


def main(args: Sequence[str]) -> None:
    """Compare runs from the command line.

    Raises:
        SystemExit: With status 2 when the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(
        "spatialseg compare",
        description="Show runs side by side, on the same test images.",
        epilog="example: python -m spatialseg compare saliency_bce/ecssd saliency_wfb/ecssd",
    )
    parser.add_argument(
        "names", nargs="+", metavar="RUN", help="run folder, or EXPERIMENT/DATA for all its seeds; the baseline first"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, help="folder for tables and picture; comparison in the folder of all runs")
    parser.add_argument("--images", type=int, default=5, help="how many images to draw")
    options = parser.parse_args(args)
    out = options.out or options.runs / "comparison"
    try:
        entries = open_runs(options.names, options.runs)
    except ValueError as error:
        parser.error(str(error))
    arms = [entry.arm for entry in entries]
    tables = {"comparison": tabulate_figures(arms)}
    if len(arms) > 1:
        tables["differences"] = tabulate_differences(arms)
    for stem, table in tables.items():
        table.print()
        table.write(out, stem, FORMATS)
    written = [f"{stem}.{{{','.join(FORMATS)}}}" for stem in tables]
    if options.images > 0:
        try:
            draw(entries, options.images).savefig(out / "comparison.png", dpi=100)
            written.append("comparison.png")
        except ValueError as error:
            print(f"No picture: {error}")
    print(f"Written to {out}: {', '.join(written)}")
