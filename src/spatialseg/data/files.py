"""Images, masks and maps as they lie on disk: finding and reading them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from spatialseg.data.source import IGNORE_INDEX, DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
NOT_READ = frozenset(
    {".avif", ".exr", ".gif", ".heic", ".heif", ".hdr", ".jfif", ".jp2", ".jpe", ".mat", ".npy", ".tga"}
)
SEARCH = ("data", "../shared/data")

Array = NDArray[Any]


class Pair(NamedTuple):
    """An image file and its mask file; as text, because a million paths take seconds and hundreds of megabytes."""

    name: str
    image: str
    mask: str


@dataclass(frozen=True)
class Stored:
    """A file that lies within another, such as a shard.

    Args:
        name: What messages call it.
        content: All of it.
    """

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """The suffix of its own name, such as `".png"`."""
        return Path(self.name.partition(" in ")[0]).suffix

    def __str__(self) -> str:
        return self.name


File = str | Path | Stored


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


def check_folder(out: Path) -> None:
    """Make sure that `out` is a folder to write to, or can be made one.

    Raises:
        NotADirectoryError: It is a file, or lies below one.
    """
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{out} cannot be a folder to write to, {there} is a file; choose another --out")


def stem(name: str) -> str:
    """Drop the suffix of an image file, and only such a suffix: `a.b.jpg` and `a.b` are both `a.b`."""
    base, suffix = os.path.splitext(name)  # pathlib takes three times as long, which 100 000 files show
    return base if suffix.lower() in SUFFIXES else name


def list_images(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the image files below a folder by their path in it without suffix, sorted, and the problems met.

    Hidden files and files that are no images are passed over; images of a format that is not read are a problem.
    """
    found: dict[str, str] = {}
    problems, unread, unnamed = [], [], []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(parent).relative_to(folder)
        below = "" if prefix == Path() else f"{prefix.as_posix()}/"
        for file in sorted(files):
            if file.startswith("."):
                continue
            if not file.isprintable():  # bytes that are no UTF-8, line breaks: no list or table could hold them
                unnamed.append(ascii((prefix / file).as_posix()))
                continue
            if (name := stem(file)) == file:
                unread += [(prefix / file).as_posix()] if Path(file).suffix.lower() in NOT_READ else []
                continue
            name, path = f"{below}{name}", os.path.join(parent, file)
            if name in found:
                problems.append(f"two files of one name: {found[name]} and {path}; keep one")
            else:
                found[name] = path
    if unread:
        problems.append(
            f"{folder} holds files of a format that is not read, {few(unread)}; save them as PNG, or move them away"
        )
    if unnamed:
        problems.append(f"{folder} holds names that are not printable UTF-8 text, {few(unnamed)}; rename these files")
    return dict(sorted(found.items())), problems


def few(names: Iterable[object], limit: int = 5) -> str:
    """Name the first few and count them all: `7: a, b, c, d, e, ...`."""
    words = [str(name) for name in names]
    return f"{len(words)}: {', '.join(words[:limit])}" + (", ..." if len(words) > limit else "")


