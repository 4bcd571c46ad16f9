"""What a finished run leaves behind and shows."""

import math
from collections.abc import Mapping

from spatialseg.metrics import available_measures
from spatialseg.report.table import Column, Table
from spatialseg.run.folder import RunFolder
from spatialseg.scores import Scores


def figures(scores: Scores) -> dict[str, float | None]:
    """Return the figures as JSON has them: nothing where there is no number."""
    values = {name: float(value) for name, value in scores.figures().items()}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def show(title: str, values: Mapping[str, float | None], folder: RunFolder) -> None:
    """Print a table of measures, where everything is, and what to do next.

    Args:
        title: Of the table.
        values: Measures under the names of the logs.
        folder: Of the run.
    """
    measures = available_measures(further=True)
    rows: list[dict[str, str | int | float | None]] = []
    for name, value in values.items():
        measure = measures.get(name.partition("/")[2])
        rows.append({"name": name, "measure": measure.describe() if measure else name, "value": value})
    columns = [Column("name", "logged as"), Column("measure", "measure"), Column("value", "value")]
    Table(columns, rows, title).print()
    for what, where in _places(folder).items():
        print(f"  {what:16} {where}")


def _places(folder: RunFolder) -> dict[str, str]:
    found = {
        "configuration": folder.config,
        "best checkpoint": folder.best,
        "metrics": folder.metrics,
        "scores by image": folder.images,
        "maps": folder.maps,
        "pictures": folder.pictures,
        "W&B run": folder.wandb,
        "summary": folder.summary,
    }
    lines = {what: str(where) for what, where in found.items() if where and where.exists()}
    if "best checkpoint" in lines:
        lines["next, predict"] = f"python -m spatialseg predict {folder} IMAGES"
        lines["next, test"] = f"python -m spatialseg test --config {folder.config} --ckpt_path {folder.best}"
    if folder.wandb:
        lines["next, curves"] = f"wandb leet {folder.wandb.parent}"
        parts = folder.wandb.parent / f"*-{folder.wandb_id.read_text()}"
        lines["next, upload"] = f"wandb sync {parts}"
    return lines
