"""Who sees which image when: shares of processes, and where an interrupted training goes on."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from spatialseg.data import ProceduralScenes, SegmentationDataModule
from spatialseg.data.sampling import SeededSampler, ShareSampler


@settings(deadline=None)
@given(length=st.integers(0, 30), world_size=st.integers(1, 9))
def test_shares_hold_every_image_once(length, world_size):
    shares = [ShareSampler(length, rank, world_size) for rank in range(world_size)]
    idle = max(0, world_size - length) * [length - 1] if length else []  # they repeat the last
    assert sorted(itertools.chain(*shares)) == [*range(length), *idle]
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


class TestSeededSampler:
    def test_an_epoch_can_be_chosen(self):
        sampler = SeededSampler(20, seed=3)
        passes = [list(sampler) for _ in range(3)]
        sampler.set_epoch(1)
        assert list(sampler) == passes[1]
        assert all(sorted(index for index, _ in draws) == list(range(20)) for draws in passes)
        assert passes[0] != passes[1] and len({seed for draws in passes for _, seed in draws}) == 60

    @settings(deadline=None)
    @given(length=st.integers(1, 60), world_size=st.integers(1, 5), batch_size=st.integers(1, 6))
    def test_batches_of_processes_are_those_of_one(self, length, world_size, batch_size):
        """All ranks take as many steps, and the batches of a step together are the single process's batch."""
        drop_last = length >= batch_size * world_size
        ranks = [SeededSampler(length, 3, rank, world_size, drop_last) for rank in range(world_size)]
        loaders = [DataLoader(Echo(), batch_size, sampler=rank, drop_last=drop_last, collate_fn=list) for rank in ranks]
        order = list(SeededSampler(length, 3))
        steps = list(zip(*map(list, loaders), strict=True))
        assert len(steps) == len(loaders[0]) > 0
        if drop_last:
            total = batch_size * world_size
            together = [[*itertools.chain(*zip(*step, strict=True))] for step in steps]
            assert together == [order[first : first + total] for first in range(0, length - total + 1, total)]
        else:  # fewer images than a batch: every one once, and twice only where a process would have none
            (step,) = steps
            assert sorted(itertools.chain(*step)) == sorted((order * world_size)[: max(length, world_size)])

    def test_a_pass_can_begin_later(self):
        whole = list(SeededSampler(11, 5, rank=1, world_size=2))
        assert list(SeededSampler(11, 5, rank=1, world_size=2, done=lambda: 3)) == whole[3:]


class Echo(torch.utils.data.Dataset):
    """Returns what it was asked for."""

    def __getitem__(self, draw):
        return draw


class Recorder(LightningModule):
    """Notes every batch; stops with an error before a step is done, if told to."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.stop_at = [], stop_at

    def training_step(self, batch, _):
        if self.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append((self.current_epoch, tuple(batch["name"]), int(batch["image"].sum())))
        return self.weight * 0

    def validation_step(self, *_):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(Callback):
    """Writes a checkpoint when training is cut short."""

    def __init__(self, path):
        self.path = path

    def on_exception(self, trainer, *_):
        trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:.*(num_workers|logging interval|Checkpoint directory|does not have many workers)")
class TestResumption:
    """What follows a checkpoint is what followed it in the run that wrote it: three epochs of four batches."""

    @staticmethod
    def fit(workers=0, checkpoint=None, callbacks=(), stop_at=None, batch_size=3, **options):
        options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False) | options
        recorder = Recorder(stop_at)
        options["enable_checkpointing"] = any(isinstance(each, ModelCheckpoint) for each in callbacks)
        trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=list(callbacks), **options)
        source = ProceduralScenes(train=13, val=2, test=1, size=32)
        data = SegmentationDataModule(source, size=32, batch_size=batch_size, num_workers=workers)
        trainer.fit(recorder, data, ckpt_path=checkpoint, weights_only=True)
        return recorder.seen, trainer

    @pytest.mark.parametrize("workers", [0, 2])
    def test_from_any_checkpoint(self, tmp_path, workers):
        options = {"save_top_k": -1, "dirpath": tmp_path}
        callbacks = [  # the mode only tells the last two apart
            ModelCheckpoint(every_n_train_steps=1, filename="step{step}", **options),
            ModelCheckpoint(every_n_epochs=1, filename="epoch{step}", save_on_train_epoch_end=True, **options),
            ModelCheckpoint(every_n_epochs=1, filename="val{step}", mode="max", **options),
        ]
        whole, _ = self.fit(callbacks=callbacks, val_check_interval=2)
        assert len(whole) == 12 and len({total for *_, total in whole}) == 12
        chosen = ("step", "epoch", "val") if workers == 0 else ("step",)
        names = [path for kind in chosen for path in tmp_path.glob(f"{kind}*.ckpt")]
        assert len(names) >= 12
        for path in names if workers == 0 else [tmp_path / f"stepstep={step}.ckpt" for step in (2, 4, 7)]:
            done = int("".join(letter for letter in path.stem if letter.isdigit()))
            seen, _ = self.fit(workers, path, val_check_interval=2)
            assert seen == whole[done:], path.name

    @pytest.mark.parametrize("workers", [0, 2])
    def test_after_an_interruption_inside_a_step(self, tmp_path, workers):
        whole, _ = self.fit()
        with pytest.raises(SystemExit):
            self.fit(workers, callbacks=[Saver(tmp_path / "cut.ckpt")], stop_at=6)
        assert self.fit(workers, tmp_path / "cut.ckpt")[0] == whole[6:]

    def test_another_batch_size_is_said(self, tmp_path):
        with pytest.raises(SystemExit):
            self.fit(callbacks=[Saver(tmp_path / "cut.ckpt")], stop_at=6)
        with pytest.warns(
            UserWarning, match="begun with images 13, batch size 3, .* now there are images 13, batch size 6"
        ):
            self.fit(checkpoint=tmp_path / "cut.ckpt", batch_size=6)

    def test_the_loader_is_whole_again_after_training(self):
        _, trainer = self.fit()
        assert len(list(trainer.datamodule.train_dataloader())) == 4

    def test_one_batch_can_be_overfitted(self):
        with pytest.warns(UserWarning, match="overfit"):
            seen, _ = self.fit(overfit_batches=1)
        assert len({seen[1:] for seen in seen}) == 1 and len(seen) == 3
