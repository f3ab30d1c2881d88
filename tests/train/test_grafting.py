"""Trees with new labels and trees under a new root: new positions and unchanged outputs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import BadHierarchy
from train.tree import grafting, hierarchy


def test_new_label_comes_last_in_its_cluster():
    """Leaf 0 joins the cluster {2} of the renumbered tree as its last output."""
    old = hierarchy.from_clusters([[0, 1], [2]], 3)
    tree = grafting.extended(old, (1, 2, 3), {0: 1})

    assert [[1, 2], [0, 3]] == hierarchy.clusters(tree)
    assert [[1, 2], [3, 0]] == hierarchy.to_nested(tree)
    assert "cluster-1" == tree.nodes["cluster-1"]["net"]
    assert [[0, 1], [2]] == hierarchy.to_nested(old)


def test_label_of_the_root_becomes_a_cluster():
    """A label directly below the root keeps its output and becomes a cluster of two."""
    tree = grafting.extended(hierarchy.from_nested([[0, 1], 2, 3], 4), (0, 1, 2, 4), {3: 1})

    assert [[0, 1], [2, 3], 4] == hierarchy.to_nested(tree)
    assert ["cluster-0", "cluster-1", "label-4"] == hierarchy.children(tree, "root")


def test_unplaced_labels_found_clusters():
    """Two labels without a cluster get two new clusters, which need no network."""
    tree = grafting.extended(hierarchy.from_clusters([[0, 1]], 2), (1, 3), {0: None, 2: None})

    assert [[1, 3], [0], [2]] == hierarchy.to_nested(tree)
    assert "root" == tree.nodes["root"]["net"]
    assert tree.nodes["cluster-1"]["net"] is None


def test_label_joins_a_deep_cluster_at_its_top():
    """In a cluster of clusters the new label becomes a further child; node names stay the same."""
    tree = grafting.extended(hierarchy.from_nested([[[0, 1], 2], 3], 4), range(4), {4: 0})

    assert [[[0, 1], 2, 4], 3] == hierarchy.to_nested(tree)
    assert (0, 1) == tree.nodes["cluster-0-0"]["members"]


def test_trees_hang_under_a_new_root():
    """Two trees with alternating labels keep their names, members and orders."""
    first = hierarchy.from_clusters([[0, 1], [2]], 3)
    second = hierarchy.from_nested([0, 1], 2)
    tree = grafting.joined([first, second], [(0, 2, 4), (3, 1)])

    assert [[[0, 2], [4]], [3, 1]] == hierarchy.to_nested(tree)
    assert [[0, 2, 4], [1, 3]] == hierarchy.clusters(tree)
    assert ["root", "cluster-0", "cluster-0-1", "label-4"] == hierarchy.paths(tree)[4]
    assert ["cluster-0", None, "cluster-1"] == [
        tree.nodes[node]["net"] for node in ("cluster-0", "cluster-0-1", "cluster-1")
    ]


@pytest.mark.parametrize("leaves", [[(0, 1), (1, 2)], [(0, 1), (2, 4)]])
def test_shared_or_absent_leaves_are_refused(leaves):
    """A leaf in both trees, or a missing leaf, is refused."""
    trees = [hierarchy.flat(2), hierarchy.flat(2)]

    with pytest.raises(BadHierarchy):
        grafting.joined(trees, leaves)


@given(
    st.permutations(range(7)), st.lists(st.sampled_from([None, 0, 1, 2]), min_size=3, max_size=3)
)
def test_old_outputs_stay(order, outputs):
    """After any renumbering and any new labels, each old output leads to the same labels."""
    old = hierarchy.from_nested([[0, 1], [2], 3], 4)
    tree = grafting.extended(old, order[:4], dict(zip(order[4:], outputs, strict=True)))
    hierarchy.validate(tree, 7)

    for node in ("root", "cluster-0", "cluster-1"):
        before, now = hierarchy.children(old, node), hierarchy.children(tree, node)
        for child, other in zip(before, now, strict=False):
            moved = {order[leaf] for leaf in old.nodes[child]["members"]}
            assert moved <= set(tree.nodes[other]["members"])
    assert hierarchy.to_json(tree) == hierarchy.to_json(
        hierarchy.from_json(hierarchy.to_json(tree))
    )
