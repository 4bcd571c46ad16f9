"""Several classes as one foreground map each."""

import torch
from torch import Tensor


def one_vs_rest(prediction: Tensor, target: Tensor, classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Turn a batch of C classes into N·C foreground maps and their ground truth.

    Args:
        prediction: Probabilities, (N, C, H, W).
        target: Class index, (N, H, W), or for multi-label 0 and 1 per class, (N, C, H, W); or `ignore_index`.
        classes: C.
        ignore_index: Target value of the pixels that take no part.

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
        index = target[:, None]
        ignored = torch.zeros_like(index, dtype=torch.bool) if ignore_index is None else index == ignore_index
        wrong = ((index < 0) | (index >= classes)) & ~ignored
        if bool(wrong.any()):
            image = int(wrong.flatten(1).any(dim=1).int().argmax())
            raise ValueError(
                f"the target of image {image} of the batch holds the value {index[image][wrong[image]][0]:g}; "
                f"expected 0 to {classes - 1} or {ignore_index} (ignored)"
            )
        target = (index == torch.arange(classes, device=target.device).view(1, -1, 1, 1)).to(torch.uint8)
        if ignore_index is not None:
            target = target.to(torch.int64).masked_fill(ignored, ignore_index)
    return prediction.flatten(0, 1), target.flatten(0, 1)
