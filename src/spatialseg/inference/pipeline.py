"""Images on their way through a network, from decoding to writing, on all cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from threading import Lock
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from spatialseg.data.files import orientation, read_image
from spatialseg.data.source import DataError
from spatialseg.functional.dispatch import one_thread
from spatialseg.inference.model import Inference, Model
from spatialseg.inference.outputs import render, save, target

T = TypeVar("T")
R = TypeVar("R")

Job: TypeAlias = tuple[str, Path]
"""An image to predict: the name under which its files are written, and its own file."""


@dataclass
class Pipeline:
    """Images on their way through the network; what is yielded is what went wrong with an image, or nothing."""

    pool: ThreadPoolExecutor
    model: Model
    inference: Inference
    cut: float | None
    out: Path
    kinds: Sequence[str]
    overwrite: bool

    def __post_init__(self) -> None:
        self.turn = nullcontext() if self.model.device.type == "cpu" else Lock()  # of the network on a GPU

    def tiled(self, jobs: Sequence[Job]) -> Iterator[str | None]:
        """Predict images one by one, the next being decoded meanwhile."""
        for (name, _), image in zip(jobs, _ahead(self.pool, self._read, jobs, 1), strict=True):
            if not isinstance(image, str):
                self._write(name, image, self.model.bands(_tensor(image), self.inference))
            yield image if isinstance(image, str) else None

    def batched(self, jobs: Sequence[Job], size: int | None) -> Iterator[str | None]:
        """Predict images in batches; those of a batch are padded to one size.

        Each thread takes a batch from decoding to writing. On the CPU each then computes by itself: threads that share
        a network's every layer wait for each other, and longest for the one that has to make way for a decoder.
        """
        canvases = dict(zip(jobs, self.pool.map(self._canvas, jobs), strict=True))
        batches: list[list[Job]] = []
        for (height, width), group in groupby(sorted(jobs, key=canvases.__getitem__), canvases.__getitem__):
            count = size or max(1, self.model.pixels_at_once // (height * width))
            while batch := list(islice(group, count)):
                batches.append(batch)
        cores = os.cpu_count() or 1
        with one_thread() if len(batches) >= cores else nullcontext():
            for problems in _ahead(self.pool, self._predict, batches, cores):
                yield from problems

    def _canvas(self, job: Job) -> tuple[int, int]:
        """Return the size to which an image is padded, from its header alone."""
        try:
            with Image.open(job[1]) as stored:
                turned = orientation(stored) >= 5
                return self.model.canvas(stored.size if turned else (stored.height, stored.width))
        except Exception:  # whoever reads it will say what is wrong
            return self.model.canvas((1, 1))

    def _read(self, job: Job) -> NDArray[np.uint8] | str:
        try:
            return read_image(job[1])
        except DataError as error:
            return str(error)

    def _predict(self, batch: Sequence[Job]) -> list[str | None]:
        read = [(name, self._read((name, path))) for name, path in batch]
        good = [(name, image) for name, image in read if not isinstance(image, str)]
        prepared = [self.model.prepare(_tensor(image), self.inference) for _, image in good]
        with self.turn:
            logits = self.model.infer(prepared, self.inference) if good else []
        for (name, image), one in zip(good, logits, strict=True):
            self._write(name, image, self.model.native_bands(one, (image.shape[0], image.shape[1])))
        return [image if isinstance(image, str) else None for _, image in read]

    def _write(self, name: str, image: NDArray[np.uint8], bands: Iterable[tuple[int, torch.Tensor]]) -> None:
        level, mask = np.empty((2, *image.shape[:2]), np.uint8)
        for row, band in bands:
            rows = slice(row, row + band.shape[1])
            level[rows] = ((band.amax(dim=0) if len(band) > 1 else band[0]) * 255).round().byte().numpy()
            mask[rows] = self.model.mask_of(band, self.cut).numpy()
        for kind in self.kinds:
            path = target(self.out, kind, name)
            if self.overwrite or not path.exists():
                save(render(kind, image, level, mask, self.model.classes), path)


def _tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)  # not moved in memory: resizing is twice as fast so


def _ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """Map in threads, at most so many items ahead of whoever takes the results."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
