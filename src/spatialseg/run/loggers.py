"""Where a run's figures go while it trains: a CSV file and W&B."""

from __future__ import annotations

import csv
import inspect
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from spatialseg.losses.registry import loss_class
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.task import SegmentationTask

if TYPE_CHECKING:
    import wandb  # elsewhere only where it may be missing or broken


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
            # A row that was cut short, on a full disk, ends before its last column.
            whole = (row for row in self._read() if None not in row.values())
            self._rewrite([row for row in whole if int(row["step"]) < steps])

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


class WandbMirror(WandbLogger):
    """Mirror the run in W&B. Whatever goes wrong there is a warning, once, and the run goes on without.

    Args:
        run: The W&B run.
        upload: The folder whose best and last checkpoint are uploaded when a stage ends or the run stops, if any.
    """

    def __init__(self, run: wandb.Run, upload: RunFolder | None = None) -> None:
        super().__init__(experiment=run)
        self._works = True
        self._upload = upload
        self._uploaded: dict[Path, float] = {}

    def attempt(self, action: Callable[[wandb.Run], object]) -> None:
        """Do something with the W&B run that may fail."""
        if not self._works:
            return
        try:
            action(self.experiment)
        except Exception as error:
            self._works = False
            _warn(f"W&B failed ({error}); the run goes on without, and all is in its own folder")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values, with the training step as one of them."""
        self.attempt(lambda _: super(WandbMirror, self).log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Upload what is to be uploaded, whether all went well or not."""
        if self._upload is not None:
            for path, alias in ((self._upload.best, "best"), (self._upload.last, "latest")):
                if path.exists() and self._uploaded.get(path) != path.stat().st_mtime:
                    self._uploaded[path] = path.stat().st_mtime
                    self.attempt(partial(_upload, path, alias))


def start_wandb(
    folder: RunFolder, directions: Mapping[str, Literal["min", "max"]], upload: bool = False
) -> WandbMirror | None:
    """Start a W&B run beside those of the other runs, in `<runs>/wandb`; one that goes on keeps its id.

    It is offline unless WANDB_MODE says otherwise or a sweep waits for it, asks nothing, and may fail.

    Args:
        folder: The run's folder.
        directions: Which end of what is validated is better; W&B summarises a run by that.
        upload: Upload the best and the last checkpoint.

    Returns:
        The logger; `None` where there can be none, which is said in a warning unless it is meant.

    Raises:
        RunError: An upload is asked for, but not W&B online.
    """
    sweep = "WANDB_SWEEP_ID" in os.environ
    mode = os.environ.get("WANDB_MODE") or ("online" if sweep else "offline")
    if upload and mode != "online":
        raise RunError(f"checkpoints are uploaded to W&B only online, and it is {mode}; set WANDB_MODE=online")
    if mode == "disabled":
        return None
    seed, job = f"seed{folder.seed}", "train" if folder.trains else "test"
    settings: dict[str, Any] = {
        "name": f"{folder.experiment} {folder.data} {seed} {folder.time}",
        "group": f"{folder.experiment}/{folder.data}",
        "job_type": "sweep" if sweep else job,
        "tags": [folder.experiment, folder.data, seed],
        "dir": folder.runs.absolute(),  # W&B's service may have been started elsewhere
        "resume": "allow",
    }
    if not sweep:  # whose agent has chosen both
        settings["project"] = os.environ.get("WANDB_PROJECT", "spatialseg")
        settings["id"] = folder.wandb_id.read_text() if folder.wandb_id.exists() else None
    # What waits to be uploaded stays here too, rather than in the home directory.
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.runs.absolute() / "wandb"))
    logging.raiseExceptions = False  # on a full disk every line of W&B's own log would print where it failed
    run = None
    while run is None:
        try:
            import wandb

            if mode == "online" and not wandb.login(prompt=False):
                raise RuntimeError("no login is known; wandb login makes one")
            run = wandb.init(**settings, mode=mode)  # type: ignore[arg-type]
        except Exception as error:
            if mode == "offline":
                _warn(f"W&B cannot be started ({error}); the run goes on without, and all is in its own folder")
                return None
            _warn(f"W&B cannot be reached ({error}); its run is kept offline, make sync uploads it later")
            mode = "offline"
    folder.wandb_id.write_text(run.id)
    mirror = WandbMirror(run, folder if mode == "online" and upload else None)
    mirror.attempt(partial(_define, directions))
    return mirror


def finish_wandb(status: int, discarded: RunFolder | None = None) -> None:
    """End the W&B run, if there is one.

    Args:
        status: The exit status of the command.
        discarded: The folder of a run that never began; what W&B keeps of it goes too.
    """
    try:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=status)
    except Exception as error:
        _warn(f"W&B failed at the end ({error}); all is in the run's own folder")
    if discarded and (part := discarded.wandb):
        shutil.rmtree(part, ignore_errors=True)
        if not list(part.parent.glob("*run-*-*")):
            shutil.rmtree(part.parent, ignore_errors=True)


def mirrors(trainer: Trainer) -> list[WandbMirror]:
    """Return the W&B runs of this process, at most one."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbMirror)]


class SaveConfig(SaveConfigCallback):
    """Store the resolved configuration with the run and in W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file; W&B gets the same, and beside it what tells runs apart, where it can be filtered by."""
        text = self.parser.dump(self.config, skip_none=False)
        RunFolder(trainer.default_root_dir).config.write_text(text)
        assert isinstance(pl_module, SegmentationTask)
        config = yaml.safe_load(text)
        config |= {"seed": config["seed_everything"], "dataset": trainer.datamodule.name}  # type: ignore[attr-defined]
        config["loss"] = _loss_settings(pl_module)
        for logger in mirrors(trainer):
            logger.attempt(lambda run: run.config.update(config, allow_val_change=True))  # type: ignore[no-untyped-call]


def _loss_settings(task: SegmentationTask) -> dict[str, dict[str, Any]]:
    """Return of each term of the loss its weight and all its arguments, whether given or by default."""
    found = {}
    for key, term in zip(task.loss.weights, task.hparams["loss"], strict=True):
        parameters = inspect.signature(loss_class(term["name"])).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        found[key] = {**defaults, **term["args"], "weight": term["weight"]}
    return found


def _define(directions: Mapping[str, str], run: wandb.Run) -> None:
    """Say what is drawn over what: all over the steps of training, what an epoch sums up over the epochs."""
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    for kind in ("train", "val", "weight", "pictures"):
        run.define_metric(f"{kind}/*", step_metric="epoch", step_sync=True)
    for name, better in directions.items():
        run.define_metric(name, step_metric="epoch", step_sync=True, summary=better)


def _upload(path: Path, alias: str, run: wandb.Run) -> None:
    import wandb

    artifact = wandb.Artifact(f"checkpoints-{run.id}", "model")
    artifact.add_file(str(path))
    run.log_artifact(artifact, aliases=[alias])


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
