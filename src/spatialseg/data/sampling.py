"""Which images a process sees, in which order, and where a training goes on that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, DistributedSampler


class ShareSampler(DistributedSampler[Any]):
    """The share of one process of many: every `world_size`-th image, so perhaps one fewer than others have.

    No image is repeated, unless there are fewer than processes: one without images would not take part in what the
    others compute together at the end, and they would wait for it. So it gets the last image, which counts once where
    scores are gathered by name. Being a `DistributedSampler` keeps Lightning from putting its own around this one.

    Args:
        length: Number of images.
        rank: Number of this process.
        world_size: How many processes there are.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(length), world_size, rank)  # type: ignore[arg-type]
        self.places = range(min(rank, max(length - 1, 0)), length, world_size)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.places)


class SeededSampler(ShareSampler):
    """Shuffle as a function of seed and epoch, and give every draw a seed of its own: pairs of index and seed.

    Augmentation seeded by the draw is the same whatever the number of workers. Processes take turns along one common
    order: their batches together are what a single process would have drawn, and all of them draw equally often.
    Lightning calls `set_epoch`; in a plain loop each pass is the next epoch.

    Args:
        length: Number of images.
        seed: Seed of the order and of the draws' seeds.
        rank: Number of this process.
        world_size: How many processes there are.
        drop_last: Leave out the end of the order that does not go round; otherwise no image is left out, and only if
            there are fewer than processes some are drawn twice.
        done: Says, when a pass begins, how many draws of this process to pass over.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        done: Callable[[], int] = int,
    ) -> None:
        super().__init__(length, rank, world_size)
        self.seed, self.length, self.done = seed, length, done
        self.places = range(rank, length - length % world_size if drop_last else max(length, world_size), world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(self.length, generator=generator).tolist()
        seeds = torch.randint(2**31, (self.length,), generator=generator).tolist()
        for place in self.places[self.done() :]:
            yield order[place % self.length], seeds[place % self.length]


class TrainingLoader(DataLoader[Any]):
    """A loader whose pass begins when its first batch is asked for, not when Lightning calls `iter`.

    Only in between does Lightning say which epoch it is and, after an interruption, how much of it is done; loader
    processes would have begun with batches of another epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int | None]:
        """Return what the order of an epoch hangs on, besides its number; the trainer counts the batches."""
        images = len(self.dataset)  # type: ignore[arg-type]
        return {"images": images, "batch size": self.batch_size, "batches of a process": len(self)}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Warn if the rest of an interrupted epoch cannot be what it would have been."""
        if state != (now := self.state_dict()):
            was, is_now = (", ".join(f"{key} {value}" for key, value in each.items()) for each in (state, now))
            rank_zero_warn(f"the training was begun with {was}, now there are {is_now}: its epoch goes on otherwise")
