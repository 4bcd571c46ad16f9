"""On a GPU everything has the values that it has on the CPU, and no training step waits for it."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from spatialseg.data import ProceduralScenes, SegmentationDataModule
from spatialseg.functional import distance_to_foreground, weighted_f_measure
from spatialseg.losses import LossTerm, available_losses, build_loss
from spatialseg.losses.registry import loss_class
from spatialseg.metrics import saliency_metrics
from spatialseg.task import SegmentationTask

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def blobs(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return smooth random maps in [0, 1]."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise.flatten(0, -3)[:, None], 15, 1, 7).view(shape)
    return (4 * smooth).sigmoid()


@pytest.fixture(autouse=True)
def plain_arithmetic():
    """Let convolutions of networks round as they like, but notice if a measure's do."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", saliency_metrics(full=True))
def test_measures_are_those_of_the_cpu(name):
    prediction, target = blobs(3, 97, 130), (blobs(3, 97, 130, seed=1) > 0.55).long()
    target[0, :9, :20] = 255
    values = []
    for device in ("cpu", "cuda"):
        metric = saliency_metrics(full=True)[name].to(device)
        metric.update(prediction.to(device), target.to(device))
        value = metric.compute()
        values.append(value if isinstance(value, dict) else {"value": value})
    for name, value in values[0].items():
        torch.testing.assert_close(values[1][name].cpu(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dependency", ["reference", "local", None])
def test_weighted_f_and_its_distances(dependency):
    prediction, mask = blobs(2, 64, 101).double(), blobs(2, 64, 101, seed=1) > 0.6
    values = [
        weighted_f_measure(prediction.to(device), mask.to(device), dependency=dependency).f.cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-9, atol=1e-9)
    assert torch.equal(distance_to_foreground(mask.cuda()).cpu(), distance_to_foreground(mask))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", available_losses())
def test_losses_and_their_gradients(name, channels):
    if not getattr(loss_class(name), "binary" if channels == 1 else "multiclass", True):
        return
    logits = torch.randn(2, channels, 48, 64, generator=torch.Generator().manual_seed(0))
    target = (blobs(2, 48, 64, seed=1) * max(channels, 2)).long().clamp(max=max(channels, 2) - 1)
    target[0, :5, :7] = 255
    results = []
    for device in ("cpu", "cuda"):
        given = logits.to(device, copy=True).requires_grad_()
        loss = build_loss(name).to(device)
        value = loss.total(loss.terms(given, target.to(device)))
        value.backward()
        results.append((value.detach().cpu(), given.grad.cpu()))
    for there, here in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-5 * float(here.abs().max()))


class Unwaiting(Callback):
    """Let a step fail that waits for the device, but for the first of an epoch, which fills caches."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, task, batch, index):
        torch.cuda.set_sync_debug_mode("error" if index else "default")

    def on_train_batch_end(self, trainer, task, outputs, batch, index):
        torch.cuda.set_sync_debug_mode("default")
        self.steps.append(("train", index))

    def on_validation_batch_start(self, trainer, task, batch, index, *_):
        torch.cuda.set_sync_debug_mode("error" if index else "default")

    def on_validation_batch_end(self, trainer, task, outputs, batch, index, *_):
        torch.cuda.set_sync_debug_mode("default")
        self.steps.append(("val", index))


@pytest.mark.parametrize(("variant", "loss"), [("binary", "bce"), ("multiclass", "lal")])
def test_no_step_of_training_and_validation_waits(variant, loss, tmp_path):
    """Of a whole training, with clipping, mixed precision and the trainer's own logs."""
    source = ProceduralScenes(variant, train=16, val=6, test=1, size=100)
    data = SegmentationDataModule(source, size=64, batch_size=4, eval_batch_size=2)
    task = SegmentationTask(
        data.classes, encoder="resnet18", encoder_weights=None, loss=[LossTerm("wfb"), LossTerm(loss)]
    )
    unwaiting = Unwaiting()
    trainer = Trainer(
        accelerator="gpu", devices=1, max_epochs=2, precision="bf16-mixed", gradient_clip_val=1.0,
        callbacks=[unwaiting], logger=CSVLogger(tmp_path), log_every_n_steps=1, default_root_dir=tmp_path,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    try:
        trainer.fit(task, data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    epoch = [*(("train", step) for step in range(4)), *(("val", step) for step in range(3))]
    assert unwaiting.steps == 2 * epoch
    assert trainer.callback_metrics["val/weighted_f"] >= 0
