"""The mean absolute error of foreground maps."""

import torch
from torch import Tensor

from spatialseg.functional.arrays import tensor
from spatialseg.functional.dispatch import quick
from spatialseg.functional.maps import Maps, as_maps
from spatialseg.functional.thresholds import grey_histograms_of


def mean_absolute_error(
    prediction: Tensor, target: Tensor, *, normalize: bool = False, ignore_index: int | None = 255
) -> Tensor:
    """Compute the mean of |prediction − ground truth| of each image (Perazzi et al., *Saliency Filters*, CVPR 2012).

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        One value in [0, 1] for each image, (N,), float64; NaN for an image without a counting pixel.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    return mean_absolute_error_of(as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index))


def mean_absolute_error_of(maps: Maps) -> Tensor:
    """Do the same for maps that `as_maps` has checked."""
    if maps.source.dtype is torch.uint8:
        counts, alarms = quick(grey_histograms_of(maps)), quick(maps.scale)
        wrong = counts[:, 0] * alarms + counts[:, 1] * (1 - alarms)
        return tensor(wrong.sum(axis=1) / counts.sum(axis=(1, 2)))
    error = (maps.prediction - maps.foreground.to(maps.prediction.dtype)).abs()
    if maps.valid is None:
        return error.mean(dim=(1, 2), dtype=torch.float64)
    return (error * maps.valid).sum(dim=(1, 2), dtype=torch.float64) / maps.valid.sum(dim=(1, 2))
