"""Region mutual information: what the prediction of a region tells about the region's labels."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spatialseg.losses.base import SegmentationLoss, masked_mean, pixel_costs, probabilities
from spatialseg.losses.registry import register_loss

_EPSILON = 5e-4  # the authors'


@register_loss("rmi")
class RegionMutualInformationLoss(SegmentationLoss):
    r"""Region mutual information loss: λ · cross-entropy + (1 − λ) · the sum over classes of an entropy.

    Prediction and target, averaged over cells of `stride`² pixels, are read as vectors P and Y of the d = `radius`²
    cells of every region. The Gaussian bound on the entropy of Y given P is

    .. math:: \frac{1}{2d} \log \det (\Sigma_{Y|P} + \varepsilon I) - \frac12 \log \varepsilon

    with scatter matrices Σ and ε = 5e-4 as in the authors' code. The last term is ours: a constant, by which it
    lies between 0 and ½ log 2 when P = Y. So are softmax and cross-entropy for several classes in place of a sigmoid
    each, and that a region counts if each of its cells has a valid pixel. Images smaller than a region are left to the
    cross-entropy.

    Args:
        radius: Side of a region in cells.
        stride: Side of a cell in pixels.
        weight: λ in [0, 1].
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = "Zhao et al., Region Mutual Information Loss for Semantic Segmentation, NeurIPS 2019"

    def __init__(self, radius: int = 3, stride: int = 3, weight: float = 0.5, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if radius < 1 or stride < 1 or not 0 <= weight <= 1:
            raise ValueError(f"radius and stride must be positive, weight in [0, 1], got {radius}, {stride}, {weight}")
        self.radius = radius
        self.stride = stride
        self.weight = weight

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; see `forward`."""
        region, valid = self.regions(target, logits.shape[1])
        cross_entropy = masked_mean(pixel_costs(logits, target, self.ignore_index), valid[:, 0])
        entropy = self._conditional_entropy(probabilities(logits), region, valid)
        return self.weight * cross_entropy + (1 - self.weight) * entropy.sum(dim=1).mean().to(logits.dtype)

    def _conditional_entropy(self, scores: Tensor, region: Tensor, valid: Tensor) -> Tensor:
        """Return the entropy of each image and class, (N, C)."""
        share = self._cells(valid.to(scores.dtype))
        if min(share.shape[2:]) < self.radius:
            return scores.sum(dim=(2, 3)) * 0
        counted = self._vectors((share > 0).to(scores.dtype)).amin(dim=2, keepdim=True)
        vectors = torch.cat(
            [
                self._vectors(self._cells(each.where(valid, 0)) / share.where(share > 0, 1))
                for each in (scores, region.to(scores.dtype))
            ],
            dim=2,
        ).double()  # (N, C, 2d, regions): P above Y; log det in float32 is noise
        mean = (vectors * counted).sum(dim=3, keepdim=True) / counted.sum(dim=3, keepdim=True).clamp(min=1)
        vectors = (vectors - mean) * counted
        scatter = vectors @ vectors.mT
        # The lower right part of the joint matrix's Cholesky factor is that of Σ_{Y|P}: no inverse to lose digits in.
        # To look at whether it exists would stall a GPU: of scores that are NaN it is NaN.
        ridge = _EPSILON * torch.eye(scatter.shape[-1], dtype=scatter.dtype, device=scatter.device)
        diagonal: Tensor = torch.linalg.cholesky_ex(scatter + ridge).L.diagonal(dim1=-2, dim2=-1)
        given = diagonal[..., diagonal.shape[-1] // 2 :]
        return given.log().mean(dim=-1) - math.log(_EPSILON) / 2

    def _cells(self, maps: Tensor) -> Tensor:
        """Average (N, C, H, W) over cells; a cell that juts out is filled up with zeros."""
        height, width = maps.shape[2:]
        padded = F.pad(maps, (0, -width % self.stride, 0, -height % self.stride))
        return F.avg_pool2d(padded, self.stride)

    def _vectors(self, cells: Tensor) -> Tensor:
        """Return the cells of every region, (N, C, radius², regions)."""
        regions = cells.unfold(2, self.radius, 1).unfold(3, self.radius, 1)  # (N, C, rows, columns, radius, radius)
        return regions.flatten(4).flatten(2, 3).transpose(2, 3)
