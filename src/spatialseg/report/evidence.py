"""What the records of the evidence say: tables and figures of arms, or of runs that were only validated or rescored."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spatialseg.metrics.registry import available_measures
from spatialseg.report.pictures import COLOURS, SIZE, plots
from spatialseg.report.statistics import Arm, Difference, differences, paired
from spatialseg.report.table import Cell, Column, Table, columns_of
from spatialseg.scores import Measure

HEADLINE = ("weighted_f", "weighted_f_cut")
GAINS = (*HEADLINE, "iou", "boundary_f", "s_measure", "spurious")
OF_MASKS = ("iou", "boundary_f")
"""Measures that some runs also took of masks that are cut where validation images like it best, under `<name>_cut`."""
SHOWN = (*HEADLINE, "iou", "iou_cut", "boundary_f", "boundary_f_cut", "s_measure", "f_max", "e_mean", "mae", "spurious")
RECIPE, PLAIN = "structure-to-wfb", "bce"
LOSSES = (RECIPE, "bce+dice", PLAIN)
"""First parts of the names of arms that also say what else differs, such as `bce-lite0-light` and `bce-dilated`."""
Figures = Mapping[str, float]
Gains = Mapping[str, Mapping[str, Difference]]


def measures_of(arms: Mapping[str, Arm], names: Sequence[str]) -> list[Measure]:
    """Return those of the named measures that the arms have, in the order of the names."""
    measures = {measure.name: measure for measure in next(iter(arms.values())).measures}
    return [measures[name] for name in names if name in measures]


def fairest(arms: Mapping[str, Arm], names: Sequence[str]) -> list[Measure]:
    """Return what `measures_of` does, but for measures of masks cut at one threshold for all.

    Those of masks cut where the validation images liked it best stand in their place, where the arms have them.
    """
    measured = {measure.name for measure in next(iter(arms.values())).measures}
    cut = {name: f"{name}_cut" for name in OF_MASKS if f"{name}_cut" in measured}
    return measures_of(arms, [cut.get(name, name) for name in names])


def against(baseline: Arm, other: Arm) -> dict[str, Difference]:
    """Return the differences of an arm to the baseline, by measure."""
    return {each.measure.name: each for each in differences(baseline, other)}


def table_of(arms: Mapping[str, Arm], baseline: str, title: str) -> Table:
    """Return the table of arms: means over seeds, and how both weighted F-measures differ from the baseline's."""
    headline = measures_of(arms, HEADLINE)
    columns = [Column("arm", "loss"), Column("seeds", "seeds"), *columns_of(measures_of(arms, SHOWN), digits=3)]
    columns += [Column(f"Δ {each.name}", f"Δ {each.label}, 95 % interval") for each in headline]
    rows = []
    for name, arm in arms.items():
        row: dict[str, Cell] = {"arm": name, "seeds": len(arm.seeds), **arm.means()}
        if name != baseline and baseline in arms:
            found = against(arms[baseline], arm)
            row |= {f"Δ {each.name}": interval(found[each.name]) for each in headline}
        rows.append(row)
    return Table(columns, rows, title)


def gains_of(arms: Mapping[str, Arm], recipe: str) -> Gains:
    """Return what one arm gains over each of the others, by the other's name and by measure."""
    return {name: against(arm, arms[recipe]) for name, arm in arms.items() if name != recipe}


def gains_table(arms: Mapping[str, Arm], recipe: str, gains: Gains, images_alone: bool = False) -> Table:
    """Return a table of what one arm gains over each of the others, with intervals; nothing gained is one around 0.

    Args:
        arms: All arms.
        recipe: The name of that one.
        gains: What `gains_of` found of them.
        images_alone: Whether intervals are over images, of these very runs, and not over seeds as well.
    """
    shown = fairest(arms, GAINS)
    columns = [Column("arm", f"{recipe} against"), *(Column(each.name, f"Δ {each.label}") for each in shown)]
    rows: list[dict[str, Cell]] = [
        {"arm": name, **{each.name: interval(found[each.name], images_alone) for each in shown}}
        for name, found in gains.items()
    ]
    return Table(columns, rows)


