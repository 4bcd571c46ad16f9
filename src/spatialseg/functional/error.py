"""The mean absolute error of foreground maps."""

from torch import Tensor

from spatialseg.functional.maps import Maps


def mean_absolute_error(maps: Maps) -> Tensor:
    """Return the mean over the counting pixels of |prediction − ground truth| (Perazzi et al., CVPR 2012).

    Args:
        maps: What `as_maps` returns.

    Returns:
        One value in [0, 1] for each image, shape (N,), float64; NaN for an image without a counting pixel.
    """
    error = (maps.prediction - maps.foreground.to(maps.prediction.dtype)).abs().double()
    if maps.valid is None:
        return error.mean(dim=(1, 2))
    return (error * maps.valid).sum(dim=(1, 2)) / maps.valid.sum(dim=(1, 2))
