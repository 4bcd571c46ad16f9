"""Pictures, all with one look. Arrays in, a figure out; saving it is the caller's."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Array = NDArray[Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of lines and dots: Okabe and Ito's, which colour-blind readers tell apart."""
PANEL = 2.4  # inches, the width of an image
SIZE = 9  # points, of all text


def draw_sheet(title: str, rows: Sequence[Sequence[tuple[str, Array, Array]]]) -> Figure:
    """Draw maps with the outline of their masks in red.

    Args:
        title: Stands above all.
        rows: Of each panel its title, the map in [0, 1], (h, w), and the mask, boolean (H, W), over which it is drawn.
    """
    # Each row is as high as its highest mask needs.
    ratios = [max(min(mask.shape[0] / mask.shape[1], 1.6) for *_, mask in row) for row in rows]
    columns = max(map(len, rows))
    figure = Figure((PANEL * columns, PANEL * sum(ratios) + 0.3 * (len(rows) + 1)), layout="constrained")
    figure.suptitle(title, fontsize=SIZE + 1)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=ratios)
    for axes, row in zip(grid, rows, strict=True):
        for axis in axes:
            axis.set_axis_off()
        for axis, (name, prediction, mask) in zip(axes, row, strict=False):
            height, width = mask.shape
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axis.imshow(prediction, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
            axis.set_title(name, fontsize=SIZE)
            if mask.any() and not mask.all():
                axis.contour(mask, levels=[0.5], colors="red", linewidths=1)
    return figure


def draw_curves(title: str, curves: Mapping[str, Mapping[str, Array]]) -> Figure:
    """Draw precision over recall, and the F-measure over the threshold, a line per method.

    Args:
        title: Stands above both.
        curves: Of each method "precision", "recall" and "f" at the thresholds k/255, (256,) each.
    """
    figure, (left, right) = plots(2, title)
    for name, curve in curves.items():
        left.plot(curve["recall"], curve["precision"], label=name)
        right.plot(np.arange(256), curve["f"], label=f"{name} (max {curve['f'].max():.3f})")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02))
    right.set(xlabel="threshold (of 255)", ylabel="F-measure")
    for axis in (left, right):
        axis.set_ylim(0, 1.02)
        axis.legend(loc="lower center", fontsize=SIZE)
    return figure


def draw_measures(
    title: str, figures: Mapping[str, Mapping[str, float]], label: str, images: Mapping[str, Array]
) -> Figure:
    """Draw all figures of each method as a radar, further out is better, and how its image scores spread as boxes.

    Args:
        title: Stands above both.
        figures: Of each method its figures in [0, 1] by name, the higher the better.
        label: What the image scores are.
        images: Of each method the scores of its images, (images,), in [0, 1] or NaN. The whiskers go from the 5th to
            the 95th percentile.
    """
    figure = Figure((8.4, 3.8), layout="constrained")
    figure.suptitle(title, fontsize=SIZE + 1)
    left, right = cast(PolarAxes, figure.add_subplot(121, projection="polar")), figure.add_subplot(122)
    names = list(next(iter(figures.values())))
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    for (name, values), colour in zip(figures.items(), cycle(COLOURS), strict=False):
        around = [*values.values(), next(iter(values.values()))]
        left.plot([*angles, 0], around, color=colour, label=name, linewidth=1.2)
    left.set_xticks(angles, names, fontsize=SIZE - 1)
    left.set_rlabel_position(180 / len(names))
    # Methods lie near each other: the middle of the radar is a little below the lowest figure, not 0.
    lowest = np.nanmin([list(values.values()) for values in figures.values()])
    left.set_rmin(max(0.0, np.floor(10 * lowest - 1) / 10))
    left.yaxis.set_major_locator(MaxNLocator(4))
    left.tick_params(axis="x", pad=5)
    left.tick_params(axis="y", labelsize=SIZE - 2)
    known = [values[~np.isnan(values)] for values in images.values()]
    boxes = right.boxplot(known[::-1], orientation="horizontal", widths=0.6, whis=(5, 95), sym="", patch_artist=True)
    for box, colour in zip(boxes["boxes"][::-1], cycle(COLOURS), strict=False):
        box.set(facecolor=colour, alpha=0.5)
    right.set_yticks(range(1, len(known) + 1), list(images)[::-1], fontsize=SIZE)
    right.set_xlabel(label, fontsize=SIZE)
    right.tick_params(labelsize=SIZE - 1)
    right.grid(alpha=0.3, axis="x")
    right.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=SIZE - 1)
    return figure


def plots(count: int, title: str, share_y: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with plots side by side."""
    figure = Figure((3.2 * max(count, 2), 3.4), layout="constrained")
    figure.suptitle(title, fontsize=SIZE + 1)
    axes = figure.subplots(1, count, sharey=share_y, squeeze=False)[0]
    for axis in axes:
        axis.set_prop_cycle(color=COLOURS)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=SIZE - 1)
        axis.xaxis.label.set_size(SIZE)
        axis.yaxis.label.set_size(SIZE)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
