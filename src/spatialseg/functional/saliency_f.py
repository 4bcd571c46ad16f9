"""The F-measure of thresholded saliency maps (Achanta et al., CVPR 2009)."""

from typing import NamedTuple

from torch import Tensor

from spatialseg.functional.arrays import nonzero, positive, tensor
from spatialseg.functional.maps import as_maps
from spatialseg.functional.thresholds import positives_of, reached_counts_of


class SaliencyFResult(NamedTuple):
    """Float64 values in [0, 1], NaN for an image without a counting pixel.

    Index k of the curves is the threshold k/255.
    """

    adaptive: Tensor
    """F-measure at the adaptive threshold min(1, twice the mean of the prediction), (N,)."""
    curve: Tensor
    """F-measure at each threshold, (N, 256)."""
    precision: Tensor
    """Precision at each threshold, (N, 256); 0 where no pixel reaches it."""
    recall: Tensor
    """Recall at each threshold, (N, 256); 0 for an image without foreground."""


def saliency_f_measure(
    prediction: Tensor,
    target: Tensor,
    *,
    beta2: float = 0.3,
    normalize: bool = False,
    ignore_index: int | None = 255,
) -> SaliencyFResult:
    """Compute the F-measure of each image at 256 thresholds and at the adaptive one.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        beta2: β², the weight of recall against precision; positive. The field uses 0.3.
        normalize: Stretch each prediction to [0, 1] first.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        Adaptive value and curves.

    Raises:
        ValueError: Bad input, see `as_maps`.
    """
    maps = as_maps(prediction, target, normalize=normalize, ignore_index=ignore_index)
    return SaliencyFResult(*map(maps.scored, saliency_f_from_counts(reached_counts_of(maps), beta2)))


def saliency_f_from_counts(counts: Tensor, beta2: float = 0.3) -> SaliencyFResult:
    """Do the same from what `reached_counts_of` returns."""
    tp, fp = positives_of(counts)
    precision, recall = tp / positive(tp + fp), tp / positive(tp[:, :1])
    f = tensor((1 + beta2) * precision * recall / nonzero(beta2 * precision + recall))
    return SaliencyFResult(f[:, 256], f[:, :256], tensor(precision)[:, :256], tensor(recall)[:, :256])
