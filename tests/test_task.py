from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn

from spatialseg.data import ProceduralScenes, SegmentationDataModule
from spatialseg.functional import distance_to_foreground, weighted_f_measure
from spatialseg.losses import LossTerm, available_losses
from spatialseg.losses.registry import loss_class
from spatialseg.task import NonFiniteLossError, SegmentationTask

SMALL = {"encoder": "resnet18", "encoder_weights": None}


def scenes(variant: str = "binary") -> SegmentationDataModule:
    return SegmentationDataModule(
        ProceduralScenes(variant, train=8, val=3, test=3, size=64), size=64, batch_size=4, eval_batch_size=2
    )


def trainer(folder, **options) -> Trainer:
    return Trainer(
        default_root_dir=folder, accelerator="cpu", logger=CSVLogger(folder, name="", version=""), max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1, **options,
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ["unet", "fpn", "deeplabv3plus"])
def test_any_architecture_gives_logits_of_the_images_size(architecture):
    task = SegmentationTask(3, architecture, **SMALL).eval()
    assert task(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)).shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", value) for value in (0.0, float("nan"), float("inf"))),
        *(("encoder_rate", -0.1), ("weight_decay", -1e-4), ("warmup", 0.0), ("warmup", 1.0)),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        SegmentationTask(**SMALL, **{name: value})


def test_uint8_and_unit_range_images_are_the_same_to_the_network():
    task = SegmentationTask(**SMALL).eval()
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(task(image), task(image.float() / 255))


def test_images_of_one_size_are_resized_together_and_keep_their_places():
    task = SegmentationTask(3, **SMALL).eval()
    image = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    batch = {"image": image, "size": [(64, 64), (40, 64), (64, 64), (64, 64)]}
    batch["native"] = [(70, 90), (50, 80), (70, 90), (33, 80)]
    with torch.no_grad():
        whole = task(image)
        for index, logits in enumerate(task.native_logits(batch)):
            (height, width), native = batch["size"][index], batch["native"][index]
            expected = F.interpolate(whole[index : index + 1, :, :height, :width], native, mode="bilinear")
            torch.testing.assert_close(logits, expected)


def test_native_logits_undo_padding_and_resizing():
    task = SegmentationTask(**SMALL).eval()
    task.network = torch.nn.Identity()
    image = torch.zeros(1, 3, 64, 64)
    ramp = F.interpolate(torch.arange(8.0).view(1, 1, 1, 8), (40, 48), mode="bilinear")
    image[:, :, :40, :48] = ramp * task.std + task.mean
    batch = {"image": image, "size": [(40, 48)], "native": [(80, 96)]}
    (logits,) = task.native_logits(batch)
    assert logits.shape == (1, 3, 80, 96)
    torch.testing.assert_close(logits, F.interpolate(ramp, (80, 96), mode="bilinear").expand(-1, 3, -1, -1))


@pytest.mark.parametrize("variant", ["binary", "multiclass"])
def test_fit_and_test_log_every_measure(tmp_path, variant):
    data = scenes(variant)
    task = SegmentationTask(
        data.classes, **SMALL, loss=[LossTerm("wfb"), LossTerm("bce" if variant == "binary" else "ce", weight=0.5)]
    )
    run = trainer(tmp_path, callbacks=[LearningRateMonitor("step")])
    run.fit(task, data)
    logged = set((tmp_path / "metrics.csv").read_text().splitlines()[0].split(","))
    second = task.hparams["loss"][1]["name"]
    for stage, measures in (("train", ["iou"]), ("val", ["iou", "weighted_f"])):
        assert {f"{stage}/{name}" for name in ("loss", "loss/wfb", f"loss/{second}", *measures)} <= logged
    assert {"weight/wfb", f"weight/{second}", "lr-AdamW/encoder", "lr-AdamW/decoder"} <= logged
    (measures,) = run.test(task, data, verbose=False)
    assert {"test/weighted_f", "test/iou"} <= measures.keys()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", available_losses())
