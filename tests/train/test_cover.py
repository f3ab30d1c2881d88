"""Recoverable confusion: worked values, guarantees, random covers."""

from itertools import combinations
from math import comb, exp

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import recoverable
from benchmarks.shared import cover
from tests.train.confusions import blocks
from train.evaluation import metrics
from train.grouping.partition import affinity

PAIRS = {(0, 1): 60, (0, 2): 40, (1, 2): 50, (2, 3): 45, (3, 4): 80, (4, 5): 10, (0, 5): 15}


def worked():
    """Returns the counts of the worked example: 1,000 images, 300 mistakes."""
    counts = np.zeros((6, 6), dtype=int)
    for (first, second), number in PAIRS.items():
        counts[first, second] = number
    counts[0, 0] = 700
    return counts


def weights_of(seed, labels, *, density=0.6):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((labels, labels)) * (rng.random((labels, labels)) < density), k=1)
    return upper + upper.T


def best_by_search(weights, experts, size):
    """Returns the largest R over all covers of `experts` sets of `size` labels."""
    subsets = list(combinations(range(len(weights)), size))
    chosen = combinations(subsets, min(experts, len(subsets)))
    return max(cover.recoverable(weights, one) for one in chosen)


def test_worked_cover():
    """Greedy search gives {012}, {234}, {045} with 150, 275, 300 mistakes, as exhaustive search."""
    weights = cover.count_weights(worked())
    found = cover.greedy_cover(weights, experts=3, largest=3)

    assert [[0, 1, 2], [2, 3, 4], [0, 4, 5]] == found
    assert np.isclose(0.3, np.triu(weights).sum())
    for experts, mistakes in ((1, 150), (2, 275), (3, 300)):
        assert np.isclose(mistakes / 1000, cover.recoverable(weights, found[:experts]))
        assert np.isclose(mistakes / 1000, best_by_search(weights, experts, 3))


def test_worked_lift():
    """A random set holds 60 mistakes on average, a permuted cover 120; the lift is 275/120."""
    weights = cover.count_weights(worked())
    found = cover.greedy_cover(weights, experts=2, largest=3)
    drawn = cover.permuted(weights, found, draws=2000, seed=0)

    assert np.isclose(0.060, cover.by_chance(weights, found[:1]))
    assert np.isclose(0.120, cover.by_chance(weights, found))
    assert np.isclose(
        2.291667, cover.recoverable(weights, found) / cover.by_chance(weights, found), atol=1e-6
    )
    assert np.isclose(0.120, np.mean(drawn), atol=0.003)


