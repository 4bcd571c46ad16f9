"""One run: configuration in, a folder with everything about it out."""

import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
import wandb
import yaml
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spatialseg.data import DataError, SegmentationDataModule
from spatialseg.run.callbacks import EpochLines, KeepLast, SavePredictions, ValidationPictures
from spatialseg.task import NonFiniteLossError, SegmentationTask

PACKAGES = ("spatialseg", "torch", "torchvision", "lightning", "torchmetrics", "segmentation-models-pytorch", "timm")


def run(args: Sequence[str]) -> None:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        args: The command and its arguments.

    Raises:
        SystemExit: With status 2 when the arguments, the configuration or the data cannot be used.
    """
    _quieten()
    try:
        RunCLI(
            SegmentationTask,
            SegmentationDataModule,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=list(args),
            parser_kwargs={"prog": "python -m spatialseg", "parser_mode": "yaml"},
        )
    except (DataError, NonFiniteLossError, FileNotFoundError) as error:
        _fail(error)
    finally:
        wandb.finish()


def automatic_precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Choose the fastest safe precision of this machine.

    Returns:
        `"bf16-mixed"` where bfloat16 has its own arithmetic units (recent CUDA devices, CPUs with AMX), `"16-mixed"` on
        older CUDA devices, else `"32-true"`.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


class SaveConfig(SaveConfigCallback):
    """Store the resolved configuration with the run and in W&B."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the configuration to W&B."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(config, allow_val_change=True)


