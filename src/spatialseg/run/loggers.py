"""Where a run's figures go while it trains: a CSV file and W&B."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import wandb
import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from spatialseg.run.folder import RunFolder


class MetricsFile(Logger):
    """Write what is logged to a CSV file at once, a row per step that logs, a column per name in sorted order.

    Args:
        path: The file.
        steps: How many steps of it are kept, for a run that goes on; what is there of later ones is left out.
    """

    def __init__(self, path: Path, steps: int = 0) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._keep(steps)

    @property
    def name(self) -> str:
        """Name of a folder that Lightning puts in between; there is none."""
        return ""

    @property
    def version(self) -> str:
        """Name of another one; there is none."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *_: object, **__: object) -> None:
        """Leave them out: the configuration lies beside the file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; a new name rewrites the file, beside it first, so that it is whole at any moment."""
        row = {**metrics, "step": step}
        if row.keys() <= set(self._columns):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
            return
        rows = self._read() if self.path.exists() else []
        self._columns = sorted({*self._columns, *row})
        self._rewrite([*rows, row])

    @rank_zero_only
    def _keep(self, steps: int) -> None:
        if self.path.exists():
            self._rewrite([row for row in self._read() if int(row["step"]) < steps])

    def _read(self) -> list[Mapping[str, Any]]:
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            self._columns = list(reader.fieldnames or ())
        return list(rows)

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        beside = self.path.with_suffix(".tmp")
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(beside, self.path)


@rank_zero_only
def start_wandb(folder: RunFolder) -> wandb.Run:
    """Start a W&B run, offline unless WANDB_MODE says otherwise; a run that goes on keeps its id."""
    seed = f"seed{folder.seed}"
    return wandb.init(
        project="spatialseg",
        name=f"{folder.experiment} {folder.data} {seed} {folder.time}",
        group=f"{folder.experiment}/{folder.data}",
        tags=[folder.experiment, folder.data, seed],
        dir=folder.path,
        id=folder.wandb.name.rpartition("-")[2] if folder.wandb else None,
        resume="allow",
    )


class SaveConfig(SaveConfigCallback):
    """Store the resolved configuration with the run and in W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file and hand the configuration to W&B."""
        text = self.parser.dump(self.config, skip_none=False)
        RunFolder(trainer.default_root_dir).config.write_text(text)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(yaml.safe_load(text), allow_val_change=True)
