"""Batches: augmentation keeps image and mask together, evaluation resizes and pads, order is reproducible."""

import itertools
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from spatialseg.data import DataError, FolderPairs, ProceduralScenes, SegmentationDataModule
from spatialseg.data.source import SPLITS
from spatialseg.functional import distance_to_foreground

pytestmark = pytest.mark.filterwarnings("ignore:.*instantiate_classes")  # newer jsonargparse calls it instantiate
OVERLAYS = sorted((Path(__file__).parents[2] / "experiments" / "data").glob("*.yaml"))


def scenes(**options):
    return ProceduralScenes(train=10, val=3, test=4, size=64, **options)


class TestTraining:
    def test_batches(self):
        module = SegmentationDataModule(scenes(), size=32, batch_size=4)
        module.setup("fit")
        loader = module.train_dataloader()
        batches = list(loader)
        assert len(batches) == len(loader) == 2  # the last two of ten are left out
        for batch in batches:
            assert batch["image"].shape == (4, 3, 32, 32) and batch["image"].dtype == torch.uint8
            assert batch["mask"].shape == (4, 32, 32) and batch["mask"].dtype == torch.int64
            assert set(batch["mask"].unique().tolist()) <= {0, 1}
            assert type(batch["image"]) is type(batch["mask"]) is torch.Tensor
            assert all(name.startswith("train_") for name in batch["name"])
        assert len({name for batch in batches for name in batch["name"]}) == 8

    def test_distances_are_those_of_the_augmented_masks(self):
        options = {"size": 32, "batch_size": 4}
        plain, with_distances = (
            next(iter(SegmentationDataModule(scenes(), **options, distances=distances).train_dataloader()))
            for distances in (False, True)
        )
        assert torch.equal(plain["mask"], with_distances["mask"]) and "distance" not in plain
        assert torch.equal(with_distances["distance"], distance_to_foreground(plain["mask"] == 1))

    def test_a_batch_larger_than_the_set(self):
        (batch,) = SegmentationDataModule(scenes(), size=32, batch_size=16).train_dataloader()
        assert len(batch["image"]) == 10

    def test_size_must_fit_the_stride(self):
        with pytest.raises(ValueError, match="multiple of the stride 32, got 100; try 128"):
            SegmentationDataModule(size=100)


class TestReproducibility:
    @staticmethod
    def epochs(workers=0, seed=0, count=2):
        torch.manual_seed(seed + 17)  # the global state must not matter
        loader = SegmentationDataModule(
            scenes(), size=32, batch_size=5, num_workers=workers, seed=seed
        ).train_dataloader()
        return [list(loader) for _ in range(count)]

    @staticmethod
    def same(one, other):
        return all(
            a["name"] == b["name"] and (a["image"] == b["image"]).all() and (a["mask"] == b["mask"]).all()
            for a, b in zip(one, other, strict=True)
        )

    def test_neither_workers_nor_global_state_matter(self):
        first, second = self.epochs()
        torch.manual_seed(99)
        again = self.epochs(workers=2)
        assert self.same(first, again[0]) and self.same(second, again[1])
        assert not self.same(first, second)
        assert not self.same(first, self.epochs(seed=1)[0])

    def test_the_global_state_is_left_alone(self):
        loader = SegmentationDataModule(scenes(), size=32, batch_size=5).train_dataloader()
        state = torch.get_rng_state()
        next(iter(loader))
        assert (torch.get_rng_state() == state).all()


class TestEvaluation:
    def test_no_resampling_at_native_size(self):
        source = scenes()
        module = SegmentationDataModule(source, size=32, eval_size=64, keep_aspect=True, batch_size=2)
        batch = next(iter(module.val_dataloader()))
        for index, (height, width) in enumerate(batch["size"]):
            assert (batch["image"][index, :, :height, :width] == source.dataset("val")[index]["image"]).all()

    def test_splits_and_batch_sizes(self):
        module = SegmentationDataModule(scenes(), size=32, batch_size=2, eval_batch_size=3)
        assert [batch["name"] for batch in module.val_dataloader()] == [["val_0000", "val_0001", "val_0002"]]
        assert [len(batch["image"]) for batch in module.test_dataloader()] == [3, 1]
        assert [len(batch["mask"]) for batch in module.test_dataloader()] == [3, 1]
        assert max(max(batch["size"][0]) for batch in module.val_dataloader()) == 32

    def test_processes_share_the_images_out(self):
        module = SegmentationDataModule(ProceduralScenes(train=1, val=1, test=7, size=32), size=32, eval_batch_size=2)
        names = []
        for rank in range(2):
            module.trainer = Mock(global_rank=rank, world_size=2)
            names.append([name for batch in module.test_dataloader() for name in batch["name"]])
        assert names == [[f"test_{index:04d}" for index in range(rank, 7, 2)] for rank in range(2)]

    def test_workers_deliver_the_same(self):
        def batches(workers):
            return list(SegmentationDataModule(scenes(), size=32, batch_size=2, num_workers=workers).test_dataloader())

        for one, other in zip(batches(0), batches(1), strict=True):
            assert (one["image"] == other["image"]).all() and one["size"] == other["size"]
            assert all((a == b).all() for a, b in zip(one["mask"], other["mask"], strict=True))


