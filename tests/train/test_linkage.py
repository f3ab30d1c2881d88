"""Average linkage with and without a cap, with one and two cuts: worked values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from tests.train.confusions import M6, blocks, dense
from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import agglomerative, average_linkage
from train.grouping.partition import affinity
from train.params import clustering
from train.tree import hierarchy


@pytest.mark.parametrize(
    ("p_min", "g_max", "expected"),
    [
        (0.5, 6, [[0], [1], [2], [3], [4], [5]]),
        (0.1, 6, [[0, 1, 2], [3, 4], [5]]),
        (0.05, 6, [[0, 1, 2, 3, 4], [5]]),
        (0.04, 6, [[0, 1, 2, 3, 4], [5]]),
        (0.0001, 6, [[0, 1, 2, 3, 4, 5]]),
        (0.0001, 3, [[0, 1, 2], [3, 4, 5]]),
        (0.1, 2, [[0, 1], [2], [3, 4], [5]]),
        (0.43, 6, [[0], [1], [2], [3], [4], [5]]),
    ],
)
def test_groups_of_m6(p_min, g_max, expected):
    """The groups of M6 are the worked ones; a proximity equal to p_min does not merge."""
    assert expected == average_linkage.groups(M6, g_max=g_max, p_min=p_min)


def test_merges_of_m6():
    """The groups of M6 merge in the worked order and at the worked proximities."""
    merges = list(average_linkage.merges(average_linkage.proximities(M6), g_max=6))

    assert np.allclose([0.43, 0.35, 0.235, 0.051667, 0.03], [p for p, _ in merges], atol=1e-6)
    assert [
        [[0], [1], [2], [3, 4], [5]],
        [[0, 1], [2], [3, 4], [5]],
        [[0, 1, 2], [3, 4], [5]],
        [[0, 1, 2, 3, 4], [5]],
        [[0, 1, 2, 3, 4, 5]],
    ] == [found for _, found in merges]


def test_ties_merge_the_lowest_labels():
    """If all pairs are equally close, pairs form in the order of the labels."""
    assert [[0, 1], [2, 3], [4, 5]] == average_linkage.groups(
        np.full((6, 6), 1 / 6), g_max=2, p_min=0.0
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_thresholds_of_average_linkage_have_their_limits(seed, labels, g_max):
    """The highest proximity as p_min merges nothing; a p_min below all merges up to g_max."""
    cpm = dense(labels, seed)
    proximities = [p for p, _ in average_linkage.merges(cpm + cpm.T, g_max=g_max)]
    highest = average_linkage.proximities(cpm).max()

    assert labels == len(average_linkage.groups(cpm, g_max=g_max, p_min=highest))
    assert len(average_linkage.groups(cpm, g_max=labels, p_min=-1.0)) == 1
    assert max(map(len, average_linkage.groups(cpm, g_max=g_max, p_min=-1.0))) <= g_max
    assert proximities == sorted(proximities, reverse=True)


@pytest.mark.parametrize(
    ("requested", "p_min", "count"), [(2, 0.03, 2), (3, 0.051667, 3), (4, 0.235, 4), (6, 0.35, 5)]
)
def test_swept_threshold_gives_the_requested_groups(requested, p_min, count):
    """The swept p_min gives the requested number of groups, and setting it gives the same."""
    found, clusters = average_linkage.swept(M6, g_max=6, count=requested)

    assert np.isclose(p_min, found, atol=1e-6)
    assert count == len(clusters)
    assert clusters == average_linkage.groups(M6, g_max=6, p_min=found)


def test_swept_threshold_does_not_cut_through_equal_proximities():
    """Merges with equal proximity happen together: no p_min separates them."""
    p_min, clusters = average_linkage.swept(blocks([2, 2, 2]), g_max=6, count=4)

    assert (0.0, [[0, 1], [2, 3], [4, 5]]) == (p_min, clusters)


@given(st.integers(0, 2**32 - 1), st.integers(4, 12), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_agglomerative_is_that_of_scikit_learn(seed, labels, clusters):
    """The clusters equal scikit-learn's average linkage on 1 - A."""
    weights = affinity(dense(labels, seed))
    distance = 1 - weights
    np.fill_diagonal(distance, 0)
    clusters = min(clusters, labels - 1)
    other = AgglomerativeClustering(
        n_clusters=clusters, metric="precomputed", linkage="average"
    ).fit_predict(distance)
    found = hierarchy.parents(agglomerative.groups(weights, clusters=clusters))

    assert np.isclose(1.0, metrics.adjusted_rand(other.astype(np.int64), found))


def test_two_cuts_of_m6_are_one_tree():
    """Two cuts join {0, 1}, 2 and {3, 4}; 5 is alone in both cuts and one level deep."""
    tree = agglomerative.cut_twice(affinity(M6), clusters=4)

    assert [[[0, 1], 2, [3, 4]], [5]] == tree
    with pytest.raises(BadHierarchy, match=r"6 labels form 2 groups, which form no larger groups"):
        agglomerative.cut_twice(affinity(M6), clusters=2)


def test_given_groups_of_m6_are_joined():
    """Of {0, 1}, {2}, {3, 4}, {5}, label 2 joins the first group, then 3 and 4 join both."""
    tree = agglomerative.above(affinity(M6), [[0, 1], [2], [3, 4], [5]])

    assert [[[0, 1], 2, [3, 4]], [5]] == tree
    with pytest.raises(BadHierarchy, match=r"2 given groups would form 2 larger groups"):
        agglomerative.above(affinity(M6), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(BadHierarchy, match=r"3 given groups would form 3 larger groups"):
        agglomerative.above(np.zeros((6, 6)), [[0, 1], [2, 3], [4, 5]])


@given(st.integers(0, 2**32 - 1), st.integers(6, 20), st.integers(3, 12))
@settings(max_examples=50, deadline=None)
def test_lower_groups_lie_whole_in_upper_ones(seed, labels, clusters):
    """Leaves' parents are the groups of the lower cut, the root's children those of the upper."""
    weights, clusters = affinity(dense(labels, seed)), min(clusters, labels - 1)
    graph = hierarchy.from_nested(agglomerative.cut_twice(weights, clusters=clusters), labels)
    lower = agglomerative.groups(weights, clusters=clusters)
    upper = agglomerative.groups(weights, clusters=max(2, round(clusters**0.5)))

    assert upper == hierarchy.clusters(graph)
    members = [graph.nodes[node]["members"] for node in graph]
    assert all(tuple(one) in map(tuple, members) for one in lower)


def test_a_number_of_groups_beside_the_threshold_is_refused():
    """The threshold decides the groups, so that a number of them would change nothing."""
    with pytest.raises(ValueError, match="groups_wanted 7 has no effect with p_min"):
        clustering.Params(p_min=0.0075, groups_wanted=7)
    assert clustering.Params(p_min=0.0075).groups_wanted is None
