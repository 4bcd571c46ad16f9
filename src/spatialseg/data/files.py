"""Images and masks as they lie on disk: finding, reading and checking them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from rich.console import Console
from rich.progress import track
from torchvision import tv_tensors

from spatialseg.data.source import IGNORE_INDEX, DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SEARCH = ("data", "../shared/data")
CHECK_VERSION = 1  # raise it when the check changes: what an older one passed is then looked at again

Array = NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")


class Pair(NamedTuple):
    """An image file and its mask file."""

    name: str
    image: Path
    mask: Path


def find_root(root: str | Path) -> Path:
    """Return the folder that `root` means.

    A relative path is tried as it is, then under `$SPATIALSEG_DATA`, then under `data/` and `../shared/data`.

    Raises:
        DataError: If there is no such folder; names the places tried.
    """
    root = Path(root).expanduser()
    places = [root]
    if not root.is_absolute():
        variable = os.environ.get("SPATIALSEG_DATA")
        places += [Path(base) / root for base in ((variable,) if variable else ()) + SEARCH]
    for place in places:
        if place.is_dir():
            return place
    tried = ", ".join(str(place.absolute()) for place in places)
    hint = "" if root.is_absolute() else "; put it there, or set SPATIALSEG_DATA to the folder that holds it"
    raise DataError(f"no folder {str(root)!r} (tried {tried}){hint}")


def stem(name: str) -> str:
    """Drop the suffix of an image file, and only such a suffix: `a.b.jpg` and `a.b` are both `a.b`."""
    return name[: -len(suffix)] if (suffix := Path(name).suffix).lower() in SUFFIXES else name


def list_images(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the image files below a folder by their path without suffix, sorted, and the problems met.

    Hidden files and other kinds of file are passed over.
    """
    found: dict[str, Path] = {}
    problems = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(parent).relative_to(folder)
        for file in sorted(files):
            name = (prefix / stem(file)).as_posix()
            if file.startswith(".") or stem(file) == file:
                continue
            path = Path(parent, file)
            if name in found:
                problems.append(f"two files of one name: {found[name]} and {path}; keep one")
            else:
                found[name] = path
    return dict(sorted(found.items())), problems


def _orientation(image: Image.Image) -> int:
    """Return how EXIF says the image is to be turned: 1 is not at all, 5 to 8 swap width and height."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _open(path: Path) -> Image.Image:
    """Open and fully decode an image file, turned as its EXIF orientation says."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise almost anything on damaged files
        raise DataError(f"{path}: cannot be read, the file is damaged or no image ({error})") from error