def significance_table(arms: Mapping[str, Arm], recipe: str, gains: Gains) -> Table:
    """Return a table of how sure it is that one arm is better than each of the others, seed by seed, image by image.

    Args:
        arms: All arms.
        recipe: The name of that one.
        gains: What `gains_of` found of them.
    """
    shown = fairest(arms, GAINS)
    columns = [Column("arm", f"{recipe} against"), Column("seeds", "paired seeds")]
    for each in shown:
        columns += [Column(f"{each.name} p", f"{each.label}: p", digits=3)]
        columns += [Column(f"{each.name} better", "better", digits=2)]
    rows: list[dict[str, Cell]] = []
    for name, found in gains.items():
        row: dict[str, Cell] = {"arm": name, "seeds": found[shown[0].name].pairs}
        for each in shown:
            row |= {f"{each.name} p": found[each.name].p_value, f"{each.name} better": found[each.name].improvement}
        rows.append(row)
    return Table(columns, rows)


def validation_table(runs: Sequence[tuple[str, float, Mapping[str, float]]], title: str) -> Table:
    """Return the table of runs that were scored on the validation images only.

    Args:
        runs: Arm, learning rate and figures by measure.
        title: Stands above it.
    """
    measures = available_measures(further=True)
    shown = [measures[name] for name in SHOWN if name in runs[0][2]]
    columns = [Column("arm", "loss"), Column("rate", "learning rate"), *columns_of(shown, digits=3)]
    rows: list[dict[str, Cell]] = [{"arm": arm, "rate": f"{rate:g}", **figures} for arm, rate, figures in runs]
    return Table(columns, rows, title)


def interval(difference: Difference, images_alone: bool = False) -> str:
    """Return a difference with its interval, over seeds and images if there are several seeds and both are wanted."""
    crossed = None if images_alone else difference.crossed
    low, high = crossed or difference.images
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]{'' if crossed else ', images alone'}"


def draw_dots(arms: Mapping[str, Arm], title: str) -> Figure:
    """Draw of each arm every seed's figure as a dot, the mean, and its interval over seeds and images as a line."""
    measures = next(iter(arms.values())).measures
    shown = [
        (measures.index(measure), measure) for measure in fairest(arms, (*HEADLINE, "iou", "boundary_f", "spurious"))
    ]
    figure, axes = plots(len(shown), title, share_y=True)
    for height, arm in enumerate(arms.values()):
        intervals, colour = arm.intervals(), COLOURS[height % len(COLOURS)]
        for axis, (place, measure) in zip(axes, shown, strict=True):
            values = arm.figures[place]
            axis.plot(intervals[place], [height, height], color=colour, linewidth=2, alpha=0.5)
            axis.plot(values, np.full(len(values), height), "o", color=colour, markersize=4, alpha=0.8)
            axis.plot(values.mean(), height, "|", color="black", markersize=11)
            axis.set_title(measure.label, fontsize=SIZE)
            axis.locator_params("x", nbins=5)  # numbers of four decimals would touch
    axes[0].set_yticks(range(len(arms)), arms, fontsize=SIZE)
    axes[0].set_ylim(len(arms) - 0.25, -0.75)
    return figure


def draw_reliability(arms: Mapping[str, Arm], title: str) -> Figure:
    """Draw the weighted F-measure of masks over the threshold that cuts them; dashed, that of the maps as they are."""
    figure, (axis,) = plots(1, title)
    for place, (name, arm) in enumerate(arms.items()):
        again, colour = divmod(place, len(COLOURS))
        cuts = arm.first_seed.conventions["cuts"]
        curves = np.array([scores.mean_curve("weighted_f") for scores in arm.seeds.values()])
        axis.plot(cuts, curves.mean(axis=0), color=COLOURS[colour], marker=" .x"[again % 3], markersize=4, label=name)
        axis.fill_between(cuts, curves.min(axis=0), curves.max(axis=0), color=COLOURS[colour], alpha=0.15, linewidth=0)
        axis.axhline(arm.means()["weighted_f"], color=COLOURS[colour], linestyle="--", linewidth=1)
    axis.set(xlabel="threshold that cuts the map", ylabel="weighted F-measure")
    axis.legend(fontsize=SIZE - 1, loc="lower center")
    return figure


