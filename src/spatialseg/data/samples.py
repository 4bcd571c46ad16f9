"""Samples: as they are stored, augmented for training, resized and padded for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from spatialseg.data.checking import in_parallel
from spatialseg.data.files import Array, Pair, read_image, read_mask
from spatialseg.data.source import Sample
from spatialseg.functional import distance_maps

Batch = dict[str, Any]
GREY = 128
"""What images are filled up with: it disturbs a network less than black does, for it is about 0 once normalised."""


def make_sample(name: str, pixels: Array, mask: Array) -> Sample:
    """Return an image, (H, W, 3) uint8, and its mask, (H, W) uint8, as a sample."""
    image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
    return {"image": image, "mask": tv_tensors.Mask(torch.from_numpy(mask)), "name": name}


class Wrapped(Dataset[Batch]):
    """Samples made of others, one of each.

    Args:
        samples: The others.
    """

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]


class PairDataset(Dataset[Sample]):
    """Pairs of files, read when asked for."""

    def __init__(self, pairs: Sequence[Pair], classes: int) -> None:
        self.pairs = list(pairs)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image, mask = self.pairs[index]
        return make_sample(name, read_image(image), read_mask(mask, self.classes))


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


class KeptSamples(Wrapped):
    """Samples decoded beforehand and kept in memory, as many as fit; the others are read whenever they are asked for.

    Loader processes that are forked afterwards share the memory.

    Args:
        samples: What to keep.
        limit: How much, in bytes.
        what: Title of the line that shows the progress.

    Attributes:
        bytes: How much is kept.
        full: Whether not all was.
    """

    def __init__(self, samples: Dataset[Sample], limit: float, what: str) -> None:
        super().__init__(samples)
        self.kept: dict[int, Sample] = {}
        self.bytes = 0
        self.full = False
        lock = Lock()

        def keep(index: int) -> None:
            if not self.full:
                sample = samples[index]
                size = sample["image"].nbytes + sample["mask"].nbytes
                with lock:
                    self.full = self.full or self.bytes + size > limit
                    if not self.full:
                        self.kept[index] = sample
                        self.bytes += size

        in_parallel(keep, range(len(self)), what)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - a sample
        return self.kept.get(index) or self.samples[index]


class TrainingSamples(Wrapped):
    """A source's samples, augmented; indexed by (index, seed of the augmentation), or by the index alone: seed 0.

    Args:
        samples: The source's.
        augment: What is done to each.
        distances: To how many classes (1 for foreground) each gets `distance_maps`; 0 for none.
    """

    def __init__(self, samples: Dataset[Sample], augment: Augment, distances: int = 0) -> None:
        super().__init__(samples)
        self.augment = augment
        self.distances = distances

    def __getitem__(self, draw: tuple[int, int] | int) -> Batch:
        index, seed = (draw, 0) if isinstance(draw, int) else draw
        sample = self.samples[index]
        state = torch.get_rng_state()  # fork_rng and manual_seed would visit the accelerators as well, 80 times as slow
        torch.default_generator.manual_seed(seed)
        image, mask = self.augment(sample["image"], sample["mask"])
        torch.set_rng_state(state)
        batch: Batch = {"image": image, "mask": mask.long(), "name": sample["name"]}
        if self.distances:  # of the mask as it is now: one that was resized with it would be wrong
            batch["distance"] = distance_maps(batch["mask"], self.distances)
        return batch


class EvaluationSamples(Wrapped):
    """A source's samples, the image resized to a square or to a long side of `size`, the mask as it is."""

    def __init__(self, samples: Dataset[Sample], size: int, keep_aspect: bool = False) -> None:
        super().__init__(samples)
        self.size = size
        self.keep_aspect = keep_aspect

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        batch = evaluation_sample(sample["image"].as_subclass(Tensor), self.size, self.keep_aspect)
        return batch | {"name": sample["name"], "mask": sample["mask"].as_subclass(Tensor).long()}


def evaluation_size(native: tuple[int, int], size: int, keep_aspect: bool) -> tuple[int, int]:
    """Return height and width to which an image of native height and width is resized; see `EvaluationSamples`."""
    if not keep_aspect:
        return size, size
    scale = size / max(native)
    return max(1, round(native[0] * scale)), max(1, round(native[1] * scale))


def evaluation_sample(image: Tensor, size: int, keep_aspect: bool) -> Batch:
    """Return an image, uint8 (3, H, W), resized as evaluation does it, with its size before and after."""
    native = (image.shape[-2], image.shape[-1])
    fitted = evaluation_size(native, size, keep_aspect)
    return {"image": F.resize(image, list(fitted), antialias=True), "size": fitted, "native": native}


class PadToStride:
    """Collate evaluation samples: grey at the bottom and right, to the smallest common multiple of `stride`."""

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def __call__(self, samples: Sequence[Batch]) -> Batch:
        """Return one batch; masks, names and sizes stay lists, for they differ from image to image."""
        batch: Batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        height, width = (-(-max(sides) // self.stride) * self.stride for sides in zip(*batch["size"], strict=True))
        image = batch["image"][0].new_full((len(samples), 3, height, width), GREY)
        for canvas, part in zip(image, batch["image"], strict=True):
            canvas[:, : part.shape[1], : part.shape[2]] = part
        return batch | {"image": image}
