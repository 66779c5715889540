"""Intervals: each holds what it should as often as it says, also at the ends of what a metric can be."""

from __future__ import annotations

import numpy as np
import pytest

from components.measures import intervals, manifolds, metrics
from components.measures.distances import Features, frechet_distance, kernel_distance
from components.measures.intervals import Estimate

DRAWS = 60
# Less than that of 60 intervals of 95 % has a probability of 0.0004.
ENOUGH = 50 / DRAWS


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def share_that_holds(found: list[Estimate], truth: float | None = None) -> float:
    """Of the truth, or of what the draws are on average."""
    truth = float(np.mean([each.value for each in found])) if truth is None else truth
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def clustered(rng: np.random.Generator, count: int, spread: float = 1.0) -> Features:
    """Features in eight clusters of different sizes, as classes are."""
    centres = 4 * np.random.default_rng(9).normal(size=(8, 6))
    return centres[rng.integers(0, 8, count) * rng.integers(0, 2, count)] + spread * rng.normal(size=(count, 6))


def test_means_hold_the_truth_also_of_few_images(rng: np.random.Generator) -> None:
    assert share_that_holds([intervals.mean(rng.exponential(size=400)) for _ in range(DRAWS)], 1.0) >= ENOUGH
    few = [intervals.mean(rng.normal(size=4)) for _ in range(400)]
    assert share_that_holds(few, 0.0) >= 0.92
    assert intervals.mean([3.0]) == (3.0, -np.inf, np.inf)


def test_distances_hold_what_is_typical_of_so_many_images(rng: np.random.Generator) -> None:
    real = rng.normal(size=(1000, 8))
    shifted = [rng.normal(size=(500, 8)) + 0.3 for _ in range(DRAWS)]
    everything = rng.normal(size=(60_000, 8)) + 0.3
    truth = kernel_distance(everything[:6000], real)
    assert share_that_holds([metrics.kernel_estimate(fake, real) for fake in shifted], truth) >= ENOUGH
    # What the distance would be for 500 images, which is not what it is for very many.
    typical = float(np.mean([frechet_distance(part, real) for part in np.array_split(everything, 120)]))
    assert share_that_holds([metrics.frechet_estimate(fake, real) for fake in shifted], typical) >= ENOUGH


def test_distances_hold_also_where_the_reals_are_drawn_again(rng: np.random.Generator) -> None:
    """Where there are fewer reals than fakes, most of the error is theirs."""
    found = [
        metrics.frechet_estimate(rng.normal(size=(1000, 8)) + 0.3, rng.normal(size=(250, 8))) for _ in range(DRAWS)
    ]
    assert share_that_holds(found) >= ENOUGH


def test_an_error_of_few_groups_is_known_with_few_degrees_of_freedom(rng: np.random.Generator) -> None:
    """In many dimensions five groups are left out: as if their spread were exact, 88 % would hold."""
    held = []
    for _ in range(400):
        # The distance of means, in which every image counts alike.
        groups = rng.normal(size=(5, 20))
        without = [np.delete(groups, g, 0).mean() for g in range(5)]
        held.append(intervals.left_out(float(groups.mean()), without))
    assert share_that_holds(held, 0.0) >= 0.92
    few = intervals.left_out(1.0, [0.9, 1.1, 1.0, 0.95, 1.05])
    assert few.high - 1.0 == pytest.approx(2.7764 * np.std([0.9, 1.1, 1.0, 0.95, 1.05]) * 2, rel=1e-4)


@pytest.mark.parametrize("redrawn", [False, True])
def test_recall_and_coverage_know_that_reals_share_the_fakes(rng: np.random.Generator, redrawn: bool) -> None:
    """As means over the reals they would hold in about 80 %."""
    real = clustered(rng, 900)
    recalls, coverages = [], []
    for _ in range(DRAWS):
        reals = clustered(rng, 900) if redrawn else real
        fake = clustered(rng, 200, spread=0.8)
        recalls.append(manifolds.recall_estimate(reals, fake))
        coverages.append(manifolds.coverage_estimate(reals, fake))
    assert share_that_holds(recalls) >= ENOUGH
    assert share_that_holds(coverages) >= ENOUGH


