"""Distance maps that the loader adds to its samples."""

import math

import pytest
import torch

from spatialseg.data.distance import AddDistance
from spatialseg.functional import distance_to_foreground


@pytest.mark.parametrize("classes", [1, 3])
def test_distance_to_each_class(classes):
    mask = torch.randint(0, max(2, classes), (9, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    distance = AddDistance(classes)({"mask": mask})["distance"]
    assert distance.dtype is torch.float32
    if classes == 1:
        assert torch.equal(distance, distance_to_foreground(mask[None] == 1)[0])
    else:
        assert torch.equal(distance, torch.cat([distance_to_foreground(mask[None] == each) for each in range(classes)]))


def test_distance_of_a_mask_with_ignored_pixels():
    sample = AddDistance(ignore_index=7)({"mask": torch.tensor([[7, 0, 0, 1]], dtype=torch.uint8), "name": "a"})
    assert sample["distance"].tolist() == [[3, 2, 1, 0]] and sample["name"] == "a"
    several = AddDistance(2, ignore_index=0)({"mask": torch.tensor([[0, 1]])})["distance"]
    assert several.tolist() == [[[math.inf, math.inf]], [[1, 0]]]
