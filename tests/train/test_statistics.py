"""Statistics of differences: worked values, and the coverage of the intervals."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from train.evaluation.statistics import (
    Interval,
    flips,
    holm,
    mcnemar,
    paired_interval,
)


@pytest.mark.parametrize(
    ("fixed", "broken", "expected"),
    [(16, 6, 0.052479), (5, 0, 0.0625), (10, 10, 1.0), (0, 0, 1.0)],
)
def test_gives_the_worked_values_of_mcnemar(fixed, broken, expected):
    """The exact test gives the worked p values."""
    assert expected == pytest.approx(mcnemar(fixed, broken), abs=1e-6)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_the_sum_of_binomials_and_ignores_direction(fixed, broken):
    """The running product equals the sum of binomials, and swapping the runs changes nothing."""
    trials = fixed + broken
    tail = sum(math.comb(trials, drawn) for drawn in range(min(fixed, broken) + 1))

    assert min(1.0, 2 * tail / 2**trials) == mcnemar(fixed, broken)
    assert mcnemar(fixed, broken) == mcnemar(broken, fixed)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_the_binomial_test_of_scipy(fixed, broken):
    """The p value equals that of a two-sided binomial test with probability 1/2."""
    trials = fixed + broken
    expected = scipy.stats.binomtest(fixed, trials).pvalue if trials else 1.0

    assert expected == pytest.approx(mcnemar(fixed, broken), abs=1e-12)


def test_mcnemar_bears_large_counts():
    """Tens of thousands of changed images do not overflow."""
    p = mcnemar(20_000, 20_000)

    assert p == 1.0


def test_interval_holds_zero_in_95_percent_of_null_simulations():
    """For two runs with equal accuracy, 95 ± 3 of 100 intervals contain zero."""
    random = np.random.default_rng(0)
    held = 0
    for simulation in range(500):
        first, second = random.random((2, 400)) < 0.7
        difference = first.astype(float) - second.astype(float)
        interval = paired_interval(difference, resamples=1000, seed=simulation)
        held += interval.low <= 0 <= interval.high

    assert 0.95 == pytest.approx(held / 500, abs=0.03)


@pytest.mark.parametrize("shift", [-0.12, -0.03, 0.0, 0.05, 0.4])
def test_p_value_of_the_bootstrap_is_near_the_z_test(shift):
    """With many images the p value is that of a z test; it is never zero, and 1 without a change."""
    random = np.random.default_rng(3)
    change = random.choice([-1.0, 0.0, 1.0], size=800, p=[0.1, 0.8, 0.1])
    change = change - change.mean() + shift
    error = change.std() / len(change) ** 0.5
    expected = 2 * scipy.stats.norm.sf(abs(shift) / error)
    p_value = paired_interval(change, resamples=10_000, seed=0).p_value

    assert expected == pytest.approx(p_value, abs=0.015)
    assert p_value >= 2 / 10_001
    assert paired_interval(np.zeros(50), resamples=100, seed=0).p_value == 1.0


@pytest.mark.parametrize(
    ("images", "counts", "half"),
    [
        (10_000, {1.0: 7_000}, 0.0090),
        (23_388, {1.0: 15_436}, 0.0061),
        (10_000, {1.0: 435, -1.0: 365}, 0.0055),
        (10_000, {1.0: 400, -1.0: 400}, 0.0055),
    ],
    ids=["accuracy", "personae", "difference", "no_difference"],
)
def test_interval_is_as_wide_as_the_worked_resolution(images, counts, half):
    """10,000 images at 70 %: 0.90 points; 23,388 at 66 %: 0.61; 800 discordant of 10,000: 0.55."""
    values = np.zeros(images)
    values[: sum(counts.values())] = np.repeat(list(counts), list(counts.values()))
    interval = paired_interval(values, resamples=4000, seed=0)

    assert half == pytest.approx((interval.high - interval.low) / 2, abs=0.0003)


def test_multinomial_bootstrap_equals_the_plain_one():
    """Resampling counts of values gives the same interval as resampling images."""
    random = np.random.default_rng(1)
    difference = random.choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=300, p=[0.05, 0.1, 0.6, 0.15, 0.1])
    drawn = difference[random.integers(0, 300, size=(20_000, 300))].mean(axis=1)

    interval = paired_interval(difference, resamples=20_000, seed=2)

    assert np.quantile(drawn, 0.025) == pytest.approx(interval.low, abs=0.004)
    assert np.quantile(drawn, 0.975) == pytest.approx(interval.high, abs=0.004)
    assert difference.mean() == pytest.approx(interval.mean)


def test_interval_of_distinct_values_is_drawn_in_chunks():
    """The interval does not depend on how many resamples fit in memory."""
    difference = np.random.default_rng(3).normal(size=50)
    whole = paired_interval(difference, resamples=500, seed=4)

    assert whole == paired_interval(difference, resamples=500, seed=4, cells_at_once=64)


def test_interval_of_no_images_is_not_a_number():
    """The interval of no images is NaN and does not exclude zero."""
    interval = paired_interval(np.zeros(0), resamples=10, seed=0)

    assert math.isnan(interval.mean)
    assert not interval.excludes_zero


def test_same_seed_gives_the_same_interval():
    """The interval depends only on the numbers and the seed."""
    difference = np.array([1.0, 0.0, -1.0, 1.0, 0.0, 1.0])

    assert paired_interval(difference, resamples=200, seed=5) == paired_interval(
        difference, resamples=200, seed=5
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False)]
)
def test_knows_on_which_side_of_zero_it_lies(low, high, expected):
    """An interval on one side of zero excludes zero."""
    assert expected is Interval(mean=0.0, low=low, high=high).excludes_zero


def test_counts_fixed_and_broken():
    """An image wrong before and right after is fixed; the reverse is broken."""
    before = np.array([True, True, False, False, False])
    after = np.array([True, False, True, True, False])

    changed = flips(before, after)

    assert (2, 1) == (changed.fixed, changed.broken)
    assert mcnemar(2, 1) == changed.p_value


def test_holm_corrects_in_order():
    """The smallest of three p values is tripled, the next doubled, and the order is kept."""
    assert [0.09, 0.03, 0.09] == pytest.approx(holm([0.045, 0.01, 0.06]))


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    """A corrected value is at least the plain value, at most 1, and in the same order."""
    corrected = holm(p_values)

    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))