def draw_gains(arms: Mapping[str, Arm], recipe: str, title: str) -> Figure:
    """Draw what one arm gains over each of the others by the size of objects, and by how complex their contours are.

    Each over fifths of the test images: a dot is the mean over images and seeds, its line the 95 % interval over
    images. Complexity is the squared length of the contour, in pixels, over 4π times the area: about 1 for a disc.
    """
    columns = arms[recipe].first_seed.columns
    facts = {"object's share of the image, %": (100 * columns["foreground"], "{:.0f}–{:.0f}")}
    if "contour" in columns:
        area = columns["foreground"] * columns["height"] * columns["width"]
        facts["complexity of its contour"] = columns["contour"] ** 2 / (4 * np.pi * area.clip(1)), "{:.1f}–{:.1f}"
    figure, axes = plots(len(HEADLINE) * len(facts), title, share_y=True)
    rivals = [name for name in arms if name != recipe]
    panels = [(measure, *fact) for fact in facts.items() for measure in measures_of(arms, HEADLINE)]
    for axis, (measure, fact, (values, form)) in zip(axes, panels, strict=True):
        fifths = np.array_split(np.argsort(values), 5)
        for place, name in enumerate(rivals):
            rival, ours = (arm.images(measure) for arm in paired(arms[name], arms[recipe]))
            gains = [(ours - rival)[fifth] for fifth in fifths]
            errors = [1.96 * gain.std(ddof=1) / len(gain) ** 0.5 for gain in gains]
            where = np.arange(5) + 0.12 * (place - (len(rivals) - 1) / 2)
            colour = COLOURS[list(arms).index(name) % len(COLOURS)]
            axis.errorbar(
                where, [gain.mean() for gain in gains], errors, fmt="o", markersize=4, color=colour, label=name
            )
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{measure.label} of {recipe}, less that of", fontsize=SIZE)
        ticks = [form.format(values[fifth].min(), values[fifth].max()) for fifth in fifths]
        axis.set_xticks(range(5), ticks, fontsize=SIZE - 2)
        axis.set_xlabel(fact)
    axes[0].set_ylabel("mean, 95 % interval over images alone", fontsize=SIZE)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=SIZE - 1)
    return figure


def classes_table(arms: Mapping[str, Arm], title: str) -> Table:
    """Return IoU, boundary F and spurious components of each class, means over the seeds of each arm."""
    shown = measures_of(arms, ("iou", "boundary_f", "spurious"))
    found = {name: [seed.by_class() for seed in arm.seeds.values()] for name, arm in arms.items()}
    columns = [Column("class", "class")]
    columns += [Column(f"{m.name} {name}", f"{m.label}, {name}", digits=3) for m in shown for name in arms]
    rows: list[dict[str, Cell]] = [
        {"class": each}
        | {
            f"{m.name} {name}": float(np.mean([seed[each][m.name] for seed in seeds]))
            for m in shown
            for name, seeds in found.items()
        }
        for each in next(iter(arms.values())).first_seed.classes
    ]
    return Table(columns, rows, title)


def split_arm(name: str) -> tuple[str, str]:
    """Return the loss that an arm's name begins with, and what it is trained on or with: `bce`, `lite0-light`."""
    loss = next(loss for loss in LOSSES if name.startswith(f"{loss}-"))
    return loss, name.removeprefix(f"{loss}-")


def networks_table(arms: Mapping[str, Arm], sizes: Mapping[str, Figures], title: str) -> Table:
    """Return what networks are worth under two losses, and which cross-entropy needs to match the recipe.

    Args:
        arms: By `<loss>-<network>`.
        sizes: Of each arm `parameters` and `ms` per image.
        title: Stands above the table.
    """
    means = {split_arm(name): arm.means() | dict(sizes[name]) for name, arm in arms.items()}
    plain = {network: each for (loss, network), each in means.items() if loss == PLAIN}
    columns = [Column("network", "network"), Column("parameters", "parameters"), Column("ms", "ms per image", digits=0)]
    headline = measures_of(arms, HEADLINE)
    columns += [
        Column(f"{m.name} {loss}", f"{m.label}, {loss}", digits=3) for m in headline for loss in (PLAIN, RECIPE)
    ]
    columns += [Column(f"match {m.name}", f"{PLAIN}'s match in {m.label}") for m in headline]
    rows: list[dict[str, Cell]] = []
    for network, each in plain.items():
        row: dict[str, Cell] = {"network": network, "parameters": f"{each['parameters'] / 1e6:.1f} M", "ms": each["ms"]}
        recipe = means.get((RECIPE, network), {})
        for name in HEADLINE:
            row |= {f"{name} {PLAIN}": each[name], f"{name} {RECIPE}": recipe.get(name)}
            level = [key for key, other in plain.items() if recipe and other[name] >= recipe[name]]
            match = min(level, key=lambda key: plain[key]["ms"], default=None)
            row[f"match {name}"] = f"{match}, {plain[match]['ms'] / each['ms']:.1f}× the time" if match else "none"
        rows.append(row)
    return Table(columns, rows, title)