class TestCache:
    @staticmethod
    def loaders(folder, **options):
        module = SegmentationDataModule(FolderPairs(folder), size=32, batch_size=3, num_workers=0, **options)
        return module, module.train_dataloader(), module.val_dataloader()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_kept_images_are_those_on_disk(self, tmp_path, make_pairs, workers):
        folder = make_pairs(tmp_path, 12)
        plain = [list(loader) for loader in self.loaders(folder)[1:] for _ in range(2)]
        module, *kept = self.loaders(folder, cache_gb=1)
        module.num_workers = workers
        kept = [module.train_dataloader(), module.val_dataloader()]
        (folder / "images").rename(folder / "gone")  # nothing is read any more
        for expected, batches in zip(plain, [list(loader) for loader in kept for _ in range(2)], strict=True):
            for one, other in zip(expected, batches, strict=True):
                assert one["name"] == other["name"] and torch.equal(one["image"], other["image"])
                assert all(torch.equal(*masks) for masks in zip(one["mask"], other["mask"], strict=True))

    def test_no_more_is_kept_than_was_allowed(self, tmp_path, make_pairs):
        folder = make_pairs(tmp_path, 12)
        pair = 12 * 16 * 4  # an image and its mask
        module, train, _ = self.loaders(folder, cache_gb=3.5 * pair / 1e9)
        kept = train.dataset.samples
        assert kept.full and len(kept.kept) == 3 and kept.bytes == 3 * pair and len(kept) == 9
        assert module.val_dataloader().dataset.samples.kept == {}
        assert module.train_dataloader().dataset.samples is kept  # decoded once
        assert len(list(train)) == 3


class TestSetup:
    def test_what_the_source_is_can_be_read_before_setup(self):
        module = SegmentationDataModule(ProceduralScenes("multiclass"))
        assert (module.classes, module.name, module.class_names[0]) == (7, "kinds", "background")
        assert SegmentationDataModule().name == "shapes"

    def test_the_data_are_checked_once_before_the_first_step(self, tmp_path, make_pairs):
        folder = make_pairs(tmp_path)
        (folder / "images/a03.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"a03\.png: the file is empty"):
            SegmentationDataModule(FolderPairs(folder)).setup("fit")

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            *itertools.product(("size", "eval_size", "batch_size", "eval_batch_size", "stride"), (0, -64)),
            *itertools.product(("num_workers", "seed", "color_jitter", "cache_gb"), (-1,)),
            ("color_jitter", float("nan")),
            *itertools.product(("crop_scale",), ((0, 1), (0.5, 1.5), (0.9, 0.5), (-1, 1))),
        ],
    )
    def test_arguments_out_of_range(self, argument, value):
        with pytest.raises(ValueError, match=rf"^{argument} must be .*, got {re.escape(str(value))}"):
            SegmentationDataModule(**{argument: value})

    @pytest.mark.parametrize("split", ["val", "test"])
    def test_an_empty_split_is_found_before_training(self, split, tmp_path, make_pairs):
        module = SegmentationDataModule(ProceduralScenes(train=2, **{"val": 1, "test": 1, split: 0}))
        for stage in ("fit", "validate") if split == "val" else ("test",):
            with pytest.raises(DataError, match=f"the {split} split is empty"):
                module.setup(stage)
        module.setup("test" if split == "val" else "fit")
        folder = make_pairs(tmp_path)
        for part in {"train", "val", "test"} - {split}:
            (folder / f"{part}.txt").write_text(f"a0{len(part)}")
        with pytest.raises(DataError, match=f"no {split} split"):
            SegmentationDataModule(FolderPairs(folder)).setup("test" if split == "test" else "fit")

    def test_workers_by_default(self, tmp_path):
        assert SegmentationDataModule().num_workers == 0
        assert 0 <= SegmentationDataModule(FolderPairs(tmp_path)).num_workers <= 8

    @pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
    def test_overlays(self, overlay):
        """Every overlay is understood, says how to use it, and holds the data, how long to train and which encoder."""
        text = overlay.read_text()
        experiment = "semantic_lal" if overlay.stem in ("camvid", "kinds") else "saliency_wfb"
        assert f"# make train EXP={experiment} DATA={overlay.stem}" in text
        settings = yaml.safe_load(text)
        assert settings.pop("trainer", {}).keys() <= {"max_epochs"}
        assert settings.pop("model", {}).keys() <= {"encoder"}
        assert list(settings) == ["data"]
        parser = ArgumentParser()
        parser.add_class_arguments(SegmentationDataModule, "data")
        module = parser.instantiate_classes(parser.parse_object(settings)).data
        assert module.name == overlay.stem and len(module.class_names) == module.classes

    @pytest.mark.parametrize("name", ["ecssd", "person", "camvid"])
    def test_overlays_on_their_data(self, shared_data, monkeypatch, name):
        monkeypatch.setenv("SPATIALSEG_DATA", str(shared_data))
        parser = ArgumentParser()
        parser.add_class_arguments(SegmentationDataModule, "data")
        (overlay,) = [path for path in OVERLAYS if path.stem == name]
        data = yaml.safe_load(overlay.read_text())["data"]
        module = parser.instantiate_classes(parser.parse_object({"data": data})).data
        assert all(len(module.source.dataset(split)) >= 99 for split in SPLITS)
        batch = next(iter(module.train_dataloader()))
        assert batch["image"].shape[1:] == (3, module.size, module.size)
        assert set(batch["mask"].unique().tolist()) <= {*range(max(2, module.classes)), 255}
