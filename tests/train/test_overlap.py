"""Overlapping label sets: HD-CNN's clusterings and gamma, covers as hierarchies and as files."""

import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AffinityPropagation

from tests.train.confusions import M6, dense, families
from tests.train.test_clustering import FAMILIES, write_classes, write_flat
from train import clustering
from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import affinity_propagation, document, eigenmap, overlap
from train.grouping.partition import affinity
from train.tree import dot, hierarchy

CLUSTERS = [[0, 1, 2], [3, 4], [5]]
EVERYTHING = 1e9


def grown(gamma, largest=0.8):
    return overlap.grown(CLUSTERS, M6, gamma=gamma, largest=largest)


def test_worked_likelihoods():
    """The likelihoods u of M6 equal the worked table."""
    expected = [
        [0.95, 0.04, 0.01],
        [0.92, 0.06, 0.02],
        [0.90, 0.08, 0.02],
        [0.08, 0.90, 0.02],
        [0.05, 0.93, 0.02],
        [0.03, 0.03, 0.94],
    ]

    assert np.allclose(expected, overlap.likelihoods(M6, CLUSTERS))


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (1.0, CLUSTERS),
        (4.0, CLUSTERS),
        (5.0, [[0, 1, 2, 3], [2, 3, 4], [5]]),
        (10.0, [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5]]),
    ],
)
def test_worked_overlap(gamma, expected):
    """Gamma 1 to 4 add nothing to the clusters of M6, 5 adds two memberships, 10 adds five."""
    assert expected == grown(gamma)


def test_sets_grow_to_a_share_of_the_labels():
    """The most likely labels fill a set up to its limit; larger clusters keep their members."""
    assert [[0, 1, 2], [2, 3, 4], [1, 2, 5]] == grown(EVERYTHING, largest=0.5)
    assert CLUSTERS == grown(EVERYTHING, largest=0.1)
    assert [list(range(6))] * 3 == grown(EVERYTHING, largest=1.0)
    confusion = dense(100, 0)
    halves = [list(range(50)), list(range(50, 100))]
    assert [80, 80] == [
        len(one) for one in overlap.grown(halves, confusion, gamma=EVERYTHING, largest=0.8)
    ]


@given(
    labels=st.integers(2, 12),
    seed=st.integers(0, 2**16),
    gamma=st.floats(0.1, 50),
    more=st.floats(1, 10),
)
@settings(max_examples=40, deadline=None)
def test_overlap_grows_with_gamma_and_keeps_members(labels, seed, gamma, more):
    """Members of the disjoint cluster stay, and a larger gamma removes no label."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, max(1, labels // 3), size=labels)
    clusters = sorted(np.flatnonzero(owners == one).tolist() for one in np.unique(owners))
    soft = dense(labels, seed)
    first = overlap.grown(clusters, soft, gamma=gamma, largest=1.0)
    second = overlap.grown(clusters, soft, gamma=gamma * more, largest=1.0)

    for cluster, fewer, all_of_them in zip(clusters, first, second, strict=True):
        assert set(cluster) <= set(fewer) <= set(all_of_them)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_permuted_cover_keeps_sizes_and_overlaps(seed):
    """The control has the same sizes and overlaps, and each set contains its cluster."""
    cover = grown(10.0)
    clusters, drawn = overlap.permuted(CLUSTERS, cover, key=[seed])
    members = hierarchy.membership(drawn, 6).astype(int)
    own = hierarchy.membership(cover, 6).astype(int)

    assert sorted(map(len, cover)) == sorted(map(len, drawn))
    assert sorted(map(len, CLUSTERS)) == sorted(map(len, clusters))
    assert all(set(one) <= set(grown_one) for one, grown_one in zip(clusters, drawn, strict=True))
    assert sorted((own @ own.T).ravel()) == sorted((members @ members.T).ravel())
    assert sorted(own.sum(axis=0)) == sorted(members.sum(axis=0))
    assert (clusters, drawn) == overlap.permuted(CLUSTERS, cover, key=[seed])


@pytest.mark.parametrize("seed", range(12))
def test_affinity_propagation_is_that_of_scikit_learn(seed):
    """On points in one to four dimensions the clusters equal those of scikit-learn."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(rng.integers(5, 50), rng.integers(1, 5)))
    reference = AffinityPropagation(damping=0.75, max_iter=1000, random_state=0).fit(points)
    found = affinity_propagation.clusters_of(points, damping=0.75)

    assert 1.0 == metrics.adjusted_rand(reference.labels_, found)


