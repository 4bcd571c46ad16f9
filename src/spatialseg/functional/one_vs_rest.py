"""Several classes as one foreground map each."""

import torch
from torch import Tensor


def one_vs_rest(target: Tensor, classes: int) -> Tensor:
    """Return where each class is the target (N, H, W), boolean (N, C, H, W); C = 1 gives the foreground, class 1."""
    first = 1 if classes == 1 else 0
    indices = torch.arange(first, first + classes, device=target.device)
    return target[:, None] == indices.view(1, -1, 1, 1)


def most_probable(prediction: Tensor) -> Tensor:
    """Return where each class of (N, C, H, W), C > 1, is the most probable one, boolean (N·C, H, W)."""
    return one_vs_rest(prediction.argmax(dim=1), prediction.shape[1]).flatten(0, 1)


def maps_of_classes(
    prediction: Tensor, target: Tensor, classes: int, ignore_index: int | None, validate_args: bool = True
) -> tuple[Tensor, Tensor]:
    """Turn a batch of C classes into N·C foreground maps and their ground truth.

    Args:
        prediction: Probabilities, (N, C, H, W).
        target: Class index, (N, H, W), or for multi-label 0 and 1 per class, (N, C, H, W); or `ignore_index`.
        classes: C.
        ignore_index: Target value of the pixels that take no part.
        validate_args: Look at the values of the target, which makes an accelerator wait.

    Returns:
        Predictions and targets of values 0, 1 and `ignore_index`, both (N·C, H, W), the classes of an image adjacent.

    Raises:
        ValueError: The shapes do not fit, or a target holds another value than a class index or `ignore_index`.
    """
    if prediction.ndim != 4 or prediction.shape[1] != classes:
        raise ValueError(f"prediction must have shape (N, {classes}, H, W), got {tuple(prediction.shape)}")
    per_class = target.shape == prediction.shape
    if not per_class and target.shape != (len(prediction), *prediction.shape[2:]):
        raise ValueError(
            f"for predictions of shape {tuple(prediction.shape)} the target must have that shape (multi-label) or "
            f"{(len(prediction), *prediction.shape[2:])} (class index), got {tuple(target.shape)}"
        )
    if not per_class:
        valid = valid_classes(target, classes, ignore_index, validate_args)
        target = one_vs_rest(target, classes).to(torch.uint8)
        if ignore_index is not None:
            target = target.to(torch.int64).masked_fill(~valid[:, None], ignore_index)
    return prediction.flatten(0, 1), target.flatten(0, 1)


def valid_classes(target: Tensor, classes: int, ignore_index: int | None, validate_args: bool = True) -> Tensor:
    """Return where a target of class indices (N, H, W) is not `ignore_index`, boolean.

    Raises:
        ValueError: The target holds another value than a class index or `ignore_index`; names the image. Not looked for
            without `validate_args`, as the host has to wait for it.
    """
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    wrong = ((target < 0) | (target >= classes)) & valid
    if validate_args and bool(wrong.any()):
        image = int(wrong.flatten(1).any(dim=1).int().argmax())
        raise ValueError(
            f"the target of image {image} of the batch holds the value {target[image][wrong[image]][0]:g}; "
            f"expected 0 to {classes - 1} or {ignore_index} (ignored)"
        )
    return valid
