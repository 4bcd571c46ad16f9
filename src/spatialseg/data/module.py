"""From a source to batches: augmentation for training, padding for evaluation."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from spatialseg.data.samples import Augment, Batch, EvaluationSamples, KeptSamples, PadToStride, TrainingSamples
from spatialseg.data.sampling import SeededSampler, ShareSampler, TrainingLoader
from spatialseg.data.scenes import ProceduralScenes
from spatialseg.data.source import DataError, Source, Split


class SegmentationDataModule(LightningDataModule):
    """Batches of any source, the same way for all of them.

    Training batches: `image` uint8 (N, 3, S, S), `mask` int64 (N, S, S), `name` list of N; perhaps `distance`.

    Evaluation batches: `image` uint8 (N, 3, H, W), each resized and padded with grey at the bottom and
    right; `mask` list of N int64 (h, w) at native size; `name`; `size` and `native`, lists of N
    (height, width): the resized image inside the padding, and the image on disk.

    The data are checked at the start (`Source.check`). What an epoch shows depends on `seed` and the epoch's number
    alone, not on the number of workers nor, batch by batch of all processes together, on the number of processes. A
    training that was interrupted in the middle of an epoch goes on with the batches that an uninterrupted one would
    have seen. At evaluation every image goes to one process.

    Args:
        source: The data set; procedural scenes by default.
        size: Side of the training crop in pixels.
        eval_size: Side of images at evaluation; `size` by default.
        keep_aspect: At evaluation make only the long side `eval_size` and pad the rest, instead of stretching the image
            to a square. Training crops are squares of any aspect, so a network that saw them scores higher stretched.
        batch_size: Images per training step.
        eval_batch_size: Images per evaluation step; `batch_size` by default.
        num_workers: Loader processes; by default none for a source in memory, else one per two cores, at most 8.
        flip: Mirror training images left and right half of the time.
        crop_scale: Range of the training crop's area as a share of the image's.
        color_jitter: Brightness, contrast and saturation of training images change by up to this factor.
        distances: Let the loader's processes compute the distance maps that the weighted F-measure needs: faster where
            the loss would otherwise wait for them and there are cores to spare. Changes no value.
        cache_gb: Keep up to this much of the decoded training and validation images in memory (10⁹ bytes; each process
            of a distributed training keeps its own); the rest is read anew each time. Changes no value.
        stride: Evaluation images are padded to a multiple of this, the network's largest stride.
        seed: Seed of shuffling and augmentation.

    Attributes:
        classes: Number of classes of the source; 1 means binary.
        class_names: One name per class.
        name: The source's name.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        source: Source | None = None,
        size: int = 128,
        eval_size: int | None = None,
        keep_aspect: bool = False,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        flip: bool = True,
        crop_scale: tuple[float, float] = (0.5, 1.0),
        color_jitter: float = 0.2,
        distances: bool = False,
        cache_gb: float = 0.0,
        stride: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least_1 = {"size": size, "eval_size": eval_size, "batch_size": batch_size, "stride": stride}
        at_least_1 |= {"eval_batch_size": eval_batch_size}
        at_least_0 = {"num_workers": num_workers, "color_jitter": color_jitter, "cache_gb": cache_gb, "seed": seed}
        for argument, value in (at_least_1 | at_least_0).items():
            least = int(argument in at_least_1)
            if value is not None and not value >= least:
                raise ValueError(f"{argument} must be at least {least}, got {value}")
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must be two shares of the image's area, 0 < a ≤ b ≤ 1, got {crop_scale}")
        if size % stride:
            raise ValueError(
                f"size must be a multiple of the stride {stride}, got {size}; try {-(-size // stride) * stride}"
            )
        self.source = ProceduralScenes() if source is None else source
        self.size = size
        self.eval_size = eval_size or size
        self.keep_aspect = keep_aspect
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        if num_workers is None:
            num_workers = 0 if self.source.in_memory else min(8, (os.cpu_count() or 1) // 2)
        self.num_workers = num_workers
        self.augment = Augment(size, crop_scale, flip, color_jitter)
        self.distances = self.source.classes if distances else 0
        self.stride = stride
        self.seed = seed
        self.classes = self.source.classes
        self.class_names = self.source.class_names
        self.name = self.source.name
        self.cache_gb = cache_gb
        self._checked = False
        self._kept: dict[Split, KeptSamples] = {}

    def setup(self, stage: str) -> None:
        """Check the data, once, and that there are images of every split that the stage needs.

        Raises:
            DataError: Listing every problem found.
        """
        if not self._checked:
            self.source.check()
            self._checked = True
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            if not len(self.source.dataset(split)):  # type: ignore[arg-type]
                wanted = TrainerFn(stage).value
                raise DataError(f"data set {self.name!r}: the {split} split is empty, and {wanted} needs images of it")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to tell whoever uses the network without the data set."""
        evaluation = {"eval_size": self.eval_size, "keep_aspect": self.keep_aspect, "stride": self.stride}
        return {"name": self.name, "class_names": self.class_names, **evaluation}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return augmented, shuffled training batches; a last smaller one is left out unless it is the only one."""
        samples = TrainingSamples(self._samples("train"), self.augment, self.distances)
        rank, world_size = self._place
        drop_last = len(samples) >= self.batch_size * world_size
        return TrainingLoader(
            samples,
            batch_size=self.batch_size,
            sampler=SeededSampler(len(samples), self.seed, rank, world_size, drop_last, self._done),
            drop_last=drop_last,
            **self._loading,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation images."""
        return self._evaluation(self._samples("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images."""
        return self._evaluation(self.source.dataset("test"))

    @property
    def _loading(self) -> dict[str, Any]:
        """What all loaders have in common."""
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator(),  # else each pass would draw from the state that dropout draws from
        }

    @property
    def _place(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _done(self) -> int:
        """Return how many images of its epoch this process has had when a training goes on; else none."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.batch_size * self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _samples(self, split: Split) -> Dataset[Any]:
        samples = self.source.dataset(split)
        if self.cache_gb == 0 or self.source.in_memory:
            return samples
        if split not in self._kept:
            left = 1e9 * self.cache_gb - sum(kept.bytes for kept in self._kept.values())
            self._kept[split] = KeptSamples(samples, left, f"Decoding the {split} images of {self.name}")
        return self._kept[split]

    def _evaluation(self, samples: Dataset[Any]) -> DataLoader[Batch]:
        resized = EvaluationSamples(samples, self.eval_size, self.keep_aspect)
        return DataLoader(
            resized,
            sampler=ShareSampler(len(resized), *self._place),
            batch_size=self.eval_batch_size,
            **self._loading,
            collate_fn=PadToStride(self.stride),
        )
