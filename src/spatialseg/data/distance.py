"""Distance maps of masks, made by the loader's processes."""

from __future__ import annotations

from typing import Any

import torch

from spatialseg.functional import distance_maps


class AddDistance:
    """Transform that gives a sample the distance map of its mask, so that the loader's spare cores compute it.

    Place it last: a resized or cropped distance map is wrong.

    Args:
        classes: The number of classes; 1 for a binary mask.
        ignore_index: Mask value of the pixels that take no part.

    Example:
        >>> sample = {"mask": torch.tensor([[1, 0, 0]])}
        >>> AddDistance()(sample)["distance"]
        tensor([[0., 1., 2.]])
    """

    def __init__(self, classes: int = 1, ignore_index: int = 255) -> None:
        self.classes = classes
        self.ignore_index = ignore_index

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return the sample with `distance`: float32 (H, W), or (classes, H, W), in pixels, of its "mask" (H, W)."""
        mask = torch.as_tensor(sample["mask"])
        return {**sample, "distance": distance_maps(mask, self.classes, self.ignore_index)}
