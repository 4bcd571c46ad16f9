"""What toolboxes do differently when they score: one place for the choice."""

from dataclasses import dataclass
from math import inf
from typing import Literal

EmptyTarget = Literal["skip", "zero", "strict"]
OF_EMPTY = {"skip": "left out of Fw", "zero": "Fw = 0", "strict": "Fw = 1 if the prediction is empty too, else 0"}
"""What `EmptyTarget` means for an image without foreground."""


def check_cut(cut: float) -> None:
    """Make sure that maps can be cut into masks at a threshold.

    Raises:
        ValueError: It is not in [0, 1].
    """
    if not 0 <= cut <= 1:  # not a number is neither
        raise ValueError(f"the cut is a threshold in [0, 1], got {cut:g}")


@dataclass(frozen=True)
class Conventions:
    """How predictions are scored.

    Args:
        normalize: Stretch every prediction to [0, 1] first, as PySODMetrics does and the authors' `WFb.m` does not.
        beta2: β² of the weighted F-measure, the weight of recall against precision; positive.
        curve_beta2: β² of the thresholded F-measure; positive. The field uses 0.3.
        empty_target: Weighted F-measure of an image without foreground, which its definition leaves open: `"skip"`, it
            is left out of that average; `"zero"`, 0, as PySODMetrics has it; `"strict"`, 1 if no prediction reaches the
            threshold, else 0.
        threshold: Probability from which on a pixel is foreground, for measures of masks.
        ignore_index: Target value of the pixels that take no part.
        alpha: Weight in [0, 1] of the S-measure's object term against its region term.
        dilation_ratio: Width of Boundary IoU's region, relative to the image diagonal.
        tolerance_ratio: How far from each other contours still match, relative to the image diagonal.
        cuts: Thresholds at which maps are also cut into masks, for their weighted F-measure, IoU and boundary F; none
            by default, since that takes longer than all else together.
        cut: The one of them whose value stands beside the other measures, best chosen on other images.
        further: Names of measures that are only taken on request.
        mask_threshold: Grey level of a mask file above which a pixel is foreground (in a file of 0 and 1: where 1).

    Raises:
        ValueError: A value is out of its range.
    """

    normalize: bool = False
    beta2: float = 1.0
    curve_beta2: float = 0.3
    empty_target: EmptyTarget = "skip"
    threshold: float = 0.5
    ignore_index: int | None = 255
    alpha: float = 0.5
    dilation_ratio: float = 0.02
    tolerance_ratio: float = 0.008
    cuts: tuple[float, ...] = ()
    cut: float = 0.5
    mask_threshold: int = 127
    further: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be scored with."""
        for name, sound, expected in (
            ("beta2", self.beta2 > 0, "positive"),
            ("curve_beta2", self.curve_beta2 > 0, "positive"),
            ("empty_target", self.empty_target in OF_EMPTY, f"one of {', '.join(OF_EMPTY)}"),
            ("threshold", 0 < self.threshold <= 1, "in (0, 1]"),
            ("alpha", 0 <= self.alpha <= 1, "in [0, 1]"),
            ("dilation_ratio", 0 <= self.dilation_ratio < inf, "finite and at least 0"),
            ("tolerance_ratio", 0 <= self.tolerance_ratio < inf, "finite and at least 0"),
            ("cuts", all(0 < cut <= 1 for cut in self.cuts), "in (0, 1]"),
            ("cut", not self.cuts or self.cut in self.cuts, f"one of the cuts {', '.join(map(str, self.cuts))}"),
        ):
            if not sound:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def describe(self) -> str:
        """Say in one sentence what is done."""
        return (
            f"Predictions {'stretched to [0, 1]' if self.normalize else 'not stretched'}; "
            f"masks: foreground > {self.mask_threshold}; Fw: β² = {self.beta2:g}, ties of distance as in SciPy; "
            f"empty masks: {OF_EMPTY[self.empty_target]}; "
            f"F: β² = {self.curve_beta2:g}; F and E: 256 thresholds ≥ k/255, adaptive = twice the mean; "
            f"IoU (of the data set), bIoU and bF at {self.threshold:g}"
            f"{f'; cut: at {self.cut:g}' if self.cuts else ''}."
        )


DEFAULT = Conventions()
PRESETS = {
    "default": DEFAULT,
    "pysodmetrics": Conventions(normalize=True, empty_target="zero", mask_threshold=128),
    "matlab": Conventions(mask_threshold=128),
}
"""The conventions of toolboxes, by name."""
