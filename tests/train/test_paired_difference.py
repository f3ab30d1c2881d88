"""A paired difference: Student's t over seeds, and when a difference is conclusive."""

import numpy as np
import pytest
from scipy import stats

from train.evaluation.statistics import Interval
from train.page.differences import PairedDifference, t_interval
from train.page.formatting import brief, described, with_intervals
from train.page.summary import paired_difference


def test_t_interval_of_three_values():
    """(1, 2, 3) has mean 2, standard deviation 1 and t = 4.302653 with two degrees of freedom."""
    interval = t_interval((1.0, 2.0, 3.0))

    assert 2.0 == pytest.approx(interval.mean)
    assert 2.0 - 4.302653 / 3**0.5 == pytest.approx(interval.low, abs=1e-6)
    assert 2.0 + 4.302653 / 3**0.5 == pytest.approx(interval.high, abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_t_interval_is_that_of_scipy(seeds):
    """The ends equal those of scipy's interval with the standard error of the mean."""
    values = np.random.default_rng(seeds).normal(0.01, 0.02, seeds)
    expected = stats.t.interval(0.95, seeds - 1, loc=values.mean(), scale=stats.sem(values))
    interval = t_interval(values.tolist())

    assert expected == pytest.approx((interval.low, interval.high))
    assert stats.ttest_1samp(values, 0).pvalue == pytest.approx(interval.p_value)


@pytest.mark.parametrize("values", [(), (0.3,)])
def test_fewer_than_two_values_have_no_interval(values):
    """With fewer than two values there is no interval."""
    assert t_interval(values) is None


def test_equal_values_have_an_interval_without_width():
    """If all seeds agree, mean and ends are equal, and only a mean of zero is not conclusive."""
    assert t_interval((0.25, 0.25)) == Interval(0.25, 0.25, 0.25)
    assert (0.0, 1.0) == (t_interval((0.25, 0.25)).p_value, t_interval((0.0, 0.0)).p_value)


def test_p_value_of_a_difference_is_the_larger_of_two():
    """A difference must hold over images and over seeds; one seed gives 1, so no conclusion."""
    images, seeds = Interval(0.02, 0.01, 0.03, 0.004), Interval(0.02, 0.001, 0.039, 0.03)

    assert 0.03 == PairedDifference(images, (0.01, 0.02, 0.03), seeds).p_value
    assert 0.004 == PairedDifference(images, (0.01, 0.02, 0.03), images).p_value
    assert 1.0 == PairedDifference(images, (0.02,), None).p_value


@pytest.mark.parametrize(
    ("images", "seeds", "expected"),
    [
        ((0.01, 0.03), (0.005, 0.035), "better"),
        ((-0.03, -0.01), (-0.035, -0.005), "worse"),
        ((0.01, 0.03), (-0.01, 0.05), "no conclusion"),
        ((-0.01, 0.05), (0.01, 0.03), "no conclusion"),
        ((-0.01, 0.05), (-0.01, 0.05), "no conclusion"),
        ((0.01, 0.03), (0.0, 0.04), "no conclusion"),
        ((0.01, 0.03), None, "no conclusion"),
    ],
)
def test_both_intervals_must_exclude_zero(images, seeds, expected):
    """A difference is conclusive only if the intervals over images and over seeds exclude zero."""
    mean = sum(images) / 2
    over_seeds = None if seeds is None else Interval(mean, *seeds)
    difference = PairedDifference(
        Interval(mean, *images), (mean,) if seeds is None else (mean, mean), over_seeds
    )
    verdict = {(True, False): "better", (False, True): "worse", (False, False): "no conclusion"}

    assert expected == verdict[difference.is_better, difference.is_worse]
    assert difference.is_conclusive is (expected != "no conclusion")


def test_difference_is_the_mean_over_seeds_and_images():
    """Seeds with 1/4 and 3/4 of four images give 1/2, over images and over seeds."""
    by_seed = {0: np.array([1.0, 0, 0, 0]), 3: np.array([1.0, 1, 1, 0])}
    difference = paired_difference(by_seed, resamples=200, seed=0)

    assert (0.25, 0.75) == difference.by_seed
    assert 0.5 == difference.mean == difference.over_seeds.mean
    assert difference.over_images.low <= 0.5 <= difference.over_images.high


def _null_differences(*, seeds, simulations, images=600, spread=0.029):
    """
    Differences of two methods that are equally accurate, with trainings that are not.

    Images differ in difficulty; each training's accuracy deviates by `spread`, that of the demo board.
    """
    random = np.random.default_rng(seeds)
    for simulation in range(simulations):
        difficulty = random.normal(0, 1.5, images)
        training = random.normal(0, spread / 0.13, (2, seeds, 1))  # 0.13: slope of accuracy there
        chance = 1 / (1 + np.exp(difficulty - 1.5 - training))
        first, second = random.random((2, seeds, images)) < chance
        by_seed = {seed: second[seed] - first[seed].astype(float) for seed in range(seeds)}
        yield paired_difference(by_seed, resamples=400, seed=simulation)


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_methods_are_called_equal_although_trainings_vary(seeds):
    """
    Of 2,000 null comparisons, the t interval holds zero in 93 to 97 %, and verdicts err no more often.

    The interval over images alone, which knows nothing of trainings, errs in more than a third.
    """
    differences = list(_null_differences(seeds=seeds, simulations=2000))
    deviation = np.std([each.by_seed for each in differences]) / 2**0.5
    held = np.mean([not each.over_seeds.excludes_zero for each in differences])
    called = np.mean([each.is_conclusive for each in differences])
    tested = np.mean([each.p_value < 0.05 for each in differences])
    by_images = np.mean([each.over_images.excludes_zero for each in differences])

    assert 0.034 == pytest.approx(deviation, abs=0.002)  # 2.9 points, and the chance of each image
    assert 0.93 <= held <= 0.97
    assert called <= 0.06
    assert tested <= 0.06
    assert by_images > 1 / 3


def test_text_of_a_difference_names_seeds_and_intervals():
    """With one seed every form says no conclusion; with more seeds it gives both intervals."""
    one = PairedDifference(Interval(0.016, -0.004, 0.036), (0.016,), None)
    three = PairedDifference(
        Interval(0.016, -0.004, 0.036), (0.01, 0.016, 0.022), Interval(0.016, 0.001, 0.031)
    )

    assert "+1.6 [−0.4 to +3.6]\none seed, no conclusion" == with_intervals(one)
    assert "+1.6 [−0.4 to +3.6]\n3 seeds [+0.1 to +3.1]" == with_intervals(three)
    assert "+1.6 [−0.4 to +3.6; one seed, no conclusion]" == brief(one)
    assert "+1.6 [−0.4 to +3.6 over images; +0.1 to +3.1 over 3 seeds]" == brief(three)
    assert (
        "+1.6 points (one seed, no conclusion; 95 % interval −0.4 to +3.6 over images)"
    ) == described(one)
    assert (
        "+1.6 points (3 seeds; 95 % interval −0.4 to +3.6 over images, +0.1 to +3.1 over seeds)"
    ) == described(three)
