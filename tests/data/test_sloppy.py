"""Masks that are drawn sloppily, on purpose."""

import numpy as np
import pytest
import torch

from spatialseg.data import ProceduralScenes, SegmentationDataModule, SloppyMasks
from spatialseg.data.sloppy import KINDS


def scenes() -> ProceduralScenes:
    return ProceduralScenes(train=3, val=1, test=1, size=96)


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_only_training_masks_are_spoilt_a_little_and_always_alike(kind):
    clean, sloppy = scenes(), SloppyMasks(scenes(), kind, amount=0.015)
    for split in ("val", "test"):
        assert torch.equal(sloppy.dataset(split)[0]["mask"], clean.dataset(split)[0]["mask"])
    for index in range(3):
        before, after = clean.dataset("train")[index], sloppy.dataset("train")[index]
        assert torch.equal(before["image"], after["image"])
        assert 0.2 < overlap(before["mask"] == 1, after["mask"] == 1) < 1
        assert torch.equal(after["mask"], sloppy.dataset("train")[index]["mask"])


def test_each_kind_spoils_in_its_own_way():
    mask = torch.zeros(60, 80, dtype=torch.uint8)
    mask[20:40, 30:60] = 1
    mask[28:32, 40:46] = 0
    mask[:5, :5] = 255
    spoilt = {kind: SloppyMasks(scenes(), kind, amount=0.03).spoil(mask, 7) for kind in KINDS}  # 3 of 100 pixels
    for each in spoilt.values():
        assert torch.equal(each == 255, mask == 255)
    inside = {kind: each == 1 for kind, each in spoilt.items()}
    assert inside["dilated"][17:43, 30:60].all() and not inside["dilated"][:17].any()
    assert inside["eroded"].sum() and not (inside["eroded"] & (mask != 1)).any() and not inside["eroded"][:23].any()
    assert overlap(inside["polygon"], mask == 1) > 0.8 and not inside["polygon"][30, 43]
    rows, columns = (np.array(np.nonzero(each.numpy())).mean(axis=1) for each in (inside["shifted"], mask == 1))
    assert np.hypot(*(rows - columns)) == pytest.approx(3, abs=1)
    assert not torch.equal(spoilt["shifted"], SloppyMasks(scenes(), "shifted", amount=0.03).spoil(mask, 8))


def test_empty_and_full_masks_and_small_objects_survive():
    for kind in KINDS:
        source = SloppyMasks(scenes(), kind, amount=0.1)
        for mask in (torch.zeros(20, 30), torch.ones(20, 30)):
            spoilt = source.spoil(mask.byte(), 0)
            assert not (spoilt == 1).any() if mask.sum() == 0 else spoilt.float().mean() > 0.8
    dot = torch.zeros(20, 30, dtype=torch.uint8)
    dot[10, 10] = 1
    assert torch.equal(SloppyMasks(scenes(), "eroded", amount=0.1).spoil(dot, 0), dot)


def test_what_cannot_be_spoilt_is_refused():
    with pytest.raises(ValueError, match=r"'kinds' has \d+ classes"):
        SloppyMasks(ProceduralScenes("multiclass", train=1, val=1, test=1), "dilated")
    with pytest.raises(ValueError, match="kind must be one of dilated, eroded, polygon, shifted, got 'torn'"):
        SloppyMasks(scenes(), "torn")
    with pytest.raises(ValueError, match="amount must be between 0 and 1"):
        SloppyMasks(scenes(), "dilated", amount=3)


def test_batches_are_made_of_spoilt_masks():
    data = SegmentationDataModule(SloppyMasks(scenes(), "dilated"), size=64, batch_size=3, flip=False)
    plain = SegmentationDataModule(scenes(), size=64, batch_size=3, flip=False)
    batches = []
    for module in (data, plain):
        module.setup("fit")
        batches.append(next(iter(module.train_dataloader())))
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert (batches[0]["mask"] >= batches[1]["mask"]).all() and batches[0]["mask"].sum() > batches[1]["mask"].sum()
