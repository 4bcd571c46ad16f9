"""What every measure does to its inputs first: check them, and bring them to one form."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from spatialseg import kernels
from spatialseg.functional.arrays import tensor
from spatialseg.functional.dispatch import gathered, operator, per_image, quick

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Maps:
    """A batch of predictions and its ground truth, checked; each map has shape (N, H, W).

    Predictions stay as they came, since a pass over the pixels costs more than to stretch each value where it is used.
    """

    source: Tensor
    """Prediction, float32 or float64, or grey levels, uint8; `scale` tells the foreground probability it stands for."""
    scale: Tensor
    """Probability of each grey level, float64, ascending, (N, 256); else the value that stands for 0, and how far above
    it is that for 1, of the source's type, (N, 2)."""
    mask: Tensor
    """0 background, 1 foreground, 2 where the pixel does not count; uint8."""
    complete: bool
    """Whether all pixels count."""
    stretched: bool
    """Whether the source is not the probability itself."""
    kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What functions returned for these maps; see `once`."""

    @cached_property
    def foreground(self) -> Tensor:
        """Whether the pixel is foreground, boolean."""
        return self.mask.view(torch.bool) if self.complete else self.mask == 1

    @cached_property
    def valid(self) -> Tensor | None:
        """Whether the pixel counts, boolean; `None` if all do."""
        return None if self.complete else self.mask != 2

    @cached_property
    def unknown(self) -> Tensor:
        """Whether no pixel of the image counts, boolean, (N,): what it scores is unknown, which is NaN."""
        return self.mask.flatten(1).amin(dim=1) == 2

    @cached_property
    def prediction(self) -> Tensor:
        """Foreground probability in [0, 1], without gradient: float64 for grey levels, else as it came."""
        return to_probability(self.source, self.scale) if self.stretched else self.source

    def scored(self, values: Tensor) -> Tensor:
        """Return values of the images, (N, ...), floating-point, with NaN for those of which no pixel counts."""
        return values if self.complete else without(values, self.unknown.to(values.device))

    def of_masks(self, predicted: Tensor) -> "Maps":
        """Return the same ground truth with predicted masks, boolean, (N, H, W), as the predictions."""
        source = predicted.float()
        return replace(self, source=source, scale=plain_scale(source), stretched=False)

    def reaches(self, threshold: float) -> Tensor:
        """Return whether the prediction is at least the threshold (at most 1), boolean."""
        if self.source.dtype is not torch.uint8:
            return self.prediction >= threshold
        lowest = (self.scale < threshold).sum(dim=1).to(torch.uint8)  # level 255 is probability 1
        return tensor(quick(self.source) >= quick(lowest.view(-1, 1, 1)))


def without(values: Tensor, unknown: Tensor) -> Tensor:
    """Return values of images, (N, ...), with NaN where those are unknown, boolean, (N,)."""
    return values.masked_fill(unknown.view(-1, *[1] * (values.ndim - 1)), math.nan)


def once(function: Function) -> Function:
    """Let maps keep what a function of them returned, as a decorator: several measures of one image need it."""

    @wraps(function)
    def kept(maps: Maps, *arguments: Any) -> Any:  # noqa: ANN401
        key = function, arguments
        if key not in maps.kept:
            maps.kept[key] = function(maps, *arguments)
        return maps.kept[key]

    return cast(Function, kept)


@once
def masks_at(maps: Maps, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return the predicted mask at a threshold and the true one, boolean; pixels that do not count are in neither.

    Raises:
        ValueError: The threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}; divide grey levels by 255")
    predicted = maps.reaches(threshold)
    return predicted if maps.valid is None else predicted & maps.valid, maps.foreground


def to_probability(source: Tensor, scale: Tensor) -> Tensor:
    """Return what a source stands for, see `Maps`; an ignored pixel beyond the others' extremes becomes 0 or 1."""
    if source.dtype is torch.uint8:
        return scale.gather(1, source.flatten(1).long()).view(source.shape)
    low, span = scale[..., None, None].unbind(dim=1)
    return ((source - low) / span).clamp(0, 1)


