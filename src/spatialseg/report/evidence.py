"""What the records of a table say: a table, figures, and the places in the documentation that quote them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spatialseg.metrics.registry import available_measures
from spatialseg.report.pictures import COLOURS, SIZE, plots
from spatialseg.report.statistics import Arm, Difference, differences
from spatialseg.report.table import Cell, Column, Table, columns_of
from spatialseg.scores import Scores

HEADLINE = ("weighted_f", "weighted_f_cut")
GAINS = (*HEADLINE, "iou", "boundary_f", "s_measure")
SHOWN = (*HEADLINE, "iou", "boundary_f", "s_measure", "f_max", "e_mean", "mae")
MARK = re.compile(r"(<!-- evidence: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read_arms(folder: Path, names: Iterator[str] | list[str]) -> dict[str, Arm]:
    """Read the records of arms.

    Args:
        folder: `experiments/results/<table>/<data>`.
        names: The arms, in the order to show them; those without a record are left out.

    Returns:
        By name, each arm with the seeds that were run.
    """
    arms = {}
    for name in names:
        found = sorted(
            (int(path.parent.name.removeprefix("seed")), path.parent)
            for path in folder.glob(f"{name}/seed*/summary.json")
        )
        if found:
            arms[name] = Arm(name, {seed: Scores.load(path) for seed, path in found})
    return arms


def against(baseline: Arm, other: Arm) -> dict[str, Difference]:
    """Return the differences of an arm to the baseline, by measure, over the seeds that both have."""
    common = sorted(baseline.seeds.keys() & other.seeds.keys())
    first, second = (Arm(arm.name, {seed: arm.seeds[seed] for seed in common}) for arm in (baseline, other))
    return {each.measure.name: each for each in differences(first, second)}


def table_of(arms: Mapping[str, Arm], baseline: str, title: str) -> Table:
    """Return the table of arms: means over seeds, and how both weighted F-measures differ from the baseline's."""
    measures = {measure.name: measure for measure in next(iter(arms.values())).measures}
    shown = [measures[name] for name in SHOWN if name in measures]
    columns = [Column("arm", "loss"), Column("seeds", "seeds"), *columns_of(shown, digits=3)]
    columns += [
        Column(f"Δ {name}", f"Δ {measures[name].label}, 95 % interval") for name in HEADLINE if name in measures
    ]
    rows = []
    for name, arm in arms.items():
        row: dict[str, Cell] = {"arm": name, "seeds": len(arm.seeds), **arm.means()}
        if name != baseline and baseline in arms:
            found = against(arms[baseline], arm)
            row |= {f"Δ {key}": interval(found[key]) for key in HEADLINE if key in found}
        rows.append(row)
    return Table(columns, rows, title)


def gains_table(arms: Mapping[str, Arm], recipe: str, title: str) -> Table:
    """Return a table of what one arm gains over each of the others, with intervals; nothing gained is one around 0."""
    measures = {measure.name: measure for measure in next(iter(arms.values())).measures}
    shown = [name for name in GAINS if name in measures]
    columns = [Column("arm", f"{recipe} against"), *(Column(name, f"Δ {measures[name].label}") for name in shown)]
    found = {name: against(arm, arms[recipe]) for name, arm in arms.items() if name != recipe}
    rows: list[dict[str, Cell]] = [
        {"arm": name, **{key: interval(gains[key]) for key in shown}} for name, gains in found.items()
    ]
    return Table(columns, rows, title)


def validation_table(runs: Sequence[tuple[str, float, Mapping[str, float]]], title: str) -> Table:
    """Return the table of runs that were scored on the validation images only.

    Args:
        runs: Arm, learning rate and figures by measure.
        title: Stands above it.
    """
    measures = available_measures()
    shown = [measures[name] for name in SHOWN]
    columns = [Column("arm", "loss"), Column("rate", "learning rate"), *columns_of(shown, digits=3)]
    rows: list[dict[str, Cell]] = [{"arm": arm, "rate": f"{rate:g}", **figures} for arm, rate, figures in runs]
    return Table(columns, rows, title)


def interval(difference: Difference) -> str:
    """Return a difference with its interval, over seeds and images where there are several seeds."""
    low, high = difference.crossed or difference.images
    over = "" if difference.crossed else ", images alone"
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]{over}"