def draw_networks(
    arms: Mapping[str, Arm], sizes: Mapping[str, Figures], title: str, filtered: Mapping[str, Figures]
) -> Figure:
    """Draw both weighted F-measures, on a logit scale, over time per image and over parameters; see `networks_table`.

    Args:
        arms: By `<loss>-<network>`.
        sizes: Of each arm `parameters` and `ms` per image.
        title: Stands above the panels.
        filtered: Of arms what the maps of their first seed are worth after a filter, hollow; may be empty.
    """
    scales = {"ms": ("ms per image", 1.0), "parameters": ("million parameters", 1e-6)}
    figure, axes = plots(len(HEADLINE) * len(scales), title, share_y=True)
    figure.set_figheight(4.5)
    axes[0].set_yscale("logit")  # lest a network from scratch press all others together
    axes[0].set_yticks(ticks := (0.5, 0.6, 0.7, 0.8, 0.85, 0.9), [str(tick) for tick in ticks])
    axes[0].minorticks_off()
    markers = dict(zip(dict.fromkeys(split_arm(name)[1] for name in arms), "os^vDPX*", strict=False))
    panels = [(scale, measure) for scale in scales for measure in measures_of(arms, HEADLINE)]
    for axis, (scale, measure) in zip(axes, panels, strict=True):
        label, factor = scales[scale]
        for name, arm in arms.items():
            (loss, network), where = split_arm(name), sizes[name][scale] * factor
            colour = COLOURS[int(loss == RECIPE)]
            values = [float(seed.figure(measure)) for seed in arm.seeds.values()]
            axis.plot([where] * len(values), values, ".", color=colour, alpha=0.4, markersize=4)
            axis.plot(where, np.mean(values), markers[network], color=colour, label=f"{loss}, {network}")
            if name in filtered:
                after = filtered[name][measure.name]
                axis.plot([where, where], [values[0], after], color=colour, linewidth=0.8)
                axis.plot(where, after, markers[network], color=colour, markerfacecolor="white")
        axis.set_xlabel(label)
        axis.set_title(measure.label, fontsize=SIZE)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=SIZE - 2)
    return figure


def ranking(record: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, float]]:
    """Return, by measure and kind of sloppy test masks, Kendall's τ of the networks' order to that on clean masks.

    Args:
        record: Of each run its figures by kind of masks, `clean` among them.
    """
    from scipy.stats import kendalltau  # takes a moment to import

    runs = list(record.values())
    return {
        measure: {
            kind: float(kendalltau(*([run[each][measure] for run in runs] for each in ("clean", kind))).statistic)
            for kind in runs[0]
            if kind != "clean"
        }
        for measure in runs[0]["clean"]
    }


def ranking_table(record: Mapping[str, Mapping[str, Figures]]) -> Table:
    """Return the table of `ranking`."""
    found, measures = ranking(record), available_measures(further=True)
    kinds = list(next(iter(found.values())))
    columns = [Column("measure", "measure"), *(Column(kind, kind, "higher", 2) for kind in kinds)]
    rows: list[dict[str, Cell]] = [{"measure": measures[name].label, **taus} for name, taus in found.items()]
    return Table(columns, rows)


