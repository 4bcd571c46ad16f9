"""Plots as SVG text, for pages: they take fonts and colours from the page, and so follow its theme."""

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]

WIDTH = 420
TOP, RIGHT, BOTTOM = 26, 14, 38


def span(*values: Values, pad: float = 0.05) -> tuple[float, float]:
    """Return the range of all finite values and a little more; (0, 1) where there is none."""
    flat = np.concatenate([np.ravel(np.asarray(part, dtype=np.float64)) for part in values])
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    room = (high - low) * pad or max(abs(high), 1.0) * pad
    return low - room, high + room


class Plot:
    """Dots and lines over two axes.

    Args:
        title: Stands above.
        x: Range of the horizontal axis.
        y: Range of the vertical axis, from bottom to top.
        x_label: What the horizontal axis shows.
        y_label: What the vertical axis shows.
        names: Instead of numbers the vertical axis has these names, from top to bottom, at 0, 1, 2 ...
        log: The horizontal axis is logarithmic.
        whole: The horizontal axis has whole numbers only.
    """

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float] = (0.0, 1.0),
        *,
        x_label: str = "",
        y_label: str = "",
        names: Sequence[str] = (),
        log: bool = False,
        whole: bool = False,
    ) -> None:
        self.title, self.log, self.whole = title, log, whole
        self.x = (math.log10(x[0]), math.log10(x[1])) if log else x
        self.y = (len(names) - 0.5, -0.5) if names else y
        self.left = 16 + 6.6 * max(map(len, names)) if names else 52
        self.height = TOP + BOTTOM + (20 * len(names) if names else 230)
        self.parts = [f'<text class="title" x="4" y="15">{escape(title)}</text>']
        bottom = self.height - BOTTOM
        for value in self._x_ticks():
            place = self._place_x(value)
            self.parts.append(f'<path class="grid" d="M{place:.1f} {TOP}V{bottom}"/>')
            self._text(f"{value:g}", place, bottom + 15, "middle")
        for height, label in enumerate(names) if names else ((value, f"{value:g}") for value in _ticks(*self.y)):
            place = self._place_y(height)
            self.parts.append(f'<path class="grid" d="M{self.left} {place:.1f}H{WIDTH - RIGHT}"/>')
            self._text(label, self.left - 6, place + 4, "end")
        self._text(x_label, (self.left + WIDTH - RIGHT) / 2, self.height - 5, "middle")
        if y_label:
            middle = (TOP + bottom) / 2
            self.parts.append(
                f'<text text-anchor="middle" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>'
            )

    def dots(self, x: Values, y: Values, kind: str, titles: Iterable[str] = (), radius: float = 2.5) -> None:
        """Draw dots of a kind, which is their CSS class; titles are shown when pointed at."""
        labels = iter(titles)
        for one, other in zip(x, y, strict=True):
            label = next(labels, "")
            if not math.isfinite(one + other):
                continue
            inside = f"<title>{escape(label)}</title>" if label else ""
            place = f'cx="{self._place_x(one):.1f}" cy="{self._place_y(other):.1f}"'
            self.parts.append(f'<circle class="{kind}" {place} r="{radius:g}">{inside}</circle>')

    def line(self, x: Values, y: Values, kind: str) -> None:
        """Draw a line of a kind, broken where a value is missing."""
        path, pen = [], "M"
        for one, other in zip(x, y, strict=True):
            if math.isfinite(one + other):
                path.append(f"{pen}{self._place_x(one):.1f} {self._place_y(other):.1f}")
            pen = "L" if math.isfinite(one + other) else "M"
        self.parts.append(f'<path class="line {kind}" d="{"".join(path)}"/>')

    def svg(self) -> str:
        """Return the plot as an `<svg>` element."""
        about = f'viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.title)}"'
        return f"<svg {about}>{''.join(self.parts)}</svg>"

    def _text(self, text: str, x: float, y: float, anchor: str) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def _place_x(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - RIGHT - self.left)

    def _place_y(self, value: float) -> float:
        return TOP + (self.y[1] - value) / (self.y[1] - self.y[0]) * (self.height - BOTTOM - TOP)

    def _x_ticks(self) -> list[float]:
        if not self.log:
            return _ticks(*self.x, least=float(self.whole))
        powers = range(math.floor(self.x[0]), math.ceil(self.x[1]) + 1)
        steps = (1, 2, 5) if len(powers) < 6 else (1,)  # so that no two stand on each other
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.x[0] <= math.log10(value) <= self.x[1]]


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Return up to seven round numbers in a range, at least so far apart."""
    step = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = max(least, next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6))
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]
