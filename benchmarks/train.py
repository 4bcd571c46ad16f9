"""How much of a training's time is ours, and whether the loader keeps up: `make bench-train`.

    python benchmarks/train.py              # some minutes
    python benchmarks/train.py --repeats 10

The experiment saliency_wfb is trained through the command line, with its callbacks and logs, at 224 pixels. After each
step a bare PyTorch loop takes one with a copy of the network, the same loss, optimizer, clipping and precision on the
same batch: in turn, in one process. Reported is the bare loop's time over ours, median and quartiles of the steps; what
is done once an epoch, validation and checkpoints, is left out. Then the loader alone, decoding files of photographs'
size with its processes, against the images per second of training. Results go to benchmarks/results/train.json.
"""

import argparse
import copy
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import fit_arguments, save
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

os.environ["WANDB_MODE"] = "disabled"

from spatialseg.cli import main
from spatialseg.data import FolderPairs, ProceduralScenes, SegmentationDataModule
from spatialseg.task import SegmentationTask

SIZE, BATCH, STEPS = 224, 4, 16


class Turns(Callback):
    """After each step of ours take a bare one, of the same batches in the same order, and time both.

    A step of ours is all that passes until the next one ends: fetching the batch, hooks, logs. That of an epoch's start
    is left out.
    """

    ours: list[float] = []  # noqa: RUF012 - the command line makes the object, so the class keeps what it measures
    bare: list[float] = []  # noqa: RUF012

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the network."""
        assert isinstance(pl_module, SegmentationTask)
        self.network = copy.deepcopy(pl_module.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3)
        self.mixed = trainer.precision == "bf16-mixed"

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bare loop's epoch."""
        loader = trainer.datamodule.train_dataloader()
        loader.sampler.done = int  # this loop is not the trainer's
        self.batches = iter(loader)
        self.since = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object, **__: object) -> None:
        """Stop the clock of our step, take the bare one, and start it again."""
        start = time.perf_counter()
        batch = next(self.batches)
        image = (batch["image"] / 255 - pl_module.mean) / pl_module.std
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            logits = self.network(image.contiguous(memory_format=torch.channels_last))
            loss = pl_module.loss(logits, batch["mask"])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        end = time.perf_counter()
        if self.since and trainer.current_epoch:  # the first epoch warms up
            self.ours.append(start - self.since)
            self.bare.append(end - start)
        self.since = time.perf_counter()


def train(repeats: int, runs: str) -> tuple[list[float], list[float]]:
    """Return seconds of the steps of our loop and of the bare one, in the order in which they were taken."""
    options = {
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": repeats + 1,
        "trainer.callbacks+": "train.Turns",
        "trainer.check_val_every_n_epoch": repeats + 1,
        "data.size": SIZE,
        "data.batch_size": BATCH,
        "data.source.init_args.train": BATCH * STEPS,
        "data.source.init_args.val": 4,
        "data.source.init_args.size": SIZE,
        "test": "false",
        "monitor": "null",
        "runs": runs,
    }
    main(fit_arguments(options, "saliency_wfb"))
    from train import Turns as measured  # the command line's, for this file is __main__

    return measured.ours, measured.bare


def load(folder: Path) -> float:
    """Return how many images per second the loader alone delivers, from files of 400 pixels."""
    ProceduralScenes(train=64, val=1, test=1, size=400).export(folder)
    loader = SegmentationDataModule(FolderPairs(folder), size=SIZE, batch_size=BATCH).train_dataloader()
    rates = []
    for _ in range(4):
        batches = iter(loader)
        next(batches)
        start = time.perf_counter()
        images = sum(len(batch["name"]) for batch in batches)
        rates.append(images / (time.perf_counter() - start))
    return float(np.median(rates[1:]))


def benchmark(repeats: int) -> None:
    """Do as the module says."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = train(repeats, folder)
        loaded = load(Path(folder, "data"))
    ratios = np.percentile(np.divide(bare, ours), (50, 25, 75))
    consumed = BATCH / float(np.median(ours))
    record = {
        "command": f"python benchmarks/train.py --repeats {repeats}",
        "size": SIZE,
        "batch": BATCH,
        "steps": len(ours),
        "step_seconds": {"ours": float(np.median(ours)), "bare": float(np.median(bare))},
        "share_of_the_bare_loops_speed": dict(zip(("median", "q1", "q3"), ratios.tolist(), strict=True)),
        "images_per_second": {"training": consumed, "loader": loaded, "ratio": loaded / consumed},
    }
    print(f"our loop at {ratios[0]:.3f} of a bare loop's speed [{ratios[1]:.3f}, {ratios[2]:.3f}]")
    print(f"the loader gives {loaded:.1f} images/s, training takes {consumed:.1f}")
    print("written to", save("train", record))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="epochs to time, after one that warms up (default: 5)")
    sys.exit(benchmark(parser.parse_args().repeats))