def test_permuted_covers_depend_on_the_seed_alone():
    """The same seed gives the same twenty draws, and another seed gives different draws."""
    weights = cover.count_weights(worked())
    drawn = [cover.permuted(weights, [[0, 1, 2]], draws=20, seed=seed) for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 20


def test_pairs_weigh_the_share_of_mistakes():
    """Weights from counts sum to the error rate; without images they are zero."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(5, size=(2, 400))
    weights = cover.count_weights(metrics.confusion_counts(labels, predicted, leaves=5))

    assert np.isclose(1 - metrics.msr(labels, predicted), weights.sum() / 2)
    assert (weights == weights.T).all()
    assert not np.diag(weights).any()
    assert not cover.count_weights(np.zeros((3, 3))).any()


def test_soft_weights_are_those_of_the_formula():
    """w_ab is the sum of p_a p_b over the images of a or b, divided by the number of all images."""
    rng = np.random.default_rng(1)
    probabilities, labels = rng.dirichlet(np.ones(4), size=30), rng.integers(4, size=30)
    weights = cover.soft_weights(probabilities, labels)

    for a, b in combinations(range(4), 2):
        rows = probabilities[np.isin(labels, (a, b))]
        assert np.isclose((rows[:, a] * rows[:, b]).sum() / 30, weights[a, b])
    assert (weights == weights.T).all()
    assert not np.diag(weights).any()


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        (blocks([3, 4, 2]), [[3, 4, 5, 6], [0, 1, 2], [7, 8]]),
        (np.eye(5), []),
        (np.zeros((4, 4)), []),
        (np.array([[0.8, 0.2], [0.3, 0.7]]), [[0, 1]]),
        (np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]), [[0, 1]]),
        (np.array([[0.8, 0, 0.2], [0, 0.7, 0.3], [0, 0, 0]]), [[0, 1, 2]]),
        (np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0]]), [[0, 1, 2]]),
    ],
    ids=[
        "planted",
        "perfect",
        "no_pictures",
        "two_labels",
        "never_confused",
        "without_pictures",
        "never_predicted",
    ],
)
def test_covers_of_little_confusion(confusion, expected):
    """Planted blocks are recovered, heaviest first; labels without confusion are in no set."""
    assert expected == cover.greedy_cover(affinity(confusion), experts=4, largest=4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_renamed_labels_rename_the_cover(seed):
    """Permuting the labels permutes the sets and changes nothing else."""
    weights, order = weights_of(seed, 8), np.random.default_rng(seed).permutation(8)
    found = cover.greedy_cover(weights, experts=3, largest=3)
    other = cover.greedy_cover(weights[np.ix_(order, order)], experts=3, largest=3)

    assert [set(one) for one in found] == [{int(order[place]) for place in one} for one in other]


@given(st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=200, deadline=None)
def test_covers_gain_less_the_more_there_is(seed, data):
    """R never falls with a further set, and the set adds no more to a larger cover."""
    weights = weights_of(seed, 7)
    sets = st.lists(st.integers(0, 6), min_size=2, max_size=4, unique=True)
    small, more = data.draw(st.lists(sets, max_size=3)), data.draw(st.lists(sets, max_size=3))
    added, large = data.draw(sets), small + more
    gains = [
        cover.recoverable(weights, [*before, added]) - cover.recoverable(weights, before)
        for before in (small, large)
    ]

    assert gains[0] >= gains[1] - 1e-12
    assert gains[1] >= -1e-12
    assert cover.recoverable(weights, large) >= cover.recoverable(weights, small) - 1e-12


@given(st.integers(0, 2**32 - 1), st.integers(4, 7), st.integers(1, 2), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_greedy_keeps_its_guarantee(seed, labels, experts, size):
    """Greedy covers reach 1 - 1/e of the best cover, and all of it with one set."""
    weights, size = weights_of(seed, labels), min(size, labels)
    found = cover.recoverable(weights, cover.greedy_cover(weights, experts=experts, largest=size))
    best = best_by_search(weights, experts, size)

    assert found >= (1 - exp(-1)) * best - 1e-12
    assert experts > 1 or np.isclose(best, found)


def test_large_sets_are_grown():
    """If sets are too many to enumerate, planted sets are found, and each weight counts once."""
    planted = [[3, 17, 21, 40, 55], [1, 8, 30, 31, 59], [8, 17, 44, 50, 51]]
    weights = weights_of(0, 60, density=0.05) * 0.01
    for group in planted:
        weights[np.ix_(group, group)] = 1.0
    np.fill_diagonal(weights, 0.0)
    found = cover.greedy_cover(weights, experts=3, largest=5)

    assert comb(60, 5) > cover.EXACT
    assert sorted(planted) == sorted(found)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_grown_sets_come_near_the_exact_ones(seed):
    """Growing and swapping reaches at least 90 % of the best set."""
    weights = weights_of(seed, 14)
    exact, grown = (
        weights[np.ix_(subset, subset)].sum()
        for subset in (cover.best_subset(weights, 5), cover.grown_subset(weights, 5))
    )

    assert exact >= grown - 1e-12
    assert grown >= 0.9 * exact


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (np.zeros((4, 4)), []),
        (np.array([[0.0, 1], [1, 0]]), [[0, 1]]),
        (np.diag([0.0, 0, 0]) + np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]]), [[0, 1]]),
    ],
)
def test_nothing_left_ends_the_cover(weights, expected):
    """Covers stop when all confusion is covered, and leave out labels that add nothing."""
    assert expected == cover.greedy_cover(weights, experts=3, largest=3)


@pytest.mark.parametrize(
    ("labels", "expected"), [(100, (8, 10)), (25, (6, 5)), (12, (5, 3)), (4, (3, 2)), (2, (2, 2))]
)
def test_covers_are_sized_by_the_labels(labels, expected):
    """100 labels give eight sets of ten; fewer labels give fewer and smaller sets."""
    assert expected == recoverable.size(labels)


def test_benchmark_chooses_on_validation_and_counts_on_test(tmp_path):
    """Pairs confused on both splits are found; pairs confused on validation only count nothing."""
    folder = tmp_path / "flat" / "3"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    partner = np.array([1, 0, 3, 2, 5, 4, 7, 6, 8, 9, 10, 11])
    for name, confused in (("validation", 8), ("predictions", 4)):
        labels = np.repeat(np.arange(12), 200)
        wrong = (rng.random(len(labels)) < 0.3) & (labels < confused)
        predicted = np.where(wrong, partner[labels], labels)
        probabilities = list(0.05 + 0.4 * np.eye(12)[predicted])
        columns = {"label": labels, "predicted": predicted, "probabilities": probabilities}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    made = recoverable.run(tmp_path)
    (seed,) = made.details["seeds"]

    assert (3, "counts", 12) == (seed["seed"], seed["chosen_by"], seed["labels"])
    assert np.isclose(seed["error"], made.value)
    assert [[0, 1], [2, 3], [4, 5], [6, 7]] == sorted(seed["counts"]["cover"])
    assert np.isclose(seed["error"] * 4 / 66, seed["counts"]["by_chance"])
    assert seed["counts"]["lift"] > recoverable.BAR_LIFT
    assert made.ok


def test_benchmark_says_what_to_run_first(tmp_path):
    """Without flat networks or their test predictions the error says what to run."""
    with pytest.raises(SystemExit, match="no flat network"):
        recoverable.run(tmp_path)
    (tmp_path / "flat" / "0").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"validation\.parquet is absent"):
        recoverable.run(tmp_path)
