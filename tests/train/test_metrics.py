"""Metrics: worked values, and agreement with scikit-learn."""

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from tests.train.confusions import M6, blocks
from train.evaluation import metrics
from train.tree import hierarchy


@st.composite
def predictions(draw):
    leaves = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(leaves, 60))
    labels = np.concatenate([np.arange(leaves), rng.integers(leaves, size=count - leaves)])
    return labels, rng.dirichlet(np.ones(leaves), size=count), leaves


def test_accuracies_of_the_worked_example():
    """Labels 0 0 0 1 and predictions 0 0 1 1 give 0.75 micro and 5/6 macro accuracy."""
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])

    assert metrics.msr(labels, predicted) == 0.75
    assert math.isclose(0.833333, metrics.msr_macro(labels, predicted, leaves=2), abs_tol=1e-6)
    assert math.isnan(metrics.msr(labels[:0], labels[:0]))
    assert math.isnan(metrics.msr_macro(labels[:0], labels[:0], leaves=2))


def test_macro_rate_leaves_out_absent_labels():
    """A label without images does not count in the macro mean."""
    labels = np.array([0, 0, 2])

    assert metrics.msr_macro(labels, labels, leaves=3) == 1.0
    assert math.isnan(metrics.msr_per_label(labels, labels, leaves=3)[1])


@pytest.mark.parametrize(
    ("clusters", "value", "random", "excess"),
    [
        ([[0, 1, 2], [3, 4], [5]], 0.923333, 0.791, 0.132333),
        ([[0, 1, 2], [3, 4, 5]], 0.935, 0.829, 0.106),
        ([[0, 1, 2, 3, 4, 5]], 1.0, 1.0, 0.0),
        ([[0], [1], [2], [3], [4], [5]], 0.715, 0.715, 0.0),
        ([[0, 3], [1, 4], [2, 5]], 0.735, 0.772, -0.037),
    ],
)
def test_micp_of_the_worked_table(clusters, value, random, excess):
    """The five partitions of M6 have the worked MICP, expectation and excess."""
    sizes = [len(group) for group in clusters]

    assert math.isclose(value, metrics.micp(M6, clusters), abs_tol=1e-6)
    assert math.isclose(random, metrics.micp_random(M6, sizes), abs_tol=1e-6)
    assert math.isclose(excess, metrics.micp_excess(M6, clusters), abs_tol=1e-6)


def test_micp_is_the_accuracy_where_clusters_hold_no_confusion():
    """Clusters without confusion inside have a MICP equal to the accuracy."""
    confusion = blocks([2, 3])

    assert math.isclose(0.7, np.mean(np.diag(confusion)))
    assert math.isclose(0.7, metrics.micp(confusion, [[0, 2], [1, 3], [4]]))
    assert math.isclose(0.76, metrics.micp(confusion, [[0, 2], [1, 3, 4]]))


def test_expected_micp_is_the_mean_over_relabellings():
    """The formula equals the average over many random partitions of the same sizes."""
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        order = rng.permutation(6).tolist()
        drawn.append(metrics.micp(M6, [order[:3], order[3:5], order[5:]]))

    assert math.isclose(metrics.micp_random(M6, [3, 2, 1]), np.mean(drawn), abs_tol=3e-3)


