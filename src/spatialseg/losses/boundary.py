"""Losses that weigh a pixel by its distance to a boundary; alone they may diverge: add an overlap loss."""

from typing import ClassVar

import torch
from torch import Tensor

from spatialseg.functional import distance_to_foreground
from spatialseg.losses.base import SegmentationLoss, masked_mean, probabilities
from spatialseg.losses.registry import register_loss


@register_loss("boundary")
class BoundaryLoss(SegmentationLoss):
    r"""Boundary loss: mean of :math:`\phi_G(q)\, s(q)` over pixels and classes.

    s is the predicted probability, φ the signed distance in pixels to the boundary of the target: outside the distance
    to the nearest foreground pixel, inside one less than the distance to the nearest background pixel, negated; 0 in an
    image that lacks either. The value is negative for a good prediction, and not bounded.

    Args:
        ignore_index: Target value of the pixels that take no part, neither as foreground nor as background.
    """

    paper: ClassVar[str] = "Kervadec et al., Boundary Loss for Highly Unbalanced Segmentation, MIDL 2019"

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        region, valid = self.regions(target, logits.shape[1])
        outside, inside = _distances(region, valid)
        signed = torch.where(region, (1 - inside).clamp(max=0), outside)
        return masked_mean(signed * probabilities(logits), valid.expand_as(region))


@register_loss("hausdorff")
class HausdorffLoss(SegmentationLoss):
    r"""Hausdorff distance loss by distance transforms.

    .. math:: L = \operatorname{mean}\bigl( (s - g)^2 \circ (d_s^\alpha + d_g^\alpha) \bigr)

    over pixels and classes; d is the unsigned distance in pixels to the boundary of the target g and of the prediction
    :math:`s > 1/2`, both constant to the gradient; 0 in an image that is all foreground or has none. The prediction's
    has to be computed at every step.

    Args:
        alpha: Exponent α of the distance, positive; the paper's 2.
        ignore_index: Target value of the pixels that take no part, neither as foreground nor as background.
    """

    paper: ClassVar[str] = "Karimi, Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation, TMI 2020"

    def __init__(self, alpha: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        self.alpha = alpha

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        region, valid = self.regions(target, logits.shape[1])
        scores = probabilities(logits)
        far = sum(torch.maximum(*_distances(each, valid)).pow(self.alpha) for each in (region, (scores > 0.5) & valid))
        return masked_mean((scores - region.to(scores.dtype)).square() * far, valid.expand_as(region))


def _distances(region: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances to the region and to the rest, (N, C, H, W); both 0 in an image that lacks either."""
    near, rest = (distance_to_foreground(each.flatten(0, 1)).view(region.shape) for each in (region, ~region & valid))
    bounded = near.isfinite() & rest.isfinite()
    return near.where(bounded, 0), rest.where(bounded, 0)