def test_estimates_of_manifolds_are_of_the_same_values(rng: np.random.Generator) -> None:
    real, fake = clustered(rng, 1500), clustered(rng, 1100, spread=0.7)
    found = manifolds.manifolds(real, fake)
    values = (*manifolds.precision_recall(real, fake), *manifolds.density_coverage(real, fake))
    assert [each.value for each in found] == pytest.approx([value.mean() for value in values])
    assert all(each.low < each.value < each.high for each in found)
    away = manifolds.manifolds(real, fake + 100)
    assert (away.recall.value, away.recall.low) == (away.coverage.value, away.coverage.low) == (0, 0)
    assert away.recall.high == away.coverage.high == pytest.approx(1 - 0.025 ** (1 / 1500))
    few = manifolds.manifolds(real[:9], fake[:7])
    assert all(each.value >= 0 and each.low <= each.value <= each.high for each in few)


def test_leaving_out_groups_is_measuring_without_them(rng: np.random.Generator) -> None:
    """By the metric itself on the images that are left."""
    real, fake = clustered(rng, 330), clustered(rng, 300, spread=0.7)
    groups = [manifolds._groups(len(each)).numpy() for each in (real, fake)]
    for estimate, values in (
        (manifolds.recall_estimate, lambda r, f: manifolds.precision_recall(r, f)[1]),
        (manifolds.coverage_estimate, lambda r, f: manifolds.density_coverage(r, f)[1]),
    ):
        without = [values(real[groups[0] != g], fake[groups[1] != g]).mean() for g in range(manifolds.GROUPS)]
        whole = float(values(real, fake).mean())
        expected, found = intervals.left_out(whole, without, 0, 1), estimate(real, fake)
        alone = intervals.share(values(real, fake))
        assert found.value == pytest.approx(whole)
        assert found.low == pytest.approx(min(expected.low, alone.low))
        assert found.high == pytest.approx(max(expected.high, alone.high))


def test_intervals_of_shares_hold_at_the_ends_too() -> None:
    """By Clopper and Pearson's own relation to the binomial distribution."""
    from scipy.stats import binom

    none = intervals.share(np.zeros(500, bool))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 500))
    some = intervals.share(np.arange(50) < 7)
    assert binom.sf(6, 50, some.low) == pytest.approx(0.025)
    assert binom.cdf(7, 50, some.high) == pytest.approx(0.025)
    assert intervals.share(np.ones(9, bool)).high == 1
    held = [intervals.share(np.random.default_rng(seed).random(60) < 0.03) for seed in range(300)]
    assert share_that_holds(held, 0.03) >= 0.93


def test_auc_against_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.metrics import roc_auc_score

    positive, negative = rng.integers(0, 9, 400) + 1.0, rng.integers(0, 9, 300) + 0.0
    truth = np.repeat([1, 0], [400, 300])
    expected = roc_auc_score(truth, np.concatenate([positive, negative]))
    assert intervals.auc(positive, negative) == pytest.approx(expected)
    assert intervals.auc_estimate(positive, negative).low > 0.5


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (2.5, 1.0), (0.0, 4.0), (3.0, 3.0)])
def test_areas_under_the_curve_hold_the_truth(rng: np.random.Generator, shift: float, scale: float) -> None:
    from scipy.stats import norm

    truth = float(norm.cdf(shift / np.hypot(1, scale)))
    found = [intervals.auc_estimate(rng.normal(size=32) * scale + shift, rng.normal(size=32)) for _ in range(300)]
    assert share_that_holds(found, truth) >= 0.92
    assert all(0 <= each.low <= each.high <= 1 for each in found)


def test_scores_that_are_all_apart_leave_room_for_chance() -> None:
    apart, mirrored = np.arange(32.0) + 100, np.arange(32.0)
    found, other = intervals.auc_estimate(apart, mirrored), intervals.auc_estimate(mirrored, apart)
    assert (found.value, found.high, other.value, other.low) == (1, 1, 0, 0)
    assert found.low == pytest.approx(0.937, abs=1e-3)
    assert other.high == pytest.approx(1 - found.low)
    same = intervals.auc_estimate(np.zeros(32), np.zeros(32))
    assert same.value == 0.5
    assert same.low < 0.4
