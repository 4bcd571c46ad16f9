"""What a run shows and keeps while it works: pictures, progress, predictions."""

import time
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from PIL import Image

from spatialseg.report.pictures import Photograph, draw_predictions
from spatialseg.run.folder import RunFolder
from spatialseg.task import SegmentationTask


class OneFolder(Callback):
    """Tell every process of a run which folder the first one has.

    Args:
        folder: The run's folder; in the other processes it points anywhere until then.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell."""
        self.folder.point_to(trainer.strategy.broadcast(str(self.folder)))


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
        folder: The run's folder.
        place: Where in it.
    """

    def __init__(self, folder: RunFolder, place: Literal["maps", "predictions"]) -> None:
        self.folder = folder
        self.place = place

    def on_test_batch_end(self, *arguments: Any, **_: Any) -> None:  # noqa: ANN401
        """Write the predictions of one batch."""
        predictions = arguments[2]
        for name, probability in predictions.items():
            path = getattr(self.folder, self.place) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = (probability * 255).round() if probability.ndim == 2 else probability.argmax(0)
            Image.fromarray(array.byte().numpy()).save(path)

    on_predict_batch_end = on_test_batch_end
