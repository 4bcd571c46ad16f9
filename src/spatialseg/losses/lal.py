"""Locally adaptive learning: cross-entropy of what neighbours of one category predict together."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spatialseg.functional.grouping import grouped_cross_entropy, grouped_likelihood
from spatialseg.functional.pooling import Pooling, PoolingWeights, pooled_cross_entropy, pooled_means
from spatialseg.losses.base import SegmentationLoss, class_weights_of, fitted, pixel_costs
from spatialseg.losses.registry import register_loss


@register_loss("lal")
class LocallyAdaptiveLoss(SegmentationLoss):
    r"""Locally adaptive learning loss (Guo et al., arXiv 1802.08290, 2018).

    Stride by stride the predictions of a window's pixels of the centre's category are merged (selective pooling), and
    the cost of the merged distribution is taken; a Minkowski mean over the centres c stresses the costly ones:

    .. math::
        \bar x_c = \frac{\sum_i \mu_i w_i x_i}{\sum_i \mu_i w_i}, \qquad
        \ell_c = -\log \operatorname{softmax}(\bar x_c)_{y_c}, \qquad
        L = \Bigl( \frac1n \sum_c \ell_c^k \Bigr)^{1/k}

    The reviews of the paper leave open what a window stands for: `groups="centre"` is the above, `groups="all"` our
    reading of the other: every category present in the window is merged and costed, whatever its centre is; the sum
    then goes over windows and categories, and n is their number. It is natural with `stride=window`, where no two
    windows share a pixel.

    Binary logits are those of two categories, background at 0. With `window=1, stride=1, k=1` it is the mean
    cross-entropy, weighted by `class_weights` if there are any. k = 5 is the paper's choice on PASCAL VOC 2012; window,
    stride and uniform weights are ours.

    Args:
        window: Side in pixels of the window, odd.
        stride: Distance in pixels between centres.
        k: Minkowski exponent, at least 1.
        merge: Merge "logits", or "probabilities": then :math:`\ell_c` is −log of their mean.
        weights: "uniform", or "gaussian" by the chessboard distance to the centre.
        sigma: Standard deviation in pixels of the Gaussian weights.
        ignore_index: Target value of the pixels that are neither centres nor neighbours.
        groups: "centre": a window stands for its centre's category; "all": for every category in it.
        class_weights: Of each category, background first, the weight of its powers :math:`\ell^k`, at least 0; n is
            then the sum of these weights. `None` weighs all alike.

    Raises:
        ValueError: An argument is out of its range.
    """

    paper: ClassVar[str] = "Guo et al., Locally Adaptive Learning Loss for Semantic Image Segmentation, 2018"
    class_weights: Tensor | None

    def __init__(
        self,
        window: int = 3,
        stride: int = 1,
        k: float = 5.0,
        merge: Literal["logits", "probabilities"] = "logits",
        weights: PoolingWeights = "uniform",
        sigma: float = 1.0,
        ignore_index: int = 255,
        groups: Literal["centre", "all"] = "centre",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index)
        if not k >= 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if merge not in ("logits", "probabilities"):
            raise ValueError(f'merge must be "logits" or "probabilities", got {merge!r}')
        if groups not in ("centre", "all"):
            raise ValueError(f'groups must be "centre" or "all", got {groups!r}')
        self.k = k
        self.groups = groups
        self.merge = merge
        self.pooling = Pooling(window, stride, weights, sigma, ignore_index)
        self.register_buffer("class_weights", class_weights_of(class_weights), persistent=False)

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        if self.groups == "all":
            return self._compute_all(logits, target)
        centres = target[:, :: self.pooling.stride, :: self.pooling.stride]
        if self.merge == "logits" and logits.shape[1] > 1:
            cost = pooled_cross_entropy(logits, target, self.pooling)
        elif self.merge == "logits":
            cost = pixel_costs(pooled_means(logits, target, self.pooling), centres, self.ignore_index)
        else:
            # The neighbours share the centre's category: their mean probability of it is that of their own categories.
            merged = pooled_means(self._likelihood(logits, target)[:, None], target, self.pooling)[:, 0]
            cost = -merged.where(self.valid(centres), 1).log().to(logits.dtype)
        valid = self.valid(centres)
        if self.class_weights is None:
            return minkowski_mean(cost.where(valid, 0), valid.sum(), self.k)
        weight = fitted(self.class_weights, logits)[centres.where(valid, 0)].where(valid, 0)
        return minkowski_mean(cost.where(weight > 0, 0), weight.sum(), self.k, weight)

    def _compute_all(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        if self.merge == "logits":
            cost, counts = grouped_cross_entropy(logits, target, self.pooling)
        else:
            likelihood = self._likelihood(logits, target)
            merged, present = grouped_likelihood(likelihood, target, logits.shape[1], self.pooling)
            cost, counts = -merged.where(present, 1).log().to(logits.dtype), present.sum(dim=(0, 2, 3))
        if self.class_weights is None:
            return minkowski_mean(cost, counts.sum(), self.k)
        weight = fitted(self.class_weights, logits)
        each = weight[:, None, None]
        return minkowski_mean(cost.where(each > 0, 0), (weight * counts).sum(), self.k, each)

    def _likelihood(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the probability of each pixel's own category, (N, H, W); 1 or arbitrary where it is ignored.

        In float64, since float32 has no probability below 1e-45, and a hopeless pixel would lose its gradient.
        """
        return (-pixel_costs(logits, target, self.ignore_index).double().clamp(max=700)).exp()


def minkowski_mean(cost: Tensor, count: Tensor, k: float, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`((1/n) \sum w \ell^k)^{1/k}` of costs ≥ 0, 0 with gradient 0 where all are 0.

    Args:
        cost: The costs ℓ, any shape; 0 where they do not count.
        count: n.
        k: The exponent, at least 1.
        weight: w ≥ 0, broadcast over the costs; `None`: 1.
    """
    count = count.where(count > 0, 1)
    if k == 1:
        return (cost if weight is None else weight * cost).sum() / count
    largest = cost.detach().amax()  # taken out, or a high power overflows
    largest = largest.where(largest > 0, 1)
    powers = (cost / largest).pow(k)
    mean = (powers if weight is None else weight * powers).sum() / count
    return largest * mean.where(mean > 0, 1).pow(1 / k).where(mean > 0, mean)
