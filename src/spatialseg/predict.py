"""Predict images with a trained network: `python -m spatialseg predict RUN INPUT... --out DIR`."""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import sys
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from spatialseg.conventions import check_cut
from spatialseg.data.files import few, list_images, read_image, stem
from spatialseg.data.source import DataError
from spatialseg.hints import command_parser
from spatialseg.inference.outputs import COLUMNS, KINDS, ROWS, THUMBNAIL, contact_sheet, render, save, target
from spatialseg.run.folder import RunError

if TYPE_CHECKING:  # takes seconds, and `--help` needs none of it
    from spatialseg.inference.model import Inference, Model

RECORD = "predict.json"
SHEETS = "sheet_[0-9]*.jpg"


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
                    add(name, Path(file))
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
        cut: Threshold of masks, in [0, 1]; by default the model's.
        sheet: Draw contact sheets of all images, done before or now.
        overwrite: Predict also what has been done before; by another network or with other settings only if this
            replaces all of that.
        batch_size: Images at once, at least 1; by default as many as suit the device.
        progress: Show a bar.

    Returns:
        What came of it. An image that cannot be read is one of its problems.

    Raises:
        PredictionError: The folder holds predictions that were made otherwise, or files from elsewhere, and they would
            stay; several classes have no cut-outs; or a batch would have no image.
        ValueError: The cut is not in [0, 1].
    """
    from spatialseg.inference.model import DEFAULT
    from spatialseg.inference.pipeline import Pipeline

    inference = inference or DEFAULT
    if cut is not None:
        check_cut(cut)
    if batch_size is not None and batch_size < 1:
        raise PredictionError(f"a batch has at least 1 image, got {batch_size}")
    if "cutouts" in kinds and model.classes > 1:
        raise PredictionError(
            f"a cut-out is foreground without background, but the network has {model.classes} classes"
        )
    targets = {name: [target(out, kind, name) for kind in kinds] for name in images}
    replaced = {*chain(*targets.values()), *(out.glob(SHEETS) if sheet else ())}
    _claim(out, _settings(model, inference, cut), replaced, overwrite)
    waiting = [name for name, paths in targets.items() if overwrite or not all(path.exists() for path in paths)]
    outcome = Outcome(0, len(images) - len(waiting), [])
    pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    try:
        work = Pipeline(pool, model, inference, cut, out, kinds, overwrite)
        jobs = [(name, images[name]) for name in waiting]
        results = work.tiled(jobs) if inference.tile else work.batched(jobs, batch_size)
        shown: dict[str, Any] = {"transient": True, "disable": not progress, "console": Console(stderr=True)}
        for problem in track(results, "Predicting", len(jobs), **shown):
            outcome.problems += [problem] if problem else []
            outcome.done += not problem
        if sheet:
            _draw_sheets(pool, model, images, out)
    finally:
        pool.shutdown(cancel_futures=True)
    outcome.problems.sort()
    return outcome


def _claim(out: Path, settings: dict[str, Any], replaced: Set[Path], overwrite: bool) -> None:
    """Make sure that everything in the folder is made one way, and record the way.

    What was made otherwise goes before anything new comes, so that a command that was stopped leaves no mixture.

    Args:
        out: The folder.
        settings: The way.
        replaced: What this call would write, and may replace.
        overwrite: Whether it may.

    Raises:
        PredictionError: Something was made otherwise, or by something else, and would stay.
    """
    record = out / RECORD
    try:
        before = json.loads(record.read_text())
    except FileNotFoundError:
        before = {}
    except ValueError as error:
        raise PredictionError(f"{record} cannot be read ({error}); remove it, or choose another folder") from error
    differing = [name for name in settings if before.get(name) != settings[name]]
    if not differing:
        return
    written = chain(out.glob(SHEETS), *((out / kind).rglob(f"*{suffix}") for kind, suffix in KINDS.items()))
    earlier = sorted(path for path in written if path.is_file())
    staying = [path for path in earlier if path not in replaced]
    if staying or (earlier and not overwrite):
        was, now = (", ".join(f"{name} {of.get(name)}" for name in differing) for of in (before, settings))
        found = f"the predictions in {out} were made with {was}, not with {now}"
        if not before:
            found = f"{out} holds files that no prediction wrote, {few(earlier)}"
        remedy = f"first remove what --overwrite would leave, {few(staying)}" if staying else "--overwrite"
        raise PredictionError(f"{found}; choose another folder, or {remedy}")
    for path in earlier:
        path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(settings, indent=2) + "\n")


def _settings(model: Model, inference: Inference, cut: float | None) -> dict[str, Any]:
    """Return all that predictions depend on, as JSON has it."""
    assert model.origin
    digest = hashlib.sha256(model.origin.checkpoint.read_bytes()).hexdigest()
    values = {"sha256 of the checkpoint": digest, "cut": model.cut if cut is None else cut, **asdict(inference)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _draw_sheets(pool: ThreadPoolExecutor, model: Model, images: dict[str, Path], out: Path) -> None:
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

    pairs = [each for each in pool.map(pair, images) if each]
    for number, start in enumerate(range(0, len(pairs), COLUMNS * ROWS), 1):
        save(contact_sheet(pairs[start : start + COLUMNS * ROWS]), out / f"sheet_{number}.jpg")


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
