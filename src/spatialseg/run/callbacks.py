"""What a run shows and keeps while it trains: pictures, progress, and the way back after an interruption."""

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from spatialseg.functional import weighted_error
from spatialseg.task import SegmentationTask


class ValidationPictures(Callback):
    """Draw a few validation images with ground truth, prediction and weighted error after each validation.

    Args:
        folder: Where the PNG files go, one per epoch; W&B gets them too.
        count: How many images, the first of the validation set.
    """

    def __init__(self, folder: Path, count: int = 4) -> None:
        self.folder = folder
        self.count = count
        self._rows: list[tuple[str, Tensor, Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new picture."""
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images of the validation set."""
        wanted = self.count - len(self._rows)
        if trainer.sanity_checking or not trainer.is_global_zero or wanted <= 0:
            return
        assert isinstance(pl_module, SegmentationTask)
        first = {key: value[:wanted] for key, value in batch.items()}
        for index, logits in enumerate(pl_module.native_logits(first)):
            height, width = first["size"][index]
            image = first["image"][index : index + 1, :, :height, :width].float()
            image = F.interpolate(image, logits.shape[-2:], mode="bilinear").round().clamp(0, 255).byte()[0]
            row = (image, first["mask"][index], pl_module.probabilities(logits)[0])
            self._rows.append((first["name"][index], *(part.cpu() for part in row)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the picture and log it."""
        if not self._rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch_{trainer.current_epoch:03d}.png"
        draw_predictions(self._rows).savefig(path, dpi=80)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("predictions", [str(path)], step=trainer.global_step)


def draw_predictions(rows: list[tuple[str, Tensor, Tensor, Tensor]]) -> Figure:
    """Draw images side by side with ground truth, prediction and weighted error, one row each.

    Args:
        rows: Name, image uint8 (3, H, W), mask (H, W), and probabilities in [0, 1], (H, W) or (classes, H, W).

    Returns:
        The figure. The weighted error E^w runs from 0 to 2, the highest cost of one pixel; of several classes it shows
        the largest.
    """
    figure = Figure(figsize=(10, 2.5 * len(rows) + 0.3), layout="constrained")
    for axes, (name, image, mask, probability) in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
        if probability.ndim == 2:
            truth, predicted, colours = mask.float().masked_fill(mask == 255, torch.nan), probability, ("gray", 1.0)
            cost = weighted_error(probability[None], mask[None]).weighted[0]
        else:
            classes = probability.shape[0]
            truth, predicted = mask.float().masked_fill(mask == 255, torch.nan), probability.argmax(0).float()
            colours = ("tab20", classes - 1.0)
            one_hot = torch.stack([torch.where(mask == 255, 255, (mask == index).long()) for index in range(classes)])
            cost = weighted_error(probability, one_hot).weighted.amax(0)
        colour_map, top = colours
        axes[0].imshow(image.permute(1, 2, 0).numpy())
        axes[1].imshow(truth.numpy(), cmap=colour_map, vmin=0, vmax=top, interpolation="nearest")
        axes[2].imshow(predicted.numpy(), cmap=colour_map, vmin=0, vmax=top, interpolation="nearest")
        heat = axes[3].imshow(cost.numpy(), cmap="inferno", vmin=0, vmax=2)
        figure.colorbar(heat, ax=axes[3], fraction=0.046, ticks=[0, 1, 2])
        for axis, title in zip(axes, (name, "ground truth", "prediction", "weighted error"), strict=True):
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    return figure


class EpochLines(Callback):
    """Print one line per epoch, for logs that are no terminal."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run resumed at the end of an epoch has no epoch's start."""
        self._start = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock anew."""
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's loss and validation measures."""
        if not trainer.is_global_zero:
            return
        shown = sorted(name for name in trainer.callback_metrics if name == "train/loss" or name.startswith("val/"))
        values = [f"{name} {float(trainer.callback_metrics[name]):.4f}" for name in shown]
        seconds = time.monotonic() - self._start
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", *values, f"{seconds:.1f} s", sep="  ", flush=True
        )


class KeepLast(Callback):
    """Keep a run that is stopped half-way resumable.

    Ctrl-C and SIGTERM write `last.ckpt`. The first Ctrl-C waits for the batch to end, since a `KeyboardInterrupt`
    raised anywhere can be swallowed by a library's clean-up or leave half a step; a second one stops at once. Any other
    error leaves the checkpoints of the last complete epoch as they are, since the weights may be what broke.

    Args:
        folder: The run's folder of checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._requested = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over Ctrl-C."""
        self._previous = signal.signal(signal.SIGINT, self._request)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        signal.signal(signal.SIGINT, self._previous)

    def on_train_batch_end(self, *_: object) -> None:
        """Stop here if asked to."""
        self._stop_if_requested()

    def on_validation_batch_end(self, *_: object) -> None:
        """Stop here if asked to."""
        self._stop_if_requested()

    def on_test_batch_end(self, *_: object) -> None:
        """Stop here if asked to."""
        self._stop_if_requested()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the checkpoint, and say where it is and how to go on."""
        if not trainer.training and not trainer.validating:
            return
        last = self.folder / "last.ckpt"
        if isinstance(exception, KeyboardInterrupt | SIGTERMException):
            trainer.save_checkpoint(last)
        if trainer.is_global_zero and last.exists():
            print(f"\nStopped in epoch {trainer.current_epoch + 1}; the last checkpoint: {last}")
            print(f"To go on: the same command with --ckpt_path {last}")

    def _stop_if_requested(self) -> None:
        if self._requested:
            raise KeyboardInterrupt

    def _request(self, *_: object) -> None:
        self._requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nStopping after this batch; Ctrl-C again stops at once.", flush=True)


class SavePredictions(BasePredictionWriter):
    """Write each prediction as a PNG at the image's own size: grey levels if binary, else class indices.

    Args:
        folder: Where they go, under the images' names.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("batch")
        self.folder = folder

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: list[tuple[str, Tensor]],
        batch_indices: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the predictions of one batch."""
        for name, probability in prediction:
            path = self.folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = (probability * 255).round() if probability.ndim == 2 else probability.argmax(0)
            Image.fromarray(array.cpu().numpy().astype(np.uint8)).save(path)
