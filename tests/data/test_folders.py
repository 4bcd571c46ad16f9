"""Folders of images and masks: how they are split, and what is wrong with them."""

import itertools
import os
import re
import shutil
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spatialseg.data import DataError, FolderPairs, VOCLayout, checking
from spatialseg.data.files import read_image
from spatialseg.data.source import SPLITS, raise_problems


def names(source, split):
    return [pair.name for pair in source.dataset(split).pairs]


def problems(source):
    """Return the message of a check that must fail."""
    with pytest.raises(DataError) as error:
        source.check()
    return str(error.value)


class TestSplits:
    def test_samples_are_what_lies_on_disk(self, tmp_path, make_pairs):
        source = FolderPairs(make_pairs(tmp_path / "birds"))
        assert (source.name, source.classes, source.class_names) == ("birds", 1, ["foreground"])
        sample = source.dataset("train")[0]
        image = np.asarray(Image.open(tmp_path / "birds/images" / f"{sample['name']}.png"))
        mask = np.asarray(Image.open(tmp_path / "birds/masks" / f"{sample['name']}.png"))
        assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), image)
        np.testing.assert_array_equal(sample["mask"], mask > 127)

    @settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        count=st.integers(5, 40),
        seed=st.integers(0, 5),
        fractions=st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0)]),
    )
    def test_fractions_split_all_and_share_none(self, tmp_path, make_pairs, count, seed, fractions):
        folder = tmp_path / f"set{count}"
        if not folder.exists():
            make_pairs(folder, count)
        source = FolderPairs(folder, fractions=fractions, seed=seed)
        parts = [names(source, split) if share else [] for split, share in zip(SPLITS, fractions, strict=True)]
        assert sorted(itertools.chain(*parts)) == [f"a{index:02d}" for index in range(count)]
        assert all(abs(len(part) - share * count) <= 1.5 for part, share in zip(parts, fractions, strict=True))
        again = FolderPairs(folder, fractions=fractions, seed=seed)
        assert parts[0] == names(again, "train")

    def test_the_seed_of_the_draw_matters_and_new_files_move_few(self, tmp_path, make_pairs):
        folder = make_pairs(tmp_path, 40)
        before = names(FolderPairs(folder), "train")
        assert before != names(FolderPairs(folder, seed=1), "train")
        make_pairs(tmp_path, 1, prefix="new")
        assert len(set(before) - set(names(FolderPairs(folder), "train"))) <= 2

    def test_list_files_are_found(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        (tmp_path / "train.txt").write_bytes("\ufeffa01\r\n\r\na00.png \r\n".encode())  # as Windows tools write them
        (tmp_path / "val.txt").write_text("a02")
        source = FolderPairs(tmp_path)
        assert names(source, "train") == ["a01", "a00"] and names(source, "val") == ["a02"]
        source.check()
        with pytest.raises(DataError, match=r"no test split; there is train \(2\), val \(1\)"):
            source.dataset("test")

    def test_lists_may_leave_out_broken_files(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        for split in SPLITS:
            (tmp_path / f"{split}.txt").write_text({"train": "a00", "val": "a01", "test": "a02"}[split])
        (tmp_path / "images/a05.png").unlink()
        (tmp_path / "images/a06.png").write_text("")
        FolderPairs(tmp_path).check()

    def test_lists_in_a_folder_of_their_own(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        (tmp_path / "fold1").mkdir()
        (tmp_path / "fold1/train.txt").write_text("a04")
        assert names(FolderPairs(tmp_path, splits="fold1"), "train") == ["a04"]
        assert "no train.txt, val.txt or test.txt in" in problems(FolderPairs(tmp_path, splits="fold2"))

    def test_named_lists_may_be_shared_by_val_and_test(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        (tmp_path / "a.txt").write_text("a00\na01")
        (tmp_path / "b.txt").write_text("a02")
        source = FolderPairs(tmp_path, splits={"train": "a.txt", "val": "b.txt", "test": "b.txt"})
        source.check()
        assert names(source, "val") == names(source, "test") == ["a02"]

    def test_subfolders(self, tmp_path, make_pairs):
        make_pairs(tmp_path / "train", 3)
        make_pairs(tmp_path / "val", 2)
        source = FolderPairs(tmp_path)
        source.check()
        assert [len(source.dataset(split)) for split in ("train", "val")] == [3, 2]
        (tmp_path / "val").rename(tmp_path / "valid")
        assert len(FolderPairs(tmp_path, splits={"val": "valid"}).dataset("val")) == 2

    def test_nested_images(self, tmp_path, make_pairs):
        make_pairs(tmp_path, 6)
        for part in ("images", "masks"):
            (tmp_path / part / "deep").mkdir()
            (tmp_path / part / "a00.png").rename(tmp_path / part / "deep/z.png")
        source = FolderPairs(tmp_path)
        assert any("deep/z" in names(source, split) for split in SPLITS)

    def test_wrong_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="sum to 1"):
            FolderPairs(tmp_path, fractions=(0.5, 0.5, 0.5))
        with pytest.raises(ValueError, match="got tset"):
            FolderPairs(tmp_path, splits={"tset": "a.txt"})
        with pytest.raises(ValueError, match="3 classes but 2 class_names"):
            FolderPairs(tmp_path, classes=3, class_names=["a", "b"])
        with pytest.raises(ValueError, match="classes must be"):
            FolderPairs(tmp_path, classes=0)


class TestProblems:
    def test_missing_folders(self, tmp_path, make_pairs):
        assert "no folder" in problems(FolderPairs(tmp_path / "nothing"))
        (tmp_path / "set/pictures").mkdir(parents=True)
        message = problems(FolderPairs(tmp_path / "set"))
        assert f"no folder {tmp_path}/set/images; {tmp_path}/set holds: pictures/" in message
        assert f"no folder {tmp_path}/set/masks" in message

    def test_no_pairs(self, tmp_path, make_pairs):
        make_pairs(tmp_path, 3)
        for mask in (tmp_path / "masks").iterdir():
            mask.rename(mask.with_name(f"mask_{mask.name}"))
        assert "no pairs: 3 images in" in problems(FolderPairs(tmp_path))
        shutil.rmtree(tmp_path / "images")
        (tmp_path / "images").mkdir()
        assert "no pairs: 0 images in" in problems(FolderPairs(tmp_path))

    def test_too_few_pairs(self, tmp_path, make_pairs):
        assert "2 pairs are too few to split" in problems(FolderPairs(make_pairs(tmp_path, 2)))

    def test_unmatched_files_are_counted_and_the_first_five_named(self, tmp_path, make_pairs):
        make_pairs(tmp_path, 20)
        for index in range(7):
            (tmp_path / f"masks/a{index:02d}.png").unlink()
        (tmp_path / "images/a19.png").unlink()
        message = problems(FolderPairs(tmp_path))
        assert re.search(r"images without a mask in \S+/masks, 7: a00, a01, a02, a03, a04, \.\.\.", message)
        assert re.search(r"masks without an image in \S+/images, 1: a19\n?$", message, re.M)

    def test_lists(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        (tmp_path / "train.txt").write_text("a00\na01\nb00\na01\n")
        (tmp_path / "val.txt").write_text("a01\n")
        (tmp_path / "test.txt").write_text("\n")
        message = problems(FolderPairs(tmp_path))
        assert "train.txt names pairs that do not exist, 1: b00" in message
        assert "train.txt names some more than once, 1: a01" in message
        assert "in both train and val, which would flatter the scores, 1: a01" in message
        assert "test.txt names nothing" in message
        assert "4 problems" in message
        assert "list of val" in problems(FolderPairs(tmp_path, splits={"val": "nosuch.txt"}))

    def test_everything_wrong_is_in_one_error(self, tmp_path, make_pairs):
        make_pairs(tmp_path, 10, values=(0, 1, 2))
        Image.new("RGB", (16, 13)).save(tmp_path / "images/a00.png")
        Image.fromarray(np.full((12, 16), 7, np.uint8)).save(tmp_path / "masks/a01.png")
        (tmp_path / "images/a02.png").write_bytes(b"")
        whole = (tmp_path / "images/a03.png").read_bytes()
        (tmp_path / "images/a03.png").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "masks/a04.png").write_text("no image")
        Image.new("RGBA", (16, 12)).save(tmp_path / "masks/a05.png")
        message = problems(FolderPairs(tmp_path, classes=3))
        assert message.startswith(f"data set '{tmp_path.name}' in {tmp_path}: 6 problems\n")
        expected = [
            "a00.png: the mask is 16×12 (width × height), its image",
            "a01.png: value 7 outside the 3 classes",
            "a02.png: the file is empty",
            "a03.png: cannot be read",
            "a04.png: cannot be read",
            "a05.png: mode RGBA",
        ]
        for line, words in zip(message.splitlines()[1:], expected, strict=True):
            assert words in line

    def test_only_the_first_twenty_are_spelled_out(self):
        with pytest.raises(DataError) as error:
            raise_problems("set", [f"problem {index}" for index in range(25)])
        lines = str(error.value).splitlines()
        assert lines[0] == "set: 25 problems" and len(lines) == 22 and lines[-1].endswith("and 5 more")

    def test_rotated_image_with_upright_mask_is_explained(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        image = Image.open(tmp_path / "images/a00.png")
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "images/a00.png", exif=exif)
        assert "EXIF tag turns it by 90°" in problems(FolderPairs(tmp_path))
        Image.open(tmp_path / "masks/a00.png").rotate(-90, expand=True).save(tmp_path / "masks/a00.png")
        FolderPairs(tmp_path).check()

    def test_binary_masks_taken_for_classes(self, tmp_path, make_pairs):
        assert "if binary, set `classes: 1`" in problems(FolderPairs(make_pairs(tmp_path), classes=2))

    @pytest.mark.parametrize("split", SPLITS)
    def test_a_split_of_empty_masks(self, tmp_path, make_pairs, split):
        for part in SPLITS:
            make_pairs(tmp_path / part, 3, values=(0,) if part == split else (0, 255))
        assert f"every mask of {split} is empty" in problems(FolderPairs(tmp_path))
        Image.new("L", (16, 12), 255).save(tmp_path / split / "masks/a01.png")
        FolderPairs(tmp_path).check()

    @pytest.mark.parametrize("other", ["val", "test"])
    def test_the_same_image_under_another_name(self, tmp_path, make_pairs, other, cache):
        """Whatever the file: what counts is what is decoded."""
        for part in SPLITS:
            make_pairs(tmp_path / part, 4)
        twin = tmp_path / other / "images/a02.png"
        shutil.copy(twin, tmp_path / "train/images/a01.png")
        with Image.open(twin) as image:
            image.save(tmp_path / "train/images/a03.bmp")
        (tmp_path / "train/images/a03.png").unlink()
        for _ in range(2):  # the second time from memory
            message = problems(FolderPairs(tmp_path))
            assert f"the same images in train and {other}, which would flatter the scores, 2: " in message
            for name in ("a01.png", "a03.bmp"):
                assert f"{tmp_path}/train/images/{name} = {twin}" in message
            assert len(list(cache.rglob("*/*"))) == 1

    def test_the_same_image_twice_in_one_split_is_no_matter(self, tmp_path, make_pairs):
        for part in SPLITS:
            make_pairs(tmp_path / part, 4)
        shutil.copy(tmp_path / "train/images/a02.png", tmp_path / "train/images/a01.png")
        shutil.copy(tmp_path / "val/images/a02.png", tmp_path / "test/images/a01.png")
        FolderPairs(tmp_path).check()

    def test_one_folder_for_two_splits(self, tmp_path, make_pairs):
        make_pairs(tmp_path / "all", 4)
        message = problems(FolderPairs(tmp_path, splits={"train": "all", "val": "all"}))
        assert "in both train and val, which would flatter the scores, 4: a00" in message

    def test_images_of_other_formats_are_named(self, tmp_path, make_pairs):
        make_pairs(tmp_path)
        Image.new("L", (16, 12)).save(tmp_path / "images/film.gif")
        assert "holds files of a format that is not read, 1: film.gif" in problems(FolderPairs(tmp_path))


class TestCache:
    def test_a_passed_check_is_remembered_outside_the_data(self, tmp_path, make_pairs, cache, monkeypatch):
        folder = make_pairs(tmp_path / "set")
        before = sorted(folder.rglob("*"))
        FolderPairs(folder).check()
        assert sorted(folder.rglob("*")) == before and len(list(cache.rglob("*/*"))) == 1

        read = []
        inspect = checking.inspect_pair
        monkeypatch.setattr(checking, "inspect_pair", lambda *pair: read.append(pair) or inspect(*pair))
        FolderPairs(folder).check()
        assert not read
        for record in cache.rglob("*/*"):
            record.write_text('{"same": [')  # cut short
        FolderPairs(folder).check()
        assert len(read) == 10
        read.clear()
        FolderPairs(folder, seed=3).check()  # other splits of the same files
        assert not read
        os.utime(folder / "images/a00.png", ns=(0, time.time_ns()))
        FolderPairs(folder).check()
        assert len(read) == 10

    def test_a_change_of_content_or_classes_is_seen(self, tmp_path, make_pairs):
        folder = make_pairs(tmp_path / "set", values=(0, 1, 2))
        FolderPairs(folder, classes=3).check()
        assert "outside the 2 classes" in problems(FolderPairs(folder, classes=2))
        (folder / "images/a00.png").write_bytes(b"")
        assert "the file is empty" in problems(FolderPairs(folder, classes=3))

    def test_failures_are_not_remembered(self, tmp_path, make_pairs, cache):
        folder = make_pairs(tmp_path / "set")
        (folder / "images/a00.png").write_bytes(b"")
        source = FolderPairs(folder)
        assert problems(source) == problems(source)
        assert not cache.exists()

    def test_no_place_for_the_cache(self, tmp_path, make_pairs, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        FolderPairs(make_pairs(tmp_path / "set")).check()


class TestVOC:
    @pytest.fixture
    def voc(self, tmp_path):
        """A small VOC: JPEG images, some without a mask, palette masks with an ignored border."""
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (tmp_path / "VOC2012" / part).mkdir(parents=True)
        root = tmp_path / "VOC2012"
        rng = np.random.default_rng(0)
        for index in range(8):
            Image.fromarray(rng.integers(0, 256, (10, 14, 3), np.uint8)).save(root / f"JPEGImages/2007_{index:06d}.jpg")
            if index < 5:
                mask = np.full((10, 14), 255, np.uint8)
                mask[2:-2, 2:-2] = 15 if index else 0
                palette = Image.fromarray(mask, "P")
                palette.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
                palette.save(root / f"SegmentationClass/2007_{index:06d}.png")
        (root / "ImageSets/Segmentation/train.txt").write_text("2007_000000\n2007_000001\n2007_000002\n")
        (root / "ImageSets/Segmentation/val.txt").write_text("2007_000003\n2007_000004\n")
        return root

    def test_splits_and_masks(self, voc):
        source = VOCLayout(voc)
        source.check()
        assert source.classes == 21 and source.class_names[15] == "person" and source.name == "VOC2012"
        assert [len(source.dataset(split)) for split in SPLITS] == [3, 2, 2]
        assert names(source, "val") == names(source, "test")  # VOC keeps the masks of its test split
        sample = source.dataset("train")[1]
        assert sample["mask"].unique().tolist() == [15, 255] and sample["mask"][0, 0] == 255

    def test_a_listed_image_without_mask(self, voc):
        (voc / "ImageSets/Segmentation/train.txt").write_text("2007_000000\n2007_000006\n")
        assert "train.txt names pairs that do not exist, 1: 2007_000006" in problems(VOCLayout(voc))

    def test_other_lists(self, voc):
        (voc / "ImageSets/Segmentation/all.txt").write_text("2007_000000\n2007_000001\n2007_000002\n2007_000004\n")
        (voc / "ImageSets/Segmentation/one.txt").write_text("2007_000003\n")
        assert len(VOCLayout(voc, train="all", val="one", test="one").dataset("train")) == 4
        assert "in both train and val" in problems(VOCLayout(voc, train="all"))


class TestRealData:
    @pytest.mark.parametrize(
        ("folder", "options", "counts"),
        [
            ("ecssd", {}, [600, 100, 300]),
            ("person", {}, [697, 99, 200]),
            ("camvid", {"classes": 11}, [367, 101, 233]),
        ],
    )
    def test_counts(self, shared_data, folder, options, counts):
        source = FolderPairs(shared_data / folder, **options)
        assert [len(source.dataset(split)) for split in SPLITS] == counts

    def test_ecssd_passes_the_check_and_is_remembered(self, shared_data, monkeypatch):
        FolderPairs(shared_data / "ecssd").check()
        monkeypatch.setattr(checking, "inspect_pair", None)
        FolderPairs(shared_data / "ecssd").check()

    def test_a_greyscale_photograph(self, shared_data):
        pairs = [pair for split in SPLITS for pair in FolderPairs(shared_data / "ecssd").dataset(split).pairs]
        (pair,) = [pair for pair in pairs if pair.name == "0557"]
        with Image.open(pair.image) as stored:
            assert stored.mode == "L"
            expected = np.asarray(stored)
        image = read_image(pair.image)
        assert (image == expected[..., None]).all() and image.shape[2] == 3

    def test_camvid_samples_hold_classes_and_void(self, shared_data):
        dataset = FolderPairs(shared_data / "camvid", classes=11).dataset("val")
        values = set()
        for index in range(0, len(dataset), 20):
            sample = dataset[index]
            assert sample["image"].shape == (3, 360, 480) and sample["mask"].shape == (360, 480)
            values |= set(sample["mask"].unique().tolist())
        assert 255 in values and values <= {*range(11), 255} and len(values) > 8