@given(predictions(), st.data())
def test_micp_lies_between_accuracy_and_one(given_predictions, data):
    """Accuracy <= MICP <= 1 for any confusion and partition."""
    labels, probabilities, leaves = given_predictions
    counts = metrics.confusion_counts(labels, probabilities.argmax(1), leaves=leaves)
    confusion = metrics.normalise_rows(counts)
    owners = data.draw(st.lists(st.integers(0, 2), min_size=leaves, max_size=leaves))
    groups = [[leaf for leaf in range(leaves) if owners[leaf] == own] for own in set(owners)]

    assert np.mean(np.diag(confusion)) - 1e-12 <= metrics.micp(confusion, groups) <= 1 + 1e-12


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2), min_size=2, max_size=7),
    st.floats(0, 1),
)
def test_micp_equals_the_accuracy_only_without_confusion_inside(seed, owners, density):
    """MICP equals accuracy if and only if no cluster has confusion inside, 1 if all is inside."""
    rng, leaves = np.random.default_rng(seed), len(owners)
    confusion = rng.random((leaves, leaves)) * (rng.random((leaves, leaves)) < density)
    confusion = metrics.normalise_rows(confusion + np.eye(leaves))
    groups = [[leaf for leaf in range(leaves) if owners[leaf] == own] for own in set(owners)]
    near = np.equal.outer(owners, owners)
    inside = confusion[near & ~np.eye(leaves, dtype=bool)].sum()
    value, accuracy = metrics.micp(confusion, groups), float(np.mean(np.diag(confusion)))

    assert math.isclose(accuracy, value, abs_tol=1e-12) == (inside < 1e-12)
    assert math.isclose(1, value, abs_tol=1e-12) == (confusion[~near].sum() < 1e-12)


@given(predictions())
def test_agrees_with_scikit_learn(given_predictions):
    """Confusion, recall, top-k and adjusted Rand index equal scikit-learn's."""
    labels, probabilities, leaves = given_predictions
    predicted, ids = probabilities.argmax(1), list(range(leaves))
    counts = metrics.confusion_counts(labels, predicted, leaves=leaves)

    assert sklearn.metrics.confusion_matrix(labels, predicted, labels=ids).tolist() == (
        counts.tolist()
    )
    assert math.isclose(
        sklearn.metrics.recall_score(labels, predicted, average="macro", zero_division=0),
        metrics.msr_macro(labels, predicted, leaves=leaves),
    )
    if leaves > 2:
        assert math.isclose(
            sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=2, labels=ids),
            metrics.top_k(probabilities, labels, k=2),
        )
    assert math.isclose(
        sklearn.metrics.adjusted_rand_score(labels, predicted),
        metrics.adjusted_rand(labels, predicted),
        abs_tol=1e-9,
    )


def test_soft_confusion_of_the_worked_example():
    """Row i is the mean probability over the images of label i, or zero without images."""
    probabilities, labels = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])

    assert np.allclose([[0.6, 0.4], [0, 0]], metrics.soft_confusion(probabilities, labels))


def test_severity_of_the_worked_example():
    """Mistakes of heights 1, 2 and 2 have severity 1.666667; with 7 of 10 right the cost is 0.5."""
    heights = hierarchy.heights(hierarchy.from_clusters([[0, 1], [2, 3]], 4))
    labels = np.zeros(10, dtype=int)
    predicted = np.array([0] * 7 + [1, 2, 3])

    assert math.isclose(5 / 3, metrics.severity(labels, predicted, heights))
    assert math.isclose(0.5, metrics.average_cost(labels, predicted, heights))
    assert math.isnan(metrics.severity(labels, labels, heights))


@given(st.integers(0, 2**32 - 1))
def test_severity_of_the_official_tree_is_symmetric(seed):
    """With twenty groups of five, swapping truth and prediction changes nothing."""
    rng = np.random.default_rng(seed)
    heights = hierarchy.heights(
        hierarchy.from_clusters(rng.permutation(100).reshape(20, 5).tolist(), 100)
    )
    labels, predicted = rng.integers(100, size=(2, 50))

    assert [100, 400, 9_500] == np.bincount(heights.ravel()).tolist()
    for figure in (metrics.severity, metrics.average_cost):
        assert figure(labels, predicted, heights) == figure(predicted, labels, heights)


