"""What is compared, side by side in tables: every measure, and the differences to the first."""

from collections.abc import Sequence
from typing import Any

from spatialseg.conventions import Conventions
from spatialseg.report.entries import CUT, Entry
from spatialseg.report.statistics import RESAMPLES, Arm, differences
from spatialseg.report.table import Cell, Column, Table, columns_of


def tabulate_figures(entries: Sequence[Entry]) -> Table:
    """Return every measure of every entry, means over seeds."""
    first = entries[0].arm.first_seed
    columns = [Column("run", "run"), Column("seeds", "seeds"), *columns_of(first.measures)]
    rows: list[dict[str, Cell]] = [
        {"run": entry.arm.name, "seeds": len(entry.runs) or None, **entry.arm.means()} for entry in entries
    ]
    common: dict[str, Any] = {**first.conventions, "cuts": ()}  # what each run is cut at is its own
    caption = Conventions(**common).describe()
    if any(measure.name == CUT for measure in first.measures):
        cut = (
            "of the most probable classes" if first.classes else "at the threshold chosen on its own validation images"
        )
        caption += f" Fw cut: each run {cut}."
    if scored := [entry.arm.name for entry in entries if not entry.runs]:
        caption += f" Without seeds: scored maps ({', '.join(scored)}), 8-bit as a rule; a run's own are not rounded."
    return Table(columns, rows, f"{len(first)} test images", caption, facts={"conventions": first.conventions})


def tabulate_differences(arms: Sequence[Arm]) -> Table:
    """Return by how much each later arm differs from the first, a row per measure."""
    rows: list[dict[str, Any]] = []
    for arm in arms[1:]:
        for each in differences(arms[0], arm):
            low, high = each.images
            row = {"run": arm.name, "measure": each.measure.describe(), "difference": each.value}
            row |= {"images_low": low, "images_high": high, "improvement": each.improvement}
            if max(len(one.seeds) for one in (arms[0], arm)) > 1:
                row["pairs"] = each.pairs
            if each.crossed:
                row |= dict(zip(("low", "high"), each.crossed, strict=True)) | {"p_value": each.p_value}
            rows.append(row)
    columns = [
        Column("run", "run"),
        Column("measure", "measure"),
        Column("pairs", "paired seeds"),
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
        "several seeds, over seeds and images; of seeds those that both have, or all if there "
        "are none; p: exact sign-flip test over paired seeds; better: the share of images "
        "(and pairs of seeds) whose score is better, ties half."
    )
    shown = [column for column in columns if any(column.key in row for row in rows)]
    return Table(shown, rows, f"Difference to {arms[0].name}", caption, group="run")
