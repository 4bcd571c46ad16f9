"""The tables and figures of the evidence, made anew from its records."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from spatialseg.evidence import EXPERIMENTS, EvidenceError, TableSpec
from spatialseg.hints import HelpFormatter
from spatialseg.report.evidence import (
    draw_dots,
    draw_gains,
    draw_reliability,
    fill,
    gains_table,
    read_arms,
    table_of,
    validation_table,
)
from spatialseg.report.statistics import Arm

Tables = dict[str, tuple[TableSpec, str, dict[str, Arm]]]


def read_tables() -> Tables:
    """Return, by `<table>/<data>`, what there are records of: the table, the data set and its arms."""
    found = {}
    for path in sorted((EXPERIMENTS / "tables").glob("*.yaml")):
        spec = TableSpec.read(path.stem)
        for data in spec.data:
            arms = read_arms(EXPERIMENTS / "results" / spec.name / data, list(spec.arms))
            if arms:
                found[f"{spec.name}/{data}"] = spec, data, arms
    return found


def documents(found: Tables) -> dict[Path, str]:
    """Return the text of each document that quotes tables, all numbers as the records (`read_tables`) have them."""
    tables = {}
    for name, (spec, _, arms) in found.items():
        tables[name] = table_of(arms, spec.baseline, spec.title)
        if spec.recipe in arms:
            tables[f"{name}/gains"] = gains_table(arms, spec.recipe, "")
    for path in (EXPERIMENTS / "tables").glob("*.yaml"):
        spec = TableSpec.read(path.stem)
        tried = [run for run in spec.runs() if run.rate is not None and run.done]
        rows = [(run.arm, run.rate or 0.0, run.summary()["validation"]) for run in tried]
        if rows:
            tables[f"{spec.name}/rates"] = validation_table(rows, spec.title)
    quoted = {name: table.markdown() for name, table in tables.items()}
    return {path: fill(path.read_text(), quoted) for path in (Path("README.md"), EXPERIMENTS / "README.md")}


def write_tables() -> list[Path]:
    """Make every table and figure anew from the records, and put the tables where documents quote them.

    Returns:
        The files written.
    """
    written = []
    found = read_tables()
    for spec, data, arms in found.values():
        folder = EXPERIMENTS / "results" / spec.name / data
        written += table_of(arms, spec.baseline, spec.title).write(folder, "table", ("csv", "tex"))
        for name, draw in (("dots", draw_dots), ("reliability", draw_reliability)):
            written.append(folder / f"{name}.png")
            draw(arms, spec.title).savefig(written[-1], dpi=120)
        if spec.recipe in arms:
            written.append(folder / "gains.png")
            draw_gains(arms, spec.recipe, spec.title).savefig(written[-1], dpi=120)
    for path, text in documents(found).items():
        path.write_text(text)
        written.append(path)
    return written


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
