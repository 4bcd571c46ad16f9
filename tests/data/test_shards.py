"""Shards hold what the folders held."""

import json

import pytest
import torch

from spatialseg.data import DataError, FolderPairs, SegmentationDataModule, Shards, write_shards

litdata = pytest.importorskip("litdata")


@pytest.fixture
def shards(tmp_path, make_pairs):
    source = FolderPairs(make_pairs(tmp_path / "pairs", 20), fractions=(0.6, 0.2, 0.2))
    write_shards(source, tmp_path / "shards")
    return source, Shards(tmp_path / "shards")


def test_batches_are_those_of_the_folders(shards):
    def batches(source, workers):
        module = SegmentationDataModule(source, size=32, batch_size=4, num_workers=workers)
        return [*module.train_dataloader(), *module.val_dataloader()]

    source, stored = shards
    expected = batches(source, 0)
    for workers in (0, 2):
        for one, other in zip(expected, batches(stored, workers), strict=True):
            assert one["name"] == other["name"] and torch.equal(one["image"], other["image"])
            assert all(torch.equal(a, b) for a, b in zip(one["mask"], other["mask"], strict=True))


def test_a_split_that_is_not_there_is_left_out(tmp_path, make_pairs):
    folder = make_pairs(tmp_path / "pairs", 4)
    for split, name in (("train", "a00"), ("val", "a01")):
        (folder / f"{split}.txt").write_text(name)
    write_shards(FolderPairs(folder), tmp_path / "shards")
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["train", "val"]
    assert len(Shards(tmp_path / "shards").dataset("val")) == 1


def test_problems_are_named(shards, tmp_path):
    source, stored = shards
    with pytest.raises(DataError, match="train exists; shards are written to a new folder"):
        write_shards(source, tmp_path / "shards")
    with pytest.raises(IndexError, match="pair 12 of 12"):
        stored.dataset("train")[12]
    folder = tmp_path / "shards" / "val"
    (shard,) = folder.glob("*.bin")
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match=f"{shard.name} is cut short"):
        Shards(tmp_path / "shards").dataset("val")
    shard.unlink()
    with pytest.raises(DataError, match="holds no whole set of shards"):
        Shards(tmp_path / "shards").dataset("val")
    (folder / "index.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match=r"index\.json is no index of LitData"):
        Shards(tmp_path / "shards").dataset("val")