def test_distance_at_k_of_the_worked_example():
    """True leaf 0, ranking 1, 0, 2: heights 1, 0 and 2; means 1, 0.5 and 1 for k = 1, 2, 3."""
    heights = hierarchy.heights(hierarchy.from_clusters([[0, 1], [2, 3]], 4))
    probabilities, labels = np.array([[0.3, 0.4, 0.2, 0.1]]), np.array([0])
    distances = [
        metrics.hierarchical_distance(probabilities, labels, heights, k=k) for k in (1, 2, 3)
    ]

    assert [1.0, 0.5, 1.0] == distances
    assert distances[0] == metrics.average_cost(labels, probabilities.argmax(axis=1), heights)
    assert math.isnan(metrics.hierarchical_distance(probabilities[:0], labels[:0], heights, k=2))


def test_node_accuracy_of_the_worked_example():
    """The paths B, F (true) and B, G (predicted) share one node of two."""
    truth, predicted = np.array([["B", "F"]]), np.array([["B", "G"]])

    # If all leaves have the same depth, node precision, recall and F1 equal this value.
    assert metrics.node_accuracy(truth, predicted) == 0.5


def test_f1_of_the_worked_example():
    """B, F against B, G: node F1 is .5, path F1 is 0; a shallow leaf has a path of one node."""
    tree = hierarchy.from_nested([[0, 1], [2, 3, 4], 5], 6)
    nodes = hierarchy.nodes_of_paths(tree)
    truth, predicted = np.array([3]), np.array([4])

    assert [2, 2, 2, 2, 2, 1] == nodes.sum(axis=1).tolist()
    assert metrics.node_f1(truth, predicted, nodes) == 0.5
    assert metrics.path_f1(truth, predicted) == 0.0
    assert metrics.node_f1(truth, truth, nodes) == metrics.path_f1(truth, truth) == 1.0
    assert metrics.node_f1(np.array([5, 5]), np.array([4, 5]), nodes) == 0.5
    assert math.isnan(metrics.node_f1(truth[:0], truth[:0], nodes))
    assert math.isnan(metrics.path_f1(truth[:0], truth[:0]))


@given(predictions())
def test_f1_equals_that_of_scikit_learn(given_predictions):
    """Path F1 equals scikit-learn's macro F1; with equal depths node F1 is node accuracy."""
    labels, probabilities, leaves = given_predictions
    predicted = probabilities.argmax(axis=1)
    groups = [list(range(0, leaves, 2)), list(range(1, leaves, 2))]
    tree = hierarchy.from_clusters(groups, leaves)
    names = [path[1:] for _, path in sorted(hierarchy.paths(tree).items())]
    expected = sklearn.metrics.f1_score(labels, predicted, average="macro")

    assert math.isclose(expected, metrics.path_f1(labels, predicted), abs_tol=1e-9)
    assert math.isclose(
        metrics.node_accuracy(np.array(names)[labels], np.array(names)[predicted]),
        metrics.node_f1(labels, predicted, hierarchy.nodes_of_paths(tree)),
        abs_tol=1e-9,
    )


def test_consistency_compares_the_leaf_with_the_predicted_cluster():
    """Leaves of clusters 0 0 1 1 and predicted clusters 0 1 1 1 agree in three of four cases."""
    value = metrics.consistency(
        np.array([0, 1, 2, 3]), np.array([0, 1, 1, 1]), hierarchy.membership([[0, 1], [2, 3]], 4)
    )

    assert value == 0.75


def test_consistency_takes_either_of_the_clusters_that_overlap():
    """Leaf 1 is in both clusters and agrees with each; leaf 0 does not agree with the second."""
    members = hierarchy.membership([[0, 1], [1, 2]], 3)
    value = metrics.consistency(np.array([1, 1, 0, 2]), np.array([0, 1, 1, 1]), members)

    assert value == 0.75


@given(predictions())
def test_oracle_routing_never_hurts(given_predictions):
    """The accuracy with perfect routing is at least the accuracy without it."""
    labels, probabilities, leaves = given_predictions
    parents = np.arange(leaves) % 2

    assert metrics.oracle_routing(probabilities, labels, parents) >= (
        metrics.msr(labels, probabilities.argmax(1))
    )
