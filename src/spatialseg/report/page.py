"""One HTML page that shows runs side by side: opens from disk, needs no network, follows the reader's theme."""

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image

from spatialseg.report.entries import CUT, Entry
from spatialseg.report.sheet import map_pixels
from spatialseg.report.statistics import NO_SEED, Arm, differences, paired
from spatialseg.report.svg import Plot, span
from spatialseg.report.table import Cell, Column, Table, columns_of
from spatialseg.run.folder import RunFolder

Array = NDArray[Any]

TEMPLATE = Path(__file__).with_name("page.html")
NOT_COMPARED = ("experiment", "seed_everything", "data.seed", "runs", "ckpt_path", "trainer.logger")


class Picture(NamedTuple):
    """A picture with what stands below it."""

    caption: str
    pixels: Array
    """uint8 (H, W, 3)."""
    exact: bool = False
    """Whether it may show no colours but its own: then it becomes a PNG file, else JPEG."""


class Example(NamedTuple):
    """A test image with all that belongs to it."""

    heading: str
    pictures: Sequence[Picture]
    anatomies: Sequence[Picture] = ()
    """How its scores come about."""


class Small(NamedTuple):
    """A picture as the page holds it; its size keeps all else in place while it is loaded."""

    width: int
    height: int
    source: str
    """The file itself, as a `data:` URL."""


def make_page(entries: Sequence[Entry], tables: Sequence[Table], examples: Sequence[Example]) -> str:
    """Return the page.

    Args:
        entries: What is compared, the baseline first.
        tables: The figures, and the differences if there are any.
        examples: Test images.
    """
    arms = [entry.arm for entry in entries]
    others = list(enumerate(arms[1:], 1))
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=f"{', '.join(arm.name for arm in arms)} on {entries[0].data}",
        arms=arms,
        measures=tables[0],
        differences=tables[1:],
        forests=[_forest(arms[0], arm, index) for index, arm in others],
        seeds=list(_seeds(arms)),
        runs=_each_run(entries),
        curves=list(_curves(arms)),
        images=[*(_scatter(arms[0], arm, index) for index, arm in others), _sizes(arms), _boxes(arms)],
        examples=examples,
        class_colours=_class_colours(arms[0]),
        small=small,
        all_images=_all_images(arms),
        classes=list(_classes(arms)),
        training=list(_training(entries)),
        settings=list(_settings(entries)),
    )


def small(picture: Picture, side: int) -> Small:
    """Shrink a picture to at most so many pixels a side."""
    image = Image.fromarray(picture.pixels)
    image.thumbnail((side, side), Image.Resampling.NEAREST if picture.exact else Image.Resampling.BILINEAR)
    file, kind = io.BytesIO(), "png" if picture.exact else "jpeg"
    image.save(file, kind, quality=80, optimize=True)
    source = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return Small(image.width, image.height, source)


def _class_colours(arm: Arm) -> dict[str, str]:
    """Return what colour each class has in the pictures, as CSS has it; nothing if there are none."""
    if not (names := arm.first_seed.classes):
        return {}
    (colours,) = map_pixels(np.arange(len(names))[None], len(names)).tolist()
    return {name: f"rgb{tuple(colour)}" for name, colour in zip(names, colours, strict=True)}


def _forest(first: Arm, second: Arm, index: int) -> Plot:
    """Draw the differences in all measures with their intervals."""
    found = [each for each in differences(first, second) if not np.isnan(each.value)]  # scored maps have fewer
    ends = [end for each in found for end in (*each.images, *(each.crossed or ()))]
    plot = Plot(
        f"{second.name} less {first.name}", span([0.0], ends), names=[each.measure.describe() for each in found]
    )
    plot.line([0, 0], [-0.5, len(found) - 0.5], "zero")
    for row, each in enumerate(found):
        plot.line(each.images, [row, row], f"c{index % 7} thick")
        if each.crossed:
            plot.line(each.crossed, [row, row], f"c{index % 7}")
        plot.dots([each.value], [row], f"c{index % 7}", [f"{each.value:+.4f}"], 4)
    return plot


def _seeds(arms: Sequence[Arm]) -> Iterable[Plot]:
    """Draw every seed's figure of each measure, with the arm's interval."""
    intervals = [arm.intervals() for arm in arms]
    for row, measure in enumerate(arms[0].measures):
        ends = [interval[row] for interval in intervals]
        plot = Plot(measure.describe(), span(*ends, *(arm.figures[row] for arm in arms)), names=[a.name for a in arms])
        for place, (arm, interval) in enumerate(zip(arms, ends, strict=True)):
            plot.line(interval, [place, place], f"c{place % 7}")
            labels = [
                f"{value:.4f}" if seed == NO_SEED else f"seed {seed}: {value:.4f}"
                for seed, value in zip(arm.seeds, arm.figures[row], strict=True)
            ]
            plot.dots(arm.figures[row], [place] * len(labels), f"c{place % 7}", labels, 4)
        yield plot


