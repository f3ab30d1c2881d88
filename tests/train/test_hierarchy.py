"""The label tree: construction, checks, heights, and its JSON form."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import BadHierarchy
from train.tree import hierarchy


@st.composite
def partitions(draw):
    owners = draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    groups = [[leaf for leaf, own in enumerate(owners) if own == name] for name in set(owners)]
    return draw(st.permutations([group for group in groups if group]))


@st.composite
def trees(draw, labels=None):
    """Draws a tree of any depth over 1 to 9 labels, in the order that `from_nested` keeps."""
    labels = draw(st.permutations(range(draw(st.integers(1, 9))))) if labels is None else labels
    below, rest = [], list(labels)
    while rest:
        size = draw(st.integers(1, len(rest)))
        part, rest = rest[:size], rest[size:]
        deeper = size < len(labels) and draw(st.booleans())
        below += [draw(trees(part))] if deeper else part
    groups = [one for one in below if isinstance(one, list)]
    return groups + sorted(one for one in below if isinstance(one, int))


def test_flat_hierarchy_has_one_level():
    """The flat hierarchy is a root that decides among all labels."""
    graph = hierarchy.flat(4)

    hierarchy.validate(graph, 4)
    assert [[0], [1], [2], [3]] == hierarchy.clusters(graph)
    assert hierarchy.ROOT == graph.nodes["root"]["net"]
    assert [["root", "label-2"]] == [hierarchy.paths(graph)[2]]


@given(partitions())
def test_partition_gives_a_valid_tree(groups):
    """Every partition gives a tree with one path to each leaf and the same clusters."""
    labels = sum(map(len, groups))
    graph = hierarchy.from_clusters(groups, labels)

    hierarchy.validate(graph, labels)
    assert nx.is_arborescence(graph)
    assert [sorted(group) for group in groups] == hierarchy.clusters(graph)
    assert set(range(labels)) == set(hierarchy.paths(graph))
    for place, group in enumerate(groups):
        assert all(hierarchy.parents(groups)[leaf] == place for leaf in group)


@given(trees())
def test_nested_lists_give_a_valid_tree(tree):
    """Nested lists of any depth give a valid tree, and the tree gives the same lists."""
    labels = len(hierarchy.leaves(tree))
    graph = hierarchy.from_nested(tree, labels)

    hierarchy.validate(graph, labels)
    assert nx.is_arborescence(graph)
    assert tree == hierarchy.to_nested(graph)
    assert set(range(labels)) == set(hierarchy.paths(graph))


def test_deep_tree():
    """Nodes are named by their positions, and nodes with several children have a network."""
    graph = hierarchy.from_nested([[0, 1], [[2, 4], 3]], 5)
    heights = hierarchy.heights(graph)

    assert ["root", "cluster-1", "cluster-1-0", "label-4"] == hierarchy.paths(graph)[4]
    assert ["cluster-1-0", "label-3"] == hierarchy.children(graph, "cluster-1")
    assert "cluster-1-0" == graph.nodes["cluster-1-0"]["net"]
    assert (1, 1, 2, 3) == (heights[0, 1], heights[2, 4], heights[2, 3], heights[0, 4])


def test_single_children_decide_nothing():
    """Nodes with one child have no network, at any depth, and a single label is a tree."""
    graph = hierarchy.from_nested([[[0, 1]]], 2)

    assert [None, None, "cluster-0-0"] == [
        graph.nodes[node]["net"] for node in ("root", "cluster-0", "cluster-0-0")
    ]
    assert ["root", "label-0"] == hierarchy.paths(hierarchy.from_nested([0], 1))[0]


@given(partitions())
def test_partition_is_a_tree_of_two_levels(groups):
    """A partition and the same nested lists give one hierarchy with one node order."""
    labels = sum(map(len, groups))
    graph, other = hierarchy.from_clusters(groups, labels), hierarchy.from_nested(groups, labels)

    assert hierarchy.to_json(graph) == hierarchy.to_json(other)
    assert list(graph) == list(other)


@pytest.mark.parametrize("tree", [[], [[]], [0, [1, []]], [0, [1, 1]], [0, [2]], [0, [1, [2]]]])
def test_rejects_lists_that_are_no_tree(tree):
    """Empty groups and duplicate, missing or unknown labels are refused at any depth."""
    with pytest.raises(BadHierarchy, match="no partition of 2 labels"):
        hierarchy.from_nested(tree, 2)


@given(trees())
def test_json_round_trip(tree):
    """JSON keeps the nodes, fields, edges and orders of a hierarchy."""
    graph = hierarchy.from_nested(tree, len(hierarchy.leaves(tree)))
    again = hierarchy.from_json(hierarchy.to_json(graph))

    assert dict(graph.nodes(data=True)) == dict(again.nodes(data=True))
    assert sorted(graph.edges(data="order")) == sorted(again.edges(data="order"))


def test_single_label_cluster_has_no_network():
    """A cluster of one label has no network, nor has a root with one cluster."""
    graph = hierarchy.from_clusters([[0, 2], [1]], 3)

    assert graph.nodes["cluster-0"]["net"] == "cluster-0"
    assert graph.nodes["cluster-1"]["net"] is None
    assert hierarchy.from_clusters([[0, 1]], 2).nodes["root"]["net"] is None


def test_heights_count_levels_to_the_common_ancestor():
    """The common ancestor has height 0 for equal labels, 1 in a cluster, 2 across clusters."""
    heights = hierarchy.heights(hierarchy.from_clusters([[0, 2], [1, 3]], 4))

    assert [[0, 2, 1, 2], [2, 0, 2, 1], [1, 2, 0, 2], [2, 1, 2, 0]] == heights.tolist()
    assert (np.ones((3, 3)) - np.eye(3)).tolist() == hierarchy.heights(hierarchy.flat(3)).tolist()


@given(partitions())
def test_tree_distance_is_a_metric(groups):
    """Heights are symmetric, zero on the diagonal only, and obey the triangle inequality."""
    heights = hierarchy.heights(hierarchy.from_clusters(groups, sum(map(len, groups))))

    assert (heights == heights.T).all()
    assert ((heights == 0) == np.eye(len(heights), dtype=bool)).all()
    assert (heights[:, :, None] <= heights[:, None, :] + heights.T[None, :, :]).all()


@pytest.mark.parametrize("groups", [[[0, 1], [1, 2]], [[0], [2]], [[0, 1, 2], []]])
def test_rejects_what_is_no_partition(groups):
    """Duplicate labels, missing labels and empty clusters are refused."""
    with pytest.raises(BadHierarchy, match="no partition of 3 labels"):
        hierarchy.from_clusters(groups, 3)


def test_rejects_damaged_trees():
    """A cycle, a second root, wrong members, a missing label and an idle network are refused."""
    graph = hierarchy.from_clusters([[0, 1], [2]], 3)
    cycle, orphan, member, idle = graph.copy(), graph.copy(), graph.copy(), graph.copy()
    cycle.add_edge("cluster-0", "root", order=0)
    orphan.remove_edge("root", "cluster-1")
    member.nodes["cluster-0"]["members"] = (0,)
    idle.nodes["cluster-1"]["net"] = "cluster-1"

    for broken, message in (
        (cycle, "cycle"),
        (orphan, "roots"),
        (member, "members"),
        (idle, "fewer than two children"),
    ):
        with pytest.raises(BadHierarchy, match=message):
            hierarchy.validate(broken, 3)
    with pytest.raises(BadHierarchy, match="0 to 3"):
        hierarchy.validate(graph, 4)
    with pytest.raises(BadHierarchy, match="describes no hierarchy"):
        hierarchy.from_json({"nodes": [{"kind": "root"}], "edges": []})
    with pytest.raises(BadHierarchy, match="at least one label"):
        hierarchy.flat(0)


def test_labels_of_a_node_are_divided():
    """`divide` puts the labels of a node into groups below it and keeps the rest of the tree."""
    graph = hierarchy.from_nested([[0, 2, 3, 5], [1, 4]], 6)
    before = hierarchy.to_json(graph)
    divided = hierarchy.divide(graph, "cluster-0", [[3, 0], [2], [5]])

    hierarchy.validate(divided, 6)
    assert [[[0, 3], [2], [5]], [1, 4]] == hierarchy.to_nested(divided)
    assert ["root", "cluster-0", "cluster-0-0", "label-3"] == hierarchy.paths(divided)[3]
    assert before == hierarchy.to_json(graph)
    assert ["root", "cluster-0", "cluster-1", "cluster-0-0", "cluster-0-1", "cluster-0-2"] == (
        hierarchy.inner(divided)
    )
    assert [] == hierarchy.own_labels(divided, "cluster-0")
    assert [1, 4] == hierarchy.own_labels(divided, "cluster-1")
    for node, groups in (("cluster-1", [[1], [3]]), ("cluster-1", [[1]]), ("root", [[0, 1]])):
        with pytest.raises(BadHierarchy, match="no partition of the labels"):
            hierarchy.divide(graph, node, groups)
