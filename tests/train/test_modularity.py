"""The modularity sweep and its Laplacian variant: worked values, limits, ties."""

import inspect

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.confusions import M6, blocks, dense
from train import clustering
from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import laplacian, modularity
from train.grouping.partition import affinity, by_owner
from train.tree import hierarchy

GAMMAS = [round(2.0 - step / 10, 1) for step in range(20)]


def _communities(matrix, propose):
    return modularity.communities(affinity(matrix), gamma=1.0, propose=propose)


def swept(matrix, *, propose=modularity.leading, largest=0.5):
    return modularity.sweep(matrix, gammas=GAMMAS, largest=largest, propose=propose)


@pytest.mark.parametrize("propose", [modularity.leading, laplacian.propose])
def test_identity_leaves_labels_apart(propose):
    """Without any confusion every label is alone, and there is no division by zero."""
    assert [[0], [1], [2], [3], [4]] == _communities(np.eye(5), propose)
    with pytest.raises(BadHierarchy, match="5 labels have no grouping"):
        modularity.select(swept(np.eye(5), propose=propose))


def test_first_split_of_m6():
    """Degrees, 2m, leading eigenvalue, sides and gain equal the worked example."""
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
    """Eigenvalues and second vector equal the worked ones, and M6 divides as with modularity."""
    weights = affinity(M6)
    worked = np.array([0.704916, 0.635690, 0.508261, -0.918608, -1.058096, -0.239289])
    values = [1, 0.559165, -0.046664, -0.302220, -0.512489, -0.697792]

    assert np.allclose(values, np.linalg.eigvalsh(laplacian.normalised(weights))[::-1], atol=1e-6)
    assert np.allclose(-worked, laplacian.second_vector(weights), atol=1e-6)
    assert [[0, 1, 2], [3, 4, 5]] == _communities(M6, laplacian.propose)


def test_sweep_of_m6():
    """The sweep gives the four partitions at their resolutions and selects {012}{34}{5}."""
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
    """The sides are the worked ones; blocks divide once, a label without confusion is alone."""
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
        with pytest.raises(BadHierarchy, match="in two increases the modularity"):
            modularity.bisection(affinity(nothing))


def test_refused_candidates_are_not_accepted():
    """`accepted` needs a candidate that the sweep allows; `select` takes the best candidate."""
    three = swept(blocks([2, 1]) * 0.9 + 0.1 / 3)

    assert modularity.accepted(three) is None
    assert [[0, 1], [2]] == modularity.select(three).clusters
    assert modularity.accepted(swept(M6)) == modularity.select(swept(M6))
    params = clustering.Params()
    assert modularity.resolutions() == modularity.resolutions(
        params.gamma_first, params.gamma_last, params.gamma_step
    )
    assert (
        clustering.Params().largest
        == inspect.signature(modularity.sweep).parameters["largest"].default
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1.0, [2.0, 1.0]), (0.7, [2.0, 1.3, 0.6]), (0.95, [2.0, 1.05, 0.1]), (5.0, [2.0])],
)
def test_sweep_ends_at_its_last_resolution(step, expected):
    """No resolution is below the last one, which a step that does not divide the range misses."""
    assert expected == modularity.resolutions(2.0, 0.1, step)


def test_sweep_from_low_to_high_is_refused():
    """A first resolution below the last one has no sweep, and the error names both."""
    with pytest.raises(ValueError, match=r"gamma_first 0\.1 is below gamma_last 2\.0"):
        clustering.Params(gamma_first=0.1, gamma_last=2.0)


def test_refinement_mends_a_bad_start():
    """The passes of Kernighan and Lin lead from a wrong division of M6 to the best division."""
    surplus = modularity.modularity_matrix(affinity(M6), gamma=1.0)
    block = surplus - np.diag(surplus.sum(axis=1))
    signs = modularity.refine(block, np.array([1.0, 1, -1, -1, -1, 1]))

    assert np.isclose(0.254420, signs @ block @ signs / (2 * 1.71), atol=1e-6)


def test_resolution_has_its_limits():
    """A tiny gamma joins all connected labels, and a large gamma separates all labels."""
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
    """Equal blocks give a multiple leading eigenvalue; gamma 0.1 to 1.5 never cuts a block."""
    ends = np.cumsum(sizes)
    expected = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    weights = affinity(blocks(sizes, inside=inside))

    assert expected == modularity.communities(weights, gamma=gamma, propose=propose)


@given(st.integers(0, 2**32 - 1), st.integers(3, 9))
@settings(max_examples=20, deadline=None)
def test_resolution_has_its_limits_on_any_confusion(seed, labels):
    """For a connected graph a tiny gamma gives one cluster, a large gamma one per label."""
    weights = affinity(0.9 * dense(labels, seed) + 0.1 / labels)

    assert len(modularity.communities(weights, gamma=1e-6)) == 1
    assert len(modularity.communities(weights, gamma=1e6)) == labels


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 1.7]))
@settings(max_examples=20, deadline=None)
def test_modularity_is_that_of_networkx(seed, gamma):
    """Q of any partition at any resolution equals that of networkx."""
    weights = affinity(dense(7, seed))
    owners = np.random.default_rng(seed).integers(3, size=7)
    clusters = by_owner(range(7), owners)
    surplus = modularity.modularity_matrix(weights, gamma=gamma)

    assert np.isclose(
        nx.community.modularity(nx.from_numpy_array(weights), clusters, resolution=gamma),
        modularity.modularity(surplus, clusters, float(weights.sum())),
    )


def test_entries_near_zero_count_as_positive():
    """Entries that are zero up to rounding count as positive; the largest entry is positive."""
    vector = np.array([1e-11, -1e-11, 0.0, -1e-9, 0.5])

    assert [1, 1, 1, -1, 1] == modularity.signs(vector).tolist()
    assert vector.tolist() == modularity.facing(-vector).tolist()


def test_diagonal_is_kept_on_demand():
    """With `diagonal` correct predictions count as self-loops and keep more labels separate."""
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
    """The first division separates unconnected parts, also inside a group."""
    weights = affinity(blocks([2, 2, 3]))
    first = laplacian.propose(modularity.Group(weights, np.zeros_like(weights)))

    assert [1, 1, -1, -1, -1, -1, -1] == first.tolist()
    assert [1] == laplacian.propose(modularity.Group(np.zeros((1, 1)), np.zeros((1, 1)))).tolist()


def test_shuffled_confusion_finds_no_families():
    """A confusion matrix with shuffled labels gives clusters unrelated to the families."""
    parents = np.array([0, 1, 1, 2, 2, 0, 3, 0, 3, 1, 3, 2])
    near = (parents[None, :] == parents[:, None]).astype(float)
    matrix = metrics.normalise_rows(0.15 * near + 0.6 * np.eye(12) + 0.01)
    indices = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(12)
        found = modularity.select(swept(matrix[np.ix_(order, order)]))
        indices.append(metrics.adjusted_rand(parents, hierarchy.parents(found.clusters)))

    assert np.mean(indices) < 0.1
