"""On a GPU everything has the values that it has on the CPU, and no training step waits for it."""

import pytest
import torch
from lightning import Trainer

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


def test_a_training_step_does_not_wait(monkeypatch, tmp_path):
    task = SegmentationTask(encoder="resnet18", encoder_weights=None, loss=[LossTerm("bce"), LossTerm("wfb")]).cuda()
    task.trainer = Trainer(accelerator="gpu", devices=1, logger=False, default_root_dir=tmp_path)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(task, "log_dict", lambda *_, **__: None)
    mask = (blobs(2, 64, 64) > 0.5).long().cuda()
    batch = {"image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8, device="cuda"), "mask": mask, "name": ["a", "b"]}
    optimizer = torch.optim.AdamW(task.parameters())
    try:
        for _ in range(2):
            task.training_step(batch, 0).backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.cuda.set_sync_debug_mode("error")  # from the second step on: the first fills caches
    finally:
        torch.cuda.set_sync_debug_mode("default")
