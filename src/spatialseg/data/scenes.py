"""Procedural scenes: the embedded data set, drawn from a seed.

Objects are painted in their own texture and colour onto a textured ground. Some look back at you: what is salient
contrasts with its surroundings and is of a size; what is not, though of the same shapes, is of the ground's own colours
or is strewn about in small pieces. Outlines are irregular and many parts are thin, so that *where* a mask is wrong
matters as much as how many pixels of it are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from torch.utils.data import Dataset

from spatialseg.data.files import image_tensor, mask_tensor
from spatialseg.data.source import SPLITS, Sample, Source, Split

Field = NDArray[np.float32]
Rng = np.random.Generator
ASPECTS = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.75))


@lru_cache(maxsize=256)
def _spline(length: int, spacing: float) -> Field:
    """Return the weights (length, knots) of a uniform cubic B-spline with a knot every `spacing` pixels."""
    position = (np.arange(length) + 0.5) / spacing + 1
    distance = np.abs(position[:, None] - np.arange(int(position[-1]) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _noise(rng: Rng, shape: tuple[int, int], spacing: float) -> Field:
    """Return smooth Gaussian noise of about unit variance whose bumps are about `spacing` pixels apart."""
    rows, columns = (_spline(length, spacing) for length in shape)
    knots = rng.standard_normal((rows.shape[1], columns.shape[1]), dtype=np.float32)
    return rows @ knots @ columns.T / 0.48


def _clouds(rng: Rng, shape: tuple[int, int], spacing: float, octaves: int = 4, gain: float = 0.6) -> Field:
    """Return noise summed over octaves, each of half the spacing and `gain` times the height of the last."""
    heights = [gain**octave for octave in range(octaves)]
    total = sum(height * _noise(rng, shape, max(1.2, spacing / 2**octave)) for octave, height in enumerate(heights))
    return np.float32(1 / np.linalg.norm(heights)) * total


def _grid(shape: tuple[int, int]) -> tuple[Field, Field]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return columns + 0.5, rows + 0.5


# ---- textures: fields of about [0, 1] over the whole image --------------------------------------------------------


def _texture(rng: Rng, shape: tuple[int, int], scale: float) -> Field:
    """Return a texture of a random family; `scale` is the size of its larger features in pixels."""
    x, y = _grid(shape)
    angle = rng.uniform(0, np.pi)
    bend = _clouds(rng, shape, scale * 2, 2) * scale * rng.uniform(0.1, 0.45)
    u = (x * np.cos(angle) + y * np.sin(angle) + bend) / scale
    v = (y * np.cos(angle) - x * np.sin(angle) + bend) / scale
    family = rng.integers(6)
    if family == 0:  # clouds
        texture = 0.5 + 0.25 * _clouds(rng, shape, scale, 5)
    elif family == 1:  # stripes
        texture = 0.5 + 0.5 * np.tanh(np.sin(2 * np.pi * u) * rng.uniform(0.6, 3))
    elif family == 2:  # grain: noise along one direction
        knots = rng.standard_normal(512)
        texture = 0.5 + 0.25 * np.interp(u * 6 - (u * 6).min(), np.arange(512), knots)
    elif family == 3:  # marble
        texture = np.abs(np.sin(np.pi * u / 2 + 1.2 * _clouds(rng, shape, scale, 4))) ** 0.7
    elif family == 4:  # dots
        texture = 0.5 + 0.5 * np.tanh(4 * (np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v) - 0.3))
    else:  # cells
        count = int(np.clip(x.size / (1.6 * scale) ** 2, 4, 28))
        centres = rng.uniform(0, shape[::-1], (count, 2)).astype(np.float32)
        bent = np.stack([x + bend, y - bend]).reshape(2, -1)
        squares = (centres**2).sum(1)[:, None] - 2 * (centres @ bent)
        texture = rng.uniform(0, 1, count)[squares.argmin(0)].reshape(shape)
    fine = _clouds(rng, shape, max(3.0, scale / 4), 2)
    return (texture + rng.uniform(0.03, 0.12) * fine).astype(np.float32)


# ---- colours ------------------------------------------------------------------------------------------------------


def _rgb(lab: NDArray[Any]) -> Field:
    """Convert OKLab (..., 3) to sRGB in [0, 1] (Ottosson, 2020)."""
    to_lms = [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    to_linear = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.clip((lab @ np.transpose(to_lms)) ** 3 @ np.transpose(to_linear), 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _lab(lightness: float, chroma: float, hue: float) -> NDArray[Any]:
    return np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])


def _around(rng: Rng, colour: NDArray[Any], spread: float, count: int = 4) -> NDArray[Any]:
    """Return a palette around a colour, sorted from dark to light."""
    palette = colour + rng.normal(0, 1, (count, 3)) * spread * np.array([1, 0.5, 0.5])
    palette[:, 0] = np.sort(np.clip(palette[:, 0], 0.08, 0.95))
    return palette


def _paint(texture: Field, palette: NDArray[Any]) -> Field:
    """Colour a texture: 0 takes the first colour of the palette, 1 the last."""
    steps = np.linspace(0, len(palette) - 1, 256)
    ramp = _rgb(np.stack([np.interp(steps, np.arange(len(palette)), palette[:, i]) for i in range(3)], axis=1))
    return ramp[(np.clip(texture, 0, 1) * 255).astype(np.uint8)]


# ---- shapes: > 0 inside, < 0 outside, about the distance to the outline; u, v in units of the object's radius -----


def _segment(u: Field, v: Field, start: Sequence[float], end: Sequence[float], width: float, taper: float = 1) -> Field:
    """Return a limb from start to end, `width` thick at the start and `width * taper` at the end (half widths)."""
    du, dv = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv + 1e-9), 0, 1)
    return width * (1 + (taper - 1) * along) - np.hypot(u - start[0] - along * du, v - start[1] - along * dv)


def _bumpy(rng: Rng, u: Field, v: Field, height: float = 0.1) -> Field:
    angle = np.arctan2(v, u)
    outline: Any = 0.85
    for order in range(2, 6):
        outline = outline + rng.normal(0, height / order**0.5) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return outline - np.hypot(u, v)


def _pebble(rng: Rng, u: Field, v: Field) -> Field:
    stretch = rng.uniform(1, 1.6)
    body = _bumpy(rng, u, v * stretch) / stretch
    if rng.random() < 0.3:  # a hole
        a, b = rng.uniform(-0.25, 0.25, 2)
        body = np.minimum(body, np.hypot(u - a, v - b) - rng.uniform(0.15, 0.3))
    return body


def _star(rng: Rng, u: Field, v: Field) -> Field:
    points = rng.integers(5, 9)
    inner = rng.uniform(0.3, 0.5)
    angle = np.arctan2(v, u) * points / (2 * np.pi)
    spike = np.abs(2 * (angle - np.floor(angle)) - 1) ** rng.uniform(1, 1.5)
    return (inner + (1 - inner) * spike - np.hypot(u, v)) * 0.6


def _crescent(rng: Rng, u: Field, v: Field) -> Field:
    offset = rng.uniform(0.3, 0.55)
    return np.minimum(0.95 - np.hypot(u, v), np.hypot(u - offset, v) - rng.uniform(0.7, 0.8))


def _wheel(rng: Rng, u: Field, v: Field) -> Field:
    radius = np.hypot(u, v)
    rim = rng.uniform(0.07, 0.13)
    wheel = rim - np.abs(radius - (0.95 - rim))
    wheel = np.maximum(wheel, rng.uniform(0.12, 0.25) - radius)
    spokes = rng.integers(3, 8)
    turn = np.arctan2(v, u) * spokes / (2 * np.pi)
    off_spoke = np.abs(np.sin((turn - np.round(turn)) * 2 * np.pi / spokes)) * radius
    return np.maximum(wheel, np.minimum(rng.uniform(0.03, 0.06) - off_spoke, 0.85 - radius))


def _figure(rng: Rng, u: Field, v: Field) -> Field:
    """A standing figure; v points down."""
    width = rng.uniform(0.07, 0.12)
    hip = np.array([rng.uniform(-0.1, 0.1), 0.15])
    neck = np.array([rng.uniform(-0.1, 0.1), -0.4])
    figure = np.maximum(_segment(u, v, neck, hip, width * 1.7, 1.2), 0.2 - np.hypot(u - neck[0], v - neck[1] + 0.32))
    for root, side in ((hip, -1), (hip, 1), (neck + [0, 0.08], -1), (neck + [0, 0.08], 1)):
        leg = root is hip
        angle = (rng.uniform(0.1, 0.6) if leg else rng.uniform(0.3, 2.4)) * side
        joint = root + 0.38 * np.array([np.sin(angle), np.cos(angle)])
        angle += rng.uniform(-0.6, 0.3) * side if leg else rng.uniform(-0.3, 1.4) * side
        end = joint + 0.38 * np.array([np.sin(angle), np.cos(angle)])
        limb = np.maximum(_segment(u, v, root, joint, width), _segment(u, v, joint, end, width, 0.6))
        figure = np.maximum(figure, limb)
    return figure


def _fish(rng: Rng, u: Field, v: Field) -> Field:
    height = rng.uniform(0.3, 0.5)
    nose, end = 0.95, -0.55
    along = np.clip((u - end) / (nose - end), 0, 1)
    body = height * np.sin(np.pi * along**0.8) - np.abs(v)
    body = np.minimum(body, np.minimum(nose - u, u - end))
    spread = rng.uniform(0.5, 0.9)
    tail = np.minimum(0.07 + spread * np.clip(-0.4 - u, 0, None) - np.abs(v), np.minimum(-0.35 - u, u + 0.95))
    tail = np.minimum(tail, -0.95 + rng.uniform(0.1, 0.3) - 0 * v - (-np.abs(v) * 0.5 - u) * -1 + 1.2)
    fin = _segment(u, v, (0.1, -height * 0.7), (rng.uniform(-0.3, -0.1), -height - rng.uniform(0.15, 0.35)), 0.14, 0.1)
    return np.maximum(np.maximum(body * 0.8, tail * 0.8), fin)


def _serpent(rng: Rng, u: Field, v: Field) -> Field:
    wave = rng.uniform(3, 5.5)
    height = rng.uniform(0.2, 0.35)
    phase = rng.uniform(0, 2 * np.pi)
    slope = height * wave * np.cos(wave * u + phase)
    width = rng.uniform(0.09, 0.15) * np.clip(1.1 + 0.9 * u, 0.15, 1)
    body = width - np.abs(v - height * np.sin(wave * u + phase)) / np.sqrt(1 + slope**2)
    body = np.minimum(body, np.minimum(0.95 - u, u + 0.98))
    return np.maximum(body, 0.19 - np.hypot(u - 0.85, (v - height * np.sin(wave * 0.85 + phase)) * 1.3))


SHAPES: dict[str, Callable[[Rng, Field, Field], Field]] = {
    "pebble": _pebble,
    "star": _star,
    "crescent": _crescent,
    "wheel": _wheel,
    "figure": _figure,
    "fish": _fish,
    "serpent": _serpent,
}


def _limbs(rng: Rng, u: Field, v: Field, shape: Field) -> Field:
    """Add thin legs, feelers or a tail to a shape."""
    start = rng.uniform(0, 2 * np.pi)
    count = rng.integers(1, 7)
    width = rng.uniform(0.035, 0.08)
    for index in range(count):
        angle = start + index * rng.uniform(0.35, 0.8)
        root = 0.4 * np.array([np.cos(angle), np.sin(angle)])
        knee = 0.85 * np.array([np.cos(angle), np.sin(angle)])
        foot = knee + 0.35 * np.array([np.cos(angle + 0.6), np.sin(angle + 0.6)])
        shape = np.maximum(shape, np.maximum(_segment(u, v, root, knee, width), _segment(u, v, knee, foot, width, 0.5)))
    return shape


def _outline(rng: Rng, shape: tuple[int, int], kind: str, centre: Sequence[float], radius: float, limbs: bool) -> Field:
    """Return a shape placed in the image, > 0 inside, in pixels, its outline bent out of the regular."""
    x, y = _grid(shape)
    bend = radius * rng.uniform(0.04, 0.1)
    x = x - centre[0] + bend * _noise(rng, shape, radius * 0.8)
    y = y - centre[1] + bend * _noise(rng, shape, radius * 0.8)
    angle = rng.normal(0, 0.25) if kind == "figure" else rng.uniform(0, 2 * np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) / radius
    v = (y * np.cos(angle) - x * np.sin(angle)) / radius
    inside = SHAPES[kind](rng, u, v)
    if limbs:
        inside = _limbs(rng, u, v, inside)
    if rng.random() < 0.3:  # a ragged edge
        inside = inside + rng.uniform(0.02, 0.05) * _noise(rng, shape, 2.5)
    return inside * radius


# ---- scenes -------------------------------------------------------------------------------------------------------


def _blend(image: Field, colour: Field, alpha: Field) -> Field:
    return image + (colour - image) * alpha[..., None]


def _background(rng: Rng, shape: tuple[int, int], unit: float) -> tuple[Field, NDArray[Any]]:
    """Return a textured ground, sometimes of two regions, and its palette."""
    hue = rng.uniform(0, 2 * np.pi)
    colour = _lab(rng.uniform(0.35, 0.8), rng.uniform(0.01, 0.1), hue)
    palettes = [_around(rng, colour, rng.uniform(0.03, 0.09))]
    image = _paint(_texture(rng, shape, unit * rng.uniform(0.08, 0.35)), palettes[0])
    if rng.random() < 0.45:  # a horizon, or a wall
        other = colour + rng.normal(0, 1, 3) * [0.1, 0.04, 0.04]
        other[0] = np.clip(other[0], 0.3, 0.85)
        palettes.append(_around(rng, other, rng.uniform(0.02, 0.07)))
        x, y = _grid(shape)
        angle = rng.normal(0, 0.3) + (np.pi / 2 if rng.random() < 0.2 else 0)
        level = (x - shape[1] / 2) * np.sin(angle) + (y - shape[0] / 2) * np.cos(angle)
        level = level + unit * rng.normal(0, 0.15) + unit * rng.uniform(0.01, 0.06) * _clouds(rng, shape, unit * 0.3)
        region = _paint(_texture(rng, shape, unit * rng.uniform(0.08, 0.35)), palettes[1])
        image = _blend(image, region, np.clip(level / rng.uniform(1, 6) + 0.5, 0, 1))
    return image, np.concatenate(palettes)


def _contrasting(rng: Rng, ground: NDArray[Any]) -> NDArray[Any]:
    """Return a colour at some distance from all colours of the ground; the distance varies from hard to easy."""
    wanted = rng.uniform(0.13, 0.3)
    best, best_distance = ground[0], -1.0
    for _ in range(30):
        colour = _lab(rng.uniform(0.2, 0.9), rng.uniform(0.02, 0.2), rng.uniform(0, 2 * np.pi))
        distance = float(np.sqrt(((ground - colour) ** 2).sum(1)).min())
        if distance >= wanted:
            return colour
        if distance > best_distance:
            best, best_distance = colour, distance
    return best


def _light(inside: Field, radius: float, light: NDArray[Any], strength: float) -> Field:
    """Return the brightness of a rounded body: its rim is lit on the side of the light and dark on the other."""
    down, right = np.gradient(inside)
    rim = np.exp(-np.clip(inside, 0, None) / (0.25 * radius))
    return 1 + strength * rim * (right * light[0] + down * light[1])


def _shifted(field: Field, offset: NDArray[Any]) -> Field:
    """Return a field moved by whole pixels, its border repeated."""
    right, down = (round(float(part)) for part in offset)
    rows = np.clip(np.arange(field.shape[0]) - down, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - right, 0, field.shape[1] - 1)
    return field[rows[:, None], columns]


def _places(rng: Rng, shape: tuple[int, int], unit: float, count: int) -> list[tuple[float, float, float]]:
    """Return centre and radius of objects that overlap a little at most; some touch the border."""
    places: list[tuple[float, float, float]] = []
    for index in range(count):
        for _ in range(40):
            radius = unit * (rng.uniform(0.2, 0.36) if index == 0 else rng.uniform(0.1, 0.24))
            margin = -0.1 * radius if rng.random() < 0.2 else 0.8 * radius
            margin = min(margin, 0.45 * min(shape))
            x = rng.uniform(margin, shape[1] - margin)
            y = rng.uniform(margin, shape[0] - margin)
            if all(np.hypot(x - a, y - b) > 0.85 * (radius + r) for a, b, r in places):
                places.append((x, y, radius))
                break
    return places


def draw_scene(rng: Rng, size: int, kinds: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene.

    Args:
        rng: The only source of chance.
        size: Long side in pixels; the aspect is 1:1, 4:3 or 3:4.
        kinds: Mark each object with its kind, 1 + its place in `SHAPES`, instead of with 1.

    Returns:
        Image, uint8 RGB (H, W, 3), and mask, uint8 (H, W).
    """
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    shape = (round(size * aspect[0]), round(size * aspect[1]))
    unit = float(size)
    image, ground = _background(rng, shape, unit)
    mask = np.zeros(shape, np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(angle), np.sin(angle)])

    for _ in range(rng.integers(0, 4)):  # shapes of the ground's own colours
        colour = ground[rng.integers(len(ground))] + rng.normal(0, 1, 3) * [0.05, 0.015, 0.015]
        kind = rng.choice(["pebble", "pebble", "crescent", "star"]) if not kinds else "pebble"
        radius = unit * rng.uniform(0.08, 0.25)
        inside = _outline(rng, shape, str(kind), rng.uniform(0, shape[::-1]), radius, False)
        paint = _paint(_texture(rng, shape, unit * 0.15), _around(rng, colour, 0.03))
        image = _blend(image, paint, rng.uniform(0.5, 0.9) * np.clip(inside / rng.uniform(1, 4) + 0.5, 0, 1))

    if rng.random() < 0.4:  # litter
        colour = _rgb(_contrasting(rng, ground))
        x, y = _grid(shape)
        for _ in range(rng.integers(6, 25)):
            a, b = rng.uniform(0, shape[::-1])
            radius = unit * rng.uniform(0.008, 0.02)
            inside = radius - np.hypot(x - a, (y - b) * rng.uniform(0.6, 1.6))
            image = _blend(image, colour * rng.uniform(0.8, 1.1), np.clip(inside + 0.5, 0, 1) * 0.8)

    for a, b, radius in _places(rng, shape, unit, int(rng.integers(1, 4))):
        kind = str(rng.choice(list(SHAPES)))
        inside = _outline(rng, shape, kind, (a, b), radius, limbs=not kinds and kind == "pebble" and rng.random() < 0.5)
        colour = _contrasting(rng, ground)
        paint = _paint(
            _texture(rng, shape, radius * rng.uniform(0.25, 0.9)), _around(rng, colour, rng.uniform(0.04, 0.1))
        )
        paint = paint * _light(inside, radius, light, rng.uniform(0.15, 0.5))[..., None]
        shadow = _shifted(inside, -light * radius * rng.uniform(0.08, 0.3))
        softness = radius * rng.uniform(0.05, 0.25)
        image = image * (1 - rng.uniform(0.15, 0.5) / (1 + np.exp(np.clip(-shadow / softness, -30, 30))))[..., None]
        image = _blend(image, paint, np.clip(inside + 0.5, 0, 1))
        mask[inside > 0] = 1 + list(SHAPES).index(kind) if kinds else 1

    x, y = _grid(shape)
    slope = (x / unit - 0.5) * light[0] + (y / unit - 0.5) * light[1]
    image = image * (1 + rng.uniform(0, 0.5) * slope)[..., None]
    if rng.random() < 0.4:
        sigma = rng.uniform(0.4, 0.9)
        image = gaussian_filter1d(gaussian_filter1d(image, sigma, 0, truncate=2.5), sigma, 1, truncate=2.5)
    image = image + rng.uniform(0.005, 0.035) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), mask


