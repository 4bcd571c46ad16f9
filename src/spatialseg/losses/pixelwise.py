"""Losses that judge each pixel by itself: the baselines."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spatialseg.losses.base import SegmentationLoss, class_weights_of, fitted, masked_mean
from spatialseg.losses.registry import register_loss


@register_loss("bce")
class BinaryCrossEntropyLoss(SegmentationLoss):
    """Binary cross-entropy, mean over the pixels that are not ignored.

    PyTorch's; SMP's `SoftBCEWithLogitsLoss` divides by the ignored pixels too, so that padding would change its value.

    Args:
        pos_weight: Factor of the foreground's cost, to weigh recall against precision.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Good, Rational Decisions, JRSS B 1952"
    multiclass: ClassVar[bool] = False
    instead: ClassVar[str] = "ce"

    def __init__(self, pos_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not pos_weight > 0:
            raise ValueError(f"pos_weight must be positive, got {pos_weight}")
        self.pos_weight = pos_weight

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        scores, foreground = logits[:, 0], (target == 1).to(logits.dtype)
        weight = None if self.pos_weight == 1 else logits.new_tensor(self.pos_weight)
        cost = F.binary_cross_entropy_with_logits(scores, foreground, pos_weight=weight, reduction="none")
        return masked_mean(cost, self.valid(target))


@register_loss("ce")
class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy over the classes, mean over the pixels that are not ignored (PyTorch's).

    Args:
        class_weights: Of each class the weight of its pixels, at least 0; the mean is weighted, too. `None` weighs all
            alike.
        label_smoothing: Share of each target that is spread over all classes, in [0, 1).
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Good, Rational Decisions, JRSS B 1952"
    binary: ClassVar[bool] = False
    instead: ClassVar[str] = "bce"
    class_weights: Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0, ignore_index: int = 255
    ) -> None:
        super().__init__(ignore_index)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.register_buffer("class_weights", class_weights_of(class_weights), persistent=False)
        self.label_smoothing = label_smoothing

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        weights = None if self.class_weights is None else fitted(self.class_weights, logits)
        total = F.cross_entropy(
            logits,
            target,
            weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        valid = self.valid(target)
        if weights is None:
            return total / valid.sum().clamp(min=1)
        weight = weights[target.where(valid, 0)].where(valid, 0).sum()
        return total / weight.where(weight > 0, 1)


@register_loss("focal")
class FocalLoss(SegmentationLoss):
    r"""Focal loss :math:`-\alpha_t (1 - p_t)^\gamma \log p_t`, eq. 5, mean over the pixels.

    Several classes: the sigmoid form of each class against the rest, mean over the classes, as in SMP, whose own form
    copies to the host.

    Args:
        gamma: Focusing exponent γ, 0 (plain cross-entropy) or at least 1: between, the gradient is infinite at p = 1.
        alpha: α of the foreground, 1 − α of the background, in [0, 1]; `None` weighs both by 1.
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017"

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if gamma < 1 and gamma != 0:
            raise ValueError(f"gamma must be 0 or at least 1, got {gamma}")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        region, valid = self.regions(target, logits.shape[1])
        inside = region.to(logits.dtype)
        cost = F.binary_cross_entropy_with_logits(logits, inside, reduction="none")
        cost = (1 - torch.exp(-cost)) ** self.gamma * cost
        if self.alpha is not None:
            cost = cost * (self.alpha * inside + (1 - self.alpha) * (1 - inside))
        return masked_mean(cost.mean(dim=1, keepdim=True), valid)
