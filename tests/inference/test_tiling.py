"""Tiles, put together, are the image."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from spatialseg.inference.tiling import predict_tiled, tile_starts, tile_weights


@pytest.mark.parametrize("overlap", [0, 32, 96])
@pytest.mark.parametrize("length", [31, 128, 129, 160, 200, 511, 512, 1000])
def test_weights_sum_to_one_everywhere(length, overlap):
    starts, weights = tile_starts(length, 128, overlap), tile_weights(length, 128, overlap)
    assert all(b - a <= 128 - overlap for a, b in pairwise(starts))
    total = torch.zeros(max(length, starts[-1] + weights.shape[1]))
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + len(weight)] += weight
        assert start == 0 or not weight[: overlap // 4].any()
    torch.testing.assert_close(total, torch.ones(length))


def whole(network, image, stride=32):
    """Run a network on a whole image, filled up with grey."""
    height, width = image.shape[-2:]
    canvas = torch.full((1, 3, -(-height // stride) * stride, -(-width // stride) * stride), 128, dtype=torch.uint8)
    canvas[0, :, :height, :width] = image
    return network(canvas)[0, :, :height, :width]


class Strided(nn.Module):
    """Down by 8 and up again: shifted by less than 8 pixels, an image gives something else."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 8, stride=8)
        self.mix = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, image):
        return nn.functional.interpolate(self.mix(self.down(image / 255).relu()), scale_factor=8, mode="bilinear")


NETWORKS = {
    "constant": lambda image: torch.full((len(image), 1, *image.shape[2:]), 0.3),
    "linear": lambda image, layer=nn.Conv2d(3, 2, 9, padding=4): layer(image / 255),  # noqa: B008 - one layer for all
    "strided": Strided(),
}


@pytest.mark.parametrize("shape", [(300, 170), (128, 401), (50, 40), (129, 128)])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@torch.inference_mode()
def test_what_sees_no_further_than_the_margin_gives_the_whole_image(network, shape):
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    seen = []

    def run(tiles):
        seen.append(tiles.shape)
        return network(tiles)

    bands = list(predict_tiled(image, run, tile=128, overlap=64, stride=32, batch=2))
    torch.testing.assert_close(torch.cat(bands, dim=1), whole(network, image), atol=1e-6, rtol=1e-6)
    assert all(tiles[0] <= 2 and max(tiles[2:]) <= 128 for tiles in seen)
    assert max(band.shape[1] for band in bands) <= 128
