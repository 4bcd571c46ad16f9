"""What a run shows and keeps while it works: pictures, progress, predictions."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from PIL import Image
from torch.optim import Optimizer

from spatialseg.report.anatomy import draw_predictions
from spatialseg.report.sheet import Photograph
from spatialseg.run.folder import RunFolder
from spatialseg.run.loggers import mirrors
from spatialseg.run.media import test_table, thumbnails, validation_panels
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
    """Draw a few validation images with ground truth, prediction and weighted error after a validation.

    From epoch 100 on every tenth one is drawn, from 1000 on every hundredth, so that a long training fills no disk; and
    where epochs are short only so many as may take time. The first and the last are always drawn.

    Args:
        folder: Where the PNG files go, one per epoch; W&B gets them too.
        count: How many images, the first of the validation set.
        share: Of the time of training, how much they may take.
    """

    def __init__(self, folder: Path, count: int = 4, share: float = 0.02) -> None:
        self.folder = folder
        self.count = count
        self.share = share
        self._rows: list[tuple[Photograph, NDArray[Any]]] = []
        self._begun = self._spent = 0.0
        self._wanted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begun, self._spent = time.monotonic(), 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new picture, if it is its time."""
        self._rows = []
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        epoch = trainer.current_epoch
        due = epoch % 10 ** max(0, len(str(epoch)) - 2) == 0
        affordable = self._spent <= self.share * (time.monotonic() - self._begun)
        last = epoch + 1 == trainer.max_epochs
        self._wanted = training and trainer.is_global_zero and (last or (due and affordable))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - what `SegmentationTask.validation_step` returns
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images of the validation set."""
        wanted = self.count - len(self._rows)
        if not self._wanted or wanted <= 0:
            return
        assert isinstance(pl_module, SegmentationTask)
        start = time.monotonic()
        for index, logits in enumerate(list(outputs.values())[:wanted]):
            probability = pl_module.probabilities(logits)[0].cpu().numpy()
            self._rows.append((_photograph(batch, index), probability))
        self._spent += time.monotonic() - start

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the picture and log it."""
        if not self._rows:
            return
        start = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch_{trainer.current_epoch:03d}.png"
        draw_predictions(self._rows).save(path)
        for mirror in mirrors(trainer):
            mirror.attempt(lambda run: run.log({**self._panels(trainer), "epoch": trainer.current_epoch}))
        self._spent += time.monotonic() - start

    def _panels(self, trainer: Trainer) -> dict[str, Any]:
        return validation_panels(self._rows, trainer.datamodule.class_names)  # type: ignore[attr-defined]


class TestTable(Callback):
    """Show the images of a test in W&B as a table with every measure, the first of them with pictures.

    Args:
        pictures: How many have pictures; thumbnails of 100 take about a megabyte.
    """

    __test__ = False  # pytest takes it for a test

    def __init__(self, pictures: int = 100) -> None:
        self.pictures = pictures
        self._shown: dict[str, tuple[Image.Image, ...]] = {}

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any, **_: Any) -> None:
        """Keep small pictures of the first images."""
        if not mirrors(trainer):
            return
        predictions, batch = arguments[1:3]
        for index, (name, probability) in enumerate(predictions.items()):
            if len(self._shown) < self.pictures:
                self._shown[name] = thumbnails(_photograph(batch, index), probability.numpy())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the table."""
        assert isinstance(pl_module, SegmentationTask)
        for mirror in mirrors(trainer):
            mirror.attempt(lambda run: run.log({"test/images": test_table(pl_module.scores["test"], self._shown)}))


def _photograph(batch: dict[str, Any], index: int) -> Photograph:
    """Return an image of an evaluation batch with its ground truth, at the size of that."""
    height, width = batch["size"][index]
    image = batch["image"][index : index + 1, :, :height, :width].float()
    mask = batch["mask"][index]
    image = F.interpolate(image, mask.shape, mode="bilinear").round().clamp(0, 255).byte()[0]
    return Photograph(batch["name"][index], image.permute(1, 2, 0).cpu().numpy(), mask.cpu().numpy())


class Gauges(Callback):
    """Log what tells how training fares, as often as the trainer logs: gradient norm, images/s and peak memory.

    The norm is that of all gradients before they are clipped. The memory is what tensors took on the device at most,
    or on a CPU the whole process, in GB.
    """

    def __init__(self) -> None:
        self._images = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; validations do not count."""
        self._images, self._since = 0, time.monotonic()

    on_train_start = on_train_epoch_start

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm of the gradients."""
        if trainer._logger_connector.should_update_logs:
            gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
            pl_module.log("step/gradient_norm", torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: dict[str, Any], batch_idx: int
    ) -> None:
        """Log speed and memory."""
        self._images += len(batch["name"]) * trainer.world_size
        if trainer._logger_connector.should_update_logs:
            pl_module.log("step/images_per_second", self._images / (time.monotonic() - self._since), batch_size=1)
            pl_module.log("step/peak_memory_gb", _peak_memory(pl_module.device) / 1e9, batch_size=1)
            self._images, self._since = 0, time.monotonic()


def _peak_memory(device: torch.device) -> int:
    """Return bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not everywhere

    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


class EpochLines(Callback):
    """Print one line per epoch, for logs that are no terminal.

    Args:
        quiet: Print nothing; a progress bar, which only the first process has, shows what is averaged here.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run resumed at the end of an epoch has no epoch's start."""
        self._start = time.monotonic()

    on_train_epoch_start = on_train_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's loss and validation measures."""
        metrics = trainer.callback_metrics  # which processes average together, so all of them have to ask
        if self.quiet or not trainer.is_global_zero:
            return
        shown = sorted(name for name in metrics if name == "train/loss" or name.startswith("val/"))
        values = [f"{name} {float(metrics[name]):.4f}" for name in shown]
        seconds = time.monotonic() - self._start
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", *values, f"{seconds:.1f} s", sep="  ", flush=True
        )


class SaveMaps(Callback):
    """Write each prediction of a test as an 8-bit PNG at the image's own size, under its name.

    Grey levels if binary, 255 being certain foreground; else the index of the most probable class. Rounding to grey
    levels moves a probability by at most 1/510.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_test_batch_end(self, *arguments: Any, **_: Any) -> None:
        """Write the predictions of one batch."""
        predictions = arguments[2]
        for name, probability in predictions.items():
            path = self.folder.maps / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            array = (probability * 255).round() if probability.ndim == 2 else probability.argmax(0)
            Image.fromarray(array.byte().numpy()).save(path)
