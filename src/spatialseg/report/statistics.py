"""Is one better than the other? Paired differences of all measures, with intervals, over seeds and images.

An arm is what a training's settings give: the scores of several seeds on the same test images. Seeds and images are
both samples of what could have been: the crossed bootstrap draws anew from both, independently, the same images for
both arms and all seeds (Owen, *The pigeonhole bootstrap*, Annals of Applied Statistics 2007). What is peculiar to one
seed and image together counts more than once that way: the intervals are rather too wide than too narrow. Images alone
say how sure the difference of *these* trained networks is; not, what another training would give.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialseg.scores import Measure, Scores

Array = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 10_000
NO_SEED = -1  # of maps that are not of a training of ours, and so are paired with none
AT_ONCE = 4_000_000  # weights held at a time, 32 MB


@dataclass(frozen=True)
class Arm:
    """The scores of several seeds on the same images.

    Args:
        name: What to call it.
        seeds: Scores by seed in ascending order, all of the same images; of scored maps by `NO_SEED`.
        resamples: How many times images are drawn anew.
    """

    name: str
    seeds: Mapping[int, Scores]
    resamples: int = RESAMPLES

    @property
    def first_seed(self) -> Scores:
        """The scores of the first seed, for what all seeds have in common."""
        return next(iter(self.seeds.values()))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures that were taken."""
        return self.first_seed.measures

    @cached_property
    def figures(self) -> Array:
        """Figure of each measure and seed, (measures, seeds)."""
        figures: Array = np.array([list(scores.figures().values()) for scores in self.seeds.values()]).T
        return figures

    def means(self) -> dict[str, float]:
        """Return each measure's mean over seeds, by name."""
        return dict(zip(self.first_seed.figures(), self.figures.mean(axis=1).tolist(), strict=True))

    def images(self, measure: Measure) -> Array:
        """Return the score of each image in a measure, the mean over seeds, (N,)."""
        mean: Array = np.mean([scores.columns[measure.name] for scores in self.seeds.values()], axis=0)
        return mean

    @cached_property
    def resampled(self) -> Array:
        """The same on images drawn anew, (measures, seeds, resamples); the same draws for every arm."""
        count = len(self.first_seed)
        step = max(1, AT_ONCE // count)
        random = np.random.default_rng(0)
        parts = []
        for first in range(0, self.resamples, step):
            weights = draw(random, count, min(step, self.resamples - first))
            parts.append([list(scores.figures(weights).values()) for scores in self.seeds.values()])
        resampled: Array = np.concatenate(parts, axis=-1).swapaxes(0, 1)
        return resampled

    def intervals(self) -> list[Interval]:
        """Return the 95 % interval of each measure's mean over seeds: over images, and over seeds if there are two."""
        drawn = draw(np.random.default_rng(1), len(self.seeds), self.resamples)
        return _interval(_mean_of(self, drawn))


class Difference(NamedTuple):
    """By how much the second of two arms differs from the first in one measure."""

    measure: Measure
    value: float
    """Second less first, of the means over seeds."""
    images: Interval
    """95 % interval over images, of these very runs."""
    crossed: Interval | None
    """95 % interval over seeds and images; None with a single seed in either arm."""
    pairs: int
    """Number of seeds that are paired; 0 if the arms have none in common, and all seeds of both count."""
    p_value: float | None
    """Exact two-sided sign-flip test over paired seeds; None unless there are two or more."""
    improvement: float
    """Probability that the second arm's score of an image is better than the first's, ties counted half."""


def differences(first: Arm, second: Arm) -> list[Difference]:
    """Compare two arms in every measure, over the seeds that both have.

    Args:
        first: The baseline.
        second: What is held against it; of the same images and measures, with as many resamples.
    """
    first, second = paired(first, second)
    pairs = len(first.seeds.keys() & second.seeds.keys())
    value = second.figures.mean(axis=1) - first.figures.mean(axis=1)
    images = _interval(second.resampled.mean(axis=1) - first.resampled.mean(axis=1))
    crossed = p_values = None
    if min(len(first.seeds), len(second.seeds)) > 1:
        random = np.random.default_rng(1)
        drawn = draw(random, len(first.seeds), first.resamples)
        also = drawn if pairs else draw(random, len(second.seeds), second.resamples)
        crossed = _interval(_mean_of(second, also) - _mean_of(first, drawn))
        if pairs:
            p_values = sign_flip(second.figures - first.figures)
    return [
        Difference(
            measure,
            float(value[index]),
            images[index],
            crossed[index] if crossed else None,
            pairs,
            float(p_values[index]) if p_values is not None else None,
            improvement(measure, first.seeds, second.seeds),
        )
        for index, measure in enumerate(first.measures)
    ]


def paired(first: Arm, second: Arm) -> tuple[Arm, Arm]:
    """Return both arms with the seeds alone that they have in common, or as they are if there are none.

    A seed fixes the order of the images and the first weights of both, and what only one of them was trained with would
    be taken for a difference between them.
    """
    common = sorted(first.seeds.keys() & second.seeds.keys())
    one, two = (  # an arm that has no other seeds has perhaps been resampled already
        arm
        if not common or list(arm.seeds) == common
        else replace(arm, seeds={seed: arm.seeds[seed] for seed in common})
        for arm in (first, second)
    )
    return one, two


def draw(random: np.random.Generator, count: int, resamples: int) -> Array:
    """Draw with replacement as many as there are, and return how often each was drawn, (resamples, count)."""
    picks = random.integers(0, count, (resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(picks.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def sign_flip(differences: Array) -> Array:
    """Return the exact two-sided p-value of a mean difference, each pair's sign as likely as its opposite.

    With n pairs there are 2ⁿ ways, and p cannot go below 2/2ⁿ: six pairs are the fewest that can reach 0.05.

    Args:
        differences: A row of paired differences per test, (..., pairs); 20 pairs at most.
    """
    pairs = differences.shape[-1]
    # A way and its opposite are equally far from zero: half of them do.
    ways = 1.0 - 2.0 * (np.arange(2 ** (pairs - 1))[:, None] >> np.arange(pairs) & 1)
    extreme = np.abs(differences @ ways.T)
    p_value: Array = (extreme >= np.abs(differences.sum(axis=-1))[..., None] - 1e-12).mean(axis=-1)
    return p_value


def improvement(measure: Measure, first: Mapping[int, Scores], second: Mapping[int, Scores]) -> float:
    """Return the probability that an image's score is better in the second arm, over images and all pairs of seeds.

    Ties count half (Agarwal et al., *Deep RL at the Edge of the Statistical Precipice*, NeurIPS 2021, with images as
    tasks). Images without a value are left out; NaN where there is none.
    """
    sign = 1 if measure.better == "higher" else -1
    before, after = (sign * np.stack([each.columns[measure.name] for each in arm.values()]) for arm in (first, second))
    gain = after[:, None] - before
    known = ~np.isnan(gain)
    return float((np.sign(gain[known]) + 1).mean() / 2) if known.any() else float("nan")


def _mean_of(arm: Arm, drawn: Array) -> Array:
    """Return the mean over the seeds drawn, for each draw of the images: (measures, resamples)."""
    mean: Array = np.einsum("msr,rs->mr", arm.resampled, drawn) / len(arm.seeds)
    return mean


def _interval(values: Array) -> list[Interval]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # of a measure that one of the two does not have
        low, high = np.nanquantile(values, [0.025, 0.975], axis=-1)
    return list(zip(low.tolist(), high.tolist(), strict=True))
