"""What a run says when it begins, and what it leaves behind and shows when it is finished."""

import math
from collections.abc import Mapping

from jsonargparse import Namespace

from spatialseg.metrics import available_measures
from spatialseg.report.table import Column, Table
from spatialseg.run.folder import RunFolder
from spatialseg.scores import Scores
from spatialseg.task import SegmentationTask


def describe(settings: Namespace, task: SegmentationTask, data: str) -> str:
    """Say in a line what is trained, on what, with which loss."""
    epochs = max(1, settings.trainer.max_epochs or 1)
    task.loss.set_epoch(epochs - 1, epochs)
    last = task.loss.weights
    task.loss.set_epoch(0, epochs)
    moves = {name: f"→{last[name]:g}" if last[name] != weight else "" for name, weight in task.loss.weights.items()}
    terms = " + ".join(f"{weight:g}{moves[name]}·{name}" for name, weight in task.loss.weights.items())
    parameters = sum(parameter.numel() for parameter in task.parameters()) / 1e6
    return (
        f"{settings.experiment} on {data}: loss {terms}, {settings.trainer.max_epochs} epochs, "
        f"{task.hparams['architecture']} with {task.hparams['encoder']} ({parameters:.1f} M parameters), "
        f"{settings.trainer.precision}"
    )


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
        "checkpoint": folder.chosen,
        "metrics": folder.metrics,
        "scores by image": folder.images,
        "maps": folder.maps,
        "pictures": folder.pictures,
        "W&B run": folder.wandb,
        "summary": folder.summary,
    }
    lines = {what: str(where) for what, where in found.items() if where and where.exists()}
    if "checkpoint" in lines:
        lines["next, predict"] = f"python -m spatialseg predict {folder} IMAGES"
        lines["next, test"] = f"python -m spatialseg test --config {folder.config} --ckpt_path {folder.chosen}"
    if folder.wandb:
        lines["next, curves"] = f"wandb leet {folder.wandb.parent}"
        parts = folder.wandb.parent / f"*-{folder.wandb_id.read_text()}"
        lines["next, upload"] = f"wandb sync {parts}"
    return lines
