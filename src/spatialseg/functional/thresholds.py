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
    fp, tp = reached_counts_of(as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)).unbind(1)
    return ThresholdCounts(tp[:, :256], fp[:, :256], tp[:, 256], fp[:, 256], tp[:, 0], tp[:, 0] + fp[:, 0])


@once
def reached_counts_of(maps: Maps) -> Tensor:
    """Count the pixels that reach each grey level and the adaptive threshold; without a copy to the host.

    Args:
        maps: What `as_maps` returns.

    Returns:
        Counts, (N, 2, 257), int64: background, then foreground; the levels 0 to 255, then the adaptive threshold.
    """
    if maps.source.dtype is torch.uint8:
        return _reached_counts_of_greys(grey_histograms_of(maps), maps.scale)
    return _reached_counts(maps.source, maps.scale, maps.mask)


def positives_of(counts: Tensor) -> tuple[Array, Array]:
    """Return true and false positives from what `reached_counts_of` returns, (N, 257) each, float64; see `quick`."""
    fp, tp = quick(counts.double()).swapaxes(0, 1)
    return tp, fp


@once
def grey_histograms_of(maps: Maps) -> Tensor:
    """Count pixels by the source's own grey level.

    Args:
        maps: What `as_maps` returns for grey levels.

    Returns:
        Counts, (N, 2, 256), int64: background, then foreground.
    """
    return _grey_histograms(maps.source, maps.mask)


def _reached_counts_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    prediction, valid = to_probability(source, scale), mask < 2
    mean = (prediction.double() * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
    reaches = prediction.double() >= (2 * mean).clamp(max=1)[:, None, None]
    levels = (prediction * 255).long()
    places = torch.stack([levels, torch.full_like(levels, 256)])
    return _from_above(_scattered(places, torch.stack([torch.ones_like(reaches), reaches]), mask, 257))


def _reached_counts_of_greys_by_tensors(greys: Tensor, scale: Tensor) -> Tensor:
    pixels = greys.sum(dim=1)
    mean = (pixels * scale).sum(dim=1) / pixels.sum(dim=1).clamp(min=1)
    reaches = scale >= (2 * mean).clamp(max=1)[:, None]
    counts = torch.zeros(len(greys), 2, 257, dtype=torch.int64, device=greys.device)
    counts.scatter_add_(2, (scale * 255).long()[:, None].expand_as(greys), greys)
    counts[:, :, 256] = (greys * reaches[:, None]).sum(dim=2)
    return _from_above(counts)


def _from_above(counts: Tensor) -> Tensor:
    """Sum the counts of the 256 levels up from the highest, (N, 2, 257); the last stays."""
    return torch.cat([counts[..., :256].flip(-1).cumsum(dim=-1).flip(-1), counts[..., 256:]], dim=-1)


def _grey_histograms_by_tensors(source: Tensor, mask: Tensor) -> Tensor:
    return _scattered(source.long()[None], torch.ones_like(mask)[None], mask, 256)


def _scattered(places: Tensor, amounts: Tensor, mask: Tensor, size: int) -> Tensor:
    """Add amounts up by their places in [0, size), (M, N, H, W) each, by image and kind of pixel: (N, 2, size)."""
    image = torch.arange(len(mask), device=mask.device).view(-1, 1, 1)
    places = (image * 3 + mask) * size + places
    counts = torch.zeros(len(mask) * 3 * size, dtype=torch.int64, device=mask.device)
    return counts.scatter_add_(0, places.flatten(), amounts.long().flatten()).view(-1, 3, size)[:, :2].contiguous()


def _reached_counts_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    counts = torch.empty(len(mask), 2, 257, dtype=torch.int64)
    per_image(kernels.levels.reached_counts, source, scale, mask, counts)
    return counts


def _reached_counts_of_greys_by_kernel(greys: Tensor, scale: Tensor) -> Tensor:
    counts = torch.empty(len(greys), 2, 257, dtype=torch.int64)
    per_image(kernels.levels.reached_counts_of_greys, greys, scale, counts)
    return counts


def _grey_histograms_by_kernel(source: Tensor, mask: Tensor) -> Tensor:
    counts = torch.empty(len(mask), 2, 256, dtype=torch.int64)
    per_image(kernels.levels.grey_histograms, source, mask, counts)
    return counts


_reached_counts = operator("reached_counts", _reached_counts_by_tensors, _reached_counts_by_kernel)
_reached_counts_of_greys = operator(
    "reached_counts_of_greys", _reached_counts_of_greys_by_tensors, _reached_counts_of_greys_by_kernel
)
_grey_histograms = operator("grey_histograms", _grey_histograms_by_tensors, _grey_histograms_by_kernel)
