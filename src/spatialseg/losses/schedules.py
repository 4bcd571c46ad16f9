"""Schedules of a loss term's weight: pure functions of the epoch, so that a resumed run continues exactly.

A loss that reads distances, like the boundary loss, diverges or dominates if it acts alone from the start; its weight
grows while that of an overlap loss may fall.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schedule = Callable[[int, int], float]
"""The factor of the weight, given the epoch (from 0) and the number of epochs of the training."""


@dataclass(frozen=True)
class Linear:
    """The factor goes from `start` to `end` in equal steps, from epoch `first` to epoch `last`.

    Whole numbers are epochs; with a point they are fractions of the training, 0.0 its first epoch and 1.0 its last.
    """

    start: float = 0.0
    end: float = 1.0
    first: int | float = 0
    last: int | float = 1.0
    """The epoch that has `end`."""

    def __post_init__(self) -> None:
        """Refuse an impossible span of epochs and impossible factors."""
        _check_factors(start=self.start, end=self.end)
        for epoch in (self.first, self.last):
            if epoch < 0 or (isinstance(epoch, float) and not epoch <= 1):
                raise ValueError(f"a schedule's first and last are epochs >= 0 or fractions 0.0 to 1.0, got {epoch}")
        comparable = isinstance(self.first, float) == isinstance(self.last, float)
        if comparable and self.last < self.first:
            raise ValueError(f"a schedule needs first <= last, got first={self.first}, last={self.last}")

    def __call__(self, epoch: int, max_epochs: int) -> float:
        """Return the factor of the weight in this epoch."""
        return self.start + (self.end - self.start) * self._progress(epoch, max_epochs)

    def _progress(self, epoch: int, max_epochs: int) -> float:
        first, last = (_as_epoch(each, max_epochs) for each in (self.first, self.last))
        if epoch >= last:
            return 1.0
        return 0.0 if epoch < first else (epoch - first) / (last - first)


@dataclass(frozen=True)
class Cosine(Linear):
    """As `Linear`, along half a cosine: slow at both ends."""

    def _progress(self, epoch: int, max_epochs: int) -> float:
        return (1 - math.cos(math.pi * super()._progress(epoch, max_epochs))) / 2


@dataclass(frozen=True)
class Step:
    """The factor starts at `start` and is multiplied by `gamma` at each epoch of `milestones`."""

    milestones: Sequence[int]
    gamma: float = 0.1
    start: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible factors."""
        _check_factors(start=self.start, gamma=self.gamma)

    def __call__(self, epoch: int, max_epochs: int) -> float:
        """Return the factor of the weight in this epoch."""
        return self.start * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


SCHEDULES: dict[str, type[Linear] | type[Step]] = {"linear": Linear, "cosine": Cosine, "step": Step}


def _as_epoch(place: int | float, max_epochs: int) -> float:
    if isinstance(place, float) and max_epochs < 1:
        raise ValueError(f"a fraction of the training needs the number of epochs, got max_epochs={max_epochs}")
    return place * (max_epochs - 1) if isinstance(place, float) else place


def _check_factors(**factors: float) -> None:
    for name, factor in factors.items():
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(f"a schedule needs a finite {name} >= 0, got {factor}: no loss can have a weight below 0")


def build_schedule(description: Mapping[str, Any]) -> Schedule:
    """Build a schedule from its description.

    Args:
        description: `kind` ("linear", "cosine" or "step") and the arguments of that schedule.

    Returns:
        The factor as a function of the epoch and the number of epochs.

    Raises:
        ValueError: An unknown kind or argument, a missing one, or one out of its range.

    Example:
        >>> schedule = build_schedule({"kind": "linear", "start": 0.2})
        >>> [round(schedule(epoch, 5), 2) for epoch in range(5)]
        [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    args = dict(description)
    kind = args.pop("kind", None)
    if kind not in SCHEDULES:
        raise ValueError(f"a schedule's kind must be one of {', '.join(SCHEDULES)}, got {kind!r}")
    signature = inspect.signature(SCHEDULES[kind])
    try:
        signature.bind(**args)
    except TypeError as error:
        raise ValueError(f"schedule {kind!r}: {error}; its arguments: {signature}") from error
    try:
        return SCHEDULES[kind](**args)
    except TypeError as error:
        raise ValueError(f"schedule {kind!r} cannot be made with {args}: {error}") from error