class SceneDataset(Dataset[Sample]):
    """Scenes of one split, drawn when first asked for and then kept."""

    def __init__(self, source: ProceduralScenes, split: Split, count: int) -> None:
        self.source = source
        self.split: Split = split
        self.count = count
        self._drawn: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        if index not in self._drawn:
            self._drawn[index] = self.source.draw(self.split, index)
        image, mask = self._drawn[index]
        name = f"{self.split}_{index:04d}"
        return {"image": image_tensor(image), "mask": mask_tensor(mask), "name": name}


class ProceduralScenes(Source):
    """Scenes drawn from a seed: textured grounds, one to three salient objects, and things that are not.

    Scene `i` of a split is a function of seed, variant, split and `i` alone, so splits share none and a longer split
    begins with the shorter one. Nothing is written to disk; scenes are kept in memory once drawn.

    Args:
        variant: "binary" marks what is salient; "multiclass" marks each object with its kind (0 is background).
        train: Number of training scenes.
        val: Number of validation scenes.
        test: Number of test scenes.
        size: Long side in pixels.
        seed: Seed of all scenes.
    """

    in_memory = True

    def __init__(
        self,
        variant: Literal["binary", "multiclass"] = "binary",
        train: int = 400,
        val: int = 60,
        test: int = 120,
        size: int = 160,
        seed: int = 0,
    ) -> None:
        if variant not in ("binary", "multiclass"):
            raise ValueError(f"variant must be 'binary' or 'multiclass', got {variant!r}")
        if size < 32:
            raise ValueError(f"scenes need a size of at least 32 pixels, got {size}")
        if variant == "binary":
            super().__init__("shapes", 1, ["salient"])
        else:
            super().__init__("kinds", 1 + len(SHAPES), ["background", *SHAPES])
        self.variant = variant
        self.size = size
        self.seed = seed
        self._datasets = {
            split: SceneDataset(self, split, count) for split, count in zip(SPLITS, (train, val, test), strict=True)
        }

    def draw(self, split: Split, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw scene `index` of a split: image, uint8 (H, W, 3), and mask, uint8 (H, W)."""
        rng = np.random.default_rng([self.seed, self.classes, SPLITS.index(split), index])
        return draw_scene(rng, self.size, self.variant == "multiclass")

    def dataset(self, split: Split) -> SceneDataset:
        """Return one split; see `Source.dataset`."""
        return self._datasets[split]

    def export(self, folder: str | Path) -> None:
        """Write all scenes as folder pairs that `FolderPairs` reads back, pixel for pixel.

        Args:
            folder: Made if it is not there; gets `images/`, `masks/` and a list file per split.
        """
        folder = Path(folder)
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for split, dataset in self._datasets.items():
            names = []
            for index in range(len(dataset)):
                image, mask = self.draw(split, index)
                names.append(f"{split}_{index:04d}")
                Image.fromarray(image).save(folder / "images" / f"{names[-1]}.png")
                Image.fromarray(mask * 255 if self.classes == 1 else mask).save(folder / "masks" / f"{names[-1]}.png")
            (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
