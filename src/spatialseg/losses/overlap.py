"""Losses that judge the overlap of two regions, wherever its mistakes are."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from spatialseg.extras import import_extra
from spatialseg.losses.base import SegmentationLoss, mean_over_present, probabilities
from spatialseg.losses.registry import register_loss


class _OverlapLoss(SegmentationLoss):
    """Base of the overlap losses that are SMP's.

    Args:
        kind: Name of SMP's class.
        ignore_index: Target value of the pixels that take no part.
        options: Further arguments of SMP's class.
    """

    def __init__(self, kind: str, ignore_index: int, **options: float) -> None:
        super().__init__(ignore_index)
        make = getattr(import_extra("segmentation_models_pytorch.losses"), kind)  # takes seconds
        self._losses = [make(mode, ignore_index=ignore_index, **options) for mode in ("binary", "multiclass")]

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        loss: Tensor = self._losses[logits.shape[1] > 1](logits, target)
        return loss


@register_loss("dice")
class DiceLoss(_OverlapLoss):
    r"""Soft Dice loss :math:`1 - 2\,|D \cap G| / (|D| + |G|)`, pooled over the batch (SMP's).

    Several classes: the mean over all classes, in which a class that the batch lacks counts as 0. A binary batch
    without any foreground is 0 as well: its false alarms cost nothing.

    Args:
        log: Return −log of the coefficient instead.
        smooth: Added to both sides of the fraction, in pixels.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Milletari, Navab, Ahmadi, V-Net, 3DV 2016"

    def __init__(self, log: bool = False, smooth: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__("DiceLoss", ignore_index, log_loss=log, smooth=smooth)


@register_loss("jaccard")
class JaccardLoss(_OverlapLoss):
    r"""Soft Jaccard (IoU) loss :math:`1 - |D \cap G| / |D \cup G|`, pooled over the batch (SMP's).

    Several classes, and no foreground: as in `DiceLoss`.

    Args:
        log: Return −log of the index instead.
        smooth: Added to both sides of the fraction, in pixels.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Rahman, Wang, Optimizing Intersection-over-Union in Deep Neural Networks, ISVC 2016"

    def __init__(self, log: bool = False, smooth: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__("JaccardLoss", ignore_index, log_loss=log, smooth=smooth)


@register_loss("tversky")
class TverskyLoss(_OverlapLoss):
    r"""Tversky loss :math:`(1 - TP / (TP + \alpha FP + \beta FN))^\gamma`, pooled over the batch (SMP's).

    α = β = ½ is the Dice loss. Several classes: as in `DiceLoss`.

    Args:
        alpha: α, the cost of false alarms.
        beta: β, the cost of misses.
        gamma: γ > 0, the exponent of the focal Tversky loss (Abraham and Khan, ISBI 2019).
        smooth: Added to both sides of the fraction, in pixels.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Salehi, Erdogmus, Gholipour, Tversky Loss Function for Image Segmentation, MLMI 2017"

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, smooth: float = 0.0, ignore_index: int = 255
    ) -> None:
        super().__init__("TverskyLoss", ignore_index, alpha=alpha, beta=beta, smooth=smooth)
        if not (min(alpha, beta) >= 0 and gamma > 0):
            raise ValueError(f"alpha and beta must not be negative, gamma positive, got {alpha}, {beta}, {gamma}")
        self.gamma = gamma

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        loss = super().compute(logits, target)
        if self.gamma == 1:
            return loss
        # The power is taken here: for gamma < 1 its gradient at 0 is infinite, times 0 it would be NaN.
        return torch.where(loss > 0, loss.where(loss > 0, 1).pow(self.gamma), loss)


@register_loss("lovasz")
class LovaszLoss(SegmentationLoss):
    r"""Lovász extension of the Jaccard loss: the hinge (binary) or the softmax form (several classes).

    Ours, tested to equal SMP's and so the authors' code, which computes the weights in float32 for every input and has
    no scalar value where everything is ignored.

    Args:
        classes: The classes that count in the softmax form: "present" in the image (or in the batch), or "all".
        per_image: Take the loss of each image and their mean; otherwise that of the pooled batch.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Berman, Triki, Blaschko, The Lovász-Softmax Loss, CVPR 2018"

    def __init__(
        self, classes: Literal["present", "all"] = "present", per_image: bool = False, ignore_index: int = 255
    ) -> None:
        super().__init__(ignore_index)
        if classes not in ("present", "all"):
            raise ValueError(f'classes must be "present" or "all", got {classes!r}')
        self.classes = classes
        self.per_image = per_image

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        channels = logits.shape[1]
        region, valid = self.regions(target, channels)
        if channels == 1:
            errors = torch.where(region, 1 - logits, 1 + logits).relu()
        else:
            scores = probabilities(logits)
            errors = torch.where(region, 1 - scores, scores)
        # An ignored pixel becomes a background pixel without error: it is sorted last and adds nothing.
        errors = errors.where(valid, 0)
        if not self.per_image:
            errors, region = (each.transpose(0, 1)[None] for each in (errors, region))
        errors, region = errors.flatten(2), region.flatten(2)
        ordered, order = errors.sort(dim=-1, descending=True)
        values = (ordered * _jaccard_steps(region.gather(-1, order).to(errors.dtype))).sum(dim=-1)
        if self.classes == "present":
            values = mean_over_present(values, region.any(dim=-1))
        return values.mean()


def _jaccard_steps(region: Tensor) -> Tensor:
    """Return by how much the Jaccard loss grows as each next pixel, sorted along the last dimension, becomes wrong."""
    positives = region.sum(dim=-1, keepdim=True)
    missed, falsely = region.cumsum(dim=-1), (1 - region).cumsum(dim=-1)
    jaccard = 1 - (positives - missed) / (positives + falsely)
    return jaccard.diff(dim=-1, prepend=torch.zeros_like(positives))


@register_loss("floss")
class FLoss(SegmentationLoss):
    r"""F-loss: 1 − the soft F-measure of each image, or −log of it, mean over the images.

    .. math:: F = \frac{(1+\beta^2)\,TP}{\beta^2 (TP + FN) + TP + FP}

    `log` makes it the paper's log-FLoss. It is the weighted F-measure loss without dependency and importance. ε,
    and the mean over the classes present in the image for several classes, are ours.

    Args:
        beta2: β²; the paper's 0.3.
        log: Return −log F.
        smooth: ε > 0 in pixels, added to both sides of the fraction.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Zhao et al., Optimizing the F-measure for Threshold-free Salient Object Detection, 2019"

    def __init__(self, beta2: float = 0.3, log: bool = False, smooth: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not (beta2 > 0 and smooth > 0):
            raise ValueError(f"beta2 and smooth must be positive, got beta2={beta2}, smooth={smooth}")
        self.beta2 = beta2
        self.log = log
        self.smooth = smooth

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        region, valid = self.regions(target, logits.shape[1])
        scores = probabilities(logits).where(valid, 0)
        positives = region.sum(dim=(2, 3))
        tp = (scores * region).sum(dim=(2, 3))
        predicted = scores.sum(dim=(2, 3))
        f = ((1 + self.beta2) * tp + self.smooth) / (self.beta2 * positives + predicted + self.smooth)
        loss = -f.log() if self.log else 1 - f
        return mean_over_present(loss, positives > 0).mean()
