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
    return _reached_counts(maps.source, maps.scale, maps.mask)


def positives_of(counts: Tensor) -> tuple[Array, Array]:
    """Return true and false positives from what `reached_counts_of` returns, (N, 257) each, float64; see `quick`."""
    fp, tp = quick(counts.double()).swapaxes(0, 1)
    return tp, fp


def _reached_counts_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    prediction, valid = to_probability(source, scale), mask < 2
    mean = (prediction.double() * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
    reaches = prediction.double() >= (2 * mean).clamp(max=1)[:, None, None]
    image = torch.arange(len(mask), device=mask.device).view(-1, 1, 1)
    places = (image * 3 + mask) * 257
    counts = torch.zeros(len(mask) * 3 * 257, dtype=torch.int64, device=mask.device)
    for level, amount in (((prediction * 255).long(), torch.ones_like(places)), (256, reaches.long())):
        counts.scatter_add_(0, (places + level).flatten(), amount.flatten())
    counts = counts.view(-1, 3, 257)[:, :2]
    return torch.cat([counts[..., :256].flip(-1).cumsum(dim=-1).flip(-1), counts[..., 256:]], dim=-1)


def _reached_counts_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    of_greys, of_floats = kernels.levels.reached_counts_of_greys, kernels.levels.reached_counts
    counts = torch.empty(len(mask), 2, 257, dtype=torch.int64)
    per_image(of_greys if source.dtype is torch.uint8 else of_floats, source, scale, mask, counts)
    return counts


_reached_counts = operator("reached_counts", _reached_counts_by_tensors, _reached_counts_by_kernel)