def draw_dots(arms: Mapping[str, Arm], title: str) -> Figure:
    """Draw of each arm every seed's figure as a dot, the mean, and its interval over seeds and images as a line."""
    wanted = (*HEADLINE, "iou", "boundary_f")
    measures = enumerate(next(iter(arms.values())).measures)
    shown = [(place, measure) for place, measure in measures if measure.name in wanted]
    figure, axes = plots(len(shown), title, share_y=True)
    for height, arm in enumerate(arms.values()):
        intervals, colour = arm.intervals(), COLOURS[height % len(COLOURS)]
        for axis, (place, measure) in zip(axes, shown, strict=True):
            values = arm.figures[place]
            axis.plot(intervals[place], [height, height], color=colour, linewidth=2, alpha=0.5)
            axis.plot(values, np.full(len(values), height), "o", color=colour, markersize=4, alpha=0.8)
            axis.plot(values.mean(), height, "|", color="black", markersize=11)
            axis.set_title(measure.label, fontsize=SIZE)
    axes[0].set_yticks(range(len(arms)), arms, fontsize=SIZE)
    axes[0].invert_yaxis()
    return figure


def draw_reliability(arms: Mapping[str, Arm], title: str) -> Figure:
    """Draw the weighted F-measure of masks over the threshold that cuts them; dashed, that of the maps as they are."""
    figure, (axis,) = plots(1, title)
    for colour, (name, arm) in zip(COLOURS, arms.items(), strict=False):
        cuts = arm.first_seed.conventions["cuts"]
        curves = np.array([scores.mean_curve("weighted_f") for scores in arm.seeds.values()])
        axis.plot(cuts, curves.mean(axis=0), color=colour, label=name)
        axis.fill_between(cuts, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axis.axhline(arm.means()["weighted_f"], color=colour, linestyle="--", linewidth=1)
    axis.set(xlabel="threshold that cuts the map", ylabel="weighted F-measure")
    axis.legend(fontsize=SIZE - 1, loc="lower center")
    return figure


def draw_gains(arms: Mapping[str, Arm], recipe: str, title: str) -> Figure:
    """Draw what one arm gains over each of the others on small and on large objects: fifths of the test images.

    A dot is the mean over images and seeds, its line the 95 % interval over images.
    """
    shares = arms[recipe].first_seed.columns["foreground"]
    fifths = np.array_split(np.argsort(shares), 5)
    figure, axes = plots(len(HEADLINE), title, share_y=True)
    rivals = [name for name in arms if name != recipe]
    for axis, measure in zip(axes, HEADLINE, strict=True):
        for place, name in enumerate(rivals):
            images = [
                np.mean([seed.columns[measure] for seed in arms[each].seeds.values()], axis=0)
                for each in (name, recipe)
            ]
            gains = [(images[1] - images[0])[fifth] for fifth in fifths]
            errors = [1.96 * gain.std(ddof=1) / len(gain) ** 0.5 for gain in gains]
            where = np.arange(5) + 0.12 * (place - (len(rivals) - 1) / 2)
            colour = COLOURS[list(arms).index(name) % len(COLOURS)]
            axis.errorbar(
                where, [gain.mean() for gain in gains], errors, fmt="o", markersize=4, color=colour, label=name
            )
        axis.axhline(0, color="black", linewidth=0.8)
        label = next(each.label for each in arms[recipe].measures if each.name == measure)
        axis.set_title(f"{label} of {recipe}, less that of", fontsize=SIZE)
        axis.set_xticks(range(5), [f"{shares[fifth].min():.0%}–{shares[fifth].max():.0%}" for fifth in fifths])
        axis.set_xlabel("object's share of the image")
    axes[-1].legend(fontsize=SIZE - 1)
    return figure


def fill(text: str, tables: Mapping[str, str]) -> str:
    """Put tables into a document, between `<!-- evidence: NAME -->` and `<!-- end -->`.

    Args:
        text: The document.
        tables: Markdown by name; a place whose name is not among them stays as it is.
    """
    return MARK.sub(lambda found: found[1] + tables[found[2]] + found[3] if found[2] in tables else found[0], text)