def _curves(arms: Sequence[Arm]) -> Iterable[Plot]:
    """Draw precision over recall, F over the threshold, and weighted F over the cut, as far as they were taken."""
    means = [
        {
            name: np.mean([each.mean_curve(name) for each in arm.seeds.values()], axis=0)
            for name in arm.first_seed.curves
        }
        for arm in arms
    ]
    have = set.intersection(*({*each} for each in means))
    if {"precision", "recall"} <= have:
        plot = Plot("Precision and recall", (0, 1.02), (0, 1.02), x_label="recall", y_label="precision")
        for index, curves in enumerate(means):
            plot.line(curves["recall"], curves["precision"], f"c{index % 7}")
        yield plot
    cuts = arms[0].first_seed.conventions.get("cuts", ())
    panels = {
        "f": ("F-measure", np.arange(256) / 255),
        "e": ("E-measure", np.arange(256) / 255),
        "weighted_f": ("Weighted F of maps cut at a threshold", cuts),
    }
    for name, (title, thresholds) in panels.items():
        if name in have and len(thresholds) > 1:  # several classes have one mask
            plot = Plot(title, (0, 1.02), (0, 1.02), x_label="threshold", y_label=title.partition(" of ")[0])
            for index, each in enumerate(means):
                plot.line(thresholds, each[name], f"c{index % 7}")
            yield plot


def _scatter(first: Arm, second: Arm, index: int) -> Plot:
    """Draw the image scores of one arm over those of the baseline."""
    measure = first.measures[0]
    x, y = (arm.images(measure) for arm in paired(first, second))
    both, label = span(x, y), measure.label
    plot = Plot(f"{label} of each image", both, both, x_label=first.name, y_label=second.name)
    plot.line(both, both, "zero")
    names = first.first_seed.names
    titles = [f"{name}: {one:.3f}, {two:.3f}" for name, one, two in zip(names, x, y, strict=True)]
    plot.dots(x, y, f"c{index % 7} faint", titles)
    return plot


def _sizes(arms: Sequence[Arm]) -> Plot:
    """Draw the gain of each arm over the baseline against the share of foreground; of one arm, its scores."""
    scores, measure = arms[0].first_seed, arms[0].measures[0]
    first = arms[0].images(measure)
    share: Array = 100 * scores.columns["foreground"]
    known = (share > 0) & ~np.isnan(first)
    share, names = share[known], np.array(scores.names)[known]
    pairs = [[each.images(measure) for each in paired(arms[0], arm)] for arm in arms[1:]]
    gains = [(ours - baseline)[known] for baseline, ours in pairs] or [first[known]]
    what, label = ("Gain", f"Δ {measure.label}") if len(arms) > 1 else ("Score", measure.label)
    x = (share.min() * 0.9, share.max() * 1.1) if known.any() else (1.0, 100.0)
    title = f"{what} against the size of the object"
    plot = Plot(title, x, span(*gains), x_label="foreground, %", y_label=label, log=True)
    if len(arms) > 1:
        plot.line(x, [0, 0], "zero")
    groups = [group for group in np.array_split(np.argsort(share), 5) if len(group) > 1]
    middles = [float(np.exp(np.log(share[group]).mean())) for group in groups]
    for index, gain in enumerate(gains, len(arms) > 1):
        titles = [f"{name}: {value:+.3f}" for name, value in zip(names, gain, strict=True)]
        plot.dots(share, gain, f"c{index % 7} fainter", titles, 1.8)
        means = [float(gain[group].mean()) for group in groups]
        plot.line(middles, means, f"c{index % 7} bold")
        for middle, mean, group in zip(middles, means, groups, strict=True):
            error = 1.96 * float(gain[group].std(ddof=1)) / len(group) ** 0.5
            plot.line([middle, middle], [mean - error, mean + error], f"c{index % 7} thick")
    return plot


def _boxes(arms: Sequence[Arm]) -> Plot:
    """Draw how the image scores of each arm spread."""
    known = [values[~np.isnan(values)] for values in (arm.images(arm.measures[0]) for arm in arms)]
    spreads: list[Array] = [
        np.percentile(each, (5, 25, 50, 75, 95)) if len(each) else np.full(5, np.nan) for each in known
    ]
    title = f"Spread of {arms[0].measures[0].describe()} over the images"
    plot = Plot(title, span(*spreads), names=[arm.name for arm in arms])
    for row, (low, lower, median, upper, high) in enumerate(spreads):
        plot.line([low, high], [row, row], f"c{row % 7}")
        plot.line([lower, upper], [row, row], f"c{row % 7} box")
        plot.dots([median], [row], f"c{row % 7}", [f"median {median:.4f}, half from {lower:.4f} to {upper:.4f}"], 4)
    return plot


