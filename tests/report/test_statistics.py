import itertools
import time

import numpy as np
import pytest
import scipy.stats

from spatialseg.report.statistics import Arm, differences, draw, improvement, sign_flip

from .scores import MEASURES, make_scores

FW, F_MAX, MAE, IOU = range(4)


def arm(name: str, seeds: dict[int, int], shift: float = 0.0, **options: int) -> Arm:
    return Arm(name, {seed: make_scores(source, shift=shift) for seed, source in seeds.items()}, **options)


def test_the_interval_over_images_is_the_paired_bootstrap():
    first, second = arm("a", {0: 1}), arm("b", {0: 2}, 0.05)
    found = differences(first, second)
    gain = second.seeds[0].columns["weighted_f"] - first.seeds[0].columns["weighted_f"]
    expected = scipy.stats.bootstrap((gain,), np.mean, n_resamples=50_000, method="percentile", random_state=3)
    assert found[FW].value == pytest.approx(gain.mean())
    assert found[FW].images == pytest.approx(tuple(expected.confidence_interval), abs=1.5e-3)
    assert found[FW].crossed is None and found[FW].p_value is None


def test_the_interval_of_a_ratio_resamples_numerator_and_denominator_together():
    first, second = arm("a", {0: 1}), arm("b", {0: 2}, 0.05)

    def gain(i, u, j, v, axis):
        return j.sum(axis) / v.sum(axis) - i.sum(axis) / u.sum(axis)

    parts = [each.seeds[0].columns[name] for each in (first, second) for name in ("intersection", "union")]
    expected = scipy.stats.bootstrap(parts, gain, paired=True, n_resamples=20_000, method="percentile", random_state=3)
    assert differences(first, second)[IOU].images == pytest.approx(tuple(expected.confidence_interval), abs=2e-3)


def test_the_crossed_interval_is_that_of_every_possible_draw():
    """Two images and two seeds: 4 draws of images times 4 of seeds can be listed."""
    arms = []
    for name, source in (("a", 1), ("b", 5)):
        seeds = {seed: make_scores(source + seed, count=2) for seed in range(2)}
        arms.append(Arm(name, seeds, resamples=20_000))
    values = [[each.columns["weighted_f"] for each in one.seeds.values()] for one in arms]
    gain = np.array(values[1]) - np.array(values[0])
    ways = [
        gain[list(seeds)][:, list(images)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for images in itertools.product(range(2), repeat=2)
    ]
    (first, *_) = differences(*arms)
    assert first.crossed == pytest.approx((min(ways), max(ways)))
    drawn = np.einsum(
        "sr,rs->r", arms[1].resampled[0] - arms[0].resampled[0], draw(np.random.default_rng(1), 2, 20_000)
    )
    assert np.quantile(drawn / 2, [0.3, 0.7]) == pytest.approx(np.quantile(ways, [0.3, 0.7]), abs=0.02)


def test_seeds_widen_the_interval_and_pairing_narrows_it():
    """The same images are hard for every seed: only what varies between seeds is added."""
    rng = np.random.default_rng(0)
    first, second, third = {}, {}, {}
    for seed in range(6):
        luck = rng.normal(0, 0.05)
        for runs, number, gain in ((first, seed, 0.0), (second, seed, 0.02), (third, seed + 10, 0.02)):
            runs[number] = make_scores(seed)
            runs[number].columns["weighted_f"] = make_scores(0).columns["weighted_f"] * 0.5 + luck + gain
    paired = differences(Arm("a", first), Arm("b", second))[FW]
    unpaired = differences(Arm("a", first), Arm("c", third))[FW]
    assert paired.crossed == pytest.approx((0.02, 0.02)) and paired.p_value == pytest.approx(2 / 2**6)
    assert unpaired.p_value is None and unpaired.crossed[0] < 0 < 0.04 < unpaired.crossed[1]
    assert unpaired.images == pytest.approx((0.02, 0.02)) and (paired.pairs, unpaired.pairs) == (6, 0)


def test_only_seeds_that_both_have_are_compared():
    """One arm lacks a seed that was lucky: what is left is the same."""
    seeds = {seed: make_scores(seed, shift=0.2 * (seed == 2)) for seed in range(3)}
    fewer = {seed: seeds[seed] for seed in (0, 1)}
    for first, second in ((seeds, fewer), (fewer, seeds)):
        for each in differences(Arm("a", first), Arm("b", second)):
            assert each.value == 0 and each.images == each.crossed == (0, 0) and (each.pairs, each.p_value) == (2, 1)
            assert each.improvement == pytest.approx(0.5)
    (alone, *_) = differences(Arm("a", seeds), Arm("b", {2: seeds[2]}))
    assert (alone.value, alone.pairs, alone.crossed, alone.p_value) == (0, 1, None, None)


def test_sign_flips_agree_with_scipy():
    gains = np.random.default_rng(0).normal(0.4, 1, (3, 7))

    def mean(x, axis):
        return x.mean(axis)

    expected = [
        scipy.stats.permutation_test((row,), mean, permutation_type="samples", n_resamples=10**6).pvalue
        for row in gains
    ]
    assert sign_flip(gains) == pytest.approx(expected)
    assert sign_flip(np.zeros(3)) == 1


def test_improvement_counts_images_and_pairs_of_seeds():
    first, second = ({seed: make_scores(seed, count=3) for seed in range(2)} for _ in range(2))
    for runs, values in (
        (first, ([0.1, 0.5, np.nan], [0.3, 0.5, 0.2])),
        (second, ([0.2, 0.5, 0.9], [0.4, 0.6, np.nan])),
    ):
        for scores, column in zip(runs.values(), values, strict=True):
            scores.columns["weighted_f"] = scores.columns["mae"] = np.array(column)
    # image 1: 0.2 > 0.1, 0.2 < 0.3, 0.4 > both; image 2: 0.5 = both, 0.6 > both; image 3: 0.9 > 0.2
    assert improvement(MEASURES[FW], first, second) == pytest.approx((3 + 3 + 1) / 9)
    assert improvement(MEASURES[MAE], first, second) == pytest.approx((1 + 1 + 0) / 9)


def test_draws_hold_as_many_as_there_are():
    drawn = draw(np.random.default_rng(0), 7, 1000)
    assert drawn.shape == (1000, 7) and (drawn.sum(axis=1) == 7).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)


def test_large_data_are_drawn_in_parts(monkeypatch):
    whole = arm("a", {0: 1}, resamples=101).resampled
    monkeypatch.setattr("spatialseg.report.statistics.AT_ONCE", 40 * 7)
    parts = arm("a", {0: 1}, resamples=101).resampled
    assert parts.shape == whole.shape == (4, 1, 101)
    assert parts.mean(axis=-1) == pytest.approx(whole.mean(axis=-1), abs=0.02)


def test_ten_thousand_resamples_take_no_time_to_speak_of():
    arms = [Arm(name, {0: make_scores(seed, count=300)}) for seed, name in enumerate("ab")]
    start = time.process_time()
    differences(*arms)
    assert time.process_time() - start < 2