def _grey16(image: Image.Image, path: Path) -> Array:
    """Return a 16-bit greyscale image as integers in [0, 65535]."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path}: values {values.min()} to {values.max()} do not fit 16 bits; save it with 8 or 16")
    return values.astype(np.int64)


def read_image(path: Path) -> Array:
    """Read an image as uint8 RGB of shape (H, W, 3).

    Greyscale, palette and CMYK are converted, alpha is dropped, 16 bits are scaled to 8, EXIF rotation is applied.

    Raises:
        DataError: If the file cannot be read or holds floating-point values; names it.
    """
    image = _open(path)
    if image.mode == "F":
        raise DataError(f"{path}: floating-point pixels have no known range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        grey = ((_grey16(image, path) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P":
        image = image.convert("RGBA")  # by way of RGBA, a palette with transparency converts without a warning
    return np.array(image.convert("RGB"))


def _mask_values(image: Image.Image, path: Path, classes: int) -> Array:
    """Return the single channel that a mask file holds, as integers (H, W)."""
    mode = image.mode
    if mode == "P":
        indices = np.array(image)
        palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        grey = indices.max() < len(palette) and bool((palette == palette[:, :1]).all())
        # Optimisers store black-and-white masks with a grey palette, in any order: there the colour is the value.
        return palette[indices, 0] if classes == 1 and grey else indices
    if mode in ("1", "L"):
        return np.array(image, dtype=np.uint8)
    if mode.startswith("I"):
        return _grey16(image, path)
    if mode == "RGB":
        channels = np.array(image)
        if (channels == channels[..., :1]).all():
            return channels[..., 0]
        what = "foreground white on black" if classes == 1 else "the class index of each pixel"
        raise DataError(f"{path}: the mask is a colour image; save it with one channel: {what}")
    raise DataError(f"{path}: a mask of mode {mode} (alpha or several channels); save it with a single channel")


def read_mask(path: Path, classes: int) -> Array:
    """Read a mask as uint8 of shape (H, W).

    Binary (`classes == 1`): foreground (1) where > 127, or where 1 if the file's values are only 0 and 1.
    Otherwise the value is the class, 255 is ignored. Palette masks hold indices; 16-bit masks are read as they are
    for classes and scaled for binary ones; greyscale saved as RGB is accepted.

    Raises:
        DataError: If the file cannot be read, or holds other values; names the file and the values.
    """
    image = _open(path)
    values = _mask_values(image, path, classes)
    lossy = path.suffix.lower() in {".jpg", ".jpeg"}
    present = np.flatnonzero(np.bincount(values.ravel()))
    if classes > 1:
        if lossy:
            raise DataError(f"{path}: JPEG blends class indices into each other; save masks as PNG")
        wrong = present[(present >= classes) & (present != IGNORE_INDEX)]
        if wrong.size:
            raise DataError(
                f"{path}: value{'s' * (wrong.size > 1)} {_few(wrong)} outside the {classes} classes "
                f"(0 to {classes - 1}, or {IGNORE_INDEX} for ignored); raise `classes` or mend the mask"
            )
        return values.astype(np.uint8)
    if present[-1] <= 1:
        return values.astype(np.uint8)
    if present[-1] > 255:
        values = (values + 128) // 257
        present = np.unique(values)
    # Soft borders lie on both sides of 127; class indices, with or without 255 for ignored, on the lower side only.
    indices = present[(present > 0) & (present < 128)]
    if indices.size and not (present[-1] == 255 and lossy) and not ((present > 127) & (present < 255)).any():
        raise DataError(
            f"{path}: values {_few(present)} look like class indices, but the data is binary (classes: 1); "
            "set `classes`, or save the mask with foreground 255 (or 1) on 0"
        )
    return (values > 127).astype(np.uint8)


def _few(values: Iterable[object], limit: int = 5) -> str:
    words = [str(value) for value in values]
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


def few(names: Iterable[object], limit: int = 5) -> str:
    """Name the first few and count them all: `7: a, b, c, d, e, ...`."""
    words = [str(name) for name in names]
    return f"{len(words)}: {', '.join(words[:limit])}" + (", ..." if len(words) > limit else "")


def image_tensor(pixels: Array) -> tv_tensors.Image:
    """Turn (H, W, 3) uint8 into a (3, H, W) image tensor."""
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def mask_tensor(mask: Array) -> tv_tensors.Mask:
    """Turn (H, W) uint8 into a mask tensor."""
    return tv_tensors.Mask(torch.from_numpy(mask))


def inspect_pair(pair: Pair, classes: int) -> tuple[list[str], bool]:
    """Read one pair; return its problems, and whether its mask holds a class besides 0."""
    problems = []
    sizes = []
    used = False
    try:
        sizes.append(read_image(pair.image).shape[:2])
    except DataError as error:
        problems.append(str(error))
    try:
        mask = read_mask(pair.mask, classes)
        sizes.append(mask.shape)
        used = bool(((mask > 0) & (mask != IGNORE_INDEX)).any())
    except DataError as error:
        problems.append(str(error))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (height, width), (mask_height, mask_width) = sizes
        hint = ""
        with Image.open(pair.image) as image:
            if (mask_height, mask_width) == (width, height) and _orientation(image) >= 5:
                hint = "; the image's EXIF tag turns it by 90°: turn the mask as well, or remove the tag"
        problems.append(
            f"{pair.mask}: the mask is {mask_width}×{mask_height} (width × height), "
            f"its image {pair.image} is {width}×{height}{hint}"
        )
    return problems, used


def in_parallel(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Map over items in threads (decoders release the GIL), with a progress line when it takes a while."""
    long = len(items) >= 200
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        results: Iterable[R] = pool.map(function, items)
        if long and sys.stderr.isatty():
            console = Console(stderr=True)
            results = track(results, description=what, total=len(items), console=console, transient=True)
        elif long:
            rank_zero_info(f"{what} ({len(items)} files)")
        return list(results)


def check_pairs(pairs: Sequence[Pair], classes: int, name: str) -> list[str]:
    """Read every pair once and return the problems found.

    What passed is remembered by names, sizes and times of the files, in `$XDG_CACHE_HOME/spatialseg` (by default
    `~/.cache/spatialseg`), so that the next start does not wait. Nothing is written beside the data.
    """
    pairs = sorted(set(pairs))
    passed = _cache_folder() / fingerprint([file for pair in pairs for file in pair[1:]], f"pairs {classes}")
    if passed.exists():
        return []
    what = f"Checking the images and masks of {name}, once"
    inspected = in_parallel(lambda pair: inspect_pair(pair, classes), pairs, what)
    problems = [problem for found, _ in inspected for problem in found]
    if not problems and classes > 1 and not any(used for _, used in inspected):
        problems.append(f"no mask holds any class besides 0 and {IGNORE_INDEX}; for binary masks set `classes: 1`")
    if not problems:
        remember(passed)
    return problems


def check_images(paths: Sequence[Path], name: str) -> list[str]:
    """Read every image once and return the problems found; what passed is remembered, as in `check_pairs`."""
    passed = _cache_folder() / fingerprint(paths, "images")
    if passed.exists():
        return []

    def inspect(path: Path) -> list[str]:
        try:
            read_image(path)
        except DataError as error:
            return [str(error)]
        return []

    problems = [problem for found in in_parallel(inspect, paths, f"Checking the images of {name}") for problem in found]
    if not problems:
        remember(passed)
    return problems


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatialseg" / "checked"


def fingerprint(paths: Iterable[Path], what: str) -> str:
    """Return a digest of the names, sizes and modification times of files."""
    digest = hashlib.blake2b(f"{CHECK_VERSION} {what}".encode(), digest_size=16)
    for path in paths:
        try:
            status = path.stat()
            digest.update(f"\0{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"\0{path.absolute()}\0missing".encode())
    return digest.hexdigest()


def remember(passed: Path) -> None:
    """Leave a mark that a check was passed; where nothing can be written, the check is simply made again."""
    try:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
    except OSError:
        pass
