import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from spatialseg.functional import distance_maps, distance_to_foreground
from spatialseg.functional.distance import _distance_by_passes, steps_within


@pytest.mark.parametrize("transform", [distance_to_foreground, _distance_by_passes])
@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_distance_equals_scipys(transform, height, width, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((6, height, width)) < np.array([1, 0.5, 0.02, 0, 0, 0])[:, None, None]
    mask[4, rng.integers(height), rng.integers(width)] = True
    mask[5] = np.kron(rng.random((8, 8)) < 0.3, np.ones((9, 9), bool))[:height, :width]
    distance = transform(torch.from_numpy(mask))
    assert distance.dtype is torch.float32
    for one, found in zip(mask, distance, strict=True):
        expected = ndimage.distance_transform_edt(~one) if one.any() else np.full(one.shape, np.inf)
        np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_offsets_find_scipys_nearest_pixel():
    rng = np.random.default_rng(0)
    compared = 0
    for density in (0.02, 0.1, 0.3):
        for _ in range(30):
            mask = rng.random((20, 23)) < density
            if not mask.any():
                continue
            distance, (rows, columns) = ndimage.distance_transform_edt(~mask, return_indices=True)
            for row, column in np.argwhere((distance > 0) & (distance**2 < 18.5)):
                dy, dx = next(
                    (dy, dx)
                    for dy, dx in steps_within(18)
                    if 0 <= row + dy < 20 and 0 <= column + dx < 23 and mask[row + dy, column + dx]
                )
                assert (row + dy, column + dx) == (rows[row, column], columns[row, column])
                compared += 1
    assert compared > 10_000


def test_wrong_masks_are_refused():
    with pytest.raises(TypeError, match="boolean"):
        distance_to_foreground(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="shape"):
        distance_to_foreground(torch.zeros(4, 4, dtype=torch.bool))


def test_maps_of_a_mask_with_ignored_pixels():
    assert distance_maps(torch.tensor([[7, 0, 0, 1]], dtype=torch.uint8), ignore_index=7).tolist() == [[3, 2, 1, 0]]
    several = distance_maps(torch.tensor([[0, 1]]), 2, ignore_index=0)
    assert several.tolist() == [[[math.inf, math.inf]], [[1, 0]]]
