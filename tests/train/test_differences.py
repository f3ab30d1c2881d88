"""Differences between alphas and between runs: worked values over seeds and over images."""

import math

import numpy as np
import pytest

from benchmarks.shared import differences
from benchmarks.shared.differences import CorrectByAlpha
from train.methods.merged.adaptation import GRID


@pytest.fixture
def trying():
    """Builds test results that differ at alpha 1 from all other alphas: `trying(at_1, at_0)`."""

    def build(full, none, *, chosen=1.0, parents=(0, 0, 1, 1)):
        rows = np.tile(np.array(none, dtype=bool), (len(GRID), 1))
        rows[differences.FULL] = full
        return CorrectByAlpha(
            dict.fromkeys(differences.LEVELS, rows),
            dict.fromkeys(differences.LEVELS, chosen),
            parents,
        )

    return build


def rows_of(found, *, level, first, second):
    (row,) = (r for r in found if (level, first, second) == (r["level"], r["first"], r["second"]))
    return row


def changed(fixed, broken, *, of=30):
    """Returns images before and after, with `fixed` corrected and `broken` newly wrong."""
    after = [True] * fixed + [False] * (of - fixed)
    before = [False] * (of - broken) + [True] * broken
    return after, before


def test_paired_t_and_mcnemar_of_worked_values(trying):
    """Net 5, 10 and 15 of 30 images: p .074180 over seeds; 5:0, 16:6 and 15:0 over images."""
    flips = [(5, 0), (16, 6), (15, 0)]
    found = differences.compared(
        {"one": {seed: trying(*changed(*pair)) for seed, pair in enumerate(flips)}}, ["one"]
    )
    row = rows_of(found, level="fine", first="one at 1.0", second="one at 0.0")
    nothing = rows_of(found, level="fine", first="one at 2.0", second="one at 0.0")
    back = [r for r in found if r["first"] == "one at its best 1.0"]

    assert ([5, 16, 15], [0, 6, 0]) == (row["fixed"], row["broken"])
    assert 0.074180 == pytest.approx(row["p_paired_t"], abs=1e-6)
    assert [0.0625, 0.052479, 2**-14] == pytest.approx(row["p_mcnemar"], abs=1e-6)
    assert 1 / 3 == pytest.approx(row["difference"])
    assert row["low"] < row["difference"] < row["high"]
    # six rows of three seeds: 18 p values; the five equal smallest come first
    assert 18 * 2**-14 == pytest.approx(row["p_mcnemar_holm"][2])
    assert ([1.0] * 3, 0.0, 1.0) == (
        nothing["p_mcnemar_holm"],
        nothing["difference"],
        nothing["p_paired_t"],
    )
    assert [
        ("coarse", "one at 0.8"),
        ("coarse", "one at 1.2"),
        ("fine", "one at 0.9"),
        ("fine", "one at 1.1"),
    ] == [(r["level"], r["second"]) for r in back]
    assert all(r["p_mcnemar"] == row["p_mcnemar"] for r in back)


def test_pictures_are_drawn_with_their_seeds(trying):
    """Two seeds with opposite flips give an interval of width 0, and each seed has its own p."""
    after, before = changed(15, 0)
    found = differences.compared({"one": {0: trying(after, before), 1: trying(before, after)}}, [])
    row = rows_of(found, level="fine", first="one at 1.0", second="one at 0.0")

    assert (0.0, 0.0, 0.0) == (row["difference"], row["low"], row["high"])
    assert [2**-14, 2**-14] == row["p_mcnemar"]
    assert ([15, 0], [0, 15]) == (row["fixed"], row["broken"])


def test_the_chosen_alpha_is_each_seeds_own(trying):
    """A seed whose validation chose alpha 0 has no flips; the other seed has its flips."""
    seeds = {0: trying(*changed(5, 0)), 1: trying(*changed(5, 0), chosen=0.0)}
    found = differences.compared({"one": seeds}, [])
    row = rows_of(found, level="coarse", first="one at the chosen", second="one at 0.0")

    assert [5, 0] == row["fixed"]


def test_optimum_is_of_all_seeds_and_nearest_to_one(trying):
    """Ties go to the alpha nearest to 1; at an end of the grid there is only one neighbour."""
    even, lost = trying([True, False], [False, True]), trying([False, False], [True, True])
    left = {"one": {0: trying([False, False], [False, False])}}
    left["one"][0].correct["fine"][0] = True
    found = differences.compared(left, [])

    assert 10 == differences.optimum({0: even}, "fine")
    assert 9 == differences.optimum({0: even, 1: lost}, "fine")
    assert ["one at 0.1"] == [
        r["second"] for r in found if (r["level"], r["first"]) == ("fine", "one at its best 0.0")
    ]


def test_runs_meet_at_full_agreement_over_common_seeds(trying):
    """Only peers are compared, over common seeds; categories only where the groupings are equal."""
    one, other = (
        {s: trying(*changed(n, 0)) for s in seeds} for n, seeds in ((9, (0, 1)), (4, (1, 2)))
    )
    apart = {1: trying(*changed(4, 0), parents=(0, 1, 0, 1))}
    runs = {"a": one, "b": other, "c": apart, "d": one, "e": {7: one[0]}}
    found = differences.compared(runs, ["a", "b", "c", "e"])
    pairs = [
        (r["level"], r["first"], r["second"]) for r in found if r["first"][0] != r["second"][0]
    ]
    row = rows_of(found, level="fine", first="a at 1.0", second="b at 1.0")

    assert [
        ("coarse", "a at 1.0", "b at 1.0"),
        ("fine", "a at 1.0", "b at 1.0"),
        ("fine", "a at 1.0", "c at 1.0"),
        ("fine", "b at 1.0", "c at 1.0"),
    ] == pairs
    assert ([1], [5], None) == (row["seeds"], row["fixed"], row["p_paired_t"])


def test_paired_t_of_five_runs():
    """Differences 1, 2, 3 give p = .074180; five runs, as in the paper, can be significant."""
    five = differences.paired_t([24.3, 24.1, 24.9, 24.4, 24.6], [23.9, 24.0, 24.1, 24.2, 23.8])

    assert 0.074180 == pytest.approx(differences.paired_t([3, 4, 5], [2, 2, 2]), abs=1e-6)
    assert 0.0 < five < 0.05


def test_paired_t_of_equal_differences_and_of_few_pairs():
    """Equal runs give p = 1, a constant difference p = 0, and fewer than two pairs NaN."""
    assert 1.0 == differences.paired_t([1, 2], [1, 2])
    assert 0.0 == differences.paired_t([2, 3], [1, 2])
    assert math.isnan(differences.paired_t([1], [2]))
    assert math.isnan(differences.paired_t([], []))
