"""What is put into a run: what stops it at a chosen moment, and what makes its steps comparable."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Crash(BaseException):
    """Nothing in the package catches this, so the files are left as `kill -9` leaves them."""


class StopOnce(Callback):
    """Send a signal to this process, or crash, the first time that a hook is called in an epoch.

    Args:
        hook: Name of the hook.
        epoch: Number of the epoch.
        signum: The signal; 0 to crash.
        batch: Of a hook of batches, number of the first one to act on.
    """

    armed = False

    def __init__(self, hook: str, epoch: int = 0, signum: int = 0, batch: int = 0) -> None:
        def act(trainer, *arguments: Any, **_: object) -> None:
            if StopOnce.armed and trainer.current_epoch == epoch and not (batch and arguments[-1] < batch):
                StopOnce.armed = False
                if not signum:
                    raise Crash
                os.kill(os.getpid(), signum)

        setattr(self, hook, act)


class Die(Callback):
    """Kill the second process in the second epoch, and note when."""

    def __init__(self, note: str) -> None:
        self.note = Path(note)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Kill."""
        if trainer.global_rank == 1 and trainer.current_epoch == 1:
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Fill(Callback):
    """Fill the disk in the second epoch."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fill."""
        if trainer.current_epoch == 1:
            with contextlib.suppress(OSError), self.path.open("wb", buffering=0) as file:
                for size in (1 << 20, 4096):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))


class Breaking(torch.nn.Module):
    """A loss that becomes NaN at the fourth step."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean of the logits, or NaN."""
        self.calls += logits.requires_grad
        return logits.mean() * (float("nan") if self.calls > 3 else 1)


class KillWandb(Callback):
    """Kill the process that W&B writes with, in the second epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Kill."""
        if trainer.current_epoch == 1:
            for command in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # others come and go
                    words = command.read_bytes().split(b"\0")
                    if words[0].endswith(b"wandb-core") and str(os.getpid()).encode() in words:
                        os.kill(int(command.parent.name), signal.SIGKILL)


class Steady(Callback):
    """Keep steps of Adam proportional to gradients that are near 0, where a rounding would turn them about."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise epsilon."""
        for group in trainer.optimizers[0].param_groups:
            group["eps"] = 1e-2
