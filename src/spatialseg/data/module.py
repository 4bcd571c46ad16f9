"""From a source to batches: augmentation for training, padding for evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from spatialseg.data.files import check_images, image_tensor, list_images, read_image, stem
from spatialseg.data.scenes import ProceduralScenes
from spatialseg.data.source import DataError, Sample, Source, raise_problems

Batch = dict[str, Any]


class SeededSampler(Sampler[tuple[int, int]]):
    """Shuffle as a function of seed and epoch, and give every draw a seed of its own.

    Augmentation seeded by the draw is the same whatever the number of workers, and a resumed run sees what an
    uninterrupted one would have seen. Lightning calls `set_epoch`; in a plain loop each pass is the next epoch.
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(self.length, generator=generator)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        yield from zip(order.tolist(), seeds.tolist(), strict=True)


class Augment:
    """A random crop of the image and its mask, resized to a square, perhaps mirrored, its colours shifted.

    Args:
        size: Side of the crop in pixels.
        scale: Range of the crop's area as a share of the image's.
        flip: Mirror left and right half of the time.
        color_jitter: Brightness, contrast and saturation change by up to this factor; 0 leaves them.
    """

    def __init__(self, size: int, scale: tuple[float, float], flip: bool, color_jitter: float) -> None:
        self.size = [size, size]
        self.crop = v2.RandomResizedCrop(size, scale=scale)
        self.flip = v2.RandomHorizontalFlip(0.5 if flip else 0.0)
        self.jitter = v2.ColorJitter(color_jitter, color_jitter, color_jitter) if color_jitter else v2.Identity()

    def __call__(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[Tensor, Tensor]:
        """Return the image, uint8 (3, S, S), and its mask, uint8 (S, S), augmented alike."""
        window = self.crop.make_params([image])
        window = [window[key] for key in ("top", "left", "height", "width")]
        image = F.resize(F.crop(image, *window), self.size, antialias=True)
        # A mask's own resize takes the upper left of the pixels that meet, half a pixel off; this one the middle.
        mask = tv_tensors.wrap(
            F.resize(F.crop(mask, *window).as_subclass(Tensor)[None], self.size, F.InterpolationMode.NEAREST_EXACT)[0],
            like=mask,
        )
        image, mask = self.flip(image, mask)
        return self.jitter(image).as_subclass(Tensor), mask.as_subclass(Tensor)


class TrainingSamples(Dataset[Batch]):
    """A source's samples, augmented; indexed by (index, seed of the augmentation)."""

    def __init__(self, samples: Dataset[Sample], augment: Augment, add: Callable[[Batch], Batch] | None = None) -> None:
        self.samples = samples
        self.augment = augment
        self.add = add

    def __getitem__(self, draw: tuple[int, int]) -> Batch:
        index, seed = draw
        sample = self.samples[index]
        state = torch.get_rng_state()  # fork_rng and manual_seed would visit the accelerators as well, 80 times as slow
        torch.default_generator.manual_seed(seed)
        image, mask = self.augment(sample["image"], sample["mask"])
        torch.set_rng_state(state)
        batch: Batch = {"image": image, "mask": mask.long(), "name": sample["name"]}
        return self.add(batch) if self.add else batch


class EvaluationSamples(Dataset[Batch]):
    """A source's samples, the image resized to a square or to a long side of `size`, the mask as it is."""

    def __init__(self, samples: Dataset[Sample], size: int, keep_aspect: bool = False) -> None:
        self.samples = samples
        self.size = size
        self.keep_aspect = keep_aspect

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Batch:
        sample: dict[str, Any] = dict(self.samples[index])
        image = sample["image"].as_subclass(Tensor)
        height, width = image.shape[-2:]
        size = (self.size, self.size)
        if self.keep_aspect:
            scale = self.size / max(height, width)
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
        batch: Batch = {"image": F.resize(image, list(size), antialias=True), "name": sample["name"]}
        batch |= {"size": size, "native": (height, width)}
        if "mask" in sample:
            batch["mask"] = sample["mask"].as_subclass(Tensor).long()
        return batch


class PadToStride:
    """Collate evaluation samples: grey at the bottom and right, to the smallest common multiple of `stride`."""

    grey = 128  # disturbs a network less than black does, for it is about 0 once normalised

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def __call__(self, samples: Sequence[Batch]) -> Batch:
        """Return one batch; masks, names and sizes stay lists, for they differ from image to image."""
        batch: Batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        height, width = (-(-max(sides) // self.stride) * self.stride for sides in zip(*batch["size"], strict=True))
        image = batch["image"][0].new_full((len(samples), 3, height, width), self.grey)
        for canvas, part in zip(image, batch["image"], strict=True):
            canvas[:, : part.shape[1], : part.shape[2]] = part
        return batch | {"image": image}


class ImageFolder(Dataset[dict[str, Any]]):
    """Images without masks: one file, or all below a folder."""

    def __init__(self, root: str | Path) -> None:
        root = Path(root).expanduser()
        if root.is_file():
            self.files = {stem(root.name): root}
        elif root.is_dir():
            self.files, problems = list_images(root)
            raise_problems(f"images in {root}", problems if self.files else ["there are none"])
        else:
            raise DataError(f"no file or folder {str(root.absolute())!r} to predict on")
        self.names = list(self.files)
        raise_problems(f"images in {root}", check_images(list(self.files.values()), str(root)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.names[index]
        return {"image": image_tensor(read_image(self.files[name])), "name": name}


class SegmentationDataModule(LightningDataModule):
    """Batches of any source, the same way for all of them.

    Training batches: `image` uint8 (N, 3, S, S), `mask` int64 (N, S, S), `name` list of N; perhaps `distance`.

    Evaluation batches: `image` uint8 (N, 3, H, W), each resized and padded with grey at the bottom and
    right; `mask` list of N int64 (h, w) at native size (none when predicting); `name`; `size` and `native`, lists of N
    (height, width): the resized image inside the padding, and the image on disk.

    The data are checked at the start (`Source.check`). What an epoch shows depends on `seed` and the epoch's number
    alone, not on the number of workers.

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
        stride: Evaluation images are padded to a multiple of this, the network's largest stride.
        seed: Seed of shuffling and augmentation.
        predict_root: One image or a folder of images to predict on; the source's test images by default.

    Attributes:
        classes: Number of classes of the source; 1 means binary.
        class_names: One name per class.
        name: The source's name.
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
        stride: int = 32,
        seed: int = 0,
        predict_root: str | None = None,
    ) -> None:
        super().__init__()
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
        self.add: Callable[[Batch], Batch] | None = None
        if distances:
            from spatialseg.data.distance import AddDistance

            self.add = AddDistance(self.source.classes)
        self.stride = stride
        self.seed = seed
        self.predict_root = predict_root
        self.classes = self.source.classes
        self.class_names = self.source.class_names
        self.name = self.source.name
        self._checked = False

    def setup(self, stage: str) -> None:
        """Check the data, once; to predict on a folder needs no source.

        Raises:
            DataError: Listing every problem found.
        """
        if not (self._checked or (stage == "predict" and self.predict_root)):
            self.source.check()
            self._checked = True

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return augmented, shuffled training batches; a last smaller one is left out unless it is the only one."""
        samples = self.source.dataset("train")
        length = len(samples)  # type: ignore[arg-type]
        return DataLoader(
            TrainingSamples(samples, self.augment, self.add),
            batch_size=self.batch_size,
            sampler=SeededSampler(length, self.seed),
            drop_last=length >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation images."""
        return self._evaluation(self.source.dataset("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images."""
        return self._evaluation(self.source.dataset("test"))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the images below `predict_root`, without masks; the test images if it is not set.

        Raises:
            DataError: If `predict_root` is not there or holds no readable image.
        """
        if self.predict_root is None:
            return self.test_dataloader()
        return self._evaluation(ImageFolder(self.predict_root))

    def _evaluation(self, samples: Dataset[Any]) -> DataLoader[Batch]:
        return DataLoader(
            EvaluationSamples(samples, self.eval_size, self.keep_aspect),
            batch_size=self.eval_batch_size,  # by keyword: Lightning makes the loader anew to predict
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=PadToStride(self.stride),
        )
