"""Spurious components: pieces of a predicted mask where there is nothing."""

import numpy as np
import torch
from torch import Tensor

from spatialseg.functional.maps import Maps


def spurious_components_of(maps: Maps, threshold: float = 0.5) -> Tensor:
    """Count in each predicted mask the components, connected over sides, without any pixel that is true or ignored.

    Returns:
        Counts, (N,), int64.
    """
    from scipy import ndimage  # takes long to import

    counts = []
    for predicted, known in zip(maps.reaches(threshold).cpu().numpy(), maps.mask.cpu().numpy(), strict=True):
        labels, components = ndimage.label(predicted)
        excused = np.unique(labels[known > 0])
        counts.append(components - np.count_nonzero(excused))
    return torch.tensor(counts)
