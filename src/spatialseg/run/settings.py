"""What a command on a run is told, and what is refused before it begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from spatialseg.hints import did_you_mean
from spatialseg.run.checkpoints import Checkpoint, check_weights, read_checkpoint
from spatialseg.run.folder import RunError, RunFolder
from spatialseg.run.machine import automatic_precision
from spatialseg.task import SegmentationTask

POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps", "val_check_interval")
LINKED = {"seed_everything": "data.seed", "data.classes": "model.classes"}  # the second follows from the first


@dataclass
class RunSettings:
    """The run.

    Args:
        experiment: Names the run folder and the W&B group.
        runs: Folder of all run folders.
        monitor: Measure of the best checkpoint, which is then tested; null to test the last epoch.
        test: Score the test images after training.
        maps: Keep the test images' predictions as PNG files.
        upload: Upload the best and the last checkpoint to W&B, which has to be online (WANDB_MODE=online).
        compile: Compile the network with torch.compile: slow to start.
        profile: Of fit: show where the time of training went.
        resume: Of fit: go on with the run in this folder; last: with the newest unfinished one of this name.
    """

    experiment: str = "unnamed"
    runs: str = "runs"
    monitor: str | None = "val/weighted_f"
    test: bool = True
    maps: bool = True
    upload: bool = False
    compile: bool = False
    profile: bool = False
    resume: str | None = None


class SettingsCLI(LightningCLI):
    """LightningCLI with the settings of a run beside those of trainer, model and data; a checkpoint brings its model.

    Args:
        said: Names of the model's arguments that the command gives.
        args: Lightning's.
        kwargs: Lightning's.
    """

    model: SegmentationTask
    loaded: Checkpoint | None = None
    """The checkpoint that the command starts from."""

    def __init__(self, said: set[str], *args: Any, **kwargs: Any) -> None:
        self._said = said
        super().__init__(*args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the commands that go through the trainer, and what of their arguments is not the user's."""
        commands = LightningCLI.subcommands()
        return {name: commands[name] for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to the run rather than to trainer, model or data."""
        parser.add_class_arguments(RunSettings, instantiate=False)
        for source, target in LINKED.items():
            parser.link_arguments(source, target, apply_on="instantiate" if source.startswith("data.") else "parse")

    def _parse_ckpt_path(self) -> None:
        """Take the model from the checkpoint, if there is one; what contradicts it is an error.

        This replaces Lightning's own, which overrides the command without a word.
        """
        command = self.config.subcommand
        settings = self.config[command]
        if settings.resume:
            if command != "fit":
                raise RunError("--resume goes on with a training: it belongs to fit")
            settings.ckpt_path = None  # what the run was begun from, if anything
        if settings.ckpt_path is None:
            if command != "fit":
                raise RunError(
                    f"{command} needs a trained network: --ckpt_path CHECKPOINT, or RUN_FOLDER for the one it tested"
                )
            return
        if Path(settings.ckpt_path).is_dir():
            settings.ckpt_path = str(RunFolder(settings.ckpt_path).chosen)
        self.loaded = read_checkpoint(settings.ckpt_path)
        model = self.check_model(self._said, settings.ckpt_path)
        self.config = self.parser.parse_object({command: {"model": {**model, "encoder_weights": None}}}, self.config)

    def check_model(self, names: set[str], path: str | Path) -> dict[str, Any]:
        """Make sure that the model which the command describes is the one of the checkpoint.

        Args:
            names: Arguments of the model that have to agree.
            path: The checkpoint's.

        Returns:
            The checkpoint's arguments.

        Raises:
            RunError: Naming what contradicts.
        """
        assert self.loaded
        command = self.config.subcommand
        ours = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[command]["model"]
        theirs = {name: value for name, value in self.loaded["hyper_parameters"].items() if name in ours}
        for name in names & theirs.keys() - {"encoder_weights"}:
            if ours[name] != theirs[name]:
                raise RunError(
                    f"{path} was trained with --model.{name} {theirs[name]}, the command says {ours[name]}; "
                    "leave it out, for the network is the checkpoint's"
                )
        return theirs

    def _set_seed(self) -> None:
        """Seed everything; NumPy knows no other seeds than these."""
        seed = self.settings.seed_everything
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise RunError(f"--seed_everything must be a whole number from 0 to 2³² - 1, got {seed}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Resolve the automatic precision, and leave printing and keeping of results to us."""
        settings = self.settings
        if settings.trainer.precision is None:
            settings.trainer.precision = automatic_precision()
        for option in ("verbose", "return_predictions"):
            if option in settings:
                settings[option] = False

    @property
    def settings(self) -> Namespace:
        """Those of the command."""
        settings: Namespace = self.config[self.subcommand]
        return settings

    def check_settings(self) -> None:
        """Make sure that the command can come to something.

        Raises:
            RunError: Naming what cannot.
        """
        settings, task = self.settings, self.model
        if settings.profile and settings.trainer.profiler:
            raise RunError("--profile and --trainer.profiler are two profilers; leave one of them out")
        if self.loaded and (classes := self.loaded["hyper_parameters"].get("classes")) != task.hparams["classes"]:
            raise RunError(
                f"the network of {settings.ckpt_path} knows {classes} classes, {self.datamodule.name} has "
                f"{task.hparams['classes']} (1 is binary); choose another data set or checkpoint"
            )
        if self.loaded:
            check_weights(settings.ckpt_path, self.loaded, task)
        if self.subcommand == "fit":
            check_training(settings, task, self.datamodule.name)


def check_training(settings: Namespace, task: SegmentationTask, data: str) -> None:
    """Make sure that there will be epochs to train, a validation to choose among them by, and images to test.

    Args:
        settings: Those of `fit`.
        task: What is trained.
        data: Name of the data set.

    Raises:
        RunError: Naming the setting, and what to set.
    """
    if settings.monitor is not None and settings.monitor not in task.monitors:
        hint = did_you_mean(settings.monitor, task.monitors)
        raise RunError(
            f"there is nothing to monitor called {settings.monitor!r}{hint}; there are: "
            f"{', '.join(task.monitors)}, or null for the last epoch"
        )
    options = settings.trainer
    every, epochs, clip = options.check_val_every_n_epoch, options.max_epochs, options.gradient_clip_val
    for name in POSITIVE:
        if isinstance(options[name], int | float) and options[name] <= 0:
            raise RunError(f"--trainer.{name} must be positive, got {options[name]}")
    if clip is not None and clip < 0:
        raise RunError(f"--trainer.gradient_clip_val must not be negative, got {clip}")
    if options.limit_val_batches == 0:
        raise RunError("--trainer.limit_val_batches 0 leaves nothing to choose the best epoch by; take 1 or more")
    if options.limit_test_batches == 0 and settings.test:
        raise RunError("--trainer.limit_test_batches 0 leaves nothing to test; say --test=false to leave it out")
    if options.max_steps < 1 and (epochs is None or epochs < 1):
        raise RunError(f"a training needs at least one epoch, got --trainer.max_epochs {epochs}")
    if settings.monitor and (every or 1) > (epochs or 1) > 0:
        raise RunError(
            f"there is no validation in {epochs} epochs with --trainer.check_val_every_n_epoch {every}; "
            "make it smaller, or take --monitor null to test the last epoch"
        )
    try:
        task.loss.terms(torch.zeros(1, task.hparams["classes"], 64, 64), torch.zeros(1, 64, 64, dtype=torch.long))
    except (ValueError, TypeError) as error:
        raise RunError(f"this loss is not for {data}: {error}") from error
