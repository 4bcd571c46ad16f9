"""The multi-scale IoU (Ahmadzadeh et al., *Multiscale IOU*, ICIP 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from spatialseg.functional.maps import as_maps, masks_at

SCALES = 10


def multiscale_iou(
    prediction: Tensor, target: Tensor, *, threshold: float = 0.5, ignore_index: int | None = 255
) -> Tensor:
    """Compute the multi-scale IoU of each image.

    The edges of both masks are laid over grids of cells of 1, 2, 4, ..., 512 pixels, aligned at the lower right corner.
    At each scale counts which part of the cells with a true edge has a predicted one, with 1 added to both sides; the
    value is the area under these ten parts over the scales. An edge is where the Sobel filter of the mask is not 0.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        threshold: Probability from which on a pixel is foreground.
        ignore_index: Target value of the pixels that do not count; they are background in both masks.

    Returns:
        One value in (0, 1] for each image, (N,), float64; NaN for an image without a counting pixel.

    Raises:
        ValueError: Bad input, see `as_maps`, or the threshold is not in (0, 1].
    """
    maps = as_maps(prediction, target, ignore_index=ignore_index)
    return maps.scored(multiscale_iou_from_counts(cell_counts_of(*masks_at(maps, threshold))))


def cell_counts_of(predicted: Tensor, true: Tensor) -> Tensor:
    """Count the cells with both edges, and with a true edge, at each scale of masks (N, H, W): (N, 10, 2), int64."""
    edges = torch.stack([_edges(predicted), _edges(true)], dim=1)
    counts = []
    for scale in range(SCALES):
        if scale:
            height, width = edges.shape[2:]
            edges = F.max_pool2d(F.pad(edges, (width % 2, 0, height % 2, 0)), 2)
        both = edges.prod(dim=1)
        counts.append(torch.stack([both.sum(dim=(1, 2)), edges[:, 1].sum(dim=(1, 2))], dim=1))
    return torch.stack(counts, dim=1).long()


def multiscale_iou_from_counts(counts: Tensor) -> Tensor:
    """Do the same from what `cell_counts_of` returns."""
    both, true = (counts.double() + 1).unbind(dim=2)
    return torch.trapezoid(both / true, dx=1 / (SCALES - 1), dim=1)


def _edges(mask: Tensor) -> Tensor:
    """Return where the Sobel filter of a mask, with zeros around, is not 0: 0 and 1, float32."""
    across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], device=mask.device)
    kernels = torch.stack([across, across.T])[:, None]
    return (F.conv2d(mask[:, None].float(), kernels, padding=1) != 0).any(dim=1).float()
