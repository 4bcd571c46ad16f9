"""Looking through a data set once, before a training trusts it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import track

from spatialseg.data.files import Array, Pair, few, orientation, read_image, read_mask
from spatialseg.data.source import IGNORE_INDEX, DataError, Split

CHECK_VERSION = 2  # raise it when the check changes: what an older one passed is then looked at again

Facts = tuple[str, bool]  # of a pair: digest of the image's pixels, and whether its mask is empty
T = TypeVar("T")
R = TypeVar("R")


def check_pairs(splits: Mapping[Split, Sequence[Pair]], classes: int, name: str) -> list[str]:
    """Read every pair once and return the problems found.

    What passed is remembered by names, sizes and times of the files, in `$XDG_CACHE_HOME/spatialseg` (by default
    `~/.cache/spatialseg`), so that the next start does not wait. Nothing is written beside the data.
    """
    pairs = sorted({pair for part in splits.values() for pair in part})
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatialseg" / "checked"
    passed = folder / fingerprint((file for pair in pairs for file in pair[1:]), f"pairs {classes}")
    try:
        facts = json.loads(passed.read_text())
    except (OSError, ValueError):  # none, or one that was cut short
        what = f"Checking the images and masks of {name}, once"
        inspected = in_parallel(lambda pair: inspect_pair(pair, classes), pairs, what)
        if problems := [problem for found, _ in inspected for problem in found]:
            return problems
        facts = [fact for _, fact in inspected]
        with suppress(OSError):  # where nothing can be written, the check is simply made again
            folder.mkdir(parents=True, exist_ok=True)
            passed.write_text(json.dumps(facts))
    return _unfit_splits(splits, dict(zip(pairs, facts, strict=True)), classes)


def inspect_pair(pair: Pair, classes: int) -> tuple[list[str], Facts]:
    """Read one pair; return its problems and what there is to know of it."""
    problems: list[str] = []
    image = _attempt(problems, read_image, pair.image)
    mask = _attempt(problems, read_mask, pair.mask, classes)
    if image is None or mask is None:
        return problems, ("", True)
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if (height, width) != (mask_height, mask_width):
        hint = ""
        with Image.open(pair.image) as stored:
            if (mask_height, mask_width) == (width, height) and orientation(stored) >= 5:
                hint = "; the image's EXIF tag turns it by 90°: turn the mask as well, or remove the tag"
        problems.append(
            f"{pair.mask}: the mask is {mask_width}×{mask_height} (width × height), "
            f"its image {pair.image} is {width}×{height}{hint}"
        )
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=str(width).encode())
    return problems, (digest.hexdigest(), not ((mask > 0) & (mask != IGNORE_INDEX)).any())


def _attempt(problems: list[str], read: Callable[..., Array], *arguments: object) -> Array | None:
    try:
        return read(*arguments)
    except DataError as error:
        problems.append(str(error))
        return None


def _unfit_splits(splits: Mapping[Split, Sequence[Pair]], facts: Mapping[Pair, Facts], classes: int) -> list[str]:
    """Return what is wrong with the splits, whose pairs are sound one by one."""
    problems = []
    for split, pairs in splits.items():
        if pairs and all(facts[pair][1] for pair in pairs):
            problems.append(
                f"every mask of {split} is empty, so nothing can be learnt from it, nor scored on it"
                if classes == 1
                else f"no mask of {split} holds any class but 0 and {IGNORE_INDEX}; if binary, set `classes: 1`"
            )
        if split == "train":
            continue
        others = {facts[pair][0]: pair.image for pair in pairs}
        known = [(pair.image, others.get(facts[pair][0])) for pair in splits.get("train", ())]
        if twins := [f"{image} = {other}" for image, other in known if other]:
            problems.append(f"the same images in train and {split}, which would flatter the scores, {few(twins)}")
    return problems


def in_parallel(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Map over items in threads (decoders release the GIL), with a progress line when it takes a while."""
    long = len(items) >= 200
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        results: Iterable[R] = pool.map(function, items)
        if long and sys.stderr.isatty():
            console = Console(stderr=True)
            results = track(results, description=what, total=len(items), console=console, transient=True)
        elif long:
            from lightning.pytorch.utilities import rank_zero_info  # takes seconds

            rank_zero_info(f"{what} ({len(items)} files)")
        return list(results)


def fingerprint(paths: Iterable[str], what: str) -> str:
    """Return a digest of the names, sizes and modification times of files."""
    digest = hashlib.blake2b(f"{CHECK_VERSION} {what}".encode(), digest_size=16)
    here = os.getcwd()
    for path in paths:
        try:
            status = os.stat(path)
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"\0{os.path.join(here, path)}\0{state}".encode())
    return digest.hexdigest()
