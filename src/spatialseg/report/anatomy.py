"""The anatomy of one score: every map on the way to the weighted F-measure, and where each loss pushes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spatialseg.conventions import check_cut
from spatialseg.data.source import IGNORE_INDEX
from spatialseg.functional import WeightedCounts, f_measure_from_counts, weighted_error, weighted_f_measure
from spatialseg.functional.dispatch import one_thread
from spatialseg.report.sheet import Panel, Photograph, Words, draw_panels, heat, map_pixels

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
        ValueError: Shapes differ, the map, the mask or the cut holds other values, or a loss does not exist or takes no
            binary targets.
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
    check_cut(cut)
    if strange := sorted(set(np.unique(mask).tolist()) - {0, 1, 255}):
        raise ValueError(f"a mask holds 0, 1 and 255 (ignored); this one also {', '.join(map(str, strange[:5]))}")
    foreground = target == 1
    with one_thread():
        error = weighted_error(probability, target)
    maps: dict[str, Any] = {"prediction": probability, **error._asdict()}
    maps |= {"hits": (1 - error.weighted) * foreground, "alarms": error.weighted * (target == 0)}
    sums = (each.sum(dim=(1, 2)) for each in (maps["hits"], maps["alarms"], foreground.double()))
    counts = WeightedCounts(*sums)
    numbers: dict[str, Any] = counts._asdict() | f_measure_from_counts(counts, beta2)._asdict()
    logits = probability.float().logit(0.5 / 255 if grey else SURE)[None]
    return Anatomy(
        **{name: each[0].numpy() for name, each in maps.items()},
        **{name: each.item() for name, each in numbers.items()},
        beta2=beta2,
        cut=cut,
        mask_f=weighted_f_measure((probability >= cut).double(), target, beta2=beta2).f.item(),
        gradients={name: _gradient(name, logits, target) for name in losses},
    )


def _gradient(name: str, logits: Tensor, target: Tensor) -> Maps:
    from spatialseg.losses import build_loss  # brings libraries that take seconds, and a score alone needs no loss

    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(build_loss(name)(logits, target), logits)
    pushes: Maps = gradient[0, 0].double().numpy()
    return pushes


def weigh(prediction: NDArray[Any], mask: NDArray[Any]) -> tuple[Maps, float]:
    """Return the weighted error E^w of every pixel, in [0, 2], and the weighted F of the image, NaN where it has none.

    Args:
        prediction: Foreground map, (H, W); or probabilities of each class, (classes, H, W), of which the largest error
            is returned, and the mean F of the classes that are there.
        mask: Ground truth, (H, W): 0 and 1, or class indices; 255 is ignored.
    """
    if prediction.ndim == 2:
        anatomy = dissect(prediction, mask)
        return anatomy.weighted, anatomy.f
    masks = (np.where(mask == IGNORE_INDEX, IGNORE_INDEX, mask == index) for index in range(len(prediction)))
    parts = [dissect(one, truth) for one, truth in zip(prediction, masks, strict=True)]
    known = [part.f for part in parts if not np.isnan(part.f)]
    return np.max([part.weighted for part in parts], axis=0), float(np.mean(known)) if known else float("nan")


def panels(photograph: Photograph, anatomy: Anatomy) -> list[list[Panel | Words]]:
    """Return the anatomy of one score as titled panels.

    Args:
        photograph: The image, and the mask that `dissect` was given.
        anatomy: What `dissect` returned.

    Returns:
        Rows: what there is (image, ground truth, map, the map as a mask); E, E_A, B and E^w; what each pixel adds to
        TP^w and FP^w, and the numbers; the gradients, four a row.
    """
    pushes: list[Panel | Words] = [_push(name, -gradient) for name, gradient in anatomy.gradients.items()]
    numbers = anatomy.describe()
    notes = ["Eʷ = B·min(E, Eₐ) on the foreground, B·E elsewhere"]
    if pushes:
        notes += [
            "Below: how each loss pushes the logits, red up, blue",
            "down; 1 is the 99th percentile of its own pushes.",
        ]
    return [
        [
            Panel(photograph.name, photograph.image),
            Panel("ground truth G", map_pixels(photograph.mask)),
            Panel("prediction D", map_pixels(anatomy.prediction)),
            Panel(f"D cut at {anatomy.cut:g}", map_pixels(anatomy.prediction >= anatomy.cut)),
        ],
        [
            heat("error E", anatomy.error, 0, 1),
            heat("dependency Eₐ", anatomy.dependent, 0, 1),
            heat("importance B", anatomy.importance, 1, 2),
            heat("weighted error Eʷ", anatomy.weighted, 0, 2),
        ],
        [
            heat(f"adds to TPʷ = {anatomy.tp:,.0f}", anatomy.hits, 0, 1),
            heat(f"adds to FPʷ = {anatomy.fp:,.0f}", anatomy.alarms, 0, 2),
            Words((list(numbers), list(numbers.values())), "\n".join(notes)),
        ],
        *(pushes[first : first + 4] for first in range(0, len(pushes), 4)),
    ]


def draw_predictions(rows: Sequence[tuple[Photograph, NDArray[Any]]], width: int = 240) -> Image.Image:
    """Draw photographs side by side with ground truth, prediction and weighted error, one row each.

    Args:
        rows: A photograph, and probabilities in [0, 1], (H, W) or (classes, H, W).
        width: Of a panel, in pixels.
    """
    sheet: list[list[Panel]] = []
    for photograph, probability in rows:
        classes = len(probability) if probability.ndim == 3 else 1
        cost, f = weigh(probability, photograph.mask)
        sheet.append(
            [
                Panel(photograph.name, photograph.image),
                Panel("ground truth", map_pixels(photograph.mask, classes)),
                Panel(f"prediction, Fʷ {f:.3f}", map_pixels(probability, classes)),
                heat("weighted error", cost, 0, 2),
            ]
        )
    return draw_panels(sheet, width)


def draw_anatomy(photograph: Photograph, anatomy: Anatomy, width: int = 240) -> Image.Image:
    """Draw the anatomy of one score as one picture, each of its panels so many pixels wide; see `panels`."""
    return draw_panels(panels(photograph, anatomy), width)


def _push(name: str, push: Maps) -> Panel:
    """Return where a loss pushes the logits, red up and blue down, in units of its own strongest pushes."""
    strong = np.quantile(np.abs(push), 0.99) or np.abs(push).max() or 1.0  # a few extreme pixels would pale the others
    return heat(f"{name} pushes", push / strong, -1, 1, "RdBu_r")
