"""Human correction effort (Qin et al., *Highly Accurate Dichotomous Image Segmentation*, ECCV 2022)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialseg.extras import import_extra
from spatialseg.functional.maps import as_maps, masks_at

RELAXED = 5
EPSILON = 2.0
Mask = NDArray[np.bool_]


def human_correction_effort(
    prediction: Tensor, target: Tensor, *, threshold: float = 0.5, ignore_index: int | None = 255
) -> Tensor:
    """Count the clicks that would correct each predicted mask, roughly.

    Misses and false alarms are relaxed first: of those that hug the true outline only what can be reached, in 5 steps
    from pixel to pixel, from where both masks together are more than 5 pixels deep. The skeleton of the true mask is
    kept where it was missed. A part that touches nothing takes one click; where one touches what is right, its outline
    there is drawn anew, a click for each vertex that the algorithm of Douglas and Peucker leaves at 2 pixels.

    Needs `pip install 'spatialseg[hce]'`, OpenCV and scikit-image: outlines are followed and thinned as these do.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels; (N, H, W) or (N, 1, H, W).
        target: Ground truth, 0, 1 or `ignore_index`; of the same shape.
        threshold: Probability from which on a pixel is foreground.
        ignore_index: Target value of the pixels that do not count; they are background in both masks.

    Returns:
        The number of each image, (N,), float64; NaN for an image without a counting pixel.

    Raises:
        ModuleNotFoundError: One of the two libraries is not installed.
        ValueError: Bad input, see `as_maps`, or the threshold is not in (0, 1].
    """
    maps = as_maps(prediction, target, ignore_index=ignore_index)
    return maps.scored(correction_effort_of(*masks_at(maps, threshold)).double())


def correction_effort_of(predicted: Tensor, true: Tensor) -> Tensor:
    """Do the same for masks (N, H, W): (N,), int64."""
    pairs = zip(predicted.cpu().numpy(), true.cpu().numpy(), strict=True)
    return torch.tensor([_effort(*pair) for pair in pairs])


def _effort(predicted: Mask, true: Mask) -> int:
    cv2 = import_extra("cv2")
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    deep: Mask = cv2.erode((predicted | true).view(np.uint8), cross, iterations=RELAXED).view(np.bool_)

    def grow(mask: Mask) -> Mask:
        grown: Mask = cv2.dilate(mask.view(np.uint8), cross).view(np.bool_)
        return grown

    def relaxed(wrong: Mask, room: Mask) -> Mask:
        kept: Mask = wrong & deep
        for _ in range(RELAXED):
            kept = grow(kept) & room
        kept &= wrong
        return kept

    hits, skeleton = predicted & true, import_extra("skimage.morphology").skeletonize(true)
    alarms = relaxed(predicted & ~true, ~true)
    misses = relaxed(true & ~predicted, ~predicted) | (skeleton & ~predicted)
    right = hits | misses  # once the misses are mended, the alarms are, hence the order
    return _clicks(cv2, alarms, grow(right)) + _clicks(cv2, misses, grow(~(right | alarms)))


def _clicks(cv2: Any, wrong: Mask, beside: Mask) -> int:  # noqa: ANN401
    """Count the vertices of the parts' outlines where they lie `beside` something, and the parts that do nowhere."""
    outlines, _ = cv2.findContours(wrong.view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    count, parts = cv2.connectedComponents(wrong.view(np.uint8), connectivity=8)
    if not outlines:
        return 0
    points = np.concatenate(outlines)[:, 0]
    columns, rows = points.T
    drawn = beside[rows, columns]
    # Outlines pass thin parts twice, which are drawn once.
    first = np.zeros(len(points), np.bool_)
    first[np.unique(rows * np.intp(wrong.shape[1]) + columns, return_index=True)[1]] = True
    clicks: int = count - len(np.unique(np.append(parts[rows[drawn], columns[drawn]], 0)))
    ends = np.cumsum([len(outline) for outline in outlines])[:-1]
    for outline, here in zip(outlines, np.split(drawn & first, ends), strict=True):
        places = np.flatnonzero(here)
        runs = np.split(outline[places], np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
        if len(runs) > 1 and np.abs(runs[0][0] - runs[-1][-1]).max() == 1:
            # What goes on over the outline's start is one; that its first half is turned around is the authors' way.
            runs[-1] = np.concatenate([runs[-1], runs.pop(0)[::-1]])
        clicks += sum(len(cv2.approxPolyDP(run, EPSILON, False)) for run in runs)
    return clicks
