"""Runs against runs: the same test images, the measures side by side, and pictures of where they differ.

Run folders are all that is needed, and pictures need the photographs as well. PyTorch is imported only where a page
shows weighted errors, or the photographs do not come from files.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialseg.report.statistics import RESAMPLES, Arm, differences
from spatialseg.report.table import Cell, Column, Table, columns_of
from spatialseg.run.folder import RunError, RunFolder, find_runs
from spatialseg.scores import FACTS, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialseg.data import Source
    from spatialseg.report.pictures import Photograph

FORMATS = ("csv", "json", "md", "tex")


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
    columns = [Column("run", "run"), Column("seeds", "seeds"), *columns_of(arms[0].measures)]
    rows: list[dict[str, Cell]] = [{"run": arm.name, "seeds": len(arm.seeds), **arm.means()} for arm in arms]
    conventions = arms[0].first_seed.conventions
    told = [f"{name} = {value}" for name, value in conventions.items() if name not in ("cut", "cuts")]
    caption = f"Scored with {', '.join(told)}."
    if conventions.get("cuts"):
        caption += " Fw cut: each run at the threshold chosen on its own validation images."
    return Table(columns, rows, f"{len(arms[0].first_seed)} test images", caption, facts={"conventions": conventions})


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


def photographs(entries: Sequence[Entry], names: Sequence[str]) -> tuple[list["Photograph"], int]:
    """Read test images, and return them with the number of classes.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    for entry in entries:
        if not all((entry.runs[0].maps / f"{name}.png").is_file() for name in names):
            raise RunError(f"{entry.runs[0].maps} does not hold the maps; test the run again")
    settings = entries[0].runs[0].read_config()["data"]
    from spatialseg.data.files import read_image, read_mask
    from spatialseg.data.folders import FolderPairs
    from spatialseg.report.pictures import Photograph

    source = make_source(settings)
    if isinstance(source, FolderPairs):
        pairs = {pair.name: pair for pair in source.pairs("test")}
        found = {
            name: Photograph(name, read_image(pairs[name].image), read_mask(pairs[name].mask, source.classes))
            for name in names
            if name in pairs
        }
    else:
        samples: Any = source.dataset("test")
        every = (samples[index] for index in range(len(samples)))
        found = {
            sample["name"]: Photograph(sample["name"], sample["image"].permute(1, 2, 0).numpy(), sample["mask"].numpy())
            for sample in every
            if sample["name"] in names
        }
    if lost := set(names) - found.keys():
        raise RunError(f"the test images of {source.name} here do not include {', '.join(sorted(lost)[:5])}")
    return [found[name] for name in names], source.classes


def maps_of(entries: Sequence[Entry], name: str, classes: int) -> dict[str, NDArray[Any]]:
    """Return the map of each entry's first seed, titled by entry and score: probabilities, or class indices."""
    from PIL import Image

    maps = {}
    for entry in entries:
        scores = entry.arm.seeds[entry.runs[0].seed]
        score = scores.columns[entry.arm.measures[0].name][scores.names.index(name)]
        grey = np.asarray(Image.open(entry.runs[0].maps / f"{name}.png"))
        maps[f"{entry.arm.name}: {score:.3f}"] = grey / 255 if classes == 1 else grey
    return maps


def draw(entries: Sequence[Entry], count: int) -> "Figure":
    """Draw test images at equally spaced ranks of the difference, with the maps of each entry's first seed.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    shown, classes = photographs(entries, equally_spaced(ranked(entries), count))
    from spatialseg.report.pictures import draw_comparison

    return draw_comparison([(one, maps_of(entries, one.name, classes)) for one in shown], classes)


def examples(entries: Sequence[Entry], count: int) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Return, for the page, the test images where the entries disagree most: image, truth, maps, weighted errors.

    Raises:
        ValueError: The maps were not kept, or the photographs are not there; names what is missing.
    """
    shown, classes = photographs(entries, extremes(ranked(entries), count))
    from spatialseg.report.page import picture
    from spatialseg.report.pictures import weighted_cost

    colours, top = (None, 1.0) if classes == 1 else ("tab20", classes - 1.0)
    found = []
    for one in shown:
        pictures = [("image", picture(one.image)), ("ground truth", picture(one.mask, colours, top))]
        for title, values in maps_of(entries, one.name, classes).items():
            each = values if classes == 1 else values == np.arange(classes)[:, None, None]
            pictures.append((title, picture(values, colours, top)))
            pictures.append(("weighted error", picture(weighted_cost(each, one.mask), "inferno", 2)))
        found.append((one.name, pictures))
    return found


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
    parser.add_argument("--html", action="store_true", help="write a page, too: comparison.html")
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
    shown = []
    if options.images > 0:
        try:
            draw(entries, options.images).savefig(out / "comparison.png", dpi=100)
            written.append("comparison.png")
            shown = examples(entries, 2 * options.images) if options.html else []
        except ValueError as error:
            print(f"No picture: {error}")
    if options.html:
        from spatialseg.report.page import make_page

        page = make_page(arms, [entry.runs for entry in entries], list(tables.values()), shown)
        (out / "comparison.html").write_text(page, encoding="utf-8")
        written.append("comparison.html")
    print(f"Written to {out}: {', '.join(written)}")