def test_affinity_propagation_of_equal_points():
    """Two distinct points give two clusters; for one distinct point the algorithm terminates."""
    points = np.array([[0.0], [0.0], [0.0], [5.0], [5.0], [5.0]])
    owners = affinity_propagation.clusters_of(points, damping=0.75)
    same = affinity_propagation.clusters_of(np.zeros((4, 2)), damping=0.75)

    assert 1.0 == metrics.adjusted_rand(np.array([0, 0, 0, 1, 1, 1]), owners)
    assert (4,) == same.shape


def test_coordinates_are_the_eigenvectors():
    """Columns solve L v = lambda Deg v from the second smallest lambda, and are D-orthogonal."""
    weights = eigenmap.graph(affinity(dense(30, 3)), neighbours=3)
    degrees = np.diag(weights.sum(axis=1))
    laplacian = degrees - weights
    points = eigenmap.embedding(weights)
    roots = 1 / np.sqrt(np.diag(degrees))
    values = np.sort(np.linalg.eigvalsh(laplacian * np.outer(roots, roots)))

    assert (30, 4) == points.shape
    for place, vector in enumerate(points.T, start=1):
        assert np.allclose(laplacian @ vector, values[place] * degrees @ vector, atol=1e-9)
    assert np.allclose(np.eye(4), points.T @ degrees @ points, atol=1e-9)
    assert np.allclose(0, points.T @ degrees @ np.ones(30), atol=1e-9)


def test_graph_joins_nearest_labels():
    """M6: D_01 = .825 and D_34 = .785; one neighbour joins 0-1, 1-2, 3-4 and 5 with 3."""
    weights = eigenmap.graph(affinity(M6), neighbours=1)
    joined = {tuple(pair) for pair in np.argwhere(np.triu(weights > 0)).tolist()}

    assert {(0, 1), (1, 2), (3, 4), (3, 5)} == joined
    assert np.isclose(np.exp(-0.825 / 0.9), weights[0, 1])
    assert np.isclose(np.exp(-0.785 / 0.9), weights[4, 3])


def test_a_number_of_neighbours_beside_the_sweep_is_refused():
    """The sweep chooses the number, so that a given number would change nothing."""
    with pytest.raises(ValueError, match="neighbours 3 has no effect with sweep_neighbours"):
        clustering.Params(neighbours=3, sweep_neighbours=True)
    assert clustering.Params(sweep_neighbours=True).neighbours is None


