"""
Builds trees from trees: adds labels to a tree, or puts several trees below a new root.

Nodes keep the order of their outputs, and new outputs come last. So the rows of a trained layer keep
their meaning, even if the labels get new indices in the data set's order. Colin and Nagarajan
(2018), section 4.2.1, propose both operations.
"""

from collections.abc import Mapping, Sequence
from itertools import count

import networkx as nx

from train.tree.hierarchy import ROOT, children, validate

Leaves = Sequence[int]
"""For each leaf of an old tree, the index of the same label in the new tree."""


def extended(tree: nx.DiGraph, leaves: Leaves, joins: Mapping[int, int | None]) -> nx.DiGraph:
    """
    Returns `tree` with new labels, each in a cluster of the root or in a new cluster.

    Args:
        tree: The old tree.
        leaves: New indices of the old leaves.
        joins: For each new leaf, the output of the root that it joins, or None for a new cluster.
            A label child of the root becomes a cluster when another label joins it.

    Raises:
        BadHierarchy: Old and new leaves together are not 0 to their number - 1 once each.

    Example:
        The clusters {0, 1} and {2} with leaves (1, 2, 3), 0 joining output 1: {1, 2} and {3, 0}.
    """
    graph = _moved(tree, leaves)
    for leaf, output in sorted(joins.items()):
        node = _cluster(graph, output)
        graph.add_node(f"label-{leaf}", kind="label", label=leaf, members=(leaf,), net=None)
        graph.add_edge(node, f"label-{leaf}", order=graph.out_degree(node))
    for node in reversed(list(nx.topological_sort(graph))):
        below = children(graph, node)
        if below:
            members = sorted(leaf for child in below for leaf in graph.nodes[child]["members"])
            graph.nodes[node]["members"] = tuple(members)
            graph.nodes[node]["net"] = node if len(below) > 1 else None
    validate(graph, len(leaves) + len(joins))
    return graph


def joined(trees: Sequence[nx.DiGraph], leaves: Sequence[Leaves]) -> nx.DiGraph:
    """
    Returns a tree whose root has the roots of the given trees as children, in that order.

    Args:
        trees: The old trees.
        leaves: For each tree, the new indices of its leaves.

    Raises:
        BadHierarchy: All leaves together are not 0 to their number - 1 once each.

    Example:
        The root of the first tree becomes `cluster-0`, and its node `cluster-1` `cluster-0-1`.
    """
    labels = sum(len(own) for own in leaves)
    graph = nx.DiGraph()
    graph.add_node(ROOT, kind="root", members=tuple(range(labels)), net=ROOT)
    for output, (tree, own) in enumerate(zip(trees, leaves, strict=True)):
        part = _moved(tree, own, output)
        graph.add_nodes_from(part.nodes(data=True))
        graph.add_edges_from(part.edges(data=True))
        graph.nodes[renamed(ROOT, output)]["kind"] = "cluster"
        graph.add_edge(ROOT, renamed(ROOT, output), order=output)
    validate(graph, labels)
    return graph


def renamed(node: str, output: int) -> str:
    """Returns the name of a tree's node when the tree is child `output` of a new root."""
    return f"cluster-{output}" + node.removeprefix(ROOT).removeprefix("cluster")


def _moved(tree: nx.DiGraph, leaves: Leaves, output: int | None = None) -> nx.DiGraph:
    """Returns a copy with the new leaves; nodes are renamed as a child `output` if it is given."""
    names = {
        node: f"label-{leaves[data['label']]}"
        if data["kind"] == "label"
        else (node if output is None else renamed(node, output))
        for node, data in tree.nodes(data=True)
    }
    graph = nx.relabel_nodes(tree, names)
    for node, data in graph.nodes(data=True):
        data["members"] = tuple(sorted(leaves[leaf] for leaf in data["members"]))
        data["net"] = None if data["net"] is None else node
        if data["kind"] == "label":
            data["label"] = leaves[data["label"]]
    return graph


def _cluster(graph: nx.DiGraph, output: int | None) -> str:
    """Returns the cluster at an output of the root; adds one if a label or nothing is there."""
    below = children(graph, ROOT)
    child = None if output is None else below[output]
    if child is not None and graph.nodes[child]["kind"] == "cluster":
        return child
    node = next(name for n in count() if (name := f"cluster-{n}") not in graph)
    graph.add_node(node, kind="cluster", members=(), net=None)
    graph.add_edge(ROOT, node, order=len(below) if output is None else output)
    if child is not None:
        graph.remove_edge(ROOT, child)
        graph.add_edge(node, child, order=0)
    return node
