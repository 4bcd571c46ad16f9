"""The tables and figures of the evidence, made anew from its records."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spatialseg.evidence import EXPERIMENTS, EvidenceError, TableSpec
from spatialseg.hints import HelpFormatter
from spatialseg.report.evidence import (
    classes_table,
    draw_dots,
    draw_gains,
    draw_labels,
    draw_networks,
    draw_reliability,
    draw_windows,
    fill,
    filter_table,
    gains_table,
    networks_table,
    ranking_table,
    read_arms,
    table_of,
    validation_table,
)
from spatialseg.report.statistics import Arm
from spatialseg.report.table import Table

NETWORKS = Path("benchmarks") / "results" / "networks.json"  # of benchmarks/networks.py
RESCORED = EXPERIMENTS / "results" / "rescored"  # of experiments/rescore.py

VALIDATED = ": validation images, one seed"

Tables = dict[str, tuple[TableSpec, str, dict[str, Arm]]]
Record = dict[str, Any]


def read_tables() -> Tables:
    """Return, by `<table>/<data>`, what there are records of: the table, the data set and its arms."""
    found = {}
    for spec in _specs():
        for data in spec.data:
            arms = read_arms(EXPERIMENTS / "results" / spec.name / data, list(spec.arms))
            if arms:
                found[f"{spec.name}/{data}"] = spec, data, arms
    return found


def tables_of(found: Tables) -> dict[str, Table]:
    """Return every table that documents may quote, all numbers as the records (`read_tables`) have them."""
    tables = {}
    for name, (spec, _, arms) in found.items():
        title = _title(spec, arms)
        tables[name] = table_of(arms, spec.baseline, title)
        if spec.recipe in arms:
            tables[f"{name}/gains"] = gains_table(arms, spec.recipe, "")
        if next(iter(arms.values())).first_seed.classes:
            tables[f"{name}/classes"] = classes_table(arms, title)
        if spec.name == "networks" and (sizes := _record(NETWORKS)):
            tables[f"{name}/sizes"] = networks_table(arms, sizes["arms"], title)
    for spec in _specs():
        if rows := _validated(spec):
            tables[f"{spec.name}/rates"] = validation_table(rows, spec.title + VALIDATED)
    for name, make in (("ranking", ranking_table), ("filter", filter_table)):
        if record := _record(RESCORED / f"{name}.json"):
            tables[f"rescored/{name}"] = make(record, "")
    return tables


def documents(found: Tables) -> dict[Path, str]:
    """Return the text of each document that quotes tables."""
    quoted = {name: table.markdown() for name, table in tables_of(found).items()}
    return {path: fill(path.read_text(), quoted) for path in (Path("README.md"), EXPERIMENTS / "README.md")}


def figures_of(found: Tables) -> dict[Path, Figure]:
    """Return every figure that the records give, and where it belongs."""
    figures = {}
    for spec, data, arms in found.values():
        folder, title = EXPERIMENTS / "results" / spec.name / data, _title(spec, arms)
        scores = next(iter(arms.values())).first_seed
        figures[folder / "dots.png"] = draw_dots(arms, title)
        if len(scores.conventions["cuts"]) > 1:
            figures[folder / "reliability.png"] = draw_reliability(arms, title)
        if spec.recipe in arms and not scores.classes:
            figures[folder / "gains.png"] = draw_gains(arms, spec.recipe, title)
        if spec.name == "networks" and (sizes := _record(NETWORKS)):
            figures[folder / "networks.png"] = draw_networks(arms, sizes["arms"], title)
        if spec.name == "labels":
            figures[folder / "labels.png"] = draw_labels(arms, _record(RESCORED / "ranking.json"), title)
    for spec in _specs():
        if spec.name == "windows" and (rows := _validated(spec)):
            figures[EXPERIMENTS / "results" / "windows" / "curves.png"] = draw_windows(rows, spec.title + VALIDATED)
    return figures


def write_tables() -> list[Path]:
    """Make every table and figure anew from the records, and put the tables where documents quote them.

    Returns:
        The files written.
    """
    found = read_tables()
    written = []
    for spec, data, arms in found.values():
        folder = EXPERIMENTS / "results" / spec.name / data
        written += table_of(arms, spec.baseline, _title(spec, arms)).write(folder, "table", ("csv", "tex"))
    for path, figure in figures_of(found).items():
        figure.savefig(path, dpi=120)
        written.append(path)
    for path, text in documents(found).items():
        path.write_text(text)
        written.append(path)
    return written


def _title(spec: TableSpec, arms: dict[str, Arm]) -> str:
    return f"{spec.title}: {len(next(iter(arms.values())).first_seed.names)} test images"


def _specs() -> list[TableSpec]:
    return [TableSpec.read(path.stem) for path in sorted((EXPERIMENTS / "tables").glob("*.yaml"))]


def _validated(spec: TableSpec) -> list[tuple[str, float, dict[str, float]]]:
    """Return arm, learning rate and figures of the runs that were only validated."""
    runs = [run for run in spec.runs() if run.rate is not None and run.done]
    return [(run.arm, run.rate or 0.0, run.summary()["validation"]) for run in runs]


def _record(path: Path) -> Record:
    """Return what a script has recorded, nothing if it has not run yet."""
    record: Record = json.loads(path.read_text()) if path.is_file() else {}
    return record


def main(args: Sequence[str]) -> None:
    """Make the tables and figures, and say where they are.

    Raises:
        SystemExit: With status 2 when a table cannot be used.
    """
    parser = argparse.ArgumentParser(
        "spatialseg tables",
        description="Make every table and figure of the evidence anew from experiments/results, without training, and "
        "put the tables where README and experiments/README.md quote them.",
        epilog="example: python -m spatialseg tables",
        formatter_class=HelpFormatter,
    )
    parser.parse_args(args)
    try:
        print("Written:", *write_tables(), sep="\n  ")
    except EvidenceError as error:
        parser.error(str(error))