class RunCLI(LightningCLI):
    """LightningCLI with a run folder: `<runs>/<experiment>/<data>/seed<k>/<time>`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to the run rather than to trainer, model or data."""
        parser.add_argument("--experiment", type=str, default="unnamed", help="Names the run folder and the W&B group.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all run folders.")
        parser.add_argument("--monitor", type=str, default="val/weighted_f", help="Measure of the best checkpoint.")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Resolve the automatic precision, and leave printing and keeping of results to us."""
        settings = self._settings
        if settings.trainer.precision is None:
            settings.trainer.precision = automatic_precision()
        for option in ("verbose", "return_predictions"):
            if option in settings:
                settings[option] = False

    def instantiate_classes(self) -> None:
        """Make data, model and trainer; what a constructor refuses is the configuration's fault, not a crash."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, ImportError) as error:
            _fail(error)

    @property
    def _settings(self) -> Namespace:
        settings: Namespace = self.config[self.subcommand]
        return settings

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Make the trainer with the run folder's loggers and callbacks, beside those of the configuration."""
        settings = self._settings
        self.folder = self._make_folder()
        checkpoints = self.folder / "checkpoints"
        self.checkpoint = ModelCheckpoint(
            checkpoints, "best", monitor=settings.monitor, mode="max", save_last=True, enable_version_counter=False
        )
        terminal = sys.stdout.isatty()
        callbacks: list[Callback] = [RichProgressBar() if terminal else EpochLines()]
        if self.subcommand == "fit":
            pictures = ValidationPictures(self.folder / "pictures")
            callbacks += [self.checkpoint, LearningRateMonitor("step"), pictures, KeepLast(checkpoints)]
        elif self.subcommand == "predict":
            callbacks.append(SavePredictions(self.folder / "predictions"))
        configured = self._get(self.config_init, "trainer", default={})
        callbacks += configured.get("callbacks") or []
        logger = configured.get("logger")
        if logger is None or logger is True:
            logger = self._loggers()
        if settings.trainer.fast_dev_run:
            logger = False
        ours = {"callbacks": callbacks, "logger": logger, "default_root_dir": self.folder}
        return super().instantiate_trainer(**kwargs, **ours, enable_progress_bar=terminal)

    def _make_folder(self) -> Path:
        """Make a new folder; processes that the first one starts, for other devices, share its folder."""
        if "LOCAL_RANK" in os.environ and "SPATIALSEG_RUN" in os.environ:
            return Path(os.environ["SPATIALSEG_RUN"])
        settings = self._settings
        seed = f"seed{settings.seed_everything}"
        parent = Path(settings.runs, settings.experiment, self.datamodule.name, seed)
        suffix = "" if self.subcommand == "fit" else f"_{self.subcommand}"
        while True:
            folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}{suffix}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                time.sleep(0.2)
                continue
            os.environ["SPATIALSEG_RUN"] = str(folder)
            return folder

    def _loggers(self) -> list[Logger]:
        loggers: list[Logger] = [CSVLogger(self.folder, name="", version="")]
        if self.subcommand == "fit":
            loggers.append(WandbLogger(experiment=self._start_wandb()))
        return loggers

    @rank_zero_only
    def _start_wandb(self) -> wandb.Run:
        """Start a W&B run, offline unless WANDB_MODE says otherwise."""
        experiment, data, seed, when = self.folder.parts[-4:]
        return wandb.init(
            project="spatialseg",
            name=f"{experiment} {data} {seed} {when}",
            group=f"{experiment}/{data}",
            tags=[experiment, data, seed],
            dir=self.folder,
        )

    def before_fit(self) -> None:
        """Say what is about to happen."""
        settings, task = self._settings, self.model
        assert isinstance(task, SegmentationTask)
        terms = " + ".join(f"{weight:g}·{name}" for name, weight in task.loss.weights.items())
        parameters = sum(parameter.numel() for parameter in task.parameters()) / 1e6
        device = type(self.trainer.accelerator).__name__.removesuffix("Accelerator")
        self._say(
            f"{settings.experiment} on {self.datamodule.name}: loss {terms}, {settings.trainer.max_epochs} epochs, "
            f"{task.hparams['architecture']} with {task.hparams['encoder']} ({parameters:.1f} M parameters), "
            f"{settings.trainer.precision} on {device}"
        )
        self._say(f"run folder: {self.folder}")
        self._start = time.monotonic()

    def after_fit(self) -> None:
        """Test the best checkpoint, write the summary and show it."""
        seconds = time.monotonic() - self._start
        if self._settings.trainer.fast_dev_run:
            return
        best = os.path.relpath(self.checkpoint.best_model_path) if self.checkpoint.best_model_path else None
        (measures,) = self.trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False, weights_only=True)
        if self.trainer.is_global_zero:
            self._summarise({"best_checkpoint": best, "train_seconds": round(seconds, 1)}, measures)

    def after_test(self) -> None:
        """Write the summary and show it."""
        self._summarise({"checkpoint": self._settings.ckpt_path}, self.trainer.callback_metrics)

    after_validate = after_test

    def after_predict(self) -> None:
        """Say where the predictions are."""
        self._say(f"predictions: {self.folder / 'predictions'}")

    def _summarise(self, facts: dict[str, Any], measures: Mapping[str, float | Tensor]) -> None:
        settings = self._settings
        values = {name: float(value) for name, value in sorted(measures.items())}
        summary = {
            "experiment": settings.experiment,
            "data": self.datamodule.name,
            "seed": settings.seed_everything,
            "epochs": self.trainer.current_epoch,
            **facts,
            "measures": values,
            "command": shlex.join(["python", "-m", "spatialseg", *sys.argv[1:]]),
            "commit": _commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "precision": settings.trainer.precision,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }
        path = self.folder / "summary.json"
        path.write_text(json.dumps(summary, indent=2) + "\n")
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary.update(values)

        table = Table("measure", "value", title=f"{settings.experiment} on {self.datamodule.name}, {self.subcommand}")
        for name, value in values.items():
            table.add_row(name, f"{value:.4f}")
        console = Console(soft_wrap=True, highlight=False)
        console.print(table)
        for what, where in self._results(facts.get("best_checkpoint")).items():
            console.print(f"  {what:16} {where}")

    def _results(self, best: str | None) -> dict[str, str]:
        """Return where everything is, and what to do next."""
        found = {
            "configuration": self.folder / "config.yaml",
            "best checkpoint": best,
            "metrics": self.folder / "metrics.csv",
            "pictures": self.folder / "pictures",
            "W&B run": next((self.folder / "wandb").glob("*run-*"), None),
            "summary": self.folder / "summary.json",
        }
        lines = {what: str(where) for what, where in found.items() if where and Path(where).exists()}
        if best:
            use = f"--config {self.folder / 'config.yaml'} --ckpt_path {best}"
            lines["next, predict"] = f"python -m spatialseg predict {use} --data.predict_root IMAGES"
            lines["next, test"] = f"python -m spatialseg test {use}"
            if "W&B run" in lines:
                lines["next, upload"] = f"wandb sync {lines['W&B run']}"
        return lines

    def _say(self, line: str) -> None:
        if self.trainer.is_global_zero:
            print(line, flush=True)


def _fail(error: Exception) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _commit() -> str | None:
    """Return the commit that the package's sources are at, if they lie in a repository."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _quieten() -> None:
    """Silence what a user can do nothing about."""
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "Experiment logs directory",
        "Be aware that when using `ckpt_path`",
        "The number of training batches",
        "There is a wandb run already in progress",
        "LightningCLI's args parameter",
        "isinstance\\(treespec, LeafSpec\\)",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}")