def test_no_accelerator_waits_for_a_step(name, classes, tmp_path, monkeypatch):
    """Tensors on the device "meta" have no values: whatever needs one on the host raises."""
    if not getattr(loss_class(name), "binary" if classes == 1 else "multiclass", True):
        return
    task = SegmentationTask(classes, **SMALL, loss=[LossTerm(name)]).to("meta")
    task.trainer = trainer(tmp_path)
    monkeypatch.setattr(task, "log", lambda *_, **__: None)
    monkeypatch.setattr(task, "log_dict", lambda *_, **__: None)
    mask = torch.zeros(2, 64, 64, dtype=torch.long, device="meta")
    batch = {"image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8, device="meta"), "mask": mask, "name": ["a", "b"]}
    task.training_step(batch, 0).backward()
    sizes = [(70, 80), (50, 60), (70, 80)]
    masks = [torch.zeros(size, dtype=torch.long, device="meta") for size in sizes]
    image = torch.zeros(3, 3, 64, 64, dtype=torch.uint8, device="meta")
    task.trainer.state.fn = TrainerFn.FITTING
    task.validation_step(
        {"image": image, "mask": masks, "name": list("abc"), "size": [(64, 64)] * 3, "native": sizes}, 0
    )


def test_test_measure_is_taken_at_native_resolution(tmp_path):
    data = SegmentationDataModule(ProceduralScenes(train=4, val=2, test=3, size=100), size=64, eval_batch_size=3)
    task = SegmentationTask(**SMALL).eval()
    (measures,) = trainer(tmp_path).test(task, data, verbose=False)
    (batch,) = data.test_dataloader()
    scores = []
    with torch.no_grad():
        for index, mask in enumerate(batch["mask"]):
            assert max(mask.shape) == 100
            height, width = batch["size"][index]
            logits = task(batch["image"])[index : index + 1, :, :height, :width]
            probability = F.interpolate(logits, mask.shape, mode="bilinear").sigmoid()[0]
            scores.append(weighted_f_measure(probability, mask[None]).f)
    assert measures["test/weighted_f"] == pytest.approx(torch.cat(scores).mean().item(), abs=1e-5)


def test_prediction_is_named_and_at_native_size(tmp_path):
    data = scenes()
    task = SegmentationTask(**SMALL)
    (batch,) = list(data.test_dataloader())[:1]
    with torch.no_grad():
        predictions = task.eval().predict_step(batch, 0)
    assert list(predictions) == batch["name"]
    for probability, native in zip(predictions.values(), batch["native"], strict=True):
        assert tuple(probability.shape) == tuple(native)
        assert probability.min() >= 0 and probability.max() <= 1


def test_checkpoint_loads_with_weights_only_and_without_pretrained_weights(tmp_path):
    data = scenes()
    task = SegmentationTask(loss=[LossTerm("wfb", args={"beta2": 0.3})])
    run = trainer(tmp_path, limit_train_batches=1, limit_val_batches=1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "one.ckpt")
    loaded = SegmentationTask.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True).eval()
    assert loaded.hparams["encoder_weights"] is None
    assert loaded.loss.losses["wfb"].beta2 == 0.3
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(loaded(image), task.eval()(image))


def test_non_finite_loss_names_the_images(tmp_path):
    task = SegmentationTask(**SMALL)
    task.trainer = trainer(tmp_path)
    task.log_dict = task.log = lambda *args, **kwargs: None
    with torch.no_grad():
        task.network.segmentation_head[0].bias.fill_(torch.nan)
    batch = {"image": torch.zeros(2, 3, 64, 64), "mask": torch.ones(2, 64, 64).long(), "name": ["one", "two"]}
    with pytest.raises(NonFiniteLossError, match=r"nan in epoch 0, step 0, on the images one, two"):
        task.training_step(batch, 0)


def test_a_prediction_that_is_not_finite_names_its_image(tmp_path):
    task = SegmentationTask(**SMALL).eval()
    task.trainer = trainer(tmp_path)
    image = torch.zeros(2, 3, 64, 64)
    image[1] = torch.nan
    batch = {"image": image, "mask": [torch.ones(64, 64).long()] * 2, "name": ["one", "two"]}
    with pytest.raises(NonFiniteLossError, match="the logits became nan in the test, on the images two"):
        task.test_step({**batch, "size": [(64, 64)] * 2, "native": [(64, 64)] * 2}, 0)


