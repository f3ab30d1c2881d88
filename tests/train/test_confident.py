"""Tests confident learning against values by hand, and against cleanlab where it is installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation import confident

HAND = np.array(
    [
        [0.8, 0.1, 0.1],  # label 0
        [0.1, 0.8, 0.1],  # label 0: reaches the threshold of label 1 alone
        [0.4, 0.3, 0.3],  # label 0
        [0.2, 0.7, 0.1],  # label 1
        [0.5, 0.4, 0.1],  # label 1: reaches label 0 alone
        [0.5, 0.1, 0.4],  # label 2: reaches labels 0 and 2, and 0 is larger
        [0.1, 0.3, 0.6],  # label 2
    ],
    dtype=np.float64,
)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])


def test_values_by_hand():
    """Thresholds 1.3/3, 1.1/2 and 1/2; three suspects; ranks by self-confidence within each label."""
    result = confident.doubts(HAND, LABELS)

    assert np.allclose([1.3 / 3, 0.55, 0.5], result.thresholds)
    assert np.allclose([0.8, 0.1, 0.4, 0.7, 0.4, 0.4, 0.6], result.self_confidence)
    assert np.allclose([-0.7, 0.7, -0.1, -0.5, 0.1, 0.1, -0.3], result.margin)
    assert [0, 1, 0, 1, 0, 0, 2] == result.predicted.tolist()
    # The sixth reaches label 0 (0.5 >= 0.4333) and not label 2 (0.4 < 0.5).
    assert [False, True, False, False, True, True, False] == result.is_suspect.tolist()
    assert [2, 0, 1, 1, 0, 0, 1] == result.rank.tolist()


def test_the_least_probable_label_comes_first():
    """A label that gets nothing is more doubtful than one beside a rival with a larger margin."""
    probabilities = np.array([[0.25, 0.75, 0.0], [0.1, 0.45, 0.45]])
    result = confident.doubts(probabilities, np.array([0, 0]))

    assert np.allclose([0.5, 0.35], result.margin)
    assert [1, 0] == result.rank.tolist()


def test_probability_below_the_threshold_of_its_label_is_no_doubt():
    """The network predicts label 1, but never as surely as for the samples of label 1."""
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.1, 0.9]])
    result = confident.doubts(probabilities, np.array([0, 0, 1]))

    assert 1 == result.predicted[0]
    assert not result.is_suspect.any()


def test_of_two_reached_thresholds_the_larger_probability_counts():
    """Label 0 reaches its own low threshold, and label 1 reaches its own with more probability."""
    probabilities = np.array([[0.45, 0.55], [0.3, 0.7], [0.5, 0.5]])
    result = confident.doubts(probabilities, np.array([0, 0, 1]))

    assert np.allclose([0.375, 0.5], result.thresholds)
    assert [True, True, False] == result.is_suspect.tolist()


def test_sure_prediction_of_the_own_label_is_never_suspect():
    """Own label most probable, though only another label reaches its threshold."""
    probabilities = np.array([[0.5, 0.1, 0.4], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1]])
    result = confident.doubts(probabilities, np.array([0, 0, 2, 1]))

    assert not result.is_suspect[0]


def test_label_without_samples_is_never_suggested():
    """No sample is suspected of a label that has no samples."""
    probabilities = np.array([[0.4, 0.0, 0.6], [0.0, 1.0, 0.0]])
    result = confident.doubts(probabilities, np.array([0, 1]))

    assert np.isinf(result.thresholds[2])
    assert not result.is_suspect.any()


def drawn(seed, images, leaves):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(leaves), rng.integers(leaves, size=images)])
    logits = rng.normal(size=(len(labels), leaves)) * 1.5
    logits[np.arange(len(labels)), labels] += rng.choice(
        [-2.0, 2.5], size=len(labels), p=[0.2, 0.8]
    )
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True), labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 60), st.integers(2, 8))
def test_rows_keep_their_values_in_another_order(seed, images, leaves):
    """The order of the samples changes nothing but the ranks of equal confidences."""
    probabilities, labels = drawn(seed, images, leaves)
    order = np.random.default_rng(seed + 1).permutation(len(labels))
    first = confident.doubts(probabilities, labels)
    second = confident.doubts(probabilities[order], labels[order])

    assert np.array_equal(first.is_suspect[order], second.is_suspect)
    assert np.array_equal(first.rank[order], second.rank)
    for leaf in range(leaves):
        assert sorted(first.rank[labels == leaf]) == list(range((labels == leaf).sum()))


@pytest.mark.parametrize("leaves", [2, 5, 20])
def test_agrees_with_cleanlab(leaves):
    """
    Suspects and thresholds are cleanlab's.

    Of several labels above their thresholds the paper takes the one with the largest probability.
    Cleanlab takes the largest of all labels, which may lie below its own threshold: such samples are
    left out of the comparison. Installed by hand: pip install cleanlab.
    """
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    for seed in range(5):
        probabilities, labels = drawn(seed, 400, leaves)
        ours = confident.doubts(probabilities, labels)
        reached = probabilities >= ours.thresholds - 1e-6
        same = (reached.sum(axis=1) < 2) | reached[np.arange(len(labels)), ours.predicted]
        theirs = cleanlab.find_label_issues(
            labels, probabilities, filter_by="confident_learning", n_jobs=1
        )
        ranked = cleanlab.find_label_issues(
            labels,
            probabilities,
            filter_by="confident_learning",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )

        assert np.allclose(count.get_confident_thresholds(labels, probabilities), ours.thresholds)
        assert same.mean() > 0.9
        assert ours.is_suspect.sum() > 10
        assert np.array_equal(theirs[same], ours.is_suspect[same])
        for leaf in range(leaves):
            of_label = [row for row in ranked if labels[row] == leaf and same[row]]
            suspects = np.flatnonzero(ours.is_suspect & same & (labels == leaf))
            assert of_label == sorted(suspects, key=lambda row: ours.rank[row])