def _each_run(entries: Sequence[Entry]) -> Table:
    """Return a row per run: its figures, how long it took, and where it is."""
    first = entries[0].arm.first_seed
    columns = [Column("run", "run"), Column("seed", "seed"), *columns_of(first.measures)]
    columns += [Column("cut", "cut at", digits=2)] if CUT in (each.name for each in first.measures) else []
    columns += [Column("epochs", "epochs"), Column("minutes", "minutes", digits=1), Column("commit", "commit")]
    rows: list[dict[str, Cell]] = []
    for entry in entries:
        for run, (seed, scores) in zip(entry.runs or (None,), entry.arm.seeds.items(), strict=True):
            figures = {name: float(value) for name, value in scores.figures().items()}
            row: dict[str, Cell] = {"run": entry.arm.name, **figures, "commit": "", "folder": entry.place}
            if run:
                about = run.read_summary()
                row |= {"seed": seed, "cut": scores.conventions.get("cut"), "epochs": about.get("epochs")}
                row |= {"minutes": about["train_seconds"] / 60 if "train_seconds" in about else None}
                row |= {"commit": (about.get("commit") or "")[:8], "folder": str(run)}
            rows.append(row)
    return Table([*columns, Column("folder", "folder")], rows)


def _all_images(arms: Sequence[Arm]) -> Table:
    """Return a row per image: its size, the scores of every arm, and the gain of the last one."""
    scores, measure = arms[0].first_seed, arms[0].measures[0]
    columns = [Column("name", "image"), Column("size", "foreground, %", digits=1)]
    columns += [Column(arm.name, f"{measure.label}: {arm.name}", digits=3) for arm in arms]
    values: dict[str, Iterable[Cell]] = {"name": scores.names, "size": (100 * scores.columns["foreground"]).tolist()}
    values |= {arm.name: arm.images(measure).tolist() for arm in arms}
    if len(arms) > 1:
        columns.append(Column("gain", f"Δ {arms[-1].name}", digits=3, signed=True))
        values["gain"] = (arms[-1].images(measure) - arms[0].images(measure)).tolist()
    return Table(columns, [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)])


def _classes(arms: Sequence[Arm]) -> Iterable[Table]:
    """Yield for each measure a row per arm and a column per class, means over seeds."""
    names = arms[0].first_seed.classes
    for measure in arms[0].measures if any(names) else ():
        rows: list[dict[str, Cell]] = []
        for arm in arms:
            each = [scores.by_class() for scores in arm.seeds.values()]
            means = {name: float(np.mean([one[name][measure.name] for one in each])) for name in names}
            rows.append({"run": arm.name, **means})
        columns = [Column("run", "run"), *(Column(name, name, measure.better, 3) for name in names)]
        yield Table(columns, rows, measure.describe())


def _training(entries: Sequence[Entry]) -> Iterable[Plot]:
    """Draw the training loss and all that was validated over the epochs, a line per run."""
    logs = [[_log(run) for run in entry.runs if run.metrics.is_file()] for entry in entries]
    names = {name for each in logs for log in each for name in log}
    for name in sorted(names, key=lambda name: (name != "train/loss", name)):
        lines = [(index, log[name]) for index, each in enumerate(logs) for log in each if name in log]
        epochs = span(*(list(values) for _, values in lines), pad=0.02)
        plot = Plot(name, epochs, span(*(list(values.values()) for _, values in lines)), x_label="epoch", whole=True)
        for index, values in lines:
            plot.line(list(values), list(values.values()), f"c{index % 7}")
        yield plot


def _log(run: RunFolder) -> dict[str, dict[float, float]]:
    """Read the values by epoch of the training loss and of all that was validated."""
    found: dict[str, dict[float, float]] = {}
    with run.metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and row["epoch"] and (name == "train/loss" or name.startswith("val/")):
                    found.setdefault(name, {})[float(row["epoch"]) + 1] = float(value)
    return found


def _settings(entries: Sequence[Entry]) -> Iterable[Table]:
    """Yield the settings that are not the same in all runs."""
    settings = {entry.arm.name: _flat(entry.runs[0].read_config()) for entry in entries if entry.runs}
    keys = sorted({key for each in settings.values() for key in each if not key.startswith(NOT_COMPARED)})
    differing = [key for key in keys if len({each.get(key) for each in settings.values()}) > 1]
    if differing:
        columns = [Column("key", "setting"), *(Column(name, name) for name in settings)]
        yield Table(
            columns, [{"key": key} | {name: each.get(key) for name, each in settings.items()} for key in differing]
        )


def _flat(settings: object, prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted keys; what has a name in a list goes by it."""
    if isinstance(settings, Mapping):
        items = [(str(key), value) for key, value in settings.items()]
    elif isinstance(settings, list) and any(isinstance(each, Mapping) for each in settings):
        items = [(str(each.get("name", index)), each) for index, each in enumerate(settings)]
    else:
        return {prefix: str(settings)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
