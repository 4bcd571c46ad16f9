"""Procedural scenes: the embedded data set, drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from spatialseg.data.drawing import KINDS, draw_scene
from spatialseg.data.samples import make_sample
from spatialseg.data.source import SPLITS, Sample, Source, Split

DECOYS = ("pebble", "creature")
CLASSES = tuple(kind for kind in KINDS if kind not in DECOYS)


class SceneDataset(Dataset[Sample]):
    """Scenes of one split, drawn when first asked for and then kept."""

    def __init__(self, source: ProceduralScenes, split: Split, count: int) -> None:
        self.source = source
        self.split: Split = split
        self.count = count
        self._drawn: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        if index not in self._drawn:
            self._drawn[index] = self.source.draw(self.split, index)
        image, mask = self._drawn[index]
        return make_sample(f"{self.split}_{index:04d}", image, mask.copy())


class ProceduralScenes(Source):
    """Scenes drawn from a seed: textured grounds, one to three salient objects, and things that are not.

    Scene `i` of a split is a function of seed, variant, split and `i` alone, so splits share none and a longer split
    begins with the shorter one. Nothing is written to disk; scenes are kept in memory once drawn.

    Args:
        variant: "binary" marks what is salient; "multiclass" marks each object with its kind (0 is background).
        train: Number of training scenes.
        val: Number of validation scenes.
        test: Number of test scenes.
        size: Long side in pixels.
        seed: Seed of all scenes.
    """

    in_memory = True

    def __init__(
        self,
        variant: Literal["binary", "multiclass"] = "binary",
        train: int = 400,
        val: int = 60,
        test: int = 120,
        size: int = 160,
        seed: int = 0,
    ) -> None:
        if variant not in ("binary", "multiclass"):
            raise ValueError(f"variant must be 'binary' or 'multiclass', got {variant!r}")
        for split, count, least in (("train", train, 1), ("val", val, 0), ("test", test, 0)):
            if count < least:
                raise ValueError(f"{split} must be at least {least} scene{'s' * (least != 1)}, got {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if size < 32:
            raise ValueError(f"scenes need a size of at least 32 pixels, got {size}")
        if variant == "binary":
            super().__init__("shapes", 1, ["salient"])
        else:
            super().__init__("kinds", 1 + len(CLASSES), ["background", *CLASSES])
        self.variant = variant
        self.size = size
        self.seed = seed
        self._datasets = {
            split: SceneDataset(self, split, count) for split, count in zip(SPLITS, (train, val, test), strict=True)
        }

    def draw(self, split: Split, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw scene `index` of a split: image, uint8 (H, W, 3), and mask, uint8 (H, W)."""
        rng = np.random.default_rng([self.seed, self.classes, SPLITS.index(split), index])
        if self.variant == "multiclass":  # a decoy there has no shape of a class
            return draw_scene(rng, self.size, CLASSES, DECOYS)
        image, kind = draw_scene(rng, self.size)
        return image, (kind > 0).astype(np.uint8)

    def dataset(self, split: Split) -> SceneDataset:
        """Return one split; see `Source.dataset`."""
        return self._datasets[split]

    def export(self, folder: str | Path) -> None:
        """Write all scenes as folder pairs that `FolderPairs` reads back, pixel for pixel.

        Args:
            folder: Made if it is not there; gets `images/`, `masks/` and a list file per split that has scenes.
        """
        folder = Path(folder)
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for split, dataset in self._datasets.items():
            if not len(dataset):
                continue
            names = []
            for index in range(len(dataset)):
                image, mask = self.draw(split, index)
                names.append(f"{split}_{index:04d}")
                Image.fromarray(image).save(folder / "images" / f"{names[-1]}.png")
                Image.fromarray(mask * 255 if self.classes == 1 else mask).save(folder / "masks" / f"{names[-1]}.png")
            (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
