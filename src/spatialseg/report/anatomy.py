"""The anatomy of one score: every map on the way to the weighted F-measure, and where each loss pushes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spatialseg.functional import WeightedCounts, f_measure_from_counts, weighted_error, weighted_f_measure
from spatialseg.losses import build_loss
from spatialseg.report.pictures import SIZE, Photograph, draw_map, image_panels

LOSSES = ("wfb", "bce", "dice", "lal")
"""What is shown unless other losses are named."""
SURE = 1e-6
"""How near to 0 and 1 a probability of floating point may come before its logit is taken; grey levels half a level."""

Maps = NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """What one map is made of to the weighted F-measure; maps are (H, W), and 0 at ignored pixels."""

    prediction: Maps
    """D, probabilities in [0, 1]."""
    error: Maps
    """E, in [0, 1]."""
    dependent: Maps
    """E_A, in [0, 1]."""
    importance: Maps
    """B, in [1, 2]."""
    weighted: Maps
    """E^w, in [0, 2]."""
    hits: Maps
    """What each pixel adds to TP^w: 1 − E^w on foreground, 0 elsewhere."""
    alarms: Maps
    """What each pixel adds to FP^w: E^w on background, 0 elsewhere."""
    tp: float
    """TP^w, in pixels."""
    fp: float
    """FP^w, in pixels."""
    positives: float
    """N₊, in pixels."""
    recall: float
    precision: float
    f: float
    """F^w; this, precision and recall are NaN where there is no foreground."""
    beta2: float
    cut: float
    """The threshold that makes a mask of the map."""
    mask_f: float
    """F^w of that mask."""
    gradients: dict[str, Maps]
    """By loss, the derivative with respect to each logit."""

    def describe(self) -> dict[str, str]:
        """Return the numbers by name, rounded to be read."""
        beta2 = "" if self.beta2 == 1 else f" (β² = {self.beta2:g})"
        sums = {"TPʷ": f"{self.tp:,.1f}", "FPʷ": f"{self.fp:,.1f}", "N₊": f"{self.positives:,.0f}"}
        ratios = {"Rʷ = TPʷ / N₊": self.recall, "Pʷ = TPʷ / (TPʷ + FPʷ)": self.precision, f"Fʷ{beta2}": self.f}
        ratios[f"Fʷ of the map cut at {self.cut:g}"] = self.mask_f
        shown = {name: f"{value} pixels" for name, value in sums.items()}
        return shown | {
            name: "–, no foreground" if np.isnan(value) else f"{value:.4f}" for name, value in ratios.items()
        }


def dissect(
    prediction: NDArray[Any],
    mask: NDArray[Any],
    losses: Sequence[str] = (),
    *,
    cut: float = 0.5,
    beta2: float = 1.0,
) -> Anatomy:
    """Take the weighted F-measure of one map apart.

    Args:
        prediction: Foreground map, (H, W): probabilities in [0, 1], or grey levels, uint8.
        mask: Ground truth, (H, W): 0, 1, or 255 for ignored.
        losses: Names of registered losses whose gradient is wanted, with their default arguments. They get the logits
            of the map, of which 0 and 1 have none: probabilities are kept `SURE` away from them, grey levels half a
            level.
        cut: Threshold in [0, 1]; the mask is foreground where the map reaches it.
        beta2: β², the weight of recall against precision.

    Raises:
        ValueError: Shapes differ, the map or the mask holds other values, or a loss does not exist or takes no binary
            targets.
    """
    if prediction.ndim != 2 or prediction.shape != mask.shape:
        raise ValueError(f"map and mask must share a shape (H, W), got {prediction.shape} and {mask.shape}")
    grey = prediction.dtype == np.uint8
    probability = torch.from_numpy(prediction / 255 if grey else prediction.astype(np.float64))[None]
    target = torch.from_numpy(mask.astype(np.uint8))[None]
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(
            f"a map holds probabilities in [0, 1] or grey levels, uint8; this one spans {prediction.min():g} to "
            f"{prediction.max():g}"
        )
    if strange := sorted(set(np.unique(mask).tolist()) - {0, 1, 255}):
        raise ValueError(f"a mask holds 0, 1 and 255 (ignored); this one also {', '.join(map(str, strange[:5]))}")
    foreground, background = target == 1, target == 0
    maps = weighted_error(probability, target)
    hits, alarms = (1 - maps.weighted) * foreground, maps.weighted * background
    counts = WeightedCounts(*(each.sum(dim=(1, 2)) for each in (hits, alarms, foreground.double())))
    f, precision, recall = (each.item() for each in f_measure_from_counts(counts, beta2))
    sure = 0.5 / 255 if grey else SURE
    logits = probability.float().logit(sure)[None].requires_grad_()
    gradients = {
        name: torch.autograd.grad(build_loss(name)(logits, target), logits)[0][0, 0].double().numpy() for name in losses
    }
    return Anatomy(
        prediction=probability[0].numpy(),
        error=maps.error[0].numpy(),
        dependent=maps.dependent[0].numpy(),
        importance=maps.importance[0].numpy(),
        weighted=maps.weighted[0].numpy(),
        hits=hits[0].numpy(),
        alarms=alarms[0].numpy(),
        tp=counts.tp.item(),
        fp=counts.fp.item(),
        positives=counts.positives.item(),
        recall=recall,
        precision=precision,
        f=f,
        beta2=beta2,
        cut=cut,
        mask_f=weighted_f_measure((probability >= cut).double(), target, beta2=beta2).f.item(),
        gradients=gradients,
    )


def draw_anatomy(photograph: Photograph, anatomy: Anatomy) -> Figure:
    """Draw the anatomy of one score.

    Args:
        photograph: The image, and the mask that `dissect` was given.
        anatomy: What `dissect` returned.

    Returns:
        The figure. Its rows: what there is (image, ground truth, map, the map as a mask); E, E_A, B and E^w; what each
        pixel adds to TP^w and FP^w, and the numbers; the gradients, four a row.
    """
    rows = 3 + -(-len(anatomy.gradients) // 4)
    figure, grid = image_panels([[photograph.mask]] * rows, 4)
    image, truth, shown, mask = grid[0]
    image.imshow(photograph.image)
    image.set_title(photograph.name, fontsize=SIZE)
    draw_map(truth, photograph.mask, "ground truth G")
    draw_map(shown, anatomy.prediction, "prediction D")
    draw_map(mask, anatomy.prediction >= anatomy.cut, f"D cut at {anatomy.cut:g}")
    heats = (
        ("error E", anatomy.error, 0, 1),
        ("dependency E$_A$", anatomy.dependent, 0, 1),
        ("importance B", anatomy.importance, 1, 2),
        ("E$^w$ = min(E, E$_A$)·B", anatomy.weighted, 0, 2),
    )
    for axis, (title, values, low, high) in zip(grid[1], heats, strict=True):
        _draw_heat(axis, values, title, cmap="inferno", vmin=low, vmax=high)
    _draw_heat(grid[2][0], anatomy.hits, f"adds to TP$^w$ = {anatomy.tp:,.0f}", cmap="inferno", vmin=0, vmax=1)
    _draw_heat(grid[2][1], anatomy.alarms, f"adds to FP$^w$ = {anatomy.fp:,.0f}", cmap="inferno", vmin=0, vmax=2)
    _write(grid[2][2], anatomy)
    for axis, (name, gradient) in zip(grid[3:].flat, anatomy.gradients.items(), strict=False):
        _draw_push(axis, -gradient, name)
    return figure


def _draw_heat(axis: Axes, values: Maps, title: str, **scale: Any) -> None:
    heat = axis.imshow(values, interpolation="nearest", **scale)
    axis.set_title(title, fontsize=SIZE)
    bar = axis.inset_axes((1.02, 0, 0.04, 1))  # as high as the image, whose shape the panel does not have
    axis.figure.colorbar(heat, cax=bar, ticks=[scale["vmin"], scale["vmax"]])
    bar.tick_params(labelsize=SIZE - 2, length=2, pad=1)


def _draw_push(axis: Axes, push: Maps, name: str) -> None:
    """Draw where a loss pushes the logits, red up and blue down, in units of its own strongest pushes."""
    strong = np.quantile(np.abs(push), 0.99) or np.abs(push).max() or 1.0  # a few extreme pixels would pale the others
    _draw_heat(axis, push / strong, f"{name} pushes", cmap="RdBu_r", vmin=-1, vmax=1)


def _write(axis: Axes, anatomy: Anatomy) -> None:
    """Write the numbers across the last two panels of a row."""
    place: dict[str, Any] = {"transform": axis.transAxes, "fontsize": SIZE, "linespacing": 1.4, "in_layout": False}
    numbers = anatomy.describe()
    axis.text(0.08, 0.98, "\n".join(numbers), va="top", **place)
    axis.text(1.2, 0.98, "\n".join(numbers.values()), va="top", **place)
    if anatomy.gradients:
        key = "Below: how each loss pushes the logits, red up, blue down;\n1 is the 99th percentile of its own pushes."
        axis.text(0.08, 0.02, key, va="bottom", **place)