def draw_labels(arms: Mapping[str, Arm], record: Mapping[str, Mapping[str, Figures]], title: str) -> Figure:
    """Draw what sloppy masks do: those of training to each loss, those of the test to each measure's ranking.

    Args:
        arms: By `<loss>-<kind of training masks>`, `clean` among them.
        record: Of networks tested on sloppy masks, see `ranking`; may be empty.
        title: Stands above the panels.
    """
    figure, axes = plots(len(HEADLINE) + bool(record), title)
    losses = list(dict.fromkeys(split_arm(name)[0] for name in arms))
    kinds = list(dict.fromkeys(kind for _, kind in map(split_arm, arms) if kind != "clean"))
    for axis, measure in zip(axes, measures_of(arms, HEADLINE), strict=False):
        for place, loss in enumerate(losses):
            for position, kind in enumerate(kinds):
                if f"{loss}-{kind}" not in arms or f"{loss}-clean" not in arms:
                    continue
                drop = against(arms[f"{loss}-clean"], arms[f"{loss}-{kind}"])[measure.name]
                where = position + 0.15 * (place - (len(losses) - 1) / 2)
                axis.plot([where, where], drop.crossed or drop.images, color=COLOURS[place])
                axis.plot(where, drop.value, "o", markersize=4, color=COLOURS[place], label=loss)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(kinds)), kinds)
        axis.set_title(f"{measure.label}, less that after clean masks", fontsize=SIZE)
    axes[0].legend(*_once(axes[0]), fontsize=SIZE - 2)
    if record:
        found, measures = ranking(record), available_measures(further=True)
        for place, taus in enumerate(found.values()):
            for position, (kind, tau) in enumerate(taus.items()):
                axes[-1].plot(tau, place + 0.12 * position, "o", markersize=4, color=COLOURS[position], label=kind)
        axes[-1].set_yticks(range(len(found)), [measures[name].label for name in found], fontsize=SIZE - 2)
        axes[-1].invert_yaxis()
        axes[-1].set_title(f"τ of {len(record)} networks on sloppy test masks", fontsize=SIZE)
        figure.legend(*_once(axes[-1]), loc="outside right center", fontsize=SIZE - 2)
    return figure


def ways_table(record: Mapping[str, Mapping[str, Figures]]) -> Table:
    """Return the table of maps as they are and after what was done to them, means over the seeds of each experiment.

    Shown are the measures that all of them have.

    Args:
        record: Of each run, `<experiment>/<data>/seed<k>`, its figures by way.
    """
    rows = _over_seeds(record)
    shown = _in_all(rows, SHOWN)
    columns = [Column("run", "trained by"), Column("seeds", "seeds"), Column("way", "maps"), *columns_of(shown, 3)]
    return Table(columns, rows)


def spread_table(record: Mapping[str, Mapping[str, Figures]]) -> Table:
    """Return the table of means over seeds ± their standard deviation, for each experiment and way.

    Args:
        record: As of `ways_table`, of two seeds or more of each experiment.
    """
    means, spreads = _over_seeds(record), _over_seeds(record, partial(np.std, ddof=1))
    shown = _in_all(means, [name for name in available_measures(further=True) if name in (*GAINS, "mae")])
    columns = [Column("run", "trained by"), Column("seeds", "seeds"), Column("way", "statistics")]
    columns += [Column(measure.name, measure.label) for measure in shown]
    rows: list[dict[str, Cell]] = [
        {**mean, **{m.name: f"{mean[m.name]:.3f} ± {spread[m.name]:.3f}" for m in shown}}
        for mean, spread in zip(means, spreads, strict=True)
    ]
    return Table(columns, rows)


def parts_table(record: Mapping[str, Mapping[str, Figures]], what: str, better: Literal["higher", "lower"]) -> Table:
    """Return the table of figures that have a value for each band of distances or epoch, means over seeds.

    Args:
        record: Of each run, `<experiment>/<data>/seed<k>`, its values by figure and by band or epoch.
        what: The figures' common name.
        better: Which values are.
    """
    columns = [Column("run", "trained by"), Column("seeds", "seeds"), Column("way", what)]
    parts = next(iter(next(iter(record.values())).values()))
    columns += [Column(part, part, better, 3) for part in parts]
    return Table(columns, sorted(_over_seeds(record), key=lambda row: str(row["way"])), group="way")


