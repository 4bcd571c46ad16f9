"""Settings with which a training would fail late, or come to nothing: refused before it begins."""

import torch
from jsonargparse import Namespace

from spatialseg.hints import did_you_mean
from spatialseg.run.folder import RunError
from spatialseg.task import SegmentationTask

POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps", "val_check_interval")


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
