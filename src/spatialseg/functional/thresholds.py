"""How many pixels reach each threshold: the counts behind F-measure, E-measure and precision-recall curves."""

from typing import NamedTuple

import torch
from torch import Tensor

from spatialseg.functional.maps import Maps, as_maps


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
    return threshold_counts_of(as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index))


def threshold_counts_of(maps: Maps) -> ThresholdCounts:
    """Do the same for maps that `as_maps` has checked."""
    return threshold_counts_from_histograms(level_histograms_of(maps))


def level_histograms_of(maps: Maps) -> Tensor:
    """Count."""
    if maps.source.device.type == "cpu":
        from spatialseg.functional import compiled  # imports Numba, which not every user of this package needs

        return compiled.level_histograms(maps)
    return level_histograms(maps)


def threshold_counts_from_histograms(counts: Tensor) -> ThresholdCounts:
    """Do the same from what `level_histograms` returns."""
    reached = counts[..., :256].flip(-1).cumsum(dim=-1).flip(-1)
    return ThresholdCounts(
        tp=reached[:, 1],
        fp=reached[:, 0],
        adaptive_tp=counts[:, 1, 256],
        adaptive_fp=counts[:, 0, 256],
        positives=reached[:, 1, 0],
        pixels=reached[:, 0, 0] + reached[:, 1, 0],
    )


def level_histograms(maps: Maps) -> Tensor:
    """Count pixels by grey level and those that reach the adaptive threshold; without a copy to the host.

    Args:
        maps: What `as_maps` returns.

    Returns:
        Counts, (N, 2, 257), int64: background, then foreground; the levels 0 to 255, then the adaptive threshold.
    """
    prediction, foreground, valid = maps.prediction, maps.foreground, maps.valid
    count = len(prediction)
    valid = torch.ones_like(foreground) if valid is None else valid
    pixels = valid.sum(dim=(1, 2)).clamp(min=1)
    mean = (prediction.double() * valid).sum(dim=(1, 2)) / pixels
    reaches = prediction.double() >= (2 * mean).clamp(max=1)[:, None, None]
    kind = torch.where(valid, foreground.long(), 2)
    place = (torch.arange(count, device=prediction.device).view(-1, 1, 1) * 3 + kind) * 257
    counts = torch.zeros(count * 3 * 257, dtype=torch.int64, device=prediction.device)
    levels = (prediction * 255).long()
    counts.scatter_add_(0, (place + levels).flatten(), torch.ones_like(place.flatten()))
    counts.scatter_add_(0, (place + 256).flatten(), reaches.flatten().long())
    return counts.view(count, 3, 257)[:, :2]
