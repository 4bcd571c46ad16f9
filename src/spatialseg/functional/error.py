"""The mean absolute error of foreground maps."""

import numpy as np
import torch
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.dispatch import gathered, operator, per_image
from spatialseg.functional.maps import Maps, as_maps, to_probability


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
    return _mean_absolute_error(maps.source, maps.scale, maps.mask)


def _mean_absolute_error_by_tensors(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    error = (to_probability(source, scale) - (mask == 1).to(scale.dtype)).abs() * (mask < 2)
    return error.sum(dim=(1, 2), dtype=torch.float64) / (mask < 2).sum(dim=(1, 2))


def _mean_absolute_error_by_kernel(source: Tensor, scale: Tensor, mask: Tensor) -> Tensor:
    return gathered(per_image(kernels.levels.mean_absolute_error, source, scale, mask), np.float64)


_mean_absolute_error = operator("mean_absolute_error", _mean_absolute_error_by_tensors, _mean_absolute_error_by_kernel)
