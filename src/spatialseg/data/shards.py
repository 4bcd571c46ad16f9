"""Data sets of millions of images: few large files of LitData instead of one file each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from spatialseg.data.files import Stored, find_root, read_image, read_mask
from spatialseg.data.samples import make_sample
from spatialseg.data.source import SPLITS, DataError, Sample, Source, Split
from spatialseg.extras import import_extra

if TYPE_CHECKING:
    from spatialseg.data.folders import FolderPairs

PARTS = ("image", "mask")


class ShardDataset(Dataset[Sample]):
    """The pairs of one folder of shards; any can be asked for at any time, by any loader process.

    Args:
        folder: What `write_shards` made of a split.
        classes: Number of classes; 1 means binary.

    Raises:
        DataError: The folder holds no shards, or one of them is missing or cut short.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self.folder = folder
        self.classes = classes
        try:
            shards = json.loads((folder / "index.json").read_text())["chunks"]
            self.length: int = sum(shard["chunk_size"] for shard in shards)
            for shard in shards:
                if (folder / shard["filename"]).stat().st_size < shard["chunk_bytes"]:
                    raise DataError(f"{folder / shard['filename']} is cut short; copy it again")
        except OSError as error:
            raise DataError(f"{folder} holds no whole set of shards: {error}; write_shards makes them") from error
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(f"{folder / 'index.json'} is no index of LitData; write the shards anew") from error

    def __len__(self) -> int:
        return self.length

    @cached_property
    def _stored(self) -> Any:  # noqa: ANN401 - LitData's
        return import_extra("litdata").StreamingDataset(str(self.folder), shuffle=False)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        pair = self._stored[index]
        image, mask = (Stored(f"{pair[part]} in {self.folder}", bytes(pair[f"{part}_file"])) for part in PARTS)
        return make_sample(pair["name"], read_image(image), read_mask(mask, self.classes))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_stored"}


class Shards(Source):
    """Images and masks in shards: `root/train/index.json` and the shards beside it, the same for `val` and `test`.

    The shards are local, of LitData's format, and `write_shards` makes them. Training draws from all of them in any
    order; starting takes no longer for more images, for they are checked when they are written, not each time.

    Args:
        root: The data set's folder; looked for as in `FolderPairs`.
        classes: Number of classes; 1 means binary.
        class_names: One name per class.
        name: Short name of the data set; the folder's own by default.
    """

    def __init__(
        self, root: str | Path, classes: int = 1, class_names: Sequence[str] | None = None, name: str | None = None
    ) -> None:
        super().__init__(name or Path(root).expanduser().absolute().name, classes, class_names)
        self.root = root
        self._splits: dict[Split, ShardDataset] = {}

    def dataset(self, split: Split) -> ShardDataset:
        """Return one split; see `Source.dataset`."""
        if split not in self._splits:
            self._splits[split] = ShardDataset(find_root(self.root) / split, self.classes)
        return self._splits[split]


def write_shards(source: FolderPairs, root: str | Path, megabytes: int = 64) -> None:
    """Check all pairs of a source, then copy their files, byte by byte, into shards that `Shards` reads.

    Args:
        source: The pairs.
        root: A new folder; it gets a subfolder per split that there is.
        megabytes: Size of a shard, about.

    Raises:
        DataError: The pairs have problems, or a split is there already.
        ModuleNotFoundError: LitData is not installed; says which extra brings it.
    """
    make = import_extra("litdata.streaming.writer").BinaryWriter
    source.check()
    pairs = {}
    for split in SPLITS:
        if (folder := Path(root, split)).exists():
            raise DataError(f"{folder} exists; shards are written to a new folder")
        with suppress(DataError):  # after the check only where there is no such split
            pairs[split] = source.pairs(split)
    for split, of_split in pairs.items():
        writer = make(str(Path(root, split)), chunk_bytes=megabytes * 1_000_000)
        for index, pair in enumerate(of_split):
            paths = {part: Path(getattr(pair, part)) for part in PARTS}
            names = {part: path.name for part, path in paths.items()}
            files = {f"{part}_file": path.read_bytes() for part, path in paths.items()}
            writer[index] = {"name": pair.name, **names, **files}
        writer.done()
        writer.merge()
