"""Predict images with a trained network: `python -m spatialseg predict RUN INPUT... --out DIR`."""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spatialseg.data.files import few, list_images, orientation, read_image, stem
from spatialseg.data.source import DataError
from spatialseg.hints import command_parser
from spatialseg.inference.outputs import COLUMNS, KINDS, ROWS, THUMBNAIL, contact_sheet, render, save
from spatialseg.run.folder import RunError

if TYPE_CHECKING:  # takes seconds, and `--help` needs none of it
    import torch

    from spatialseg.inference.model import Inference, Model

T = TypeVar("T")
R = TypeVar("R")

Job: TypeAlias = tuple[str, Path]
"""An image to predict: the name under which its files are written, and its own file."""

RECORD = "predict.json"


class PredictionError(ValueError):
    """Nothing can be predicted; the message says what was found, what was expected and what to do."""


@dataclass
class Outcome:
    """What came of a command.

    Args:
        done: How many images were predicted.
        kept: How many had been before.
        problems: A line for each file that could not be.
    """

    done: int
    kept: int
    problems: list[str]


def find_images(inputs: Sequence[str], out: Path) -> tuple[dict[str, Path], list[str]]:
    """Find what files, folders and patterns such as `photos/*.jpg` mean.

    Files are named by their stem, those below a folder by their path in it. What lies below `out` is passed over.

    Returns:
        The images by name, sorted, and a line for each thing that cannot be used.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []

    def add(name: str, path: Path) -> None:
        if out.resolve() in path.resolve().parents:
            return
        if found.setdefault(name, path).resolve() != path.resolve():
            problems.append(f"{path}: {found[name]} has the same name, and would be overwritten; predict it by itself")

    for each in inputs:
        path = Path(each).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not matches:
            problems.append(f"{each}: no such file or folder" + (", and no match" if glob.has_magic(each) else ""))
        for match in matches:
            if match.is_dir():
                below, unread = list_images(match)
                problems += unread
                for name, file in below.items():
                    add(name, file)
            elif stem(match.name) == match.name:
                problems.append(f"{match}: no image, or of a format that is not read; save it as PNG")
            else:
                add(stem(match.name), match)
    return dict(sorted(found.items())), problems


def predict(
    model: Model,
    images: dict[str, Path],
    out: Path,
    kinds: Sequence[str] = ("maps", "masks"),
    inference: Inference | None = None,
    cut: float | None = None,
    sheet: bool = False,
    overwrite: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> Outcome:
    """Predict images and write what was asked for.

    Only images that are padded to the same size share a batch; a thread per core takes one from decoding to writing. A
    file is whole or not there, so that a command that was stopped goes on where it was.

    Args:
        model: What `spatialseg.load` returns.
        images: By name; the files get these names.
        out: Folder; each kind is a folder in it.
        kinds: Of `outputs.KINDS`.
        inference: Flips, scales and tiles.
        cut: Threshold of masks; by default the model's.
        sheet: Draw contact sheets of all images, done before or now.
        overwrite: Predict also what has been done before.
        batch_size: Images at once; by default as many as suit the device.
        progress: Show a bar.

    Returns:
        What came of it. An image that cannot be read is one of its problems.

    Raises:
        PredictionError: The folder holds predictions that were made otherwise, or files from elsewhere.
    """
    from spatialseg.inference.model import DEFAULT

    inference = inference or DEFAULT
    if "cutouts" in kinds and model.classes > 1:
        raise PredictionError(
            f"a cut-out is foreground without background, but the network has {model.classes} classes"
        )
    targets = {name: [target(out, kind, name) for kind in kinds] for name in images}
    _claim(out, _settings(model, inference, cut), chain(*targets.values()), overwrite)
    waiting = [name for name, paths in targets.items() if overwrite or not all(path.exists() for path in paths)]
    outcome = Outcome(0, len(images) - len(waiting), [])
    with Progress(
        TextColumn("Predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=len(waiting))
        pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
        try:
            work = _Work(pool, model, inference, cut, out, kinds, overwrite)
            jobs = [(name, images[name]) for name in waiting]
            for problem in work.tiled(jobs) if inference.tile else work.batched(jobs, batch_size):
                outcome.problems += [problem] if problem else []
                outcome.done += not problem
                bar.advance(task)
            if sheet:
                _draw_sheets(pool, model, images, out)
        finally:
            pool.shutdown(cancel_futures=True)
    outcome.problems.sort()
    return outcome


@dataclass
class _Work:
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
        from spatialseg.functional.dispatch import one_thread

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
    import torch

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


def target(out: Path, kind: str, name: str) -> Path:
    """Return where a file of an image goes."""
    return out / kind / f"{name}{KINDS[kind]}"


def _claim(out: Path, settings: dict[str, Any], targets: Iterable[Path], overwrite: bool) -> None:
    """Make sure that what lies in the folder was made the same way, and record the way.

    Raises:
        PredictionError: It was not, or by something else.
    """
    record = out / RECORD
    try:
        before = json.loads(record.read_text())
    except FileNotFoundError:
        before = None
    except ValueError as error:
        raise PredictionError(f"{record} cannot be read ({error}); remove it, or choose another folder") from error
    if not overwrite:
        there = [path for path in targets if path.exists()]
        if before is None and there:
            raise PredictionError(
                f"{out} holds files that no prediction wrote, {few(there)}; choose another folder, or --overwrite"
            )
        differing = [name for name in settings if (before or settings).get(name) != settings[name]]
        if differing and there:
            assert before is not None
            was, now = (", ".join(f"{name} {of.get(name)}" for name in differing) for of in (before, settings))
            raise PredictionError(
                f"the predictions in {out} were made with {was}, not with {now}; choose another folder, or --overwrite"
            )
    out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(settings, indent=2) + "\n")


def _settings(model: Model, inference: Inference, cut: float | None) -> dict[str, Any]:
    """Return all that predictions depend on, as JSON has it."""
    assert model.origin
    digest = hashlib.sha256(model.origin.checkpoint.read_bytes()).hexdigest()
    values = {"sha256 of the checkpoint": digest, "cut": model.cut if cut is None else cut, **asdict(inference)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _draw_sheets(pool: ThreadPoolExecutor, model: Model, images: dict[str, Path], out: Path) -> list[Path]:
    """Draw contact sheets from the files of masks, so that what was done before is on them too."""

    def pair(name: str) -> tuple[str, Image.Image, Image.Image] | None:
        mask_path = target(out, "masks", name)
        if not mask_path.exists():
            return None
        small = Image.fromarray(read_image(images[name]))
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        with Image.open(mask_path) as stored:
            mask = np.array(stored.resize(small.size, Image.Resampling.NEAREST))
        image = np.array(small)
        return name, small, render("overlays", image, mask, mask, model.classes)

    written = []
    pairs = [each for each in pool.map(pair, images) if each]
    for start in range(0, len(pairs), COLUMNS * ROWS):
        written.append(out / f"sheet_{start // (COLUMNS * ROWS) + 1}.jpg")
        save(contact_sheet(pairs[start : start + COLUMNS * ROWS]), written[-1])
    return written


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "predict",
        "Predict images with a trained network. Writes grey maps and masks at the images' own size; what "
        "is there already stays, so a command that was stopped goes on where it was.",
        "saliency_wfb/ecssd photos --write maps cutouts --out predictions",
    )
    parser.add_argument("run", help="run folder, EXPERIMENT/DATA, or a checkpoint")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder, or a pattern such as 'photos/*.jpg'")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions")
    parser.add_argument(
        "--write",
        nargs="+",
        choices=[*KINDS, "sheet"],
        default=["maps", "masks"],
        help="grey levels, masks cut where the validation images liked it best, the foreground with alpha, the mask "
        "over the image, a contact sheet (default: maps masks)",
    )
    parser.add_argument("--cut", type=float, help="threshold of the masks, whatever the run's own is")
    parser.add_argument(
        "--flip", nargs="+", choices=("horizontal", "vertical"), default=[], help="average over mirrors"
    )
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0], help="average over sizes, e.g. 0.75 1 1.25")
    parser.add_argument("--tile", type=int, metavar="SIDE", help="take images at their own size, in tiles of this side")
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help="of neighbouring tiles (default: a quarter)")
    parser.add_argument("--batch", type=int, metavar="N", help="images at once (default: what suits the device)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: the first CUDA device, if any)")
    parser.add_argument("--overwrite", action="store_true", help="predict again what is there, and replace it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    return parser


def main(args: Sequence[str]) -> None:
    """Run `spatialseg predict`.

    Raises:
        SystemExit: With status 1 when some file could not be predicted, 2 when nothing can be.
    """
    parser = _parser()
    options = parser.parse_args(args)
    try:
        from spatialseg.inference.model import Inference, load

        inference = Inference(tuple(options.flip), tuple(options.scales), options.tile, options.overlap)
        images, problems = find_images(options.inputs, options.out)
        if not images:
            raise PredictionError("; ".join(problems or ["there are no images"]))
        model = load(options.run, options.runs, options.device)
        assert model.origin
        cut = model.cut if options.cut is None else options.cut
        print(f"network: {model.origin.checkpoint}" + (f", cut at {cut:g}" if model.classes == 1 else ""))
        kinds = [kind for kind in KINDS if kind in options.write or (kind == "masks" and "sheet" in options.write)]
        outcome = predict(
            model,
            images,
            options.out,
            kinds,
            inference,
            options.cut,
            sheet="sheet" in options.write,
            overwrite=options.overwrite,
            batch_size=options.batch,
            progress=sys.stderr.isatty(),
        )
    except (PredictionError, RunError, DataError, ValueError, RuntimeError, OSError) as error:
        parser.exit(2, f"spatialseg predict: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on\n")
    kept = f"; {outcome.kept} were there already" if outcome.kept else ""
    print(f"{outcome.done} predicted{kept}. Written to {options.out}: {', '.join(options.write)}")
    if problems := sorted(problems + outcome.problems):
        noun = "file" if len(problems) == 1 else "files"
        parser.exit(1, "\n  - ".join([f"{len(problems)} {noun} could not be predicted:", *problems]) + "\n")
