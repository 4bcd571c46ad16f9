"""The tables and figures of the evidence, made anew from its records."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from spatialseg.evidence import EXPERIMENTS, EvidenceError, TableSpec, runs_of
from spatialseg.hints import command_parser
from spatialseg.report import evidence as report
from spatialseg.report.statistics import Arm
from spatialseg.report.table import Table
from spatialseg.scores import Scores

NETWORKS = Path("benchmarks") / "results" / "networks.json"  # of benchmarks/networks.py
RESCORED = EXPERIMENTS / "results" / "rescored"  # of experiments/rescore.py
QUOTED = re.compile(r"(<!-- evidence: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A place in a document that quotes a table: what begins it, the name of the table, and what ends it."""

Record = dict[str, Any]


class Records(NamedTuple):
    """What there are records of; the titles of tables say on what images."""

    trained: dict[str, tuple[TableSpec, Path, dict[str, Arm]]]
    """By `<table>/<data>` the table, the folder of its records on this data set, and its arms."""
    validated: list[tuple[TableSpec, list[tuple[str, float, dict[str, float]]]]]
    """Each table with arm, learning rate and figures of those of its runs that were only validated."""
    sizes: Record
    """Of the arms of `networks`; empty where the script has not run yet."""
    rescored: dict[str, Record]
    """By what was asked of trained networks once more, what it found."""


def read_arms(spec: TableSpec, data: str) -> dict[str, Arm]:
    """Read the records of a table's arms on a data set, of the seeds that the table asks for.

    Returns:
        By name, in the table's order, each arm that has a record with the seeds that were run, and of the measures that
        all of them have those that tables show.
    """
    found: dict[str, dict[int, Scores]] = {}
    for name in spec.arms:
        runs = [spec.run(data, name, seed) for seed in spec.seeds]
        if seeds := {run.seed: Scores.load(run.record) for run in runs if run.done}:
            found[name] = seeds
    every = [scores for seeds in found.values() for scores in seeds.values()]
    shown = set(report.SHOWN).intersection(*({measure.name for measure in scores.measures} for scores in every))
    for scores in every:
        scores.measures = tuple(measure for measure in scores.measures if measure.name in shown)
    return {name: Arm(name, seeds) for name, seeds in found.items()}


def read_records() -> Records:
    """Read all records of all tables."""
    specs = [TableSpec.read(path.stem) for path in sorted((EXPERIMENTS / "tables").glob("*.yaml"))]
    trained, validated = {}, []
    for spec in specs:
        for data in spec.data:
            folder = EXPERIMENTS / "results" / spec.name / data
            begun = folder.is_dir() or spec.borrowed.keys() == spec.arms.keys()
            if begun and (arms := read_arms(spec, data)):
                title = f"{spec.title}: {len(next(iter(arms.values())).first_seed)} test images"
                trained[f"{spec.name}/{data}"] = replace(spec, title=title), folder, arms
        runs = [run for run in runs_of([spec]) if run.rate is not None and run.done]
        if runs:
            titled = replace(spec, title=f"{spec.title}: validation images, one seed")
            validated.append((titled, [(run.arm, run.rate or 0.0, run.summary()["validation"]) for run in runs]))
    sizes = json.loads(NETWORKS.read_text()) if NETWORKS.is_file() else {}
    paths = {what: RESCORED / f"{what}.json" for what in report.RESCORED_TABLES}
    rescored = {what: json.loads(path.read_text()) for what, path in paths.items() if path.is_file()}
    return Records(trained, validated, sizes, rescored)


