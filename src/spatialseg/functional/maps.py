"""What every measure does to its inputs first: check them, and bring them to one form."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from spatialseg.functional.arrays import quick, tensor, where


@dataclass(frozen=True)
class Maps:
    """A batch of predictions and its ground truth, checked; each map has shape (N, H, W).

    Grey levels stay as they are, since 256 values are quicker to handle one by one than the pixels are.
    """

    source: Tensor
    """Foreground probability in [0, 1], float32 or float64; or grey levels, uint8, each of which `levels` explains."""
    foreground: Tensor
    """Whether the pixel is foreground, boolean."""
    valid: Tensor | None = None
    """Whether the pixel counts, boolean; `None` if all do."""
    levels: Tensor | None = None
    """Foreground probability that each grey level of each image stands for, float64, ascending, (N, 256)."""

    @cached_property
    def prediction(self) -> Tensor:
        """Foreground probability in [0, 1]: float64 for grey levels, else as it came."""
        if self.levels is None:
            return self.source
        return self.levels.gather(1, self.source.flatten(1).long()).view(self.source.shape)

    def reaches(self, threshold: float) -> Tensor:
        """Return whether the prediction is at least the threshold (at most 1), boolean."""
        if self.levels is None:
            return self.source >= threshold
        lowest = (self.levels < threshold).sum(dim=1).to(torch.uint8)  # level 255 is probability 1
        return tensor(quick(self.source) >= quick(lowest.view(-1, 1, 1)))

    def target(self) -> Tensor:
        """Return the ground truth as one map again: 1 foreground, 0 background, 255 where the pixel does not count."""
        if self.valid is None:
            return self.foreground
        return self.foreground.to(torch.uint8).masked_fill(~self.valid, 255)


def as_maps(
    prediction: Tensor,
    target: Tensor,
    *,
    normalize: bool = False,
    ignore_index: int | None = 255,
) -> Maps:
    """Check a batch of foreground maps and its ground truth, and bring both to one form.

    All checks together copy one small tensor to the host, however many images there are.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels (divided by 255); (N, H, W) or (N, 1, H, W).
        target: Ground truth: 0, 1 or `ignore_index`; boolean, integer or floating; (N, H, W) or (N, 1, H, W).
        normalize: Stretch each prediction linearly so that its extremes (over the pixels that count) become 0 and 1.
            A constant prediction stays as it is.
        ignore_index: Target value of the pixels that do not count; a boolean target has none.

    Returns:
        The checked maps.

    Raises:
        ValueError: The shapes do not fit, a prediction holds NaN or leaves [0, 1], or a target holds another value than
            those above; the message names the image by its place in the batch.
    """
    prediction, target = _without_channel(prediction), _without_channel(target)
    if prediction.ndim != 3 or prediction.shape != target.shape or 0 in prediction.shape:
        raise ValueError(
            "prediction and target must share one shape (N, H, W) or (N, 1, H, W) without an empty dimension, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if prediction.device != target.device:
        raise ValueError(f"prediction is on {prediction.device}, target on {target.device}; move one to the other")
    levels = prediction if prediction.dtype is torch.uint8 else None
    if levels is None and not prediction.is_floating_point():
        raise ValueError(f"prediction must be floating-point or uint8, got {prediction.dtype}")
    if levels is None and prediction.dtype is not torch.float64:
        prediction = prediction.float()

    inspect = _inspect
    if prediction.device.type == "cpu":
        from spatialseg.functional import compiled  # imports Numba, which takes a second

        inspect = compiled.inspect
    low, high, sound, known, foreground, valid = inspect(prediction.detach(), target, ignore_index)
    if not all(sound):
        raise ValueError(_prediction_fault(prediction, sound.index(False)))
    if not all(known):
        raise ValueError(_target_fault(target, known.index(False), ignore_index))
    if levels is not None:
        unit = _unit_levels(levels.device)
        if not normalize:
            return Maps(levels, foreground, valid, unit.expand(len(levels), -1))
    elif not normalize:
        return Maps(prediction, foreground, valid)

    if valid is not None:
        low = prediction.detach().double().masked_fill(~valid, torch.inf).flatten(1).amin(dim=1)
        high = prediction.detach().double().masked_fill(~valid, -torch.inf).flatten(1).amax(dim=1)
        low, high = ((end / 255 if levels is not None else end.to(prediction.dtype)) for end in (low, high))
    low, high = quick(low), quick(high)
    varied = high > low
    low, high = where(varied, low, 0.0), where(varied, high, 1.0)
    # Subtract, then divide, as NumPy toolboxes do: a product with the reciprocal can land in the next lower grey level.
    if levels is not None:
        stretched = ((quick(unit) - low[:, None]) / (high - low)[:, None]).clip(0, 1)
        return Maps(levels, foreground, valid, tensor(stretched))
    low, high = tensor(low), tensor(high)
    stretched = (prediction - low[:, None, None]) / (high - low)[:, None, None]
    return Maps(stretched if valid is None else stretched.clamp(0, 1), foreground, valid)


class Inspection(NamedTuple):
    """What is found in a batch of N predictions and targets."""

    low: Tensor
    """Lowest prediction of each image, in [0, 1] also for grey levels, (N,); NaN if the image holds NaN."""
    high: Tensor
    """Highest, (N,)."""
    sound: list[bool]
    """Whether all predictions of the image are in [0, 1]."""
    known: list[bool]
    """Whether its target holds 0, 1 and the value ignored only."""
    foreground: Tensor
    """Whether the target is 1, (N, H, W), boolean."""
    valid: Tensor | None
    """Whether the pixel counts, (N, H, W), boolean; `None` if all do."""


def _inspect(prediction: Tensor, target: Tensor, ignore_index: int | None) -> Inspection:
    """Look for what `as_maps` asks, in tensor operations; `compiled.inspect` is the twin for the CPU.

    Args:
        prediction: (N, H, W), uint8, float32 or float64.
        target: (N, H, W), of any type.
        ignore_index: Target value of the pixels that do not count.
    """
    low, high = prediction.amin(dim=(1, 2)), prediction.amax(dim=(1, 2))
    if prediction.dtype is torch.uint8:
        low, high = low.double() / 255, high.double() / 255
    # A NaN makes both extremes NaN, and no comparison with NaN holds.
    sound = (low >= 0) & (high <= 1)
    foreground = target == 1
    if ignore_index is None or target.dtype is torch.bool:
        ignored = torch.zeros_like(foreground)
    else:
        ignored = target == ignore_index
    known = (foreground | ignored | (target == 0)).flatten(1).all(dim=1)
    verdict = torch.stack([sound, known, ignored.flatten(1).any(dim=1)]).tolist()
    return Inspection(low, high, verdict[0], verdict[1], foreground, ~ignored if any(verdict[2]) else None)


@lru_cache
def _unit_levels(device: torch.device) -> Tensor:
    return torch.arange(256, dtype=torch.float64, device=device) / 255


def _without_channel(maps: Tensor) -> Tensor:
    return maps[:, 0] if maps.ndim == 4 and maps.shape[1] == 1 else maps


def _prediction_fault(prediction: Tensor, image: int) -> str:
    found = prediction[image]
    if bool(found.isnan().any()):
        return f"the prediction of image {image} of the batch holds NaN at {int(found.isnan().sum())} pixels"
    return (
        f"the prediction of image {image} of the batch spans [{found.min():g}, {found.max():g}], "
        "expected [0, 1]: apply the sigmoid or softmax to logits, divide grey levels by 255"
    )


def _target_fault(target: Tensor, image: int, ignore_index: int | None) -> str:
    values = torch.unique(target[image]).tolist()
    listed = ", ".join(f"{value:g}" for value in values[:8]) + (", …" if len(values) > 8 else "")
    also = "" if ignore_index is None else f" and {ignore_index} (ignored)"
    return f"the target of image {image} of the batch holds the values {listed}; expected 0, 1{also}"