def orientation(image: Image.Image) -> int:
    """Return how EXIF says the image is to be turned: 1 is not at all, 5 to 8 swap width and height."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _open(path: File) -> Image.Image:
    """Open and fully decode an image file, turned as its EXIF orientation says."""
    try:
        if (len(path.content) if isinstance(path, Stored) else os.stat(path).st_size) == 0:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        with Image.open(io.BytesIO(path.content) if isinstance(path, Stored) else path) as image:
            image.load()
            return ImageOps.exif_transpose(image) if orientation(image) != 1 else image
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too large to be decoded safely ({error}); reduce it") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        raise DataError(f"{path}: cannot be read, the file is damaged or no image ({error})") from error


def read_image(path: File) -> Array:
    """Read an image as uint8 RGB of shape (H, W, 3).

    Greyscale, palette and CMYK are converted, alpha is dropped, 16 bits are scaled to 8, EXIF rotation is applied.

    Raises:
        DataError: If the file cannot be read or holds floating-point values; names it.
    """
    return rgb_of(_open(path), path)


def rgb_of(image: Image.Image, name: object) -> Array:
    """Return a decoded image as `read_image` does; `name` begins the message of an error."""
    if image.mode == "F":
        raise DataError(f"{name}: floating-point pixels have no known range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        grey = _rounded_to_8_bits(_grey16(image, name))
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))  # RGBA: see _grey


def read_mask(path: File, classes: int, threshold: int = 127) -> Array:
    """Read a mask as uint8 of shape (H, W).

    Binary (`classes == 1`): foreground (1) where > `threshold`, or where 1 if the file's values are only 0 and 1.
    Otherwise the value is the class, 255 is ignored. Palette masks hold indices; 16-bit masks are read as they are
    for classes and scaled for binary ones; greyscale saved as RGB is accepted, and so is an opaque alpha channel.

    Raises:
        DataError: If the file cannot be read, or holds other values; names the file and the values.
    """
    image = _open(path)
    lossy = (path if isinstance(path, Stored) else Path(path)).suffix.lower() in {".jpg", ".jpeg"}
    if image.mode == "P":
        values = np.array(image)
        palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        # Optimisers store black-and-white masks with a grey palette, in any order: there the colour is the value.
        if classes == 1 and values.max() < len(palette) and (palette == palette[:, :1]).all():
            values = palette[values, 0]
    elif image.mode == "1":
        values = np.array(image, dtype=np.uint8)
    else:
        what = "foreground white on black" if classes == 1 else "the class index of each pixel"
        values = _grey(image, path, f"a mask has one channel, {what}")
    if values.dtype == np.float32:
        raise DataError(f"{path}: a mask of floating-point values (mode F); save it with 8 or 16 bits")
    if classes > 1:
        if lossy:
            raise DataError(f"{path}: JPEG blends class indices into each other; save masks as PNG")
        if (wrong := values[(values >= classes) & (values != IGNORE_INDEX)]).size:
            raise DataError(
                f"{path}: {_values(wrong)} outside the {classes} classes "
                f"(0 to {classes - 1}, or {IGNORE_INDEX} for ignored); raise `classes` or mend the mask"
            )
        return values.astype(np.uint8)
    top = values.max()
    if top <= 1:
        return values.astype(np.uint8)
    values = _rounded_to_8_bits(values) if top > 255 else values.astype(np.uint8)
    # Soft borders lie on both sides of 127; class indices, with or without 255 for ignored, on the lower side only.
    low = (values - np.uint8(1) < 127).any()  # 0 becomes 255
    if low and not ((values > 127) & (values < 255)).any() and not (lossy and top == 255):
        raise DataError(
            f"{path}: {_values(values)}, as class indices have, but the masks are read as binary (classes: 1); "
            "set `classes`, or save the mask with foreground 255 (or 1) on 0"
        )
    return (values > threshold).view(np.uint8)


def read_map(path: File) -> Array:
    """Read a saliency map, (H, W): grey levels, uint8, or the probabilities of a floating-point TIFF, float32.

    Of 16 bits the upper 8 count. Greyscale saved as RGB, RGBA (opaque) or with a palette is accepted. Grey levels are
    taken as they are, also where none is above 1: that may be the map of a network that found nothing, so only a whole
    folder of such maps says that they were saved as 0 and 1.

    Raises:
        DataError: If the file cannot be read, has colours, or floating-point values outside [0, 1]; names the file.
    """
    return upper_8_bits(read_levels(path))


def read_levels(path: File) -> Array:
    """Read a map as `read_map` does, but with all of 16 bits, as integers."""
    image = _open(path)
    if image.mode == "1":
        image = image.convert("L")
    values = _grey(image, path, "a map has one channel, white where foreground is likely")
    if values.dtype == np.float32:
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # not a number is neither
            raise DataError(f"{path}: floating-point values {low:g} to {high:g}; probabilities are in [0, 1]")
    return values


def upper_8_bits(levels: Array) -> Array:
    """Return what `read_levels` returned with the upper 8 of 16 bits; all else stays."""
    return levels if levels.dtype in (np.uint8, np.float32) else (levels >> 8).astype(np.uint8)


def _grey(image: Image.Image, path: File, expected: str) -> Array:
    """Return the one channel of a decoded image: uint8, 16 bits as integers, or float32; `expected` ends the error."""
    if image.mode == "F":
        return np.array(image)
    if image.mode.startswith("I"):
        return _grey16(image, path)
    if image.mode == "P":
        image = image.convert("RGBA")  # to which a palette with transparency converts without a warning
    channels = np.array(image)
    if image.mode in ("LA", "RGBA") and (channels[..., -1] == 255).all():
        channels = channels[..., :-1]
    elif image.mode not in ("L", "RGB"):
        raise DataError(f"{path}: mode {image.mode} (transparency, or channels of another kind); {expected}")
    if channels.ndim == 3 and not (channels == channels[..., :1]).all():
        raise DataError(f"{path}: a colour image; {expected}")
    return channels if channels.ndim == 2 else channels[..., 0].copy()


def _grey16(image: Image.Image, path: object) -> Array:
    """Return a 16-bit greyscale image as integers in [0, 65535]."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path}: values {values.min()} to {values.max()} do not fit 16 bits; save it with 8 or 16")
    return values.astype(np.int64)


def _rounded_to_8_bits(values: Array) -> Array:
    return ((values + 128) // 257).astype(np.uint8)


def _values(values: Array, limit: int = 5) -> str:
    present = np.unique(values)
    more = f" and {len(present) - limit} more" if len(present) > limit else ""
    return f"value{'s' * (len(present) > 1)} {', '.join(map(str, present[:limit]))}{more}"
