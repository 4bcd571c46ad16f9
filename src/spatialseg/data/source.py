"""What a data set is to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:  # whoever only reads files needs neither library
    from torch.utils.data import Dataset
    from torchvision import tv_tensors

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IGNORE_INDEX = 255


class Sample(TypedDict):
    """One image as it is stored: native size, not augmented."""

    image: tv_tensors.Image  # uint8 RGB (3, H, W)
    mask: tv_tensors.Mask  # uint8 (H, W): {0, 1} if binary, else the class; 255 is ignored
    name: str


class DataError(ValueError):
    """The data cannot be used; the message names the files and what to do about them."""


def raise_problems(what: str, problems: Sequence[str], limit: int = 20) -> None:
    """Raise one `DataError` that lists all problems found (the first `limit` of them in words).

    Args:
        what: What was looked at; opens the message.
        problems: One line each. Nothing happens if there are none.
        limit: How many are spelled out.

    Raises:
        DataError: If there is any problem.
    """
    if not problems:
        return
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{what}: {len(problems)} {noun}", *(f"  - {problem}" for problem in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    raise DataError("\n".join(lines))


class Source(ABC):
    """A data set of images with masks, in three splits.

    A new data set is a subclass with `dataset`; everything after it (augmentation, padding, batching) is shared.

    Attributes:
        classes: Number of classes; 1 means binary.
        class_names: One name per class.
        name: Short name, used in paths and tables.
        in_memory: True if samples come from memory, so that loader processes would cost more than they save.
    """

    in_memory: bool = False

    def __init__(self, name: str, classes: int = 1, class_names: Sequence[str] | None = None) -> None:
        if not 1 <= classes < IGNORE_INDEX:
            raise ValueError(f"classes must be 1 (binary) to {IGNORE_INDEX - 1}, got {classes}")
        if class_names is None:
            class_names = ["foreground"] if classes == 1 else [f"class {index}" for index in range(classes)]
        if len(class_names) != classes:
            raise ValueError(f"{classes} classes but {len(class_names)} class_names: {', '.join(class_names)}")
        self.name = name
        self.classes = classes
        self.class_names = list(class_names)

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Any]:
        """Return the samples of one split as a map-style dataset of `Sample`.

        Raises:
            DataError: If the source has no such split.
        """

    def check(self) -> None:  # noqa: B027 - a source without files has nothing to check
        """Look for anything that would stop a training later.

        Raises:
            DataError: Listing every problem found.
        """
