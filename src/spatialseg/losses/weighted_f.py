"""The weighted F-measure as a loss."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spatialseg.functional import WeightedCounts, f_measure_from_counts
from spatialseg.functional.weighted_f import Dependency, Importance, Weighting, counts_with
from spatialseg.losses.base import SegmentationLoss, mean_over_present, probabilities, without_autocast
from spatialseg.losses.registry import register_loss


@register_loss("wfb")
class WeightedFBetaLoss(SegmentationLoss):
    r"""Weighted F-measure loss: :math:`1 - \hat F^w_\beta` of each image, or :math:`-\log \hat F^w_\beta`.

    .. math::
        \hat F^w_\beta = \frac{(1+\beta^2)\,TP^w + \varepsilon}{\beta^2 N_+ + TP^w + FP^w + \varepsilon}

    with the weighted counts of `spatialseg.functional.weighted_f_measure` (Margolin et al., CVPR 2014), which the loss
    makes the objective of training (Kolkin et al., ICCV 2017). Our reading: `dependency="local"`, window and σ, ε, the
    form for several classes (softmax, one against the rest, mean over the classes).

    Args:
        beta2: β², the weight of recall against precision; positive.
        dependency: How neighbouring misses are merged: "local", "reference" (the measure exactly) or `None`; see
            `spatialseg.functional.weighted_error`.
        importance: "distance": a false alarm costs up to twice as much far from the object; `None`: no difference.
        log: Return −log F, whose gradient does not fade where the overlap is small.
        smooth: ε > 0 in pixels; through it each false alarm on an image without foreground costs.
        window: Side in pixels of the dependency's Gaussian, odd.
        sigma: Standard deviation in pixels of that Gaussian.
        classes: The classes that count, for several classes: those "present" in the image, "all", or a list of indices.
        per_image: Take the loss of each image; otherwise one of the counts pooled over the batch.
        ignore_index: Target value of the pixels that take no part: not as error, not as foreground, not as neighbour.
        reduction: "mean" or "sum" over the images, or "none": shape (N,), or (1,) if pooled.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> loss = WeightedFBetaLoss()
        >>> target = torch.zeros(2, 32, 32)
        >>> target[:, 10:20, 12:24] = 1
        >>> logits = (20 * target - 10)[:, None].requires_grad_()
        >>> loss(logits, target).item() < 1e-3
        True
    """

    paper: ClassVar[str] = "Kolkin et al., Training Deep Networks to be Spatially Sensitive, ICCV 2017"

    def __init__(
        self,
        beta2: float = 1.0,
        dependency: Dependency = "local",
        importance: Importance = "distance",
        log: bool = False,
        smooth: float = 1.0,
        window: int = 7,
        sigma: float = 5.0,
        classes: Literal["present", "all"] | Sequence[int] = "present",
        per_image: bool = True,
        ignore_index: int = 255,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__(ignore_index)
        if not beta2 > 0:
            raise ValueError(f"beta2 must be positive, got {beta2}")
        self.weighting = Weighting(dependency, importance, window, sigma)
        if not smooth > 0:
            raise ValueError(f"smooth must be positive, got {smooth}: without it an image may have no F-measure")
        if isinstance(classes, str) and classes not in ("present", "all"):
            raise ValueError(f'classes must be "present", "all" or a list of class indices, got {classes!r}')
        if not classes:
            raise ValueError("classes must name at least one class, got an empty list")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
        self.beta2 = beta2
        self.log = log
        self.smooth = smooth
        self.classes = classes
        self.per_image = per_image
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor, distance: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: Scores before sigmoid or softmax, shape (N, C, H, W); C = 1 means binary.
            target: Binary (N, H, W) or (N, 1, H, W) in {0, 1}, multi-class (N, H, W) in [0, C); or `ignore_index`.
            distance: What `distance_maps` gives for each mask, shape (N, H, W) if binary and (N, C, H, W) if not;
                computed if `None`.

        Returns:
            The loss reduced as `reduction` says, in [0, 1] per image ([0, ∞) if `log`). 0 with gradient 0 where every
            pixel is ignored.

        Raises:
            TypeError: A tensor has the wrong dtype.
            ValueError: Shapes do not fit, the target holds other values, or `classes` has an index beyond C.
        """
        logits, target = self.check(logits, target)
        with without_autocast(logits.device):
            return self._reduced(logits, target, distance)

    def _regions(self, target: Tensor, channels: int) -> Tensor:
        """Return where each class is (1), is not (0) or is ignored (255), uint8 (N, C, H, W)."""
        if channels == 1 and self.ignore_index == 255:
            return target.to(torch.uint8)[:, None]  # the commonest case in one pass over the memory
        region, valid = self.regions(target, channels)
        return region.to(torch.uint8).masked_fill_(~valid, 255)

    def _reduced(self, logits: Tensor, target: Tensor, distance: Tensor | None) -> Tensor:
        batch, channels = logits.shape[:2]
        scores = probabilities(logits)
        region = self._regions(target, channels)
        if distance is not None:
            expected = target.shape if channels == 1 else logits.shape
            if distance.shape != expected:
                raise ValueError(f"distance must have shape {tuple(expected)}, got {tuple(distance.shape)}")
            distance = distance.reshape(scores.shape)
        if channels > 1 and not isinstance(self.classes, str):
            if not all(0 <= each < channels for each in self.classes):
                raise ValueError(f"classes must be in 0 … {channels - 1}, got {list(self.classes)}")
            chosen = torch.tensor(self.classes, device=logits.device)
            scores, region = scores[:, chosen], region[:, chosen]
            distance = None if distance is None else distance[:, chosen]
        distance = None if distance is None else distance.flatten(0, 1)
        counts = counts_with(scores.flatten(0, 1), region.flatten(0, 1), self.weighting, 255, distance)
        counts = WeightedCounts(*(each.view(batch, -1) for each in counts))
        if not self.per_image:
            counts = WeightedCounts(*(each.sum(dim=0, keepdim=True) for each in counts))
        f = f_measure_from_counts(counts, self.beta2, self.smooth).f
        loss = -f.log() if self.log else 1 - f
        loss = mean_over_present(loss, counts.positives > 0) if self.classes == "present" else loss.mean(dim=1)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()
