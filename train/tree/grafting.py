"""
Trees made of trees: one with labels added, or two under a new root (methods.md 2.7).

Nodes keep the order of their outputs, and what is new comes last: so the rows of a trained layer
stay where they are, wherever the labels move in the data set's order.
"""

from collections.abc import Mapping, Sequence
from itertools import count

import networkx as nx

from train.tree.hierarchy import ROOT, children, validate

Leaves = Sequence[int]
"""For each leaf of a tree its leaf in the tree that is made of it."""


def extended(tree: nx.DiGraph, leaves: Leaves, joins: Mapping[int, int | None]) -> nx.DiGraph:
    """
    Returns `tree` with new labels, each in a child of the root or in a cluster of its own.

    `joins` names for each new leaf the output of the root that it joins; None: a new cluster. A
    label that hangs on the root itself becomes a cluster when another joins it.

    Raises:
        BadHierarchy: Old and new leaves are not each of 0 to their number - 1 once.

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
    Returns a new root whose children are the given trees, in that order.

    Raises:
        BadHierarchy: The leaves are not each of 0 to their number - 1 once.

    Example:
        Node `cluster-1` of the first tree becomes `cluster-0-1`, its root `cluster-0`.
    """
    labels = sum(len(own) for own in leaves)
    graph = nx.DiGraph()
    graph.add_node(ROOT, kind="root", members=tuple(range(labels)), net=ROOT)
    for place, (tree, own) in enumerate(zip(trees, leaves, strict=True)):
        part = _moved(tree, own, place)
        graph.add_nodes_from(part.nodes(data=True))
        graph.add_edges_from(part.edges(data=True))
        graph.nodes[renamed(ROOT, place)]["kind"] = "cluster"
        graph.add_edge(ROOT, renamed(ROOT, place), order=place)
    validate(graph, labels)
    return graph


def renamed(node: str, place: int) -> str:
    """Returns the name of a tree's node once the tree hangs on output `place` of a new root."""
    return f"cluster-{place}" + node.removeprefix(ROOT).removeprefix("cluster")


def _moved(tree: nx.DiGraph, leaves: Leaves, place: int | None = None) -> nx.DiGraph:
    """A copy in which the labels have their new leaves, and nodes their names below `place`."""
    names = {
        node: f"label-{leaves[data['label']]}"
        if data["kind"] == "label"
        else (node if place is None else renamed(node, place))
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
    """The cluster at an output of the root, made where there is a label or nothing yet."""
    below = children(graph, ROOT)
    found = None if output is None else below[output]
    if found is not None and graph.nodes[found]["kind"] == "cluster":
        return found
    node = next(name for n in count() if (name := f"cluster-{n}") not in graph)
    graph.add_node(node, kind="cluster", members=(), net=None)
    graph.add_edge(ROOT, node, order=len(below) if output is None else output)
    if found is not None:
        graph.remove_edge(ROOT, found)
        graph.add_edge(node, found, order=0)
    return node
