"""What a run shows and keeps while it works: pictures, progress, predictions, the way back after an interruption."""

import signal
import time
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray
from PIL import Image

from spatialseg.report.pictures import Photograph, draw_predictions
from spatialseg.run.folder import RunFolder
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
        self._rows: list[tuple[Photograph, NDArray[Any]]] = []

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
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not training or not trainer.is_global_zero or wanted <= 0:
            return
        assert isinstance(pl_module, SegmentationTask)
        first = {key: value[:wanted] for key, value in batch.items()}
        for index, logits in enumerate(pl_module.native_logits(first)):
            height, width = first["size"][index]
            image = first["image"][index : index + 1, :, :height, :width].float()
            image = F.interpolate(image, logits.shape[-2:], mode="bilinear").round().clamp(0, 255).byte()[0]
            shown = (image.permute(1, 2, 0), first["mask"][index], pl_module.probabilities(logits)[0])
            pixels, mask, probability = (part.cpu().numpy() for part in shown)
            self._rows.append((Photograph(first["name"][index], pixels, mask), probability))

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


class SaveMaps(Callback):
    """Write each prediction of a test or of `predict` as an 8-bit PNG at the image's own size, under its name.

    Grey levels if binary, 255 being certain foreground; else the index of the most probable class. Rounding to grey
    levels moves a probability by at most 1/510.

    Args:
        folder: Where they go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_test_batch_end(self, *arguments: Any, **_: Any) -> None:
        """Write the predictions of one batch."""
        predictions = arguments[2]
        for name, probability in predictions.items():
            path = self.folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = (probability * 255).round() if probability.ndim == 2 else probability.argmax(0)
            Image.fromarray(array.byte().numpy()).save(path)

    on_predict_batch_end = on_test_batch_end


class KeepLast(Callback):
    """Keep a run that is stopped half-way resumable.

    Ctrl-C and SIGTERM write `last.ckpt`. The first Ctrl-C waits for the batch to end, since a `KeyboardInterrupt`
    raised anywhere can be swallowed by a library's clean-up or leave half a step; a second one stops at once. Any other
    error leaves the checkpoints of the last complete epoch as they are, since the weights may be what broke.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.last = folder.last
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
        if isinstance(exception, KeyboardInterrupt | SIGTERMException):
            trainer.save_checkpoint(self.last)
        if trainer.is_global_zero and self.last.exists():
            print(f"\nStopped in epoch {trainer.current_epoch + 1}; the last checkpoint: {self.last}")
            print(f"To go on: the same command with --ckpt_path {self.last}")

    def _stop_if_requested(self) -> None:
        if self._requested:
            raise KeyboardInterrupt

    def _request(self, *_: object) -> None:
        self._requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nStopping after this batch; Ctrl-C again stops at once.", flush=True)
