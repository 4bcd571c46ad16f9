"""Stopping half-way: a signal ends the run after the batch in hand, with a checkpoint, a message and a status."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from spatialseg.run.checkpoints import LastCheckpoint
from spatialseg.run.folder import RunFolder
from spatialseg.run.signals import Takeover


class Stopped(Exception):
    """The run was asked to stop; the message says where it did and how to go on.

    Attributes:
        status: The exit status, 128 and the number of the signal, as shells have it.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + signum


class Interruption(Callback):
    """Let Ctrl-C, SIGTERM and SIGHUP end the run after the batch in hand; a second Ctrl-C ends it at once.

    An exception raised anywhere else can be swallowed by a library's clean-up or leave half a step. A training saves
    where it is and goes on from there as if it had never stopped, but for the `train/` figures of the epoch, which
    cover the rest of it. A validation is begun again. Processes of one training stop after the same batch.

    Args:
        folder: The run's folder.
        last: What saves a training.
    """

    def __init__(self, folder: RunFolder, last: LastCheckpoint | None = None) -> None:
        self.folder = folder
        self.last = last
        self._requested: int | None = None
        self._signals = Takeover(self._request)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over; Lightning does so in between `setup` and here."""
        self._trainer = trainer
        self._signals.take()

    on_validation_start = on_test_start = on_train_start

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._signals.give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._signals.give_back()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs if asked to; the state is saved already."""
        if self._asked(trainer):
            self._stop(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: object, **__: object) -> None:
        """Stop here if asked to; after the last batch there is the validation to do, and within a step nothing."""
        loop = trainer.fit_loop.epoch_loop
        if self._asked(trainer) and not loop._should_accumulate() and not loop.batch_progress.is_last_batch:
            trainer._logger_connector.update_train_step_metrics()  # what Lightning would do next
            self._save(trainer)
            self._stop(trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: object, **__: object) -> None:
        """Stop here if asked to; a validation within a training is done again from its start."""
        if self._requested is None or trainer.sanity_checking:
            return
        if trainer.state.fn == TrainerFn.FITTING:
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            begun: dict[str, Any] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            for count in (progress.current, progress.total):
                vars(count).update(begun)
            self._save(trainer)
        self._stop(trainer)

    def on_test_batch_start(self, trainer: Trainer, *_: object, **__: object) -> None:
        """Stop here if asked to."""
        if self._requested is not None:
            self._stop(trainer)

    def _asked(self, trainer: Trainer) -> bool:
        """Say whether any of the processes, which all have to ask, was told to stop."""
        return trainer.strategy.reduce_boolean_decision(self._requested is not None, all=False)

    def _save(self, trainer: Trainer) -> None:
        if self.last:
            self.last.save(trainer)

    def _stop(self, trainer: Trainer) -> None:
        signum = signal.Signals(self._requested or signal.SIGTERM)
        where = f"in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        if trainer.state.fn is not None and trainer.state.fn != TrainerFn.FITTING:
            where = f"in {trainer.state.fn.value}"
        way = "; to go on: " + (f"python -m spatialseg fit --resume {self.folder}" if self.last else "start anew")
        raise Stopped(signum, f"stopped by {signum.name} {where}{way}")

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self._requested = signum
        again = ""
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            again = "; Ctrl-C again stops at once"
        launcher = self._trainer.strategy.launcher
        if signum == signal.SIGTERM and launcher is not None:
            launcher.kill(signum)  # to the other processes; a terminal tells them itself
        print(f"\nStopping after this batch{again}.", flush=True)
