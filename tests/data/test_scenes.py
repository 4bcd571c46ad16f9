"""Procedural scenes: the same from the same seed, never shared between splits, with masks that are true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.data import FolderPairs, ProceduralScenes, drawing
from spatialseg.data.drawing import ASPECTS, KINDS, _grid, _noise, _rgb, draw_scene
from spatialseg.data.source import SPLITS


def test_defaults():
    source = ProceduralScenes()
    assert (source.name, source.classes, source.class_names, source.in_memory) == ("shapes", 1, ["salient"], True)
    assert [len(source.dataset(split)) for split in SPLITS] == [400, 60, 120]
    kinds = ProceduralScenes("multiclass")
    assert (kinds.classes, kinds.class_names[0]) == (7, "background")
    assert set(kinds.class_names[1:]) < set(KINDS)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS), index=st.integers(0, 10_000), binary=st.booleans())
def test_any_scene(seed, split, index, binary):
    variant = "binary" if binary else "multiclass"
    source = ProceduralScenes(variant, seed=seed, size=96)
    image, mask = source.draw(split, index)
    assert image.dtype == mask.dtype == np.uint8 and image.shape == (*mask.shape, 3)
    assert mask.shape in {(round(96 * height), round(96 * width)) for height, width in ASPECTS}
    assert mask.max() <= (1 if binary else source.classes - 1)
    assert 0.005 < (mask > 0).mean() < 0.7  # never empty
    assert image.std() > 3
    again = ProceduralScenes(variant, seed=seed, size=96).draw(split, index)
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(mask, again[1])


def test_order_and_count_do_not_matter():
    forward, backward = ProceduralScenes(train=6, size=64), ProceduralScenes(train=9, size=64)
    images = [forward.dataset("train")[index]["image"] for index in range(6)]
    for index in reversed(range(6)):
        assert (backward.dataset("train")[index]["image"] == images[index]).all()


def test_splits_seeds_and_variants_share_no_scene():
    scenes = [
        ProceduralScenes(variant, seed=seed, size=48).draw(split, index)[0].tobytes()
        for variant in ("binary", "multiclass")
        for seed in (0, 1)
        for split in SPLITS
        for index in range(8)
    ]
    assert len(set(scenes)) == len(scenes) == 96


def test_every_kind_and_number_of_objects_appears():
    source = ProceduralScenes("multiclass", size=96)
    masks = [source.draw("train", index)[1] for index in range(80)]
    assert set(np.concatenate([np.unique(mask) for mask in masks])) == set(range(source.classes))
    counts = {sum(ndimage.label(mask == kind)[1] > 0 for kind in range(1, 7)) for mask in masks}
    assert counts == {1, 2, 3}
    touching = [mask[[0, -1]].any() or mask[:, [0, -1]].any() for mask in masks]
    assert 0.1 < np.mean(touching) < 0.9


def test_scenes_hold_thin_parts():
    """An opening with a 5x5 square takes away what is thinner than 5 pixels."""
    source = ProceduralScenes()
    masks = [source.draw("val", index)[1] > 0 for index in range(30)]
    thin = [1 - ndimage.binary_opening(mask, np.ones((5, 5))).sum() / mask.sum() for mask in masks]
    assert np.mean(np.array(thin) > 0.05) > 0.3


def test_salient_objects_contrast_and_decoys_do_not():
    """Object and surrounding ground differ in mean colour more than two pieces of ground do, on the whole."""
    source = ProceduralScenes()
    objects, grounds = [], []
    for index in range(40):
        image, mask = source.draw("test", index)
        near = ndimage.binary_dilation(mask, iterations=12) & (mask == 0)
        far = ~ndimage.binary_dilation(mask, iterations=12)
        if far.sum() > 200:
            objects.append(np.linalg.norm(image[mask > 0].mean(0) - image[near].mean(0)))
            grounds.append(np.linalg.norm(image[far].mean(0) - image[near].mean(0)))
    assert np.median(objects) > 2 * np.median(grounds)


def test_the_mask_is_where_objects_are_painted(monkeypatch):
    """White objects on black ground: two pixels inside the mask all is bright, as far outside it is dark."""
    black = np.zeros((1, 3))
    monkeypatch.setattr(drawing, "_ground", lambda rng, size, unit: (np.zeros((*size, 3), np.float32), black))
    monkeypatch.setattr(drawing, "_distract", lambda *_: None)
    monkeypatch.setattr(drawing, "_paint", lambda texture, palette: np.ones((*texture.shape, 3), np.float32))
    for seed in range(20):
        image, mask = draw_scene(np.random.default_rng(seed), 128)
        assert image[ndimage.binary_erosion(mask, iterations=2, border_value=1)].min() > 60
        far = image[~ndimage.binary_dilation(mask, iterations=2)]
        assert far.max() < 200 and (far > 50).mean() < 0.002  # specks of a ragged edge, covered by less than half
        assert (image[mask > 0] > 60).mean() > 0.99


def test_a_scene_is_cached_and_handed_out_as_a_copy():
    dataset = ProceduralScenes(train=2, size=48).dataset("train")
    dataset[0]["image"].zero_()
    dataset[0]["mask"].zero_()
    assert dataset[0]["image"].any() and dataset[0]["mask"].any()
    assert dataset[0]["name"] == "train_0000"
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize("variant", ["binary", "multiclass"])
def test_export_reads_back_pixel_for_pixel(tmp_path, variant):
    source = ProceduralScenes(variant, train=3, val=2, test=2, size=48)
    source.export(tmp_path / "set")
    folder = FolderPairs(tmp_path / "set", classes=source.classes, class_names=source.class_names)
    folder.check()
    for split in SPLITS:
        assert len(folder.dataset(split)) == len(source.dataset(split))
        for drawn, read in zip(source.dataset(split), folder.dataset(split), strict=True):
            assert drawn["name"] == read["name"]
            assert (drawn["image"] == read["image"]).all() and (drawn["mask"] == read["mask"]).all()


def test_export_writes_no_list_of_a_split_without_scenes(tmp_path):
    ProceduralScenes(train=2, val=1, test=0, size=48).export(tmp_path)
    FolderPairs(tmp_path).check()
    assert not (tmp_path / "test.txt").exists()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="variant must be"):
        ProceduralScenes("ternary")
    with pytest.raises(ValueError, match="at least 32"):
        ProceduralScenes(size=16)
    with pytest.raises(ValueError, match="train must be at least 1 scene, got 0"):
        ProceduralScenes(train=0)
    with pytest.raises(ValueError, match="val must be at least 0 scenes, got -1"):
        ProceduralScenes(val=-1)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        ProceduralScenes(seed=-1)


class TestParts:
    def test_noise_has_unit_variance_and_the_asked_scale(self):
        for spacing in (3, 10, 30):
            noise = np.concatenate([_noise(np.random.default_rng(seed), (160, 160), spacing) for seed in range(40)])
            assert abs(noise.mean()) < 0.1 and 0.8 < noise.std() < 1.2
            near = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
            far = np.corrcoef(noise[:, : -3 * spacing].ravel(), noise[:, 3 * spacing :].ravel())[0, 1]
            assert near > 0.75 and abs(far) < 0.15

    def test_oklab_of_known_colours(self):
        """Values of the definition's author: white, and sRGB red, green, blue."""
        lab = np.array(
            [[1, 0, 0], [0.62796, 0.22486, 0.12585], [0.86644, -0.23389, 0.17950], [0.45201, -0.03246, -0.31153]]
        )
        np.testing.assert_allclose(_rgb(lab), [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=0.02)

    def test_grid_is_of_pixel_centres(self):
        x, y = _grid((2, 3), (1, 1))
        assert x.tolist() == [[-0.5, 0.5, 1.5]] and y.tolist() == [[-0.5], [0.5]]

    def test_chosen_kinds_only(self):
        masks = [draw_scene(np.random.default_rng(seed), 64, ("wheel",))[1] for seed in range(8)]
        assert all(set(np.unique(mask)) == {0, 1} for mask in masks)
        holes = [ndimage.label(ndimage.binary_fill_holes(mask) & (mask == 0))[1] for mask in masks]
        assert np.median(holes) >= 3  # the gaps between the spokes