@pytest.mark.parametrize(("sizes", "neighbours"), [([3] * 4, 2), ([5] * 5, 2), ([10] * 10, 5)])
def test_eigenmap_finds_planted_families(sizes, neighbours):
    """Planted families and their number are recovered for any order of the labels."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        parents = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        planted = sorted(np.flatnonzero(parents == one).tolist() for one in range(len(sizes)))
        weights = affinity(families(parents, seed=seed))

        assert planted == eigenmap.groups(weights, neighbours=neighbours)


@pytest.mark.parametrize("sizes", [[3] * 4, [5] * 5, [10] * 10])
def test_the_sweep_of_neighbours_needs_no_number(sizes):
    """It has the largest excess of all numbers, and finds planted families of any size."""
    parents = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    confusion = families(parents, seed=0)
    weights = affinity(confusion)
    most = round(len(parents) ** 0.5)
    swept = eigenmap.swept(weights, confusion, most=most)
    excesses = [
        metrics.micp_excess(confusion, eigenmap.groups(weights, neighbours=number))
        for number in range(1, most + 1)
    ]

    assert np.isclose(max(excesses), metrics.micp_excess(confusion, swept))
    assert 1.0 == metrics.adjusted_rand(parents, hierarchy.parents(swept))
    with pytest.raises(BadHierarchy, match=r"clustering\.neighbours"):
        eigenmap.swept(affinity(np.eye(5)), np.eye(5), most=2)


def test_never_confused_labels_stand_alone():
    """A label without weight is a cluster; without any confusion grouping is refused."""
    parents = np.repeat(np.arange(3), 4)
    matrix = np.eye(13)
    matrix[:12, :12] = families(parents)
    found = eigenmap.groups(affinity(matrix), neighbours=2)

    assert [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12]] == found
    with pytest.raises(BadHierarchy, match=r"clustering\.neighbours"):
        eigenmap.groups(affinity(np.eye(5)), neighbours=2)


def test_cover_is_a_graph_with_several_parents():
    """A label is a child of each of its sets; the rest is a tree, and JSON keeps the graph."""
    graph = hierarchy.from_cover([[2, 1, 0], [2, 3, 4], [5]], 6)
    again = hierarchy.from_json(json.loads(json.dumps(hierarchy.to_json(graph))))

    hierarchy.validate(graph, 6)
    assert ["cluster-0", "cluster-1"] == sorted(graph.predecessors("label-2"))
    assert not nx.is_tree(graph)
    assert [[0, 1, 2], [2, 3, 4], [5]] == hierarchy.clusters(graph) == hierarchy.clusters(again)
    assert ("root", "cluster-0", None) == tuple(
        graph.nodes[node]["net"] for node in ("root", "cluster-0", "cluster-2")
    )
    assert (1, 1, 2) == tuple(hierarchy.heights(graph)[2, [0, 4, 5]])
    drawn = dot.from_dot(dot.to_dot(graph, "abcdef"), "abcdef")
    assert dict(graph.nodes(data=True)) == dict(drawn.nodes(data=True))


def test_partition_as_a_cover_is_its_tree():
    """A cover without overlap equals the hierarchy of its clusters."""
    tree = hierarchy.from_clusters(CLUSTERS, 6)

    assert hierarchy.to_json(tree) == hierarchy.to_json(hierarchy.from_cover(CLUSTERS, 6))


@pytest.mark.parametrize("sets", [[[0, 1]], [[0, 1, 2], []], [[0, 0, 1], [2]], [[0, 1, 2, 3]], []])
def test_rejects_what_is_no_cover(sets):
    """Missing, duplicate or unknown labels, an empty set and an empty cover are refused."""
    with pytest.raises(BadHierarchy, match="no cover of 3 labels"):
        hierarchy.from_cover(sets, 3)


def test_stage_writes_covers_that_are_read_back(tmp_path):
    """The stage writes two clusterings with overlap, one without, and a control."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    write_classes(tmp_path / "data", {f"label_{leaf}": "one" for leaf in range(12)})
    folder = clustering.run(
        clustering.Params(confusion="soft", bootstrap=2, overlap=8.0),
        data_dir=tmp_path / "data",
        results_dir=tmp_path / "results",
        seed=0,
    )
    names = ("hdcnn", "hdcnn_spectral", "random_hdcnn", "hdcnn_disjoint")
    overlapping, spectral, control, disjoint = (document.read(folder, name) for name in names)

    assert tuple(map(tuple, sorted(FAMILIES))) == overlapping.clusters == disjoint.clusters
    assert disjoint.cover is None
    assert sum(map(len, overlapping.cover)) > 12
    assert overlapping.cover == spectral.cover
    assert overlapping.cover != control.cover
    assert sorted(map(len, overlapping.cover)) == sorted(map(len, control.cover))
    for grouping, groups in ((overlapping, overlapping.cover), (disjoint, disjoint.clusters)):
        assert groups == tuple(map(tuple, hierarchy.clusters(document.tree(grouping))))
    assert overlapping.stability > 0.5
    drawn = (folder / "hdcnn.dot").read_text()
    assert sum(map(len, overlapping.cover)) == drawn.count('-> "label-')
