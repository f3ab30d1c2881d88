"""Grouping rules: the worked values of methods.md 2.3, 5.2, planted groups, invariants."""

import inspect

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering, KMeans

from tests.train.confusions import M6, blocks, dense, families
from train import clustering
from train.components import hierarchy, metrics
from train.components.grouping import (
    agglomerative,
    average_linkage,
    laplacian,
    modularity,
    spectral,
)
from train.components.grouping.partition import affinity, by_owner, must_group, shuffled
from train.errors import BadHierarchy

GAMMAS = [round(2.0 - step / 10, 1) for step in range(20)]


def _communities(matrix, propose):
    return modularity.communities(affinity(matrix), gamma=1.0, propose=propose)


# What each rule makes of a confusion with `clusters` groups in it.
RULES = {
    "modularity": lambda matrix, clusters: _communities(matrix, modularity.leading),
    "laplacian": lambda matrix, clusters: _communities(matrix, laplacian.propose),
    "average_linkage": lambda matrix, clusters: average_linkage.swept(
        matrix, g_max=len(matrix), wanted=clusters
    )[1],
    "spectral": lambda matrix, clusters: spectral.groups(affinity(matrix), clusters=clusters),
    "agglomerative": lambda matrix, clusters: agglomerative.groups(
        affinity(matrix), clusters=clusters
    ),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def renamed(clusters, order):
    """The clusters in the names that the labels had before `order` was applied."""
    return sorted(sorted(int(order[place]) for place in group) for group in clusters)


def swept(matrix, *, propose=modularity.leading, largest=0.5):
    return modularity.sweep(matrix, gammas=GAMMAS, largest=largest, propose=propose)


@rules
@given(
    sizes=st.lists(st.integers(2, 5), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_planted_families_are_found(rule, sizes, seed):
    """Every rule finds families whose members are confused, wherever their labels stand."""
    rng = np.random.default_rng(seed)
    parents = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    planted = sorted(np.flatnonzero(parents == one).tolist() for one in range(len(sizes)))

    assert planted == rule(families(parents, seed=seed), len(sizes))


@rules
@given(seed=st.integers(0, 2**32 - 1), labels=st.integers(4, 10), clusters=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_partitions_hold_each_label_once(rule, seed, labels, clusters):
    """Whatever the confusion, clusters are sorted, not empty, and hold each label once."""
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
    """Uniform diagonal blocks without confusion between them come back exactly."""
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
    """A label whose pictures are all called another one lies in that one's cluster."""
    matrix = blocks([2, 3])
    matrix[4] = [0, 0, 0.5, 0.5, 0]
    matrix[2:4, 4] = 0
    matrix[2:4] = metrics.normalise_rows(matrix[2:4])

    assert [[0, 1], [2, 3, 4]] == rule(matrix, 2)


@rules
def test_label_without_pictures_joins_what_is_taken_for_it(rule):
    """A label that no validation picture shows, a row of zeros, lies with those called by its name."""
    matrix = families(np.array([0, 0, 0, 1, 1, 1]))
    matrix[5] = 0

    assert [[0, 1, 2], [3, 4, 5]] == rule(matrix, 2)


@rules
def test_label_of_which_nothing_is_known_stands_alone(rule):
    """Without pictures and never predicted a label is a cluster of its own, no division by zero."""
    matrix = families(np.array([0, 0, 0, 1, 1, 1]))
    matrix[5] = matrix[:, 5] = 0

    assert [[0, 1, 2], [3, 4], [5]] == rule(metrics.normalise_rows(matrix), 3)


@rules
@pytest.mark.parametrize(
    "matrix",
    [np.eye(5), np.zeros((4, 4)), np.array([[0.8, 0.2], [0.3, 0.7]]), np.eye(2), np.ones((1, 1)),
     np.full((6, 6), 1 / 6)],
    ids=["perfect", "no_pictures", "two_labels", "two_perfect", "one_label", "all_alike"],
)  # fmt: skip
def test_nothing_to_group_is_refused(rule, matrix):
    """One cluster, two labels, no confusion, no pictures: no rule makes a grouping of them."""
    with pytest.raises(BadHierarchy, match="clusters"):
        must_group(rule(matrix, 1), remedy="")


@pytest.mark.parametrize("rule", ["average_linkage", "spectral", "agglomerative"])
def test_perfect_classifier_has_no_grouping(rule):
    """Without a confusion there is nothing to group, and the message says what to do."""
    with pytest.raises(BadHierarchy, match=r"clustering\."):
        RULES[rule](np.eye(5), 2)


@pytest.mark.parametrize("propose", [modularity.leading, laplacian.propose])
def test_identity_leaves_labels_apart(propose):
    """Without any confusion every label stands alone, nothing is divided by zero."""
    assert [[0], [1], [2], [3], [4]] == _communities(np.eye(5), propose)
    with pytest.raises(BadHierarchy, match="No grouping of 5 labels"):
        modularity.select(swept(np.eye(5), propose=propose))


def test_first_split_of_m6():
    """Degrees, 2m, leading eigenvalue, sides and gain are those of the worked example."""
    weights = affinity(M6)
    surplus = modularity.modularity_matrix(weights, gamma=1.0)
    sides = modularity.bisect(weights, surplus, np.arange(6), total=1.71)
    halves = [[0, 1, 2], [3, 4, 5]]

    assert np.allclose([0.32, 0.38, 0.315, 0.335, 0.285, 0.075], weights.sum(axis=1))
    assert np.isclose(1.71, weights.sum())
    assert np.isclose(0.178685, np.linalg.eigvalsh(surplus)[-1], atol=1e-6)
    assert halves == sorted(map(list, sides))
    assert np.isclose(0.254420, modularity.modularity(surplus, halves, 1.71), atol=1e-6)
    for side in sides:
        assert modularity.bisect(weights, surplus, side, total=1.71) is None


def test_laplacian_of_m6():
    """Eigenvalues and second vector are the worked ones, and divide M6 as modularity does."""
    weights = affinity(M6)
    worked = np.array([0.704916, 0.635690, 0.508261, -0.918608, -1.058096, -0.239289])
    values = [1, 0.559165, -0.046664, -0.302220, -0.512489, -0.697792]

    assert np.allclose(values, np.linalg.eigvalsh(laplacian.normalised(weights))[::-1], atol=1e-6)
    assert np.allclose(-worked, laplacian.second_vector(weights), atol=1e-6)
    assert [[0, 1, 2], [3, 4, 5]] == _communities(M6, laplacian.propose)


def test_sweep_of_m6():
    """The sweep yields the four partitions at their resolutions and selects {012}{34}{5}."""
    candidates = swept(M6)
    by_gamma = {one.gamma: one for one in candidates}
    fine, chosen = [[0, 1], [2], [3, 4], [5]], [[0, 1, 2], [3, 4], [5]]

    assert all(by_gamma[gamma].clusters == fine for gamma in (2.0, 1.9))
    assert all(by_gamma[round(1.3 + step / 10, 1)].clusters == chosen for step in range(6))
    assert all(
        by_gamma[round(0.5 + step / 10, 1)].clusters == [[0, 1, 2], [3, 4, 5]] for step in range(8)
    )
    assert all(len(by_gamma[round(step / 10, 1)].clusters) == 1 for step in range(1, 5))
    assert by_gamma[2.0].refused == "too_many_clusters"
    assert by_gamma[0.1].refused == "one_cluster"
    assert by_gamma[1.2].refused is None
    assert np.allclose([0.935, 0.106], [by_gamma[1.2].micp, by_gamma[1.2].excess])
    assert np.isclose(0.845, by_gamma[2.0].micp)
    assert np.isclose(0.092, by_gamma[2.0].excess)
    assert (1.8, chosen) == (modularity.select(candidates).gamma, by_gamma[1.8].clusters)
    assert np.isclose(0.132333, modularity.select(candidates).excess, atol=1e-6)


def test_bisection_of_m6_is_the_first_division_alone():
    """The worked sides; blocks are divided once, and a label without confusion stands alone."""
    apart = np.eye(7)
    apart[:6, :6] = blocks([2, 2, 2])
    weights = affinity(M6)
    surplus = modularity.modularity_matrix(weights, gamma=1.0)
    sides = modularity.bisection(weights)

    assert [[0, 1, 2], [3, 4, 5]] == sides
    assert np.isclose(0.254420, modularity.modularity(surplus, sides, weights.sum()), atol=1e-6)
    found = modularity.bisection(affinity(apart))
    assert [1, 2, 4] == sorted(map(len, found))
    assert [6] in found
    for nothing in (np.eye(5), np.full((4, 4), 0.25)):
        with pytest.raises(BadHierarchy, match="in two gains modularity"):
            modularity.bisection(affinity(nothing))


def test_refused_candidates_are_not_accepted():
    """A division inside a cluster needs a candidate that the sweep allows; the root takes the best."""
    three = swept(blocks([2, 1]) * 0.9 + 0.1 / 3)

    assert modularity.accepted(three) is None
    assert [[0, 1], [2]] == modularity.select(three).clusters
    assert modularity.accepted(swept(M6)) == modularity.select(swept(M6))
    assert clustering.Params().gammas() == modularity.resolutions()
    assert clustering.Params().largest == inspect.signature(modularity.sweep).parameters[
        "largest"
    ].default  # fmt: skip


def test_refinement_mends_a_bad_start():
    """Kernighan and Lin's passes lead from a wrong division of M6 to the best one."""
    surplus = modularity.modularity_matrix(affinity(M6), gamma=1.0)
    block = surplus - np.diag(surplus.sum(axis=1))
    signs = modularity.refine(block, np.array([1.0, 1, -1, -1, -1, 1]))

    assert np.isclose(0.254420, signs @ block @ signs / (2 * 1.71), atol=1e-6)


def test_resolution_has_its_limits():
    """A tiny gamma joins what is connected, a large one leaves all labels apart."""
    assert len(modularity.communities(affinity(M6), gamma=1e-6)) == 1
    assert len(modularity.communities(affinity(M6), gamma=50.0)) == 6


@pytest.mark.parametrize("propose", [modularity.leading, laplacian.propose])
@given(
    sizes=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    inside=st.floats(0.05, 0.95),
    gamma=st.sampled_from([0.1, 0.5, 1.0, 1.5]),
)
@settings(max_examples=30, deadline=None)
def test_uniform_blocks_come_back_at_every_resolution_around_one(propose, sizes, inside, gamma):
    """Equal blocks make the leading eigenvalue multiple; no gamma in 0.1..1.5 cuts through one."""
    ends = np.cumsum(sizes)
    expected = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    weights = affinity(blocks(sizes, inside=inside))

    assert expected == modularity.communities(weights, gamma=gamma, propose=propose)


@given(st.integers(0, 2**32 - 1), st.integers(3, 9))
@settings(max_examples=20, deadline=None)
def test_resolution_has_its_limits_on_any_confusion(seed, labels):
    """Where everything is connected a tiny gamma gives one cluster, a large one as many as labels."""
    weights = affinity(0.9 * dense(labels, seed) + 0.1 / labels)

    assert len(modularity.communities(weights, gamma=1e-6)) == 1
    assert len(modularity.communities(weights, gamma=1e6)) == labels


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 1.7]))
@settings(max_examples=20, deadline=None)
def test_modularity_is_that_of_networkx(seed, gamma):
    """Q of any partition at any resolution equals the reference's."""
    weights = affinity(dense(7, seed))
    owners = np.random.default_rng(seed).integers(3, size=7)
    clusters = by_owner(range(7), owners)
    surplus = modularity.modularity_matrix(weights, gamma=gamma)

    assert np.isclose(
        nx.community.modularity(nx.from_numpy_array(weights), clusters, resolution=gamma),
        modularity.modularity(surplus, clusters, float(weights.sum())),
    )


def test_entries_near_zero_count_as_positive():
    """What rounding leaves of a zero decides nothing; the largest entry faces up."""
    vector = np.array([1e-11, -1e-11, 0.0, -1e-9, 0.5])

    assert [1, 1, 1, -1, 1] == modularity.signs(vector).tolist()
    assert vector.tolist() == modularity.facing(-vector).tolist()


def test_diagonal_is_kept_on_demand():
    """Right answers count as self-loops where asked for, and leave labels apart for longer."""
    weights = affinity(M6, diagonal=True)
    kept = modularity.sweep(M6, gammas=[1.0], largest=0.5, diagonal=True)

    assert np.diag(M6).tolist() == np.diag(weights).tolist()
    assert not np.diag(affinity(M6)).any()
    assert len(kept[0].clusters) > len(swept(M6)[10].clusters)


def test_giant_cluster_is_refused():
    """A partition with more than half of the labels in one cluster is not selected."""
    refused = {one.refused for one in swept(blocks([5, 2]))}

    assert "giant_cluster" in refused


def test_laplacian_divides_what_falls_apart():
    """Parts without weight between them are the first division, also inside a group."""
    weights = affinity(blocks([2, 2, 3]))
    first = laplacian.propose(weights, np.zeros_like(weights))

    assert [1, 1, -1, -1, -1, -1, -1] == first.tolist()
    assert [1] == laplacian.propose(np.zeros((1, 1)), np.zeros((1, 1))).tolist()


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
    """HierNet's groups of M6 are the worked ones; a proximity of p_min itself does not merge."""
    assert expected == average_linkage.groups(M6, g_max=g_max, p_min=p_min)


def test_merges_of_m6():
    """M6's groups merge in the worked order and at the worked proximities."""
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
    """Where all pairs are equally close, pairs form in the order of the labels."""
    assert [[0, 1], [2, 3], [4, 5]] == average_linkage.groups(
        np.full((6, 6), 1 / 6), g_max=2, p_min=0.0
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_thresholds_of_average_linkage_have_their_limits(seed, labels, g_max):
    """p_min above all merges nothing, below none merges all that the cap allows; no group is larger."""
    cpm = dense(labels, seed)
    proximities = [p for p, _ in average_linkage.merges(cpm + cpm.T, g_max=g_max)]
    highest = average_linkage.proximities(cpm).max()

    assert labels == len(average_linkage.groups(cpm, g_max=g_max, p_min=highest))
    assert len(average_linkage.groups(cpm, g_max=labels, p_min=-1)) == 1
    assert max(map(len, average_linkage.groups(cpm, g_max=g_max, p_min=-1))) <= g_max
    assert proximities == sorted(proximities, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "p_min", "count"), [(2, 0.03, 2), (3, 0.051667, 3), (4, 0.235, 4), (6, 0.35, 5)]
)
def test_swept_threshold_gives_the_wanted_groups(wanted, p_min, count):
    """p_min is swept to the wanted number of groups, and gives the same groups when it is set."""
    found, clusters = average_linkage.swept(M6, g_max=6, wanted=wanted)

    assert np.isclose(p_min, found, atol=1e-6)
    assert count == len(clusters)
    assert clusters == average_linkage.groups(M6, g_max=6, p_min=found)


def test_swept_threshold_does_not_cut_through_equal_proximities():
    """Merges of one proximity come together: no p_min lies between them."""
    p_min, clusters = average_linkage.swept(blocks([2, 2, 2]), g_max=6, wanted=4)

    assert (0.0, [[0, 1], [2, 3], [4, 5]]) == (p_min, clusters)


@given(st.integers(0, 2**32 - 1), st.integers(4, 12), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_agglomerative_is_that_of_scikit_learn(seed, labels, clusters):
    """The same clusters as average linkage on 1 - A in scikit-learn."""
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
    """Four groups in two: {0, 1}, 2 and {3, 4} below one; 5, alone in both, is one level deep."""
    tree = agglomerative.cut_twice(affinity(M6), clusters=4)

    assert [[[0, 1], 2, [3, 4]], [5]] == tree
    with pytest.raises(BadHierarchy, match=r"2 groups of 6 labels are found, and none above"):
        agglomerative.cut_twice(affinity(M6), clusters=2)


@given(st.integers(0, 2**32 - 1), st.integers(6, 20), st.integers(3, 12))
@settings(max_examples=50, deadline=None)
def test_lower_groups_lie_whole_in_upper_ones(seed, labels, clusters):
    """The leaves' parents are the groups of the lower cut, the root's children of the upper one."""
    weights, clusters = affinity(dense(labels, seed)), min(clusters, labels - 1)
    graph = hierarchy.from_nested(agglomerative.cut_twice(weights, clusters=clusters), labels)
    lower = agglomerative.groups(weights, clusters=clusters)
    upper = agglomerative.groups(weights, clusters=max(2, round(clusters**0.5)))

    assert upper == hierarchy.clusters(graph)
    members = [graph.nodes[node]["members"] for node in graph]
    assert all(tuple(one) in map(tuple, members) for one in lower)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_k_means_is_as_tight_as_that_of_scikit_learn(seed, clusters):
    """The sum of squares lies at most 5 % above that of 20 random starts in scikit-learn."""
    points = np.random.default_rng(seed).normal(size=(30, clusters))
    owners = spectral.k_means(points, clusters=clusters)
    spread = sum(
        ((points[owners == one] - points[owners == one].mean(axis=0)) ** 2).sum()
        for one in set(owners.tolist())
    )

    assert clusters == len(set(owners.tolist()))
    assert spread <= 1.05 * KMeans(clusters, n_init=20, random_state=0).fit(points).inertia_


def test_spectral_says_how_many_labels_stand_alone():
    """More labels without confusion than clusters asked for are an error with both numbers."""
    matrix = np.eye(7)
    matrix[:4, :4] = blocks([2, 2])

    with pytest.raises(BadHierarchy, match="3 of 7 labels are never confused"):
        spectral.groups(affinity(matrix), clusters=3)


@pytest.mark.parametrize("clusters", [[[0, 1, 2]], [[0], [1], [2]]])
def test_what_groups_nothing_is_refused(clusters):
    """One cluster, or all labels apart, is no grouping; the message ends with the remedy."""
    with pytest.raises(BadHierarchy, match=r"3 labels.*Take another\."):
        must_group(clusters, remedy="Take another.")


def test_shuffled_trees_keep_their_shape():
    """The control has the same sizes at every level, depends on the key, holds each label once."""
    tree = [[0, 1, 2, 3], [4, [5, 6]], [7, 8], [9]]
    drawn = shuffled(tree, key=[1])
    depth = next(group for group in drawn if any(isinstance(one, list) for one in group))

    assert [1, 2, 3, 4] == sorted(len(hierarchy.leaves(group)) for group in drawn)
    assert (3, 2) == (len(hierarchy.leaves(depth)), len(depth))
    assert list(range(10)) == sorted(hierarchy.leaves(drawn))
    assert drawn == shuffled(tree, key=[1])
    assert drawn != shuffled(tree, key=[2])


def test_shuffled_confusion_finds_no_families():
    """Rows of a shuffled confusion lead to clusters unrelated to the families, on average."""
    parents = np.array([0, 1, 1, 2, 2, 0, 3, 0, 3, 1, 3, 2])
    near = (parents[None, :] == parents[:, None]).astype(float)
    matrix = metrics.normalise_rows(0.15 * near + 0.6 * np.eye(12) + 0.01)
    indices = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(12)
        found = modularity.select(swept(matrix[np.ix_(order, order)]))
        indices.append(metrics.adjusted_rand(parents, hierarchy.parents(found.clusters)))

    assert np.mean(indices) < 0.1
