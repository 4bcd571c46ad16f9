"""Images too large for a network in one piece: overlapping tiles, blended so that no seam is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spatialseg.data.samples import GREY


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin that cover a length, neighbours sharing at least `overlap`; the last ends with it.

    Multiples of some stride stay multiples: a network whose layers go in strides sees its grid where it would see it
    in the whole image.
    """
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def tile_weights(length: int, tile: int, overlap: int) -> Tensor:
    """Return how much each tile counts at each of its positions: (tiles, tile); at every place they sum to 1.

    The quarter of the overlap that lies at a tile's end counts nothing, for there the network saw the least around it;
    from there on the weight rises in a straight line. At the image's own borders nothing falls.
    """
    starts = tile_starts(length, tile, overlap)
    place = torch.arange(min(tile, length), dtype=torch.float64) + 0.5
    margin = overlap // 4
    rise = ((place - margin) / max(1, overlap - 2 * margin)).clamp(0, 1)
    weights = []
    for start in starts:
        left = rise if start > 0 else torch.ones_like(rise)
        right = rise.flip(0) if start + tile < length else torch.ones_like(rise)
        weights.append(torch.minimum(left, right))
    total = torch.zeros(length, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    parts = [weight / total[start : start + tile] for start, weight in zip(starts, weights, strict=True)]
    return torch.stack(parts).float()


def predict_tiled(
    image: Tensor, run: Callable[[Tensor], Tensor], tile: int, overlap: int, stride: int, batch: int = 4
) -> Iterator[Tensor]:
    """Run a network over an image in tiles, and yield its output from the top, in bands of whole rows.

    What is kept in memory is one row of tiles, whatever the height of the image.

    Args:
        image: uint8 (C, H, W).
        run: Maps (N, C, h, w) to (N, K, h, w); h and w are multiples of `stride`.
        tile: Side of a tile, a multiple of `stride`; an image that is smaller is one tile.
        overlap: What neighbours share at least, a multiple of `stride` smaller than the tile.
        stride: Images are filled up with grey to a multiple of it, at the bottom and right.
        batch: How many tiles go through the network at once.

    Yields:
        Bands (K, rows, W), H rows in all.
    """
    height, width = image.shape[-2:]
    full = [-(-side // stride) * stride for side in (height, width)]
    rows, columns = (tile_starts(side, tile, overlap) for side in full)
    down, across = (tile_weights(side, tile, overlap) for side in full)
    sides = down.shape[1], across.shape[1]
    band: Tensor | None = None
    for row, top in enumerate(rows):
        for first in range(0, len(columns), batch):
            lefts = columns[first : first + batch]
            tiles = image.new_full((len(lefts), len(image), *sides), GREY)
            for canvas, left in zip(tiles, lefts, strict=True):
                part = image[:, top : top + sides[0], left : left + sides[1]]
                canvas[:, : part.shape[1], : part.shape[2]] = part
            outputs = run(tiles)
            if band is None:
                band = outputs.new_zeros((outputs.shape[1], sides[0], full[1]))
                down, across = down.to(band), across.to(band)
            for column, left, output in zip(range(first, first + batch), lefts, outputs, strict=False):
                band[:, :, left : left + sides[1]] += output * (down[row][:, None] * across[column])
        assert band is not None
        done = (rows[row + 1] if row + 1 < len(rows) else full[0]) - top
        yield band[:, : min(done, height - top), :width].clone()
        band = torch.cat([band[:, done:], torch.zeros_like(band[:, :done])], dim=1)
