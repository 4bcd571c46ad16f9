"""Data sets on disk: an image folder and a mask folder, matched by file name."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialseg.data.checking import check_pairs
from spatialseg.data.files import Pair, few, find_root, list_images, stem
from spatialseg.data.source import SPLITS, DataError, Source, Split, raise_problems

if TYPE_CHECKING:
    from spatialseg.data.samples import PairDataset


class FolderPairs(Source):
    """Images and masks in two folders, matched by file name without suffix.

    The splits come from, in this order:

    1. `splits`, if given: a mapping of split to a list file (one name a line) or to a subfolder that holds `images`
       and `masks`; or one folder that holds `train.txt`, `val.txt`, `test.txt`. Paths are relative to `root`.
       Two splits may share a list (no test set: let `test` name the list of `val`), but not with `train`.
    2. subfolders: `root/train/images`, `root/val/images`, ...
    3. list files `root/train.txt`, ...; files that no list names are left out
    4. `fractions` of all pairs, drawn by a seeded hash of the name, so that files added later move few others.

    Masks: binary (`classes=1`) are foreground where > 127, or where 1 if the file's values are only 0 and 1; otherwise
    the value is the class and 255 is ignored.

    Args:
        root: The data set's folder. A relative one is looked for here, under `$SPATIALSEG_DATA`, `data/` and
            `../shared/data`.
        images: Name of the folder of images, below `root` or below the split's folder.
        masks: Name of the folder of masks.
        splits: See above.
        fractions: Shares of train, val and test, if nothing else splits the data; sum 1.
        seed: Seed of that draw.
        classes: Number of classes; 1 means binary.
        class_names: One name per class.
        name: Short name of the data set; the folder's own by default.
    """

    def __init__(
        self,
        root: str | Path,
        images: str = "images",
        masks: str = "masks",
        splits: str | dict[str, str] | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
        seed: int = 0,
        classes: int = 1,
        class_names: list[str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or Path(root).expanduser().absolute().name, classes, class_names)
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"fractions must be three shares that sum to 1, got {tuple(fractions)}")
        if isinstance(splits, dict) and (unknown := set(splits) - set(SPLITS)):
            raise ValueError(f"splits are train, val and test, got {', '.join(sorted(unknown))}")
        self.root = root
        self.images = images
        self.masks = masks
        self.splits = splits
        self.fractions = fractions
        self.seed = seed

    def dataset(self, split: Split) -> PairDataset:
        """Return one split; see `Source.dataset`."""
        from spatialseg.data.samples import PairDataset  # PyTorch, which whoever only wants the files does not need

        return PairDataset(self.pairs(split), self.classes)

    def pairs(self, split: Split) -> list[Pair]:
        """Return the files of one split.

        Raises:
            DataError: There is no such split, or the folders or lists are wrong.
        """
        pairs, problems = self._scan
        raise_problems(self._title, problems)
        if not pairs.get(split):
            known = ", ".join(f"{key} ({len(value)})" for key, value in pairs.items())
            raise DataError(f"{self._title}: no {split} split; there is {known}. Name one in `splits`")
        return pairs[split]

    def check(self) -> None:
        """Read every image and mask once (remembered from one start to the next); see `Source.check`."""
        pairs, problems = self._scan
        if not problems:
            problems = check_pairs(pairs, self.classes, self.name)
        raise_problems(self._title, problems)

    @property
    def _title(self) -> str:
        return f"data set {self.name!r} in {find_root(self.root)}"

    @cached_property
    def _scan(self) -> tuple[dict[Split, list[Pair]], list[str]]:
        """Return the pairs of each split and the problems met on the way."""
        root = find_root(self.root)
        named = self._named_splits(root)
        problems: list[str] = []

        @cache
        def pairs_in(folder: Path, listed: bool) -> list[Pair]:
            return self._pair_up(folder, listed, problems)

        if not named:
            return self._by_fractions(pairs_in(root, False), problems), problems
        splits: dict[Split, list[Pair]] = {}
        for split, place in named.items():
            if place.is_dir():
                splits[split] = pairs_in(place, False)
                continue
            try:
                names = [stem(line.strip()) for line in place.read_text("utf-8-sig").splitlines() if line.strip()]
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"the list of {split}, {place}, cannot be read ({error})")
                continue
            known = {pair.name: pair for pair in pairs_in(root, True)}
            if known:
                if lost := [name for name in names if name not in known]:
                    problems.append(f"{place.name} names pairs that do not exist, {few(lost)}")
                if twice := [name for name, count in Counter(names).items() if count > 1]:
                    problems.append(f"{place.name} names some more than once, {few(twice)}")
                if not names:
                    problems.append(f"{place.name} names nothing")
            splits[split] = [known[name] for name in names if name in known]
        for other in ("val", "test"):
            if shared := sorted({*splits.get("train", ())} & {*splits.get(other, ())}):
                names = [pair.name for pair in shared]
                problems.append(f"in both train and {other}, which would flatter the scores, {few(names)}")
        return splits, list(dict.fromkeys(problems))  # two splits may name one folder or list

    def _named_splits(self, root: Path) -> dict[Split, Path]:
        """Return the list file or the subfolder of each split; empty if fractions are to decide."""
        if isinstance(self.splits, dict):
            return {split: root / self.splits[split] for split in SPLITS if split in self.splits}
        if self.splits is None:
            folders = {split: root / split for split in SPLITS if (root / split / self.images).is_dir()}
            if folders:
                return folders
        folder = root / self.splits if self.splits else root
        lists = {split: folder / f"{split}.txt" for split in SPLITS if (folder / f"{split}.txt").is_file()}
        if self.splits and not lists:
            raise DataError(f"no train.txt, val.txt or test.txt in {folder}")
        return lists

    def _pair_up(self, folder: Path, listed: bool, problems: list[str]) -> list[Pair]:
        """Match the images and masks of one folder; if list files choose among them, the unmatched are no matter."""
        missing = [part for part in (folder / self.images, folder / self.masks) if not part.is_dir()]
        if missing:
            there = ", ".join(sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())[:10])
            problems += [f"no folder {part}; {folder} holds: {there or 'nothing'}" for part in missing]
            return []
        images, image_problems = list_images(folder / self.images)
        masks, mask_problems = list_images(folder / self.masks)
        problems += image_problems + mask_problems
        both = [name for name in images if name in masks]
        if not both:
            problems.append(
                f"no pairs: {len(images)} images in {folder / self.images} and {len(masks)} masks in "
                f"{folder / self.masks}, but none share a name"
            )
        elif not listed:
            if lone := [name for name in images if name not in masks]:
                problems.append(f"images without a mask in {folder / self.masks}, {few(lone)}")
            if lone := [name for name in masks if name not in images]:
                problems.append(f"masks without an image in {folder / self.images}, {few(lone)}")
        return [Pair(name, images[name], masks[name]) for name in both]

    def _by_fractions(self, pairs: list[Pair], problems: list[str]) -> dict[Split, list[Pair]]:
        shuffled = sorted(pairs, key=lambda pair: hashlib.blake2b(f"{self.seed} {pair.name}".encode()).digest())
        _, val, test = (max(1, round(share * len(pairs))) if share else 0 for share in self.fractions)
        train = len(pairs) - val - test
        if pairs and train < 1:
            problems.append(f"{len(pairs)} pairs are too few to split into train, val and test; name them in `splits`")
        cuts = {"train": (0, train), "val": (train, train + val), "test": (train + val, len(pairs))}
        return {split: sorted(shuffled[slice(*cuts[split])]) for split in SPLITS if cuts[split][0] < cuts[split][1]}


VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VOCLayout(FolderPairs):
    """The layout of PASCAL VOC: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/*.txt`.

    Masks are palette PNGs of class indices; the border of objects, 255, is ignored.

    The masks of VOC's own test split are not public, so `test` is the list of `val` unless told otherwise: scores
    on it are validation scores, and the best epoch was chosen on the same images.

    Args:
        root: The folder that holds `JPEGImages`, such as `VOCdevkit/VOC2012`; looked for as in `FolderPairs`.
        train: Name of the list of training images (`trainaug` with `masks="SegmentationClassAug"`, for instance).
        val: Name of the list of validation images.
        test: Name of the list of test images.
        masks: Name of the folder of masks.
        classes: Number of classes, with the background.
        class_names: One name per class; the 21 of VOC by default.
        name: Short name of the data set; the folder's own by default.
    """

    def __init__(
        self,
        root: str | Path,
        train: str = "train",
        val: str = "val",
        test: str = "val",
        masks: str = "SegmentationClass",
        classes: int = 21,
        class_names: list[str] | None = None,
        name: str | None = None,
    ) -> None:
        if class_names is None and classes == len(VOC_CLASSES):
            class_names = list(VOC_CLASSES)
        lists: dict[str, Any] = {"train": train, "val": val, "test": test}
        splits = {split: f"ImageSets/Segmentation/{file}.txt" for split, file in lists.items()}
        super().__init__(root, "JPEGImages", masks, splits, classes=classes, class_names=class_names, name=name)