def as_maps(
    prediction: Tensor,
    target: Tensor,
    *,
    normalize: bool = False,
    ignore_index: int | None = 255,
    validate_args: bool = True,
) -> Maps:
    """Check a batch of foreground maps and its ground truth, and bring both to one form.

    All checks together copy one small tensor to the host, however many images there are.

    Args:
        prediction: Foreground probability in [0, 1], or uint8 grey levels (divided by 255); (N, H, W) or (N, 1, H, W).
        target: Ground truth: 0, 1 or `ignore_index`; boolean, integer or floating; (N, H, W) or (N, 1, H, W).
        normalize: Stretch each prediction linearly so that its extremes (over the pixels that count) become 0 and 1.
            A constant prediction stays as it is.
        ignore_index: Target value of the pixels that do not count; a boolean target has none.
        validate_args: Look at the values, which makes an accelerator wait; otherwise those named below are not found.

    Returns:
        The checked maps.

    Raises:
        ValueError: The shapes do not fit, a prediction holds NaN or leaves [0, 1], or a target holds another value than
            those above; the message names the image by its place in the batch.
    """
    prediction, target = _without_channel(prediction.detach()), _without_channel(target)
    if prediction.ndim != 3 or prediction.shape != target.shape or 0 in prediction.shape:
        raise ValueError(
            "prediction and target must share one shape (N, H, W) or (N, 1, H, W) without an empty dimension, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if prediction.device != target.device:
        raise ValueError(f"prediction is on {prediction.device}, target on {target.device}; move one to the other")
    grey = prediction.dtype is torch.uint8
    if not grey and not prediction.is_floating_point():
        raise ValueError(f"prediction must be floating-point or uint8, got {prediction.dtype}")
    if not grey and prediction.dtype is not torch.float64:
        prediction = prediction.float()

    mask, found = as_mask(target, ignore_index)
    if normalize or (validate_args and not grey):
        scale, beyond = inspect(prediction, mask, normalize)
        found = torch.cat([found, beyond[None]])
    else:
        scale = plain_scale(prediction)
    if not validate_args:
        return Maps(prediction, scale, mask, complete=False, stretched=normalize or grey)
    unknown, ignored, *unsound = found.tolist()
    for image, wrong in enumerate(unsound[0] if unsound else ()):
        if wrong:
            raise ValueError(_prediction_fault(prediction, image))
    for image, count in enumerate(unknown):
        if count:
            raise ValueError(_target_fault(target, image, ignore_index))
    return Maps(prediction, scale, mask, complete=not any(ignored), stretched=normalize or grey)


def as_mask(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Tell foreground, background and ignored pixels apart.

    Args:
        target: 0, 1 or `ignore_index`, (N, H, W), of any type.
        ignore_index: Target value of the pixels that do not count; a boolean target has none.

    Returns:
        1 where the target is 1, 2 where it is `ignore_index`, else 0, (N, H, W), uint8; and of each image the number of
        pixels that are neither of these nor 0, and of those ignored, (2, N), int64.
    """
    if target.dtype is not torch.bool:
        return sort_out(target, ignore_index)
    nothing = torch.zeros(2, len(target), dtype=torch.int64, device=target.device)
    return target.contiguous().view(torch.uint8), nothing


def _sort_out_by_tensors(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    foreground = target == 1
    ignored = torch.zeros_like(foreground) if ignore_index is None else target == ignore_index
    known = foreground | ignored | (target == 0)
    found = torch.stack([(~known).sum(dim=(1, 2)), ignored.sum(dim=(1, 2))])
    return foreground.to(torch.uint8).masked_fill(ignored, 2), found


def _sort_out_by_kernel(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    if target.dtype in (torch.float16, torch.bfloat16):  # which Numba does not know
        target = target.float()
    left_out = _scalar(ignore_index or 0, target.dtype)
    mask = torch.empty(target.shape, dtype=torch.uint8)
    found = per_image(kernels.inspection.sort_out, target, left_out, ignore_index is not None, mask)
    return mask, gathered(found, np.int64)


@lru_cache
def _scalar(value: int, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Return a value as a tensor of that type would hold it: -1 is 255 in uint8."""
    return torch.tensor(value).to(dtype).numpy()[()]


def _inspect_by_tensors(prediction: Tensor, mask: Tensor, stretches: bool) -> tuple[Tensor, Tensor]:
    """Return the scale by which the extremes of the pixels that count become 0 and 1, and which image leaves [0, 1].

    Unless it `stretches`, the scale is that which leaves all as it is.
    """
    grey = prediction.dtype is torch.uint8
    highest = 255 if grey else 1
    low = prediction.masked_fill(mask == 2, highest).amin(dim=(1, 2))
    high = prediction.masked_fill(mask == 2, 0).amax(dim=(1, 2))
    varied = (low < high) & stretches
    low, high = low.where(varied, 0), high.where(varied, highest)
    unsound = ~((prediction >= 0) & (prediction <= highest)).flatten(1).all(dim=1)
    if not grey:
        return torch.stack([low, high - low], dim=1), unsound.long()
    low, high = low.double()[:, None] / 255, high.double()[:, None] / 255
    return ((plain_scale(prediction) - low) / (high - low)).clamp(0, 1), unsound.long()


def _inspect_by_kernel(prediction: Tensor, mask: Tensor, stretches: bool) -> tuple[Tensor, Tensor]:
    bits, lowest, highest = _BITS[prediction.dtype]
    scale = torch.empty_like(plain_scale(prediction), memory_format=torch.contiguous_format)
    unsound = per_image(kernels.inspection.inspect, prediction.view(bits), mask, stretches, lowest, highest, scale)
    return scale, gathered(unsound, np.int64)


# The type of the integers that are ordered as the values in [0, 1] are, the lowest of all, and that of the value 1.
_BITS = {
    torch.uint8: (torch.uint8, np.uint8(0), np.uint8(255)),
    torch.float32: (torch.int32, np.float32(-0.0).view(np.int32), np.float32(1).view(np.int32)),
    torch.float64: (torch.int64, np.float64(-0.0).view(np.int64), np.float64(1).view(np.int64)),
}
sort_out = operator("sort_out", _sort_out_by_tensors, _sort_out_by_kernel)
inspect = operator("inspect", _inspect_by_tensors, _inspect_by_kernel)


def plain_scale(prediction: Tensor) -> Tensor:
    """Return the scale (see `Maps`) where values are probabilities, or grey levels to be divided by 255."""
    return _plain_scale(len(prediction), prediction.dtype, prediction.device)


@lru_cache
def _plain_scale(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    grey = dtype is torch.uint8
    one = torch.arange(256, device=device).double() / 255 if grey else torch.arange(2, dtype=dtype, device=device)
    return one.expand(count, -1)


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
