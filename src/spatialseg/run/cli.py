"""The command line of a run: LightningCLI with a run folder."""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import wandb
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, WandbLogger

from spatialseg.data import DataError, SegmentationDataModule
from spatialseg.metrics import available_measures
from spatialseg.report.table import Column, Table
from spatialseg.run.callbacks import EpochLines, KeepLast, SaveMaps, ValidationPictures
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.run.loggers import MetricsFile, SaveConfig, start_wandb
from spatialseg.run.machine import automatic_precision, circumstances
from spatialseg.scores import Scores
from spatialseg.task import NonFiniteLossError, SegmentationTask


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
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},  # the data module has its own
            auto_configure_optimizers=False,
            args=list(args),
            parser_kwargs={"prog": "python -m spatialseg", "parser_mode": "yaml"},
        )
    except (DataError, RunError, NonFiniteLossError, FileNotFoundError) as error:
        _fail(error)
    finally:
        wandb.finish()


class RunCLI(LightningCLI):
    """LightningCLI with a run folder: `<runs>/<experiment>/<data>/seed<k>/<time>`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to the run rather than to trainer, model or data."""
        parser.add_argument("--experiment", type=str, default="unnamed", help="Names the run folder and the W&B group.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all run folders.")
        parser.add_argument(
            "--monitor",
            type=str | None,
            default="val/weighted_f",
            help="Measure of the best checkpoint, which is then tested; null to test the last epoch.",
        )
        parser.add_argument("--test", type=bool, default=True, help="Score the test images after training.")
        parser.add_argument("--maps", type=bool, default=True, help="Keep the test images' predictions as PNG files.")
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
        self.checkpoint = ModelCheckpoint(
            self.folder.checkpoints,
            self.folder.best.stem,
            monitor=settings.monitor,
            mode="max",
            save_last=True,
            enable_version_counter=False,
        )
        terminal = sys.stdout.isatty()
        callbacks: list[Callback] = [RichProgressBar() if terminal else EpochLines()]
        if self.subcommand == "fit":
            pictures = ValidationPictures(self.folder.pictures)
            callbacks += [self.checkpoint, LearningRateMonitor("step"), pictures, KeepLast(self.folder)]
        if self.subcommand == "predict":
            callbacks.append(SaveMaps(self.folder.predictions))
        elif settings.maps:
            callbacks.append(SaveMaps(self.folder.maps))
        configured = self._get(self.config_init, "trainer", default={})
        callbacks += configured.get("callbacks") or []
        logger = configured.get("logger")
        if logger is None or logger is True:
            logger = self._loggers()
        if settings.trainer.fast_dev_run:
            logger = False
        ours = {"callbacks": callbacks, "logger": logger, "default_root_dir": self.folder.path}
        return super().instantiate_trainer(**kwargs, **ours, enable_progress_bar=terminal)

    def _make_folder(self) -> RunFolder:
        """Make a new folder; processes that the first one starts, for other devices, share its folder."""
        if "LOCAL_RANK" in os.environ and "SPATIALSEG_RUN" in os.environ:
            return RunFolder(os.environ["SPATIALSEG_RUN"])
        settings = self._settings
        suffix = "" if self.subcommand == "fit" else f"_{self.subcommand}"
        seed = settings.seed_everything
        folder = RunFolder.make(settings.runs, settings.experiment, self.datamodule.name, seed, suffix)
        os.environ["SPATIALSEG_RUN"] = str(folder)
        return folder

    def _loggers(self) -> list[Logger]:
        loggers: list[Logger] = [MetricsFile(self.folder.metrics)]
        if self.subcommand == "fit":
            loggers.append(WandbLogger(experiment=start_wandb(self.folder)))
        return loggers

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
        best = self.checkpoint.best_model_path or self.checkpoint.last_model_path
        tested = os.path.relpath(best) if best else None
        options: Any = {"ckpt_path": tested, "verbose": False, "weights_only": True}
        self.trainer.validate(self.model, self.datamodule, **options)
        if self._settings.test:
            self.trainer.test(self.model, self.datamodule, **options)
        self._finish({"best_checkpoint": tested, "train_seconds": round(seconds, 1)})

    def after_test(self) -> None:
        """Write scores and summary, and show them."""
        self._finish({"checkpoint": self._settings.ckpt_path})

    after_validate = after_test

    def after_predict(self) -> None:
        """Say where the predictions are."""
        self._say(f"predictions: {self.folder.predictions}")

    def _finish(self, facts: Mapping[str, Any]) -> None:
        """Write what came out, once whatever the number of processes, and show it."""
        if not self.trainer.is_global_zero:
            return
        settings, task = self._settings, self.model
        assert isinstance(task, SegmentationTask)
        stage = "test" if "test" in task.scores else "val"
        task.scores[stage].save(self.folder.path)
        values = {f"{stage}/{name}": value for name, value in _figures(task.scores[stage]).items()}
        if self.subcommand == "fit":
            facts = {**facts, "validation": _figures(task.scores["val"])}
        self.folder.write_summary(
            {
                "experiment": settings.experiment,
                "data": self.datamodule.name,
                "seed": settings.seed_everything,
                "finished": True,
                "epochs": self.trainer.current_epoch,
                **facts,
                "cut": task.conventions.cut,
                "measures": values,
                "precision": settings.trainer.precision,
                **circumstances(),
            }
        )
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary.update(values)
        self._show(values)

    def _show(self, values: Mapping[str, float | None]) -> None:
        measures = available_measures()
        rows: list[dict[str, str | int | float | None]] = []
        for name, value in values.items():
            measure = measures.get(name.partition("/")[2])
            rows.append({"name": name, "measure": measure.describe() if measure else name, "value": value})
        columns = [Column("name", "logged as"), Column("measure", "measure"), Column("value", "value")]
        Table(columns, rows, f"{self._settings.experiment} on {self.datamodule.name}, {self.subcommand}").print()
        for what, where in self._results().items():
            print(f"  {what:16} {where}")

    def _results(self) -> dict[str, str]:
        """Return where everything is, and what to do next."""
        folder = self.folder
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
            use = f"--config {folder.config} --ckpt_path {folder.best}"
            lines["next, predict"] = f"python -m spatialseg predict {use} --data.predict_root IMAGES"
            lines["next, test"] = f"python -m spatialseg test {use}"
            if "W&B run" in lines:
                lines["next, upload"] = f"wandb sync {lines['W&B run']}"
        return lines

    def _say(self, line: str) -> None:
        if self.trainer.is_global_zero:
            print(line, flush=True)


def _figures(scores: Scores) -> dict[str, float | None]:
    """Return the figures as JSON has them: nothing where there is no number."""
    figures = {name: float(value) for name, value in scores.figures().items()}
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _fail(error: Exception) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


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
