"""Hybrid losses of salient object detection: a pixel's, a neighbourhood's and a region's cost added up. Binary."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from spatialseg.losses.base import SegmentationLoss, masked_mean
from spatialseg.losses.registry import register_loss


@register_loss("structure")
class StructureLoss(SegmentationLoss):
    r"""Structure loss: weighted binary cross-entropy plus weighted IoU loss of each image, mean over the images.

    .. math::
        w = 1 + \gamma\, |\operatorname{mean}_{A}(G) - G|, \qquad
        L = \frac{\sum w\,\ell_{bce}}{\sum w} + 1 - \frac{\sum w D G + 1}{\sum w (D + G - D G) + 1}

    A is a square around the pixel, which counts as background beyond the image, as in the authors' code; so do ignored
    pixels.

    Args:
        window: Side in pixels of A, odd; the authors' 31.
        gamma: γ, the authors' 5.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Wei, Wang, Huang, F3Net: Fusion, Feedback and Focus for Salient Object Detection, AAAI 2020"
    multiclass: ClassVar[bool] = False

    def __init__(self, window: int = 31, gamma: float = 5.0, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if window < 1 or window % 2 == 0 or gamma < 0:
            raise ValueError(f"window must be odd and positive, gamma not negative, got {window}, {gamma}")
        self.window = window
        self.gamma = gamma

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        scores, valid = logits[:, 0], self.valid(target)
        inside = ((target == 1) & valid).to(scores.dtype)
        across = F.avg_pool2d(inside, (1, self.window), stride=1, padding=(0, self.window // 2))
        mean = F.avg_pool2d(across, (self.window, 1), stride=1, padding=(self.window // 2, 0))
        weight = (1 + self.gamma * (mean - inside).abs()) * valid

        cost = F.binary_cross_entropy_with_logits(scores, inside, reduction="none")
        total = weight.sum(dim=(1, 2))
        cross_entropy = (weight * cost).sum(dim=(1, 2)) / total.where(total > 0, 1)
        return (cross_entropy + _iou_loss(scores.sigmoid(), inside, weight)).mean()


@register_loss("ssim")
class StructuralSimilarityLoss(SegmentationLoss):
    r"""Hybrid loss of BASNet: binary cross-entropy + (1 − SSIM) + IoU loss.

    SSIM is that of torchmetrics with an 11×11 Gaussian of σ = 1.5 pixels. As in the authors' code prediction and target
    are 0 beyond the image; at ignored pixels they are, too. The 1 added to both sides of the IoU is ours.

    Args:
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Qin et al., BASNet: Boundary-Aware Salient Object Detection, CVPR 2019"
    multiclass: ClassVar[bool] = False

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

        self._similarity = structural_similarity_index_measure

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        scores, valid = logits[:, 0], self.valid(target)
        inside = ((target == 1) & valid).to(scores.dtype)
        cost = F.binary_cross_entropy_with_logits(scores, inside, reduction="none")
        prediction = scores.sigmoid().where(valid, 0)
        radius = 5
        padded = [F.pad(each[:, None], (radius, radius, radius, radius)) for each in (prediction, inside)]
        similarity = self._similarity(padded[0], padded[1], data_range=1.0, return_full_image=True)[1]
        dissimilarity = 1 - similarity[:, 0, radius:-radius, radius:-radius]
        iou_loss = _iou_loss(prediction, inside, valid.to(scores.dtype))
        return masked_mean(cost + dissimilarity, valid) + iou_loss.mean()


def _iou_loss(scores: Tensor, inside: Tensor, weight: Tensor) -> Tensor:
    """Return 1 − the weighted soft IoU of each image, with 1 added to both sides, from (N, H, W) to (N,)."""
    common = (weight * scores * inside).sum(dim=(1, 2))
    union = (weight * (scores + inside - scores * inside)).sum(dim=(1, 2))
    return 1 - (common + 1) / (union + 1)