def tables_of(records: Records) -> dict[str, Table]:
    """Return every table that documents may quote, all numbers as the records have them."""
    tables = {}
    for name, (spec, _, arms) in records.trained.items():
        tables[name] = report.table_of(arms, spec.baseline, spec.title)
        if spec.recipe in arms:
            gains = report.gains_of(arms, spec.recipe)
            tables[f"{name}/gains"] = report.gains_table(arms, spec.recipe, gains)
            tables[f"{name}/gains-of-images"] = report.gains_table(arms, spec.recipe, gains, images_alone=True)
            tables[f"{name}/significance"] = report.significance_table(arms, spec.recipe, gains)
        if next(iter(arms.values())).first_seed.classes:
            tables[f"{name}/classes"] = report.classes_table(arms, spec.title)
        if spec.name == "networks" and records.sizes:
            tables[f"{name}/sizes"] = report.networks_table(arms, records.sizes["arms"], spec.title)
    for spec, rows in records.validated:
        tables[f"{spec.name}/rates"] = report.validation_table(rows, spec.title)
    for what, record in records.rescored.items():
        tables[f"rescored/{what}"] = report.RESCORED_TABLES[what](record)
    return tables


def documents(tables: Mapping[str, Table]) -> dict[Path, str]:
    """Return the text of each document that quotes tables; a place that quotes another one stays as it is."""

    def fill(place: re.Match[str]) -> str:
        return place[1] + tables[place[2]].markdown() + place[3] if place[2] in tables else place[0]

    return {path: QUOTED.sub(fill, path.read_text()) for path in (Path("README.md"), EXPERIMENTS / "README.md")}


def filtered_of(spec: TableSpec, data: str, arms: Mapping[str, Arm], record: Record) -> dict[str, report.Figures]:
    """Return, of those arms whose first seed is in the record of filtered maps, what that seed's are worth."""
    runs = {name: spec.run(data, name, min(arm.seeds)) for name, arm in arms.items()}
    keys = {name: f"{run.experiment}/{data}/seed{run.seed}" for name, run in runs.items()}
    return {name: record[key]["filtered"] for name, key in keys.items() if key in record}


def figures_of(records: Records) -> dict[Path, Figure]:
    """Return every figure that the records give, and where it belongs."""
    figures = {}
    for spec, folder, arms in records.trained.values():
        scores = next(iter(arms.values())).first_seed
        figures[folder / "dots.png"] = report.draw_dots(arms, spec.title)
        few = {*spec.few_seeds} - {spec.recipe}  # whose lines would hide those that matter
        drawn = {name: arm for name, arm in arms.items() if name not in few} or arms
        if len(scores.conventions["cuts"]) > 1:
            figures[folder / "reliability.png"] = report.draw_reliability(drawn, spec.title)
        if spec.recipe in drawn and not scores.classes:
            figures[folder / "gains.png"] = report.draw_gains(drawn, spec.recipe, spec.title)
        if spec.name == "networks" and records.sizes:
            filtered = filtered_of(spec, folder.name, arms, records.rescored.get("filter", {}))
            figures[folder / "networks.png"] = report.draw_networks(arms, records.sizes["arms"], spec.title, filtered)
        if spec.name == "labels":
            figures[folder / "labels.png"] = report.draw_labels(arms, records.rescored.get("ranking", {}), spec.title)
    for spec, rows in records.validated:
        if spec.name == "windows":
            figures[EXPERIMENTS / "results" / "windows" / "curves.png"] = report.draw_windows(rows, spec.title)
        if spec.name == "stages" and "stages" in records.rescored:
            figures[RESCORED / "stages.png"] = report.draw_stages(records.rescored["stages"], spec.title)
    return figures


def write_tables() -> list[Path]:
    """Make every table and figure anew from the records, and put the tables where documents quote them.

    Returns:
        The files written.
    """
    records = read_records()
    tables, written = tables_of(records), []
    for name, (_, folder, _) in records.trained.items():
        written += tables[name].write(folder, "table", ("csv", "tex"))
    for path, figure in figures_of(records).items():
        figure.savefig(path, dpi=120)
        written.append(path)
    for path, text in documents(tables).items():
        path.write_text(text)
        written.append(path)
    return written


def main(args: Sequence[str]) -> None:
    """Make the tables and figures, and say where they are.

    Raises:
        SystemExit: With status 2 when a table cannot be used.
    """
    parser = command_parser(
        "tables",
        "Make every table and figure of the evidence anew from experiments/results, without training, and "
        "put the tables where README and experiments/README.md quote them.",
    )
    parser.parse_args(args)
    try:
        print("Written:", *write_tables(), sep="\n  ")
    except EvidenceError as error:
        parser.error(str(error))
