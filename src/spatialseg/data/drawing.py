"""Drawing scenes: textured grounds, salient objects, and things that are not salient.

A salient object contrasts with the ground and is of some size. What is not salient shares its shapes but has the
ground's own colours, or is strewn about in small pieces. Outlines are bent out of the regular and many parts are thin,
so that where a mask is wrong matters as much as how many of its pixels are.

Lengths are pixels, colours are sRGB in [0, 1] unless they are called Lab (OKLab).
"""

# mypy: disable-error-code="no-any-return"
# numpy types its arithmetic as Any.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Field = NDArray[np.float32]
Lab = NDArray[np.float64]
Rng = np.random.Generator
Size = tuple[int, int]  # height, width
Point = tuple[float, float]  # x, y
TAU = 2 * math.pi
ASPECTS = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.75))


# ---- noise and textures: fields over a window ---------------------------------------------------------------------


@lru_cache(maxsize=512)
def _spline(length: int, spacing: float) -> Field:
    """Return the weights (length, knots) of a uniform cubic B-spline with a knot every `spacing` pixels."""
    position = (np.arange(length) + 0.5) / spacing + 1
    distance = np.abs(position[:, None] - np.arange(int(position[-1]) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _noise(rng: Rng, size: Size, spacing: float) -> Field:
    """Return smooth Gaussian noise of about unit variance whose bumps are about `spacing` apart."""
    spacing = 1.3 ** max(1, round(math.log(spacing, 1.3)))  # few different ones, so that the cache holds them
    rows, columns = (_spline(32 * -(-length // 32), spacing) for length in size)
    knots = rng.standard_normal((rows.shape[1], columns.shape[1]), dtype=np.float32)
    # A few rows at a time: for so small a product BLAS would spend four times as long on waking its threads.
    noise = rows.reshape(-1, 16, rows.shape[1]) @ knots @ columns[: size[1]].T
    return noise.reshape(-1, size[1])[: size[0]] / 0.48


def _clouds(rng: Rng, size: Size, spacing: float, octaves: int, gain: float = 0.6) -> Field:
    """Return noise summed over octaves, each of half the spacing and `gain` times the height of the one before."""
    heights = [gain**octave for octave in range(octaves)]
    total = np.zeros(size, np.float32)
    for octave, height in enumerate(heights):
        total += (height / math.hypot(*heights)) * _noise(rng, size, spacing / 2**octave)
    return total


def _grid(size: Size, origin: Point = (0, 0)) -> tuple[Field, Field]:
    """Return x (1, W) and y (H, 1) of the pixels' centres, seen from `origin`."""
    height, width = size
    x = np.arange(width, dtype=np.float32)[None] + (0.5 - origin[0])
    y = np.arange(height, dtype=np.float32)[:, None] + (0.5 - origin[1])
    return x, y


def _texture(rng: Rng, size: Size, scale: float) -> Field:
    """Return a texture of a random family, values of about 0 to 1; its larger features measure `scale`."""
    x, y = _grid(size)
    angle = rng.uniform(0, math.pi)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    bend = _clouds(rng, size, scale * 2, 2) * rng.uniform(0.1, 0.45)
    u, v = x * cos + y * sin + bend, y * cos - x * sin + bend
    family = rng.integers(6)
    if family == 0:  # clouds
        texture = 0.5 + 0.25 * _clouds(rng, size, scale, 4)
    elif family == 1:  # stripes
        texture = 0.5 + 0.5 * np.tanh(np.sin(TAU * u) * rng.uniform(0.6, 3))
    elif family == 2:  # grain: noise along one direction
        noise = rng.standard_normal(256)
        texture = 0.5 + 0.25 * np.interp((u - u.min()) * 6, np.arange(256), noise, period=256).astype(np.float32)
    elif family == 3:  # marble
        texture = np.sqrt(np.abs(np.sin(math.pi / 2 * u + 1.2 * _clouds(rng, size, scale, 3))))
    elif family == 4:  # dots
        texture = 0.5 + 0.5 * np.tanh(4 * (np.sin(TAU * u) * np.sin(TAU * v) - 0.3))
    else:  # cells around random centres
        count = min(max(bend.size / (1.6 * scale) ** 2, 4), 24)
        centres = rng.uniform(0, size, (int(count), 2)).astype(np.float32) / np.float32(scale)
        nearest = np.full(size, np.inf, np.float32)
        texture = np.zeros(size, np.float32)
        down, right = y / scale + bend, x / scale - bend
        for (row, column), shade in zip(centres, rng.uniform(0, 1, len(centres)).astype(np.float32), strict=True):
            distance = (down - row) ** 2 + (right - column) ** 2
            texture[distance < nearest] = shade
            np.minimum(nearest, distance, out=nearest)
    return texture + rng.uniform(0.03, 0.12) * _clouds(rng, size, max(3.0, scale / 4), 2)


# ---- colours ------------------------------------------------------------------------------------------------------

_LAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ]
)


def _rgb(lab: Lab) -> Field:
    """Convert OKLab (..., 3) to sRGB (B. Ottosson, A perceptual color space for image processing, 2020)."""
    linear = np.clip((lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _random_lab(rng: Rng, lightness: Point, chroma: Point) -> Lab:
    hue, radius = rng.uniform(0, TAU), rng.uniform(*chroma)
    return np.array([rng.uniform(*lightness), radius * math.cos(hue), radius * math.sin(hue)])


def _palette(rng: Rng, colour: Lab, spread: float) -> Lab:
    """Return four colours (4, 3) around one, from dark to light."""
    palette = colour + rng.normal(0, spread, (4, 3)) * [1, 0.5, 0.5]
    palette[:, 0] = np.sort(np.clip(palette[:, 0], 0.08, 0.95))
    return palette


def _contrasting(rng: Rng, ground: Lab) -> Lab:
    """Return a colour at a distance from every colour of the ground: from a small one, hard, to a large one, easy."""
    wanted = rng.uniform(0.11, 0.28)
    colours = np.stack([_random_lab(rng, (0.2, 0.9), (0.02, 0.2)) for _ in range(12)])
    distances = np.linalg.norm(colours[:, None] - ground, axis=-1).min(axis=1)
    return colours[np.argmax(distances >= wanted) if distances.max() >= wanted else distances.argmax()]


def _paint(texture: Field, palette: Lab) -> Field:
    """Colour a texture: 0 takes the first colour of the palette, 1 the last."""
    steps = np.linspace(0, len(palette) - 1, 256)
    ramp = _rgb(np.stack([np.interp(steps, np.arange(len(palette)), channel) for channel in palette.T], axis=1))
    return ramp.take((np.clip(texture, 0, 1) * 255).astype(np.intp), axis=0)


# ---- shapes: > 0 inside, < 0 outside, about the distance to the outline; u, v in units of the object's radius -----


def _segment(u: Field, v: Field, start: Point, end: Point, width: float, taper: float = 1.0) -> Field:
    """Return a limb from start to end, of half width `width` at the start and `width * taper` at the end."""
    du, dv = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0, 1)
    return width * (1 + (taper - 1) * along) - np.hypot(u - start[0] - along * du, v - start[1] - along * dv)


def _limb(u: Field, v: Field, root: Point, angles: Point, length: float, width: float) -> Field:
    """Return a limb of two straight parts; angles from the downward v axis, towards u."""
    joint = (root[0] + length * math.sin(angles[0]), root[1] + length * math.cos(angles[0]))
    end = (joint[0] + length * math.sin(angles[1]), joint[1] + length * math.cos(angles[1]))
    return np.maximum(_segment(u, v, root, joint, width), _segment(u, v, joint, end, width, 0.6))


def _pebble(rng: Rng, u: Field, v: Field) -> Field:
    stretch = rng.uniform(1, 1.6)
    angle = np.arctan2(v * stretch, u)
    body = 0.85 - np.hypot(u, v * stretch)
    for order in range(2, 6):
        body += rng.normal(0, 0.1 / order**0.5) * np.cos(order * angle + rng.uniform(0, TAU))
    body /= stretch
    if rng.random() < 0.3:  # a hole
        centre = rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.1)
        body = np.minimum(body, np.hypot(u - centre[0], v - centre[1]) - rng.uniform(0.12, 0.25))
    return body


def _creature(rng: Rng, u: Field, v: Field) -> Field:
    """A pebble with thin legs, feelers or a tail."""
    shape = _pebble(rng, u, v)
    angle, step, knee = rng.uniform(0, TAU), rng.uniform(0.35, 0.8), rng.uniform(-1, 1)
    width = rng.uniform(0.035, 0.08)
    for _ in range(rng.integers(1, 7)):
        root = (0.3 * math.sin(angle), 0.3 * math.cos(angle))
        shape = np.maximum(shape, _limb(u, v, root, (angle, angle + knee), rng.uniform(0.4, 0.5), width))
        angle += step
    return shape


def _star(rng: Rng, u: Field, v: Field) -> Field:
    points = int(rng.integers(5, 9))
    inner = rng.uniform(0.3, 0.5)
    turn = np.arctan2(v, u) * (points / TAU)
    spike = np.abs(2 * (turn - np.floor(turn)) - 1) ** rng.uniform(1, 1.5)
    return (inner + (1 - inner) * spike - np.hypot(u, v)) * 0.6


def _crescent(rng: Rng, u: Field, v: Field) -> Field:
    return np.minimum(0.95 - np.hypot(u, v), np.hypot(u - rng.uniform(0.3, 0.55), v) - rng.uniform(0.68, 0.78))


def _wheel(rng: Rng, u: Field, v: Field) -> Field:
    radius = np.hypot(u, v)
    rim = rng.uniform(0.06, 0.12)
    wheel = np.maximum(rim - np.abs(radius - (0.95 - rim)), rng.uniform(0.12, 0.25) - radius)
    spokes = int(rng.integers(3, 8))
    turn = np.arctan2(v, u) * (spokes / TAU)
    across = np.abs(np.sin((turn - np.round(turn)) * (TAU / spokes))) * radius
    return np.maximum(wheel, np.minimum(rng.uniform(0.035, 0.06) - across, 0.85 - radius))


def _figure(rng: Rng, u: Field, v: Field) -> Field:
    """A standing figure; v points down."""
    width = rng.uniform(0.07, 0.12)
    hip, neck = (rng.uniform(-0.1, 0.1), 0.15), (rng.uniform(-0.1, 0.1), -0.4)
    figure = np.maximum(_segment(u, v, neck, hip, width * 1.7, 1.2), 0.2 - np.hypot(u - neck[0], v - neck[1] + 0.32))
    shoulder = (neck[0], neck[1] + 0.08)
    for side in (-1, 1):
        thigh, arm = rng.uniform(0.1, 0.6), rng.uniform(0.3, 2.4)
        leg = (side * thigh, side * (thigh + rng.uniform(-0.6, 0.3)))
        figure = np.maximum(figure, _limb(u, v, hip, leg, 0.38, width))
        arms = (side * arm, side * (arm + rng.uniform(-0.3, 1.4)))
        figure = np.maximum(figure, _limb(u, v, shoulder, arms, 0.36, width))
    return figure


def _fish(rng: Rng, u: Field, v: Field) -> Field:
    height = rng.uniform(0.28, 0.45)
    along = np.clip((u + 0.6) / 1.55, 0, 1)
    fish = np.minimum(height * np.sin(math.pi * along**0.8) - np.abs(v), np.minimum(0.95 - u, u + 0.6))
    spread, notch = rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.3)
    tail = 0.05 + spread * np.clip(-0.4 - u, 0, None) - np.abs(v)
    tail = np.minimum(tail, np.minimum(-0.3 - u, u + 0.95 - notch + np.abs(v) * notch / (0.5 * spread)))
    back = (rng.uniform(-0.25, 0), -height - rng.uniform(0.1, 0.3))
    return np.maximum(np.maximum(fish, tail) * 0.8, _segment(u, v, (0.1, -height * 0.6), back, 0.15, 0.15))


def _serpent(rng: Rng, u: Field, v: Field) -> Field:
    wave, height, phase = rng.uniform(3, 5.5), rng.uniform(0.2, 0.35), rng.uniform(0, TAU)
    slope = height * wave * np.cos(wave * u + phase)
    width = rng.uniform(0.09, 0.15) * np.clip(1.1 + 0.9 * u, 0.2, 1)
    body = width - np.abs(v - height * np.sin(wave * u + phase)) / np.sqrt(1 + slope**2)
    head = 0.19 - np.hypot(u - 0.85, (v - height * math.sin(wave * 0.85 + phase)) * 1.3)
    return np.maximum(np.minimum(body, np.minimum(0.95 - u, u + 0.98)), head)


KINDS: dict[str, Callable[[Rng, Field, Field], Field]] = {
    "pebble": _pebble,
    "creature": _creature,
    "star": _star,
    "crescent": _crescent,
    "wheel": _wheel,
    "figure": _figure,
    "fish": _fish,
    "serpent": _serpent,
}


# ---- scenes -------------------------------------------------------------------------------------------------------


def _window(size: Size, centre: Point, reach: float) -> tuple[tuple[slice, slice], Size, Point]:
    """Return the part of an image within `reach` of a point: its slices, its size, and the point seen from it."""
    left, top = (max(0, int(middle - reach)) for middle in centre)
    right, bottom = (min(end, int(middle + reach) + 1) for middle, end in zip(centre, size[::-1], strict=True))
    return (slice(top, bottom), slice(left, right)), (bottom - top, right - left), (centre[0] - left, centre[1] - top)


def _outline(rng: Rng, size: Size, kind: str, centre: Point, radius: float) -> Field:
    """Return a shape in a window, > 0 inside, in pixels: turned, its outline bent and at times ragged."""
    x, y = _grid(size, centre)
    bend = radius * rng.uniform(0.04, 0.1)
    x = x + bend * _noise(rng, size, radius * 0.8)
    y = y + bend * _noise(rng, size, radius * 0.8)
    angle = rng.normal(0, 0.25) if kind == "figure" else rng.uniform(0, TAU)
    cos, sin = math.cos(angle) / radius, math.sin(angle) / radius
    inside = KINDS[kind](rng, x * cos + y * sin, y * cos - x * sin) * radius
    if rng.random() < 0.2:
        inside += rng.uniform(0.015, 0.03) * radius * _noise(rng, size, 3)
    return inside


def _blend(canvas: Field, paint: Field, cover: Field) -> None:
    canvas += (paint - canvas) * cover[..., None]


def _ground(rng: Rng, size: Size, unit: float) -> tuple[Field, Lab]:
    """Return a textured ground, sometimes of two regions, and its colours."""
    colour = _random_lab(rng, (0.35, 0.8), (0.01, 0.1))
    palette = _palette(rng, colour, rng.uniform(0.03, 0.09))
    image = _paint(_texture(rng, size, unit * rng.uniform(0.08, 0.35)), palette)
    if rng.random() < 0.45:  # a horizon, or a wall
        other = colour + rng.normal(0, 1, 3) * [0.1, 0.04, 0.04]
        other[0] = np.clip(other[0], 0.3, 0.85)
        second = _palette(rng, other, rng.uniform(0.02, 0.07))
        x, y = _grid(size, (size[1] / 2, size[0] / 2))
        angle = rng.normal(0, 0.3) + (math.pi / 2 if rng.random() < 0.2 else 0)
        level = x * math.sin(angle) + y * math.cos(angle) + unit * rng.normal(0, 0.15)
        level += unit * rng.uniform(0.01, 0.06) * _clouds(rng, size, unit * 0.3, 3)
        paint = _paint(_texture(rng, size, unit * rng.uniform(0.08, 0.35)), second)
        _blend(image, paint, np.clip(level / rng.uniform(1, 6) + 0.5, 0, 1))
        palette = np.concatenate([palette, second])
    return image, palette


def _distract(rng: Rng, image: Field, ground: Lab, unit: float, kinds: Sequence[str]) -> None:
    """Add what is not salient: shapes of the ground's own colours, and litter."""
    size = image.shape[0], image.shape[1]
    for _ in range(rng.integers(0, 4)):
        radius = unit * rng.uniform(0.08, 0.25)
        centre = (rng.uniform(0, size[1]), rng.uniform(0, size[0]))
        part, extent, middle = _window(size, centre, 1.3 * radius)
        inside = _outline(rng, extent, kinds[int(rng.integers(len(kinds)))], middle, radius)
        colour = ground[rng.integers(len(ground))] + rng.normal(0, 1, 3) * [0.05, 0.015, 0.015]
        paint = _paint(_texture(rng, extent, unit * 0.15), _palette(rng, colour, 0.03))
        cover: Field = np.clip(inside / rng.uniform(1, 4) + 0.5, 0, 1)
        _blend(image[part], paint, rng.uniform(0.5, 0.9) * cover)
    if rng.random() < 0.4:
        colour = _rgb(_contrasting(rng, ground))
        for _ in range(rng.integers(6, 25)):
            radius = unit * rng.uniform(0.008, 0.02)
            centre = (rng.uniform(0, size[1]), rng.uniform(0, size[0]))
            part, extent, middle = _window(size, centre, 2 * radius + 1)
            x, y = _grid(extent, middle)
            cover = np.clip(radius - np.hypot(x, y * rng.uniform(0.6, 1.6)) + 0.5, 0, 1)
            _blend(image[part], colour * rng.uniform(0.8, 1.1), 0.8 * cover)


def _place(rng: Rng, size: Size, unit: float, placed: Sequence[tuple[Point, float]]) -> tuple[Point, float]:
    """Return centre and radius of the next object, overlapping the others a little at most."""
    while True:
        radius = unit * (rng.uniform(0.1, 0.24) if placed else rng.uniform(0.2, 0.36))
        inset = 0.1 if rng.random() < 0.2 else 0.8  # one in five is cut by the border
        margin = min(inset * radius, 0.45 * min(size))
        centre = rng.uniform(margin, size[1] - margin), rng.uniform(margin, size[0] - margin)
        if all(math.dist(centre, other) > 0.85 * (radius + reach) for other, reach in placed):
            return centre, radius


def _object(rng: Rng, canvas: Field, ground: Lab, inside: Field, radius: float, light: Point) -> None:
    """Paint an object into a window: its shadow, then its own texture, lit at the rim from one side."""
    size = inside.shape[0], inside.shape[1]
    down, right = (round(-part * radius * rng.uniform(0.08, 0.25)) for part in light[::-1])
    rows = np.clip(np.arange(size[0]) - down, 0, size[0] - 1)
    columns = np.clip(np.arange(size[1]) - right, 0, size[1] - 1)
    shade = np.clip(0.5 + inside[rows[:, None], columns] / (radius * rng.uniform(0.2, 0.6)), 0, 1)
    canvas *= 1 - (rng.uniform(0.15, 0.5) * shade**2 * (3 - 2 * shade))[..., None]

    palette = _palette(rng, _contrasting(rng, ground), rng.uniform(0.04, 0.1))
    paint = _paint(_texture(rng, size, radius * rng.uniform(0.25, 0.9)), palette)
    rise_down, rise_right = np.gradient(inside)
    facing = np.clip(rise_right * light[0] + rise_down * light[1], -1, 1)  # steeper than 1 where the outline is ragged
    rim = np.exp(-np.clip(inside, 0, None) / (0.25 * radius))
    paint *= (1 + rng.uniform(0.15, 0.5) * rim * facing)[..., None]
    _blend(canvas, paint, np.clip(inside + 0.5, 0, 1))


def draw_scene(
    rng: Rng, size: int, kinds: Sequence[str] = tuple(KINDS), decoys: Sequence[str] = tuple(KINDS)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene.

    Args:
        rng: The only source of chance.
        size: Long side in pixels; the aspect is 1:1, 4:3 or 3:4.
        kinds: Kinds of salient object to choose from.
        decoys: Kinds of shape in the ground's own colours to choose from.

    Returns:
        Image, uint8 RGB (H, W, 3), and mask, uint8 (H, W): 0, or 1 + the place of the object's kind in `kinds`.
    """
    height, width = (round(size * side) for side in ASPECTS[rng.integers(len(ASPECTS))])
    image, ground = _ground(rng, (height, width), size)
    _distract(rng, image, ground, size, decoys)

    mask = np.zeros((height, width), np.uint8)
    angle = rng.uniform(0, TAU)
    light = (math.cos(angle), math.sin(angle))
    placed: list[tuple[Point, float]] = []
    count = int(rng.integers(1, 4))
    while len(placed) < count:
        centre, radius = _place(rng, (height, width), size, placed)
        kind = int(rng.integers(len(kinds)))
        part, extent, middle = _window((height, width), centre, 1.9 * radius)
        inside = _outline(rng, extent, kinds[kind], middle, radius)
        if (inside > 0).sum() > 0.2 * radius**2:  # else too much of it is outside the image
            placed.append((centre, radius))
            _object(rng, image[part], ground, inside, radius, light)
            mask[part][inside > 0] = 1 + kind

    x, y = _grid((height, width), (width / 2, height / 2))
    image *= (1 + rng.uniform(0, 0.5) / size * (x * light[0] + y * light[1]))[..., None]
    if rng.random() < 0.4:
        sigma = rng.uniform(0.4, 0.9)
        image = gaussian_filter(image, (sigma, sigma, 0), truncate=2.5)
    image += rng.uniform(0.005, 0.03) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), mask
