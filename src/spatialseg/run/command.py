"""A command on a run: its folder, what works beside the training, and what it leaves."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar, WeightAveraging
from lightning.pytorch.callbacks import Checkpoint as AnyCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from spatialseg.data import DataError, SegmentationDataModule
from spatialseg.run.callbacks import EpochLines, Gauges, OneFolder, SaveMaps, TestTable, ValidationPictures
from spatialseg.run.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    WholeFiles,
    check_room,
    check_weights,
    newest_checkpoint,
)
from spatialseg.run.config import plainly
from spatialseg.run.folder import RunError, RunFolder, trainings
from spatialseg.run.interruption import Interruption
from spatialseg.run.loggers import MetricsFile, finish_wandb, start_wandb
from spatialseg.run.machine import circumstances
from spatialseg.run.profiling import Shares
from spatialseg.run.results import describe, figures, show
from spatialseg.run.settings import SettingsCLI
from spatialseg.task import NonFiniteLossError, SegmentationTask

FIRST = getattr(rank_zero_only, "rank", 0) == 0
"""Whether this is the first, or the only, process of the run."""


class RunCLI(SettingsCLI):
    """The commands that go through the trainer, with a run folder: `<runs>/<experiment>/<data>/seed<k>/<time>`.

    Args:
        held: What the command holds until it ends.
        args: Those of `SettingsCLI`.
        kwargs: The same.
    """

    folder: RunFolder | None = None
    resumed = False

    def __init__(self, held: ExitStack, *args: Any, **kwargs: Any) -> None:
        self._held = held
        super().__init__(*args, **kwargs)

    def instantiate_classes(self) -> None:
        """Make data, model and trainer; what a constructor refuses is the configuration's fault, not a crash."""
        with self._nothing_left():
            try:
                super().instantiate_classes()
            except (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException) as error:
                raise RunError(plainly(str(error))) from error

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Make the trainer with the run folder's loggers and callbacks, beside those of the configuration."""
        settings = self.settings
        self.check_settings()
        self._shares = Shares() if settings.profile else None
        configured = self._get(self.config_init, "trainer", default={})
        terminal = sys.stdout.isatty()
        callbacks: list[Callback] = [EpochLines(quiet=terminal), *([RichProgressBar()] if terminal else [])]
        logger, root = configured.get("logger"), Path(settings.runs)
        if settings.trainer.fast_dev_run:
            logger = False
        else:
            self.folder = self._choose_folder()
            root = self.folder.path
            if logger is None or logger is True:
                logger = self._loggers(self.folder)
            callbacks += self._callbacks(self.folder, logs=bool(logger))
        callbacks += configured.get("callbacks") or []
        plugins = configured.get("plugins") or []
        plugins = [*(plugins if isinstance(plugins, list) else [plugins]), WholeFiles()]
        return super().instantiate_trainer(
            **kwargs,
            callbacks=callbacks,
            logger=logger,
            plugins=plugins,
            profiler=self._shares or configured.get("profiler"),
            default_root_dir=root,
            enable_progress_bar=terminal,
            # Otherwise Lightning adds a checkpoint of its own.
            enable_checkpointing=any(isinstance(each, AnyCheckpoint) for each in callbacks),
        )

    def _choose_folder(self) -> RunFolder:
        """Make a new folder, or take the one of the run that goes on; of several processes the first one does."""
        settings = self.settings
        name, seed = self.datamodule.name, settings.seed_everything
        if settings.resume == "last":
            place = Path(settings.runs, settings.experiment, name, f"seed{seed}")
            unfinished = [run for run in trainings(place) if not run.finished]
            if not unfinished:
                raise RunError(f"there is no unfinished run in {place}; start a new one without --resume")
            folder = unfinished[0]
        elif settings.resume:
            folder = RunFolder(settings.resume)
        elif not FIRST:
            folder = RunFolder(settings.runs)  # the first process tells where it is
        else:
            suffix = "" if self.subcommand == "fit" else f"_{self.subcommand}"
            folder = RunFolder.make(settings.runs, settings.experiment, name, seed, suffix)
        if self.subcommand == "fit" and FIRST:
            self._held.enter_context(folder.lock())
        self.resumed = settings.resume is not None
        if self.resumed:
            self._take_up(folder)
        return folder

    def _take_up(self, folder: RunFolder) -> None:
        """Go on from the last checkpoint of a run, if it came to one.

        Raises:
            RunError: The command is not the one of the run.
        """
        settings = self.settings
        settings.resume = None  # the configuration that is kept describes the run, not this part of it
        self.loaded = newest_checkpoint(folder)
        if self.loaded is None:
            return
        self.check_model(set(settings.model.keys()) - {"classes"}, folder.last)
        check_weights(folder.last, self.loaded, self.model)
        if folder.seed != settings.seed_everything:
            raise RunError(f"{folder} has the seed {folder.seed}, the command says {settings.seed_everything}")

    def _loggers(self, folder: RunFolder) -> list[Logger]:
        loggers: list[Logger] = [MetricsFile(folder.metrics, self._begun if self.resumed else 0)]
        if self.subcommand in ("fit", "test") and FIRST:
            mirror = start_wandb(folder, self.model.monitors, upload=self.settings.upload)
            loggers += [mirror] if mirror else []
        return loggers

    def _callbacks(self, folder: RunFolder, logs: bool) -> list[Callback]:
        settings, task = self.settings, self.model
        callbacks: list[Callback] = [OneFolder(folder)]
        last = None
        if self.subcommand == "fit":
            if settings.trainer.enable_checkpointing is not False:
                last = LastCheckpoint(folder, settings.seed_everything)
                callbacks.append(last)
                if settings.monitor is not None:
                    callbacks.append(BestCheckpoint(folder, settings.monitor, task.monitors[settings.monitor]))
            callbacks.append(ValidationPictures(folder.pictures))
            if logs:
                callbacks += [LearningRateMonitor("step"), Gauges()]
        self.last = last
        callbacks.append(TestTable())
        if settings.maps:
            callbacks.append(SaveMaps(folder))
        return [*callbacks, Interruption(folder, last)]

    @property
    def _begun(self) -> int:
        """The step of the checkpoint that the command starts from."""
        return int(self.loaded["global_step"]) if self.loaded else 0

    @contextmanager
    def _nothing_left(self) -> Iterator[None]:
        """Remove the folder of a run that failed before it began."""
        try:
            yield
        except BaseException:
            trainer, folder = getattr(self, "trainer", None), self.folder
            if folder and not self.resumed and FIRST:
                if not (trainer and trainer.global_step > self._begun) and not folder.images.exists():
                    finish_wandb(1, discarded=folder)
                    folder.discard()
            raise

    def fit(self, model: SegmentationTask, datamodule: SegmentationDataModule, **options: Any) -> None:
        """Train, validate and test the best checkpoint, write what came out and show it."""
        trainer, folder = self.trainer, self.folder
        evaluation: dict[str, Any] = {"verbose": False, "weights_only": True}
        self._announce(model)
        with self._nothing_left():
            self._compile(model)
            if self.settings.test:
                datamodule.setup("test")  # rather now than after the training
            if folder and self.last and trainer.is_global_zero:
                check_room(folder, model)
            path = options["ckpt_path"] or (folder.last if folder and self.loaded else None)
            try:
                trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
            except (ValueError, MisconfigurationException) as error:
                if trainer.fit_loop.epoch_loop.total_batch_idx >= 0 or isinstance(error, DataError | RunError):
                    raise
                raise RunError(str(error).strip()) from error  # before the first step: what Lightning checks only then
            except (NonFiniteLossError, OSError) as error:
                if folder and folder.last.exists():
                    onward = "" if isinstance(error, NonFiniteLossError) else f"; to go on: fit --resume {folder}"
                    raise RunError(f"{error}; the last whole epoch is in {folder.last}{onward}") from error
                raise
            if self._shares and trainer.is_global_zero:
                self._shares.table().print()
            # Checkpoints hold the average as the network; with its callback a test would take the last step's weights.
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            callbacks[:] = [each for each in callbacks if not isinstance(each, WeightAveraging)]
            if folder is None:
                if self.settings.test:
                    trainer.test(model, datamodule=datamodule, **evaluation)
                return
            if self.loaded and not self.resumed and trainer.global_step == self._begun:
                raise RunError(
                    f"{path} has been trained for --trainer.max_epochs {trainer.max_epochs} already; make it larger to "
                    "train on"
                )
            if not trainer.global_step:
                raise RunError(
                    f"no training step was made: batches of {datamodule.batch_size} in {trainer.world_size} processes "
                    "are more images than there are to train on; make the batches smaller"
                )
        best, facts = None, dict[str, Any]()
        if self.last:
            best = folder.best if self.settings.monitor and folder.best.exists() else folder.last
            facts = {"best_checkpoint": str(best), "train_seconds": round(self.last.seconds, 1)}
        self._summarise(folder, facts, finished=False)
        evaluation["ckpt_path"] = best
        trainer.validate(model, datamodule=datamodule, **evaluation)
        facts["validation"] = figures(model.scores["val"])
        if self.settings.test:
            self._summarise(folder, facts, finished=False)
            trainer.test(model, datamodule=datamodule, **evaluation)
        self._finish(folder, facts)

    def test(self, model: SegmentationTask, datamodule: SegmentationDataModule, **options: Any) -> None:
        """Score a checkpoint, write what came out and show it."""
        options["weights_only"] = True
        if self.subcommand == "test" and (trained := RunFolder.around(options["ckpt_path"])):
            model.conventions = replace(model.conventions, cut=trained.cut(options["ckpt_path"]))
        with self._nothing_left():
            self._compile(model)
            getattr(self.trainer, str(self.subcommand))(model, datamodule=datamodule, **options)
        if self.folder:
            self._finish(self.folder, {"checkpoint": options["ckpt_path"]})

    validate = test

    def _compile(self, task: SegmentationTask) -> None:
        """Compile the network, if that is asked for and can be done."""
        if not self.settings.compile:
            return
        compilers = (os.environ.get("CXX") or "g++", "c++", "clang++")
        if isinstance(self.trainer.accelerator, CPUAccelerator) and not any(map(shutil.which, compilers)):
            raise RunError(
                f"--compile needs a C++ compiler on a CPU, and there is none of {', '.join(dict.fromkeys(compilers))}; "
                "install one, name it in CXX, or leave --compile out"
            )
        task.network.compile()

    def _announce(self, task: SegmentationTask) -> None:
        if not self.trainer.is_global_zero:
            return
        device = type(self.trainer.accelerator).__name__.removesuffix("Accelerator")
        print(f"{describe(self.settings, task, self.datamodule.name)} on {device}", flush=True)
        if self.folder:
            print(f"run folder: {self.folder}", flush=True)
        if self.resumed:
            where = f"in epoch {self.loaded['epoch'] + 1}" if self.loaded else "from the start: it has no checkpoint"
            print(f"going on {where}", flush=True)

    def _finish(self, folder: RunFolder, facts: Mapping[str, Any]) -> None:
        """Write what came out, once whatever the number of processes, and show it."""
        if not self.trainer.is_global_zero:
            return
        task = self.model
        stage = "test" if "test" in task.scores else "val"
        task.scores[stage].save(folder.path)
        values = {f"{stage}/{name}": value for name, value in figures(task.scores[stage]).items()}
        self._summarise(folder, {**facts, "cut": task.conventions.cut, "measures": values}, finished=True)
        show(f"{self.settings.experiment} on {self.datamodule.name}, {self.subcommand}", values, folder)

    def _summarise(self, folder: RunFolder, facts: Mapping[str, Any], finished: bool) -> None:
        if not self.trainer.is_global_zero:
            return
        settings = self.settings
        summary = {"experiment": settings.experiment, "data": self.datamodule.name, "seed": settings.seed_everything}
        summary |= {"finished": finished, "epochs": self.trainer.current_epoch, **facts}
        folder.write_summary({**summary, "precision": settings.trainer.precision, **circumstances()})
