"""Checkpoints that a run can always go on from: whole files, the last complete epoch, and the best."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from spatialseg.run.folder import RunError, RunFolder

Checkpoint = dict[str, Any]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this package without running code from it; its tensors stay on disk until they are used.

    Raises:
        RunError: The file is missing, damaged, or no checkpoint of this package.
    """
    try:
        if Path(path).is_file() and not zipfile.is_zipfile(path):
            raise RunError(f"{path} is damaged, or no checkpoint: it is no whole archive")
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RunError:
        raise
    except FileNotFoundError:
        raise RunError(f"there is no checkpoint {str(path)!r}; give the path of one, or of a run folder") from None
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))  # the rest of it advises to load the file as code
        raise RunError(
            f"{path} is no checkpoint, or holds more than weights and settings{f', {code[1]}' if code else ''}: "
            "it could run code when loaded, so nothing was loaded; take a checkpoint that this package wrote"
        ) from error
    except Exception as error:  # a damaged file fails in many ways
        raise RunError(f"{path} is damaged: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    missing = {"state_dict", "hyper_parameters", "epoch", "global_step"} - set(found if isinstance(found, dict) else ())
    if missing:
        raise RunError(f"{path} is no checkpoint of this package: it lacks {', '.join(sorted(missing))}")
    if not (isinstance(found["state_dict"], dict) and isinstance(found["hyper_parameters"], dict)):
        raise RunError(f"{path} is no checkpoint of this package: its weights or settings have no names")
    return dict(found)


def check_weights(path: str | Path, checkpoint: Checkpoint, module: torch.nn.Module) -> None:
    """Make sure that the weights of a checkpoint are those of a network.

    Raises:
        RunError: Some are missing, too many or of another shape; names the file and the first of them.
    """
    theirs, ours = (
        {name: tuple(value.shape) for name, value in each.items()}
        for each in (checkpoint["state_dict"], module.state_dict())
    )
    if wrong := [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]:
        raise RunError(
            f"{path} is damaged, or of another version: {len(wrong)} of its weights are not the network's, "
            f"such as {wrong[0]}: {theirs.get(wrong[0], 'none')} instead of {ours.get(wrong[0], 'none')}"
        )


def newest_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """Return the last checkpoint of a run, or `None` if it never came to one.

    A damaged one is replaced by the one before, with a warning.

    Raises:
        RunError: There are checkpoints, but none can be read.
    """
    if not folder.last.exists() and folder.previous.exists():  # killed between two moves
        os.replace(folder.previous, folder.last)
    if not folder.last.exists():
        return None
    try:
        return read_checkpoint(folder.last)
    except RunError as error:
        if not folder.previous.exists():
            raise
        checkpoint = read_checkpoint(folder.previous)
        warnings.warn(f"{error}; going on from the one before, of epoch {checkpoint['epoch']}", stacklevel=2)
        os.replace(folder.previous, folder.last)
        return checkpoint


def check_room(folder: RunFolder, module: torch.nn.Module) -> None:
    """Make the folder of checkpoints, and make sure that it can hold them.

    Raises:
        RunError: It cannot be written, or the disk is too full.
    """
    try:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        probe = folder.checkpoints / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"checkpoints cannot be written to {folder.checkpoints}: {error.strerror}; "
            "make it writable, or choose another place with --runs"
        ) from error
    # Weights and two moments of each, in the best, the last and the previous checkpoint and in the one being written.
    needed = 4 * 3 * sum(tensor.nbytes for tensor in module.parameters())
    free = shutil.disk_usage(folder.checkpoints).free
    if free < needed:
        raise RunError(
            f"the disk of {folder.path} has {free / 1e6:.0f} MB left, checkpoints need {needed / 1e6:.0f} MB; "
            "make room, or choose another place with --runs"
        )


class WholeFiles(TorchCheckpointIO):
    """Write a checkpoint beside its place and move it there when it is complete, so that no file is ever half one."""

    def save_checkpoint(self, checkpoint: Checkpoint, path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint.

        Raises:
            RunError: It cannot be written; what was there before is untouched.
        """
        path = Path(path)
        beside = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except (OSError, RuntimeError) as error:
            below = error.__context__ if isinstance(error.__context__, OSError) else error  # torch says nothing useful
            reason = getattr(below, "strerror", None) or str(below).splitlines()[0]
            raise RunError(
                f"the checkpoint {path} cannot be written: {reason}; what was saved before is whole: "
                "make room there, then go on with --resume"
            ) from error
        finally:
            beside.unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Keep the checkpoint that a measure likes best.

    Args:
        folder: The run's folder.
        monitor: What is logged of the measure.
        mode: `"max"` or `"min"`: which is better.
    """

    def __init__(self, folder: RunFolder, monitor: str, mode: str) -> None:
        super().__init__(folder.checkpoints, folder.best.stem, monitor=monitor, mode=mode, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best so far, wherever the folder lies now; another run's best is not this one's."""
        best = Path(self.format_checkpoint_name({}))
        if best.exists() and state_dict["best_k_models"]:
            (score,) = state_dict["best_k_models"].values()
            paths = {"best_k_models": {str(best): score}, "dirpath": self.dirpath}
            paths |= {"best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(state_dict | paths)


class LastCheckpoint(Callback):
    """Keep `last.ckpt`, from which the run goes on as if it had never stopped, and the one before.

    It is written at the start of every epoch, when all of the epoch before is in the logs, and at the end; and by
    `save` when the run is stopped within an epoch. What an epoch draws at random depends on the seed and its number.

    Args:
        folder: The run's folder.
        seed: Seed of everything random.
    """

    def __init__(self, folder: RunFolder, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self._saved_at = -1
        self._random: list[torch.Tensor] | None = None
        self._seconds, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent in training so far, that before an interruption included."""
        return self._seconds + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint holds of this."""
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"random": [torch.get_rng_state(), *devices], "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what the checkpoint held."""
        self._random, self._seconds = state_dict["random"], state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on need not save where it is."""
        self._started = time.monotonic()
        if self.folder.last.exists():
            self._saved_at = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state between two epochs."""
        self._save_between_epochs(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Seed the epoch; within one, take over the state of the generators from the checkpoint."""
        if self._random:  # Lightning counts one too many when it goes on at an epoch's start
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if batch_idx == 0:
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)
        elif self._random:
            ours, *devices = self._random
            torch.set_rng_state(ours)
            if len(devices) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(devices)
        self._random = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end."""
        self._save_between_epochs(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the state as it is; to be called by all processes."""
        following = self.folder.last.with_name("next.ckpt")
        trainer.save_checkpoint(following)
        if trainer.is_global_zero:
            if self.folder.last.exists():
                os.replace(self.folder.last, self.folder.previous)
            os.replace(following, self.folder.last)
        self._saved_at = trainer.global_step

    def _save_between_epochs(self, trainer: Trainer) -> None:
        if trainer.global_step == self._saved_at:
            return
        loop = trainer.fit_loop.epoch_loop
        for progress in (loop.batch_progress, loop.scheduler_progress, loop.automatic_optimization.optim_progress):
            progress.reset_on_run()  # as the next epoch is about to do; else a resumed run takes that epoch for done
        self.save(trainer)
