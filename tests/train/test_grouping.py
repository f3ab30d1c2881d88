"""Grouping rules: planted groups, degenerate confusions, invariants of all rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.confusions import blocks, dense, families
from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import agglomerative, average_linkage, laplacian, modularity, spectral
from train.grouping.partition import affinity, must_group, shuffled
from train.tree import hierarchy


def _communities(matrix, propose):
    return modularity.communities(affinity(matrix), gamma=1.0, propose=propose)


# the grouping of each rule for a confusion matrix with `clusters` groups
RULES = {
    "modularity": lambda matrix, clusters: _communities(matrix, modularity.leading),
    "laplacian": lambda matrix, clusters: _communities(matrix, laplacian.propose),
    "average_linkage": lambda matrix, clusters: average_linkage.swept(
        matrix, g_max=len(matrix), count=clusters
    )[1],
    "spectral": lambda matrix, clusters: spectral.groups(affinity(matrix), clusters=clusters),
    "agglomerative": lambda matrix, clusters: agglomerative.groups(
        affinity(matrix), clusters=clusters
    ),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def renamed(clusters, order):
    """Returns the clusters with the label numbers before `order` was applied."""
    return sorted(sorted(int(order[place]) for place in group) for group in clusters)


@rules
@given(
    sizes=st.lists(st.integers(2, 5), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_planted_families_are_found(rule, sizes, seed):
    """Every rule finds families with mutual confusion, in any order of the labels."""
    rng = np.random.default_rng(seed)
    parents = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    planted = sorted(np.flatnonzero(parents == one).tolist() for one in range(len(sizes)))

    assert planted == rule(families(parents, seed=seed), len(sizes))


@rules
@given(seed=st.integers(0, 2**32 - 1), labels=st.integers(4, 10), clusters=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_partitions_hold_each_label_once(rule, seed, labels, clusters):
    """For any confusion, clusters are sorted, not empty, and hold each label once."""
    found = rule(dense(labels, seed), min(clusters, labels - 1))

    assert list(range(labels)) == sorted(label for group in found for label in group)
    assert all(group == sorted(group) and group for group in found)
    assert found == sorted(found)


@rules
@given(seed=st.integers(0, 2**32 - 1), labels=st.integers(4, 10), clusters=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_permuted_labels_permute_the_partition(rule, seed, labels, clusters):
    """Renaming the labels renames the clusters and changes nothing else."""
    matrix, clusters = dense(labels, seed), min(clusters, labels - 1)
    order = np.random.default_rng(seed).permutation(labels)

    assert rule(matrix, clusters) == renamed(rule(matrix[np.ix_(order, order)], clusters), order)


@rules
def test_blocks_are_recovered(rule):
    """Uniform diagonal blocks without confusion between them are recovered exactly."""
    expected = [[0, 1, 2], [3, 4, 5, 6], [7, 8]]

    assert expected == rule(blocks([3, 4, 2]), 3)


@rules
def test_label_without_confusion_stands_alone(rule):
    """A label that is never confused is a cluster of its own."""
    matrix = np.eye(5)
    matrix[:4, :4] = blocks([2, 2])

    assert [[0, 1], [2, 3], [4]] == rule(matrix, 3)


@rules
def test_never_predicted_label_joins_what_it_is_taken_for(rule):
    """A label that is never predicted joins the cluster of the labels predicted for its images."""
    matrix = blocks([2, 3])
    matrix[4] = [0, 0, 0.5, 0.5, 0]
    matrix[2:4, 4] = 0
    matrix[2:4] = metrics.normalise_rows(matrix[2:4])

    assert [[0, 1], [2, 3, 4]] == rule(matrix, 2)


@rules
def test_label_without_pictures_joins_what_is_taken_for_it(rule):
    """A label without validation images joins the labels whose images are predicted as it."""
    matrix = families(np.array([0, 0, 0, 1, 1, 1]))
    matrix[5] = 0

    assert [[0, 1, 2], [3, 4, 5]] == rule(matrix, 2)


@rules
def test_label_of_which_nothing_is_known_stands_alone(rule):
    """A label without images and predictions is a cluster of its own, without division by zero."""
    matrix = families(np.array([0, 0, 0, 1, 1, 1]))
    matrix[5] = matrix[:, 5] = 0

    assert [[0, 1, 2], [3, 4], [5]] == rule(metrics.normalise_rows(matrix), 3)


@rules
@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(5),
        np.zeros((4, 4)),
        np.array([[0.8, 0.2], [0.3, 0.7]]),
        np.eye(2),
        np.ones((1, 1)),
        np.full((6, 6), 1 / 6),
    ],
    ids=["perfect", "no_pictures", "two_labels", "two_perfect", "one_label", "all_alike"],
)
def test_nothing_to_group_is_refused(rule, matrix):
    """One cluster, two labels, no confusion or no images have no grouping under any rule."""
    with pytest.raises(BadHierarchy, match="clusters"):
        must_group(rule(matrix, 1), remedy="")


@pytest.mark.parametrize("rule", ["average_linkage", "spectral", "agglomerative"])
def test_perfect_classifier_has_no_grouping(rule):
    """Without any confusion the rule refuses, and the error names the parameter to set."""
    with pytest.raises(BadHierarchy, match=r"clustering\."):
        RULES[rule](np.eye(5), 2)


@pytest.mark.parametrize("clusters", [[[0, 1, 2]], [[0], [1], [2]]])
def test_what_groups_nothing_is_refused(clusters):
    """One cluster, or one per label, is not a grouping; the error ends with the remedy."""
    with pytest.raises(BadHierarchy, match=r"3 labels.*Take another\."):
        must_group(clusters, remedy="Take another.")


def test_shuffled_trees_keep_their_shape():
    """The control has the same sizes at every level, depends on the key, and keeps all labels."""
    tree = [[0, 1, 2, 3], [4, [5, 6]], [7, 8], [9]]
    drawn = shuffled(tree, key=[1])
    depth = next(group for group in drawn if any(isinstance(one, list) for one in group))

    assert [1, 2, 3, 4] == sorted(len(hierarchy.leaves(group)) for group in drawn)
    assert (3, 2) == (len(hierarchy.leaves(depth)), len(depth))
    assert list(range(10)) == sorted(hierarchy.leaves(drawn))
    assert drawn == shuffled(tree, key=[1])
    assert drawn != shuffled(tree, key=[2])