def test_an_encoder_with_rate_0_stays_as_it_is(tmp_path):
    task = SegmentationTask(**SMALL, encoder_rate=0.0)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    trainer(tmp_path).fit(task, scenes())
    changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any(name.startswith("encoder.") for name in changed)


def test_running_statistics_are_those_of_the_epoch_and_change_no_weight(tmp_path):
    batches, weights = 13, {}
    data = SegmentationDataModule(ProceduralScenes(train=4 * batches, val=1, test=1, size=64), size=64, batch_size=4)
    for averaged in (True, False):
        torch.manual_seed(0)
        task, seen = SegmentationTask(**SMALL, average_statistics=averaged), []
        layer = task.network.encoder.bn1
        layer.register_forward_pre_hook(lambda layer, args, to=seen: to.append(args[0].mean((0, 2, 3)).detach()))
        Trainer(
            default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=2,
            limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
        ).fit(task, data)  # fmt: skip
        mean = torch.zeros(64)
        for place, batch in enumerate(seen):
            mean.lerp_(batch, min(0.1, 1 / (place % batches + 1)) if averaged else 0.1)
        assert len(seen) == 2 * batches
        torch.testing.assert_close(layer.running_mean, mean, rtol=1e-4, atol=1e-6)
        weights[averaged] = dict(task.network.named_parameters())
    assert all(torch.equal(value, weights[False][name]) for name, value in weights[True].items())


class Learned(torch.nn.Module):
    """A loss whose weight is learned."""

    def __init__(self):
        super().__init__()
        self.log_weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, logits, target):
        return (logits[:, 0] - target).square().mean() * self.log_weight.exp() - self.log_weight


def test_parameters_of_a_loss_are_trained(tmp_path):
    task = SegmentationTask(**SMALL, loss=[LossTerm(f"{__name__}.Learned")])
    trainer(tmp_path).fit(task, scenes())
    assert task.loss.losses["Learned"].log_weight != 0


def test_distances_of_the_loader_reach_the_loss(tmp_path):
    task = SegmentationTask(**SMALL, loss=[LossTerm("wfb")])
    task.trainer = trainer(tmp_path)
    task.log_dict = task.log = lambda *args, **kwargs: None
    mask = torch.zeros(2, 64, 64, dtype=torch.int64)
    mask[:, 20:40, 20:40] = 1
    batch = {"image": torch.zeros(2, 3, 64, 64), "mask": mask, "name": ["one", "two"]}
    distance = distance_to_foreground(mask == 1)
    own, given, far = (
        task.training_step(batch | added, 0).item()
        for added in ({}, {"distance": distance}, {"distance": 100 * distance})
    )
    assert own == pytest.approx(given) and given < far


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_rates_rise_and_fall_however_few_the_steps(schedule, steps):
    task = SegmentationTask(**SMALL, schedule=schedule, learning_rate=0.1, encoder_rate=0.5)
    task.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    configured = task.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    assert all(rate["encoder"] == pytest.approx(rate["decoder"] / 2) for rate in rates)
    assert max(rate["decoder"] for rate in rates) <= 0.1 + 1e-9
    if steps == 40:
        peak = max(range(steps), key=lambda step: rates[step]["decoder"])
        assert rates[peak]["decoder"] == pytest.approx(0.1, rel=0.05) and 5 <= peak <= 12
        assert rates[-1]["decoder"] < 0.005
    decayed = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decayed == {"encoder": 0.01, "encoder, no decay": 0, "decoder": 0.01, "decoder, no decay": 0}


def test_schedule_of_a_loss_weight_is_followed(tmp_path):
    terms = [LossTerm("wfb"), LossTerm("bce", schedule={"kind": "linear", "start": 1.0, "end": 0.0})]
    task = SegmentationTask(**SMALL, loss=terms)
    data = scenes()
    run = trainer(tmp_path, limit_train_batches=1, limit_val_batches=1)
    run.fit_loop.max_epochs = 3
    run.fit(task, data)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("weight/bce")
    assert [float(row[column]) for row in rows[1:] if row[column]] == [1.0, 0.5, 0.0]