def draw_stages(record: Mapping[str, Mapping[str, Figures]], title: str) -> Figure:
    """Draw each figure of a training over its epochs, a line per experiment; see `parts_table`."""
    rows = _over_seeds(record)
    names = list(dict.fromkeys(str(row["way"]) for row in rows))
    figure, axes = plots(len(names), title)
    for axis, shown in zip(axes, names, strict=True):
        for row in (row for row in rows if row["way"] == shown):
            name = str(row["run"]).removeprefix("stages-").partition("-rate")[0]
            values = [(int(key.removeprefix("epoch ")), row[key]) for key in row if key.startswith("epoch ")]
            axis.plot(*zip(*values, strict=True), ".-", label=name)
        axis.set_title(shown, fontsize=SIZE)
        axis.set_xlabel("epoch")
    axes[-1].legend(fontsize=SIZE - 2)
    return figure


def _in_all(rows: Sequence[Mapping[str, Cell]], names: Sequence[str]) -> list[Measure]:
    """Return those of the named measures that all rows have, in the order of the names."""
    measures = available_measures(further=True)
    return [measures[name] for name in names if all(name in row for row in rows)]


def _over_seeds(
    record: Mapping[str, Mapping[str, Figures]], fold: Callable[[list[float]], np.floating] = np.mean
) -> list[dict[str, Cell]]:
    """Return a row of means, or of what else folds seeds, for each experiment and way of what was found of its runs."""
    experiments: dict[str, list[Mapping[str, Figures]]] = {}
    for run, each in record.items():
        experiments.setdefault(run.rpartition("/")[0], []).append(each)
    rows: list[dict[str, Cell]] = []
    for name, runs in experiments.items():
        for way, figures in runs[0].items():
            common = [figure for figure in figures if all(figure in run[way] for run in runs)]
            folded = {figure: float(fold([run[way][figure] for run in runs])) for figure in common}
            rows.append({"run": name, "seeds": len(runs), "way": way, **folded})
    return rows


def draw_windows(runs: Sequence[tuple[str, float, Figures]], title: str) -> Figure:
    """Draw how the locally adaptive loss fares over its exponent, a line per window, and a mark per variant.

    Args:
        runs: Arm, learning rate and figures, as for `validation_table`; arms are called `window-3-k-2` and perhaps on.
        title: Stands above the panels.
    """
    wanted, marks = ("iou", "boundary_f", "spurious"), "xs^vD"
    measures = [measure for name, measure in available_measures(further=True).items() if name in wanted]
    measures = [measure for measure in measures if measure.name in runs[0][2]]
    figure, axes = plots(len(measures), title)
    found = [(re.fullmatch(r"window-(\d+)-k-(\d+)-?(.*)", arm), figures) for arm, _, figures in runs]
    settings = [(int(each[1]), int(each[2]), each[3], figures) for each, figures in found if each]
    variants = list(dict.fromkeys(variant for _, _, variant, _ in settings if variant))
    for axis, measure in zip(axes, measures, strict=True):
        for place, window in enumerate(sorted({window for window, *_ in settings})):
            own = [(k, variant, figures[measure.name]) for each, k, variant, figures in settings if each == window]
            line = sorted((k, value) for k, variant, value in own if not variant)
            axis.plot(*zip(*line, strict=True), "o-", markersize=4, color=COLOURS[place], label=f"window {window}")
            for k, variant, value in own:
                if variant:
                    aside = variants.index(variant)
                    axis.plot(k + 0.1 * (1 + aside), value, marks[aside], markersize=5, color=COLOURS[place])
        axis.set_xlabel("exponent k")
        axis.set_title(measure.describe(), fontsize=SIZE)
    for variant, mark in zip(variants, marks, strict=False):
        axes[0].plot([], [], mark, markersize=5, color="black", label=variant)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=SIZE - 2)
    return figure


def _once(axis: Axes) -> tuple[list[Artist], list[str]]:
    """Return what a legend shows, each of the equally labelled things once."""
    handles, labels = axis.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    return list(named.values()), list(named)


RESCORED_TABLES: Mapping[str, Callable[[Mapping[str, Mapping[str, Figures]]], Table]] = {
    "ranking": ranking_table,
    "filter": ways_table,
    "windows": ways_table,
    "cuts": ways_table,
    "statistics": spread_table,
    "mistakes": partial(parts_table, what="pixels", better="lower"),
    "stages": partial(parts_table, what="figure", better="higher"),
}
"""How each record of networks that were scored once more is shown."""
