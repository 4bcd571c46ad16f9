"""What every measure does to its inputs first: check them, and bring them to one form."""

from typing import NamedTuple

import torch
from torch import Tensor


class Maps(NamedTuple):
    """A batch of predictions and its ground truth, checked; each map has shape (N, H, W)."""

    prediction: Tensor
    """Foreground probability in [0, 1]: float64 for uint8 and float64 input, else float32."""
    foreground: Tensor
    """Whether the pixel is foreground, boolean."""
    valid: Tensor | None
    """Whether the pixel counts, boolean; `None` if all do."""


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
        ignore_index: Target value of the pixels that do not count.

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
    low, high = prediction.detach().amin(dim=(1, 2)), prediction.detach().amax(dim=(1, 2))
    levels = prediction if prediction.dtype is torch.uint8 else None
    if levels is not None:
        low, high = low.double() / 255, high.double() / 255
    elif not prediction.is_floating_point():
        raise ValueError(f"prediction must be floating-point or uint8, got {prediction.dtype}")
    elif prediction.dtype is not torch.float64:
        prediction, low, high = prediction.float(), low.float(), high.float()

    foreground = target if target.dtype is torch.bool else target == 1
    ignored = None if ignore_index is None or target.dtype is torch.bool else target == ignore_index
    # A NaN makes both extremes NaN, and no comparison with NaN holds.
    sound = (low >= 0) & (high <= 1)
    if target.dtype is torch.bool:
        known, some_ignored = torch.ones_like(sound), torch.zeros_like(sound)
    else:
        others = (target != 0) ^ foreground
        known = ~(others if ignored is None else others ^ ignored).flatten(1).any(dim=1)
        some_ignored = torch.zeros_like(known) if ignored is None else ignored.flatten(1).any(dim=1)
    verdict = torch.stack([sound, known, some_ignored]).tolist()
    if not all(verdict[0]):
        raise ValueError(_prediction_fault(prediction, verdict[0].index(False)))
    if not all(verdict[1]):
        raise ValueError(_target_fault(target, verdict[1].index(False), ignore_index))

    valid = ~ignored if ignored is not None and any(verdict[2]) else None
    if normalize and valid is not None:
        unit = prediction.detach() if levels is None else levels.double() / 255
        low = unit.masked_fill(~valid, torch.inf).flatten(1).amin(dim=1)
        high = unit.masked_fill(~valid, -torch.inf).flatten(1).amax(dim=1)
    if not normalize:
        low, high = torch.zeros_like(low), torch.ones_like(high)
    constant = ~(high > low)
    low, high = low.masked_fill(constant, 0), high.masked_fill(constant, 1)
    if levels is not None:
        prediction = _grey_to_unit(levels, low, high)
    elif normalize:
        prediction = (prediction - low[:, None, None]) / (high - low)[:, None, None]
    return Maps(prediction, foreground, valid)


def _grey_to_unit(levels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    # Subtract, then divide, as NumPy toolboxes do: a product with the reciprocal can land in the next lower grey level.
    if levels.device.type == "cpu":
        from spatialseg.functional import compiled  # imports Numba, which takes a second

        return compiled.grey_to_unit(levels, low, high)
    return (levels.double() / 255 - low[:, None, None]) / (high - low)[:, None, None]


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
