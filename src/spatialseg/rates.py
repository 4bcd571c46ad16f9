"""Learning rates over a training: up, then down, and never up again."""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

BETAS = 0.95, 0.85
"""β₁ of Adam where the rates are lowest and highest (Smith, Topin, *Super-Convergence*, 2018)."""


class RiseAndFall(LRScheduler):
    """Raise each group's rate to what the optimizer was made with, then lower it along half a cosine; step by step.

    A training that goes on for longer than it was planned, or for less, leaves the old curve where it is and falls to
    the end of the new one: once falling, no rate ever rises again. Beyond the end it stays where it is.

    Args:
        optimizer: Its rates are the peaks.
        steps: Number of steps planned.
        rise: Steps until the peak.
        kind: `"onecycle"`: from 1/25 of the peak, along half a cosine each way, to 4e-6 of it, while β₁ goes the other
            way; the same values as `torch.optim.lr_scheduler.OneCycleLR`. `"cosine"`: from 1/`rise`, linearly up, and
            to zero.
    """

    def __init__(self, optimizer: Optimizer, steps: int, rise: float, kind: str) -> None:
        self.kind = kind
        self.rise = rise
        self.end = steps - 1 if kind == "onecycle" else steps
        self.fall = rise
        self.height = 1.0  # where the fall begins, as a share of the way from the lowest to the highest rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's rate."""
        if self.kind == "onecycle":
            low, high = BETAS
            for group in self.optimizer.param_groups:
                group["betas"] = self._between(low, high, low), *group["betas"][1:]
        first, fade = (25, 1e4) if self.kind == "onecycle" else (self.rise, math.inf)
        return [self._between(peak / first, peak, peak / first / fade) for peak in map(float, self.base_lrs)]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule was; if its plan was another one, from the height that it has reached."""
        end = self.end
        super().load_state_dict(state_dict)
        if end != self.end:
            if self.last_epoch > self.rise:
                self.height, self.fall = self._falling() / 2, self.last_epoch
            self.end = end

    def _between(self, first: float, peak: float, last: float) -> float:
        if self.last_epoch > self.rise:
            return last + (peak - last) / 2 * self._falling()
        share = self.last_epoch / self.rise
        if self.kind == "onecycle":
            return peak + (first - peak) / 2 * (math.cos(math.pi * share) + 1)
        return first + (peak - first) * share

    def _falling(self) -> float:
        """Return twice the height."""
        share = min(1.0, (self.last_epoch - self.fall) / max(self.end - self.fall, 1e-9))
        return self.height * (math.cos(math.pi * share) + 1)
