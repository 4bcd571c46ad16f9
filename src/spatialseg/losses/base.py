"""What all losses share: the shapes they accept, the precision they compute in, the targets they refuse."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spatialseg.functional.one_vs_rest import one_vs_rest


class SegmentationLoss(nn.Module):
    """Base of the losses here: checks the input, computes in float32, leaves the value to `compute`.

    A subclass sets the class attributes, which `python -m spatialseg losses` prints, and implements `compute`.

    Args:
        ignore_index: Target value of the pixels that take no part.
    """

    paper: ClassVar[str] = ""
    """Where the loss was published."""
    binary: ClassVar[bool] = True
    """Whether logits of one channel are accepted."""
    multiclass: ClassVar[bool] = True
    """Whether logits of several channels are accepted."""
    instead: ClassVar[str] = ""
    """The registered loss to use for the other number of channels, if this one refuses it."""

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: Scores before sigmoid or softmax, shape (N, C, H, W); C = 1 means binary.
            target: Binary (N, H, W) or (N, 1, H, W) in {0, 1}, multi-class (N, H, W) in [0, C); or `ignore_index`.

        Returns:
            A scalar, in float32 (float64 for float64 logits) also under autocast. 0 with gradient 0 if every pixel is
            ignored.

        Raises:
            TypeError: A tensor has the wrong dtype.
            ValueError: Shapes do not fit, the target holds other values, or this loss does not take that many channels.
        """
        logits, target = self.check(logits, target)
        with without_autocast(logits.device):
            return self.compute(logits, target)

    def compute(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of checked float32 or float64 logits (N, C, H, W) and int64 target (N, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must implement compute")

    def valid(self, target: Tensor) -> Tensor:
        """Return where the target (N, H, W) is not ignored, boolean."""
        return target != self.ignore_index

    def regions(self, target: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """Return where each class is the target, boolean (N, C, H, W), and where it is not ignored, (N, 1, H, W)."""
        valid = self.valid(target)[:, None]
        return one_vs_rest(target, channels) & valid, valid

    def check(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits in at least float32 and the target as int64 (N, H, W), or raise; see `forward`."""
        name = type(self).__name__
        if not logits.is_floating_point():
            raise TypeError(f"{name} needs floating-point logits, got {logits.dtype}")
        if logits.ndim != 4:
            raise ValueError(f"{name} needs logits of shape (N, C, H, W), got {tuple(logits.shape)}")
        if target.is_complex():
            raise TypeError(f"{name} needs an integer target, got {target.dtype}")
        channels = logits.shape[1]
        if target.ndim == 4 and channels == 1 and target.shape[1] == 1:
            target = target[:, 0]
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            expected = f"(N, H, W) = {(logits.shape[0], *logits.shape[2:])}"
            raise ValueError(
                f"{name} needs a target of shape {expected} for logits {tuple(logits.shape)}, got {tuple(target.shape)}"
            )
        if not (self.binary if channels == 1 else self.multiclass):
            kind = "binary (one channel)" if self.binary else "multi-class (several channels)"
            hint = f'; use "{self.instead}"' if self.instead else ""
            raise ValueError(f"{name} is {kind}, got logits with C = {channels}{hint}")
        if target.is_floating_point() and channels > 1:
            raise TypeError(f"{name} needs class indices as integers for C = {channels}, got {target.dtype}")
        # Reading the values back would stall a GPU and break a compiled graph.
        if target.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check_values(target, max(channels, 2))
        return logits if logits.dtype is torch.float64 else logits.float(), target.long()

    def _check_values(self, target: Tensor, classes: int) -> None:
        if not target.numel():
            raise ValueError(f"{type(self).__name__} needs at least one pixel, got a target of {tuple(target.shape)}")
        if target.dtype is torch.bool:
            return
        low, high = (extreme.item() for extreme in target.aminmax())
        if 0 <= low and high < classes and not target.is_floating_point():
            return
        if not target.is_floating_point():
            target = target.long()  # -1 is 255 to uint8, and would be taken for what is ignored
        known = (target == target.round()) & (target >= 0) & (target < classes)
        wrong = sorted(set(target[~known & (target != self.ignore_index)].tolist()))
        if wrong:
            values = ", ".join(f"{value:g}" for value in wrong[:5]) + (", …" if len(wrong) > 5 else "")
            raise ValueError(
                f"{type(self).__name__} needs target values 0 … {classes - 1} or ignore_index={self.ignore_index}, "
                f"got {values}"
            )


def without_autocast(device: torch.device) -> torch.autocast:
    """Return a context in which operations on the device compute in the types that they are given."""
    return torch.autocast(device.type if _has_autocast(device.type) else "cpu", enabled=False)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def probabilities(logits: Tensor) -> Tensor:
    """Return class probabilities (N, C, H, W): sigmoid of one channel, softmax of several."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def pixel_costs(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return the cross-entropy of each pixel, (N, H, W), of two categories or of several; arbitrary where ignored."""
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    return F.binary_cross_entropy_with_logits(logits[:, 0], (target == 1).to(logits.dtype), reduction="none")


def class_weights_of(values: Sequence[float] | None) -> Tensor | None:
    """Return weights of classes as a tensor, or raise ValueError unless all are finite, at least 0, one above."""
    if values is not None and not (min(values, default=-1) >= 0 < sum(values) < math.inf):
        raise ValueError(f"class_weights must be finite and at least 0, one of them above, got {list(values)}")
    return None if values is None else torch.tensor(values)


def fitted(class_weights: Tensor, logits: Tensor) -> Tensor:
    """Return the weights in the type and on the device of the logits, or raise unless there is one for each class."""
    classes = max(logits.shape[1], 2)
    if len(class_weights) != classes:
        raise ValueError(f"class_weights must be one for each class, got {len(class_weights)} for {classes} classes")
    return class_weights.to(logits)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the values where `valid`, 0 if nowhere."""
    return values.where(valid, 0).sum() / valid.sum().clamp(min=1)


def mean_over_present(loss: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the classes present in each image, (N, C) to (N,); the one class of binary always counts."""
    if loss.shape[1] == 1:
        return loss[:, 0]
    return (loss * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
