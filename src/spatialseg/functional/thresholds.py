"""How many pixels reach each threshold: the counts behind F-measure, E-measure and precision-recall curves."""

from typing import NamedTuple

import torch
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.arrays import Array
from spatialseg.functional.dispatch import operator, per_image, quick
from spatialseg.functional.maps import Maps, as_maps, once, to_probability


class ThresholdCounts(NamedTuple):
    """Pixels of each image that are foreground once the prediction is thresholded; int64.

    Index k of the last dimension of `tp` and `fp` is the threshold k/255: a pixel is foreground if ⌊255 p⌋ ≥ k, with
    the product taken in the precision of the prediction (float64 for grey levels), as the toolboxes do.
    """

    tp: Tensor
    """Of these, truly foreground, (N, 256)."""
    fp: Tensor
    """Of these, truly background, (N, 256)."""
    adaptive_tp: Tensor
    """The same for the adaptive threshold min(1, twice the mean of the prediction), (N,)."""
    adaptive_fp: Tensor
    """(N,)."""
    positives: Tensor
    """Foreground pixels of the ground truth, (N,)."""
    pixels: Tensor
    """Pixels that count, (N,)."""


def threshold_counts(
    prediction: Tensor, target: Tensor, *, normalize: bool = False, ignore_index: int | None = 255
) -> ThresholdCounts:
    """Count the pixels that reach each of 256 fixed thresholds and the adaptive one.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        The counts.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return threshold_counts_from_histograms(level_histograms_of(maps))


def threshold_counts_from_histograms(counts: Tensor) -> ThresholdCounts:
    """Do the same from what `level_histograms_of` returns."""
    above = counts[..., :256].flip(-1).cumsum(dim=-1).flip(-1)
    return ThresholdCounts(
        tp=above[:, 1],
        fp=above[:, 0],
        adaptive_tp=counts[:, 1, 256],
        adaptive_fp=counts[:, 0, 256],
        positives=above[:, 1, 0],
        pixels=above[:, 0, 0] + above[:, 1, 0],
    )


def reached(counts: ThresholdCounts) -> tuple[Array, Array]:
    """Return true and false positives at the 256 thresholds and the adaptive one, (N, 257) each, float64."""
    tp = torch.cat([counts.tp, counts.adaptive_tp[:, None]], dim=1)
    fp = torch.cat([counts.fp, counts.adaptive_fp[:, None]], dim=1)
    return quick(tp.double()), quick(fp.double())


@once
def level_histograms_of(maps: Maps) -> Tensor:
    """Count pixels by grey level and those that reach the adaptive threshold; without a copy to the host.

    Args:
        maps: What `as_maps` returns.

    Returns:
        Counts, (N, 2, 257), int64: background, then foreground; the levels 0 to 255, then the adaptive threshold.
    """
    if maps.source.dtype is not torch.uint8:
        return _level_histograms(maps.source, maps.scale, maps.mask)
    grey, probability = grey_histograms_of(maps), maps.scale
    pixels = grey.sum(dim=1)
    mean = (pixels * probability).sum(dim=1) / pixels.sum(dim=1).clamp(min=1)
    reaches = probability >= (2 * mean).clamp(max=1)[:, None]
    counts = torch.zeros(len(grey), 2, 257, dtype=torch.int64, device=grey.device)
    counts.scatter_add_(2, (probability * 255).long()[:, None].expand_as(grey), grey)
    counts[:, :, 256] = (grey * reaches[:, None]).sum(dim=2)
    return counts


@once
def grey_histograms_of(maps: Maps) -> Tensor:
    """Count pixels by the source's own grey level.

    Args:
        maps: What `as_maps` returns for grey levels.

    Returns:
        Counts, (N, 2, 256), int64: background, then foreground.
    """
    return _grey_histograms(maps.source, maps.mask)


def _level_histograms_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    prediction, valid = to_probability(source, scale), mask < 2
    mean = (prediction.double() * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
    reaches = prediction.double() >= (2 * mean).clamp(max=1)[:, None, None]
    levels = (prediction * 255).long()
    places = torch.stack([levels, torch.full_like(levels, 256)])
    return _scattered(places, torch.stack([torch.ones_like(reaches), reaches]), mask, 257)


def _grey_histograms_by_tensors(source: Tensor, mask: Tensor) -> Tensor:
    return _scattered(source.long()[None], torch.ones_like(mask)[None], mask, 256)


def _scattered(places: Tensor, amounts: Tensor, mask: Tensor, size: int) -> Tensor:
    """Add amounts up by their places in [0, size), (M, N, H, W) each, by image and kind of pixel: (N, 2, size)."""
    image = torch.arange(len(mask), device=mask.device).view(-1, 1, 1)
    places = (image * 3 + mask) * size + places
    counts = torch.zeros(len(mask) * 3 * size, dtype=torch.int64, device=mask.device)
    return counts.scatter_add_(0, places.flatten(), amounts.long().flatten()).view(-1, 3, size)[:, :2].contiguous()


def _level_histograms_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    counts = torch.empty(len(mask), 2, 257, dtype=torch.int64)
    per_image(kernels.levels.level_histograms, source, scale, mask, counts)
    return counts


def _grey_histograms_by_kernel(source: Tensor, mask: Tensor) -> Tensor:
    counts = torch.empty(len(mask), 2, 256, dtype=torch.int64)
    per_image(kernels.levels.grey_histograms, source, mask, counts)
    return counts


_level_histograms = operator("level_histograms", _level_histograms_by_tensors, _level_histograms_by_kernel)
_grey_histograms = operator("grey_histograms", _grey_histograms_by_tensors, _grey_histograms_by_kernel)
