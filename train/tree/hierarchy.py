"""
The label tree as a networkx graph: construction, validation, heights, paths, JSON, nested lists.

Each node has the attributes `kind` (root, cluster or label), `members` (sorted leaves below it),
`net` (name of the network at this node, or None) and, for labels, `label` (its leaf). Each edge has
`order`, the output index of the child at its parent. The leaf of a label is its index in the data
set's label order. If clusters overlap, a label has several parents, and the graph is a DAG.
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from jaxtyping import Bool, Int

from train.errors import BadHierarchy

ROOT = "root"
Clusters = Sequence[Sequence[int]]
if TYPE_CHECKING:
    Nested = list["int | Nested"]
else:
    Nested = list  # beartype, which checks the tests, cannot resolve an alias that names itself
"""A tree as nested lists: an integer is a leaf, and a list is a node with its children."""


def flat(labels: int) -> nx.DiGraph:
    """
    Returns the hierarchy of one level: every label is a child of the root.

    Raises:
        BadHierarchy: `labels` is less than one.
    """
    if labels < 1:
        raise BadHierarchy(f"A hierarchy needs at least one label, not {labels}.")
    graph = nx.DiGraph()
    graph.add_node(ROOT, kind="root", members=tuple(range(labels)), net=ROOT)
    for leaf in range(labels):
        _add_label(graph, ROOT, leaf, order=leaf)
    return graph


def from_clusters(clusters: Clusters, labels: int) -> nx.DiGraph:
    """
    Returns the two-level hierarchy of a partition of `labels` leaves.

    Clusters keep their order, and the labels of a cluster are sorted. A node with one child has no
    network: neither a cluster of one label nor the root of a single cluster has one.

    Raises:
        BadHierarchy: The clusters are no partition of the leaves.
    """
    return from_nested([[int(leaf) for leaf in cluster] for cluster in clusters], labels)


def from_nested(tree: Nested, labels: int) -> nx.DiGraph:
    """
    Returns the hierarchy of any depth that nested lists describe.

    The groups of a node come first and keep their order; its labels come last, sorted. A node with
    one child has no network. The group at index 1 of `cluster-0` is the node `cluster-0-1`.

    Raises:
        BadHierarchy: The leaves are not 0 to `labels` - 1 once each, or a list is empty.

    Example:
        `[[0, 1], [[2, 3], 4]]` has the clusters {0, 1} and {2, 3, 4}; the second has the child {2, 3}.
    """
    if labels < 1 or sorted(leaves(tree)) != list(range(labels)) or not _is_filled(tree):
        raise BadHierarchy(
            f"The clusters {tree} are no partition of {labels} labels: each label must be in "
            "exactly one cluster, and no cluster may be empty."
        )
    graph = nx.DiGraph()
    _add_group(graph, ROOT, tree, kind="root")
    return graph


def from_cover(cover: Clusters, labels: int) -> nx.DiGraph:
    """
    Returns the two-level hierarchy of label sets that may overlap (a DAG if they do).

    Sets keep their order, and the labels of a set are sorted. A node with one child has no network.

    Raises:
        BadHierarchy: A label is in no set, twice in a set, or unknown; or a set is empty.

    Example:
        In {0, 1, 2}, {2, 3, 4} and {5} the label 2 has two parents.
    """
    sets = [sorted(int(leaf) for leaf in members) for members in cover]
    covered = sorted({leaf for members in sets for leaf in members})
    if (
        labels < 1
        or covered != list(range(labels))
        or any(len({*members}) != len(members) or not members for members in sets)
    ):
        raise BadHierarchy(
            f"The sets {sets} are no cover of {labels} labels: each label must be in at least one "
            "set and at most once in each, and no set may be empty."
        )
    graph = nx.DiGraph()
    everything = tuple(range(labels))
    graph.add_node(ROOT, kind="root", members=everything, net=ROOT if len(sets) > 1 else None)
    for order, members in enumerate(sets):
        name = f"cluster-{order}"
        net = name if len(members) > 1 else None
        graph.add_node(name, kind="cluster", members=tuple(members), net=net)
        graph.add_edge(ROOT, name, order=order)
        for index, leaf in enumerate(members):
            _add_label(graph, name, leaf, order=index)
    return graph


def to_nested(graph: nx.DiGraph, node: str = ROOT) -> Nested:
    """Returns the subtree below `node` as nested lists; a shared node is repeated under each parent."""
    below = children(graph, node)
    kinds = [graph.nodes[child]["kind"] for child in below]
    return [
        int(graph.nodes[child]["label"]) if kind == "label" else to_nested(graph, child)
        for child, kind in zip(below, kinds, strict=True)
    ]


def divide(graph: nx.DiGraph, node: str, groups: Clusters) -> nx.DiGraph:
    """
    Returns a copy in which the label children of `node` are divided into `groups` below it.

    Raises:
        BadHierarchy: `node` has a child that is no label, or the groups are no partition of them.
    """
    labels = own_labels(graph, node)
    tree: Nested = [[int(leaf) for leaf in group] for group in groups]
    if sorted(leaves(tree)) != list(graph.nodes[node]["members"]) or set(leaves(tree)) != {*labels}:
        raise BadHierarchy(
            f"The groups {tree} are no partition of the labels {labels} on node '{node}'."
        )
    result = graph.copy()
    result.remove_nodes_from(children(graph, node))
    _add_group(result, node, tree, kind=graph.nodes[node]["kind"])
    return result


def leaves(tree: Nested) -> list[int]:
    """Returns the leaves of nested lists, in the order of the text."""
    return [
        leaf for child in tree for leaf in ([child] if isinstance(child, int) else leaves(child))
    ]


def validate(graph: nx.DiGraph, labels: int) -> None:
    """
    Checks that `graph` is a hierarchy over `labels` leaves.

    Raises:
        BadHierarchy: The graph has a cycle or several roots, a label is missing, the members of a
            node are not the union of its children's, output indices have gaps, or a node with one
            child has a network.
    """
    if not nx.is_directed_acyclic_graph(graph):
        raise BadHierarchy("The hierarchy has a cycle: it must lead from one root to the labels.")
    roots = [node for node, degree in graph.in_degree() if degree == 0]
    if roots != [ROOT]:
        raise BadHierarchy(f"The hierarchy has the roots {roots}: it must have one, '{ROOT}'.")
    present = sorted(data["label"] for _, data in graph.nodes(data=True) if data["kind"] == "label")
    if present != list(range(labels)):
        raise BadHierarchy(
            f"The hierarchy holds the labels {present}, and the data set has 0 to {labels - 1}."
        )
    for node, data in graph.nodes(data=True):
        below = children(graph, node)
        if data["kind"] == "label":
            expected: set[int] = {data["label"]}
        else:
            expected = {leaf for child in below for leaf in graph.nodes[child]["members"]}
        if list(data["members"]) != sorted(expected):
            raise BadHierarchy(
                f"Node '{node}' has the members {list(data['members'])}, and its children have "
                f"{sorted(expected)}."
            )
        orders = [graph.edges[node, child]["order"] for child in below]
        if orders != list(range(len(below))):
            raise BadHierarchy(f"The outputs of node '{node}' are numbered {orders}, with gaps.")
        if len(below) < 2 and data["net"] is not None:
            raise BadHierarchy(f"Node '{node}' has a network, and fewer than two children.")


def leaf_of(name: str, names: Sequence[str]) -> int:
    """
    Returns the leaf of the label `name`.

    Raises:
        BadHierarchy: No label has this name; the message suggests the most similar label.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(names[:5])}, …"
        raise BadHierarchy(f"'{name}' is none of the {len(names)} labels. {hint}")
    return names.index(name)


def children(graph: nx.DiGraph, node: str) -> list[str]:
    """Returns the children of `node` in the order of its outputs."""
    return sorted(graph.successors(node), key=lambda child: graph.edges[node, child]["order"])


def own_labels(graph: nx.DiGraph, node: str) -> list[int]:
    """Returns the leaves of the label children of `node`, in the order of its outputs."""
    below = (graph.nodes[child] for child in children(graph, node))
    return [data["label"] for data in below if data["kind"] == "label"]


def inner(graph: nx.DiGraph) -> list[str]:
    """Returns the nodes of a tree that are no labels, breadth first, in the order of outputs."""
    nodes = [ROOT]
    for node in nodes:
        nodes += [c for c in children(graph, node) if graph.nodes[c]["kind"] != "label"]
    return nodes


def clusters(graph: nx.DiGraph) -> list[list[int]]:
    """Returns the leaves below each child of the root, in the order of the root's outputs."""
    return [list(graph.nodes[child]["members"]) for child in children(graph, ROOT)]


def leaf_count(graph: nx.DiGraph) -> int:
    """
    Returns the number of labels.

    Raises:
        BadHierarchy: There is only one label, and a classifier needs two.
    """
    labels = len(graph.nodes[ROOT]["members"])
    if labels < 2:
        raise BadHierarchy("A classifier needs at least two labels, and there is one.")
    return labels


def parents(groups: Clusters) -> Int[np.ndarray, " label"]:
    """Returns, for each leaf of a partition, the index of its cluster (int64)."""
    result = np.zeros(sum(len(group) for group in groups), dtype=np.int64)
    for index, group in enumerate(groups):
        result[list(group)] = index
    return result


def membership(groups: Clusters, labels: int) -> Bool[np.ndarray, "cluster label"]:
    """Returns a mask that is true where a group holds a label; groups may overlap."""
    result = np.zeros((len(groups), labels), dtype=bool)
    for index, group in enumerate(groups):
        result[index, list(group)] = True
    return result


def heights(graph: nx.DiGraph) -> Int[np.ndarray, "label label"]:
    """
    Returns the height of the lowest common ancestor of each pair of leaves.

    The height of a node is the length of its longest path down to a leaf (int64). In a two-level
    tree the height is 0 for a leaf and itself, 1 within a cluster, and 2 across clusters. In a DAG
    the lowest of several common ancestors counts.
    """
    height: dict[str, int] = {}
    for node in reversed(list(nx.topological_sort(graph))):
        height[node] = max((height[child] + 1 for child in graph.successors(node)), default=0)
    labels = len(graph.nodes[ROOT]["members"])
    result = np.full((labels, labels), height[ROOT], dtype=np.int64)
    for node in sorted(graph, key=lambda name: height[name], reverse=True):
        members = list(graph.nodes[node]["members"])
        result[np.ix_(members, members)] = np.minimum(
            result[np.ix_(members, members)], height[node]
        )
    return result


def paths(graph: nx.DiGraph) -> dict[int, list[str]]:
    """Returns, for each leaf, the nodes from the root down to it (in a DAG, of one of its paths)."""
    result: dict[int, list[str]] = {}
    stack = [[ROOT]]
    while stack:
        path = stack.pop()
        data = graph.nodes[path[-1]]
        if data["kind"] == "label":
            result[data["label"]] = path
        stack += [[*path, child] for child in children(graph, path[-1])]
    return result


def nodes_of_paths(graph: nx.DiGraph) -> Bool[np.ndarray, "label node"]:
    """Returns a mask of the nodes on each leaf's path: the leaf is included, the root has no column."""
    path_of = paths(graph)
    columns = {node: column for column, node in enumerate(node for node in graph if node != ROOT)}
    result = np.zeros((len(path_of), len(columns)), dtype=bool)
    for leaf, path in path_of.items():
        result[leaf, [columns[node] for node in path[1:]]] = True
    return result


def to_json(graph: nx.DiGraph) -> dict[str, Any]:
    """Returns the hierarchy as JSON values: `nodes` and `edges`, both sorted."""
    nodes = [
        {"node": node, **data, "members": list(data["members"])}
        for node, data in sorted(graph.nodes(data=True))
    ]
    edges = [[parent, child, data["order"]] for parent, child, data in graph.edges(data=True)]
    return {"nodes": nodes, "edges": sorted(edges)}


def from_json(document: Any) -> nx.DiGraph:
    """
    Returns the hierarchy of a document that `to_json` made.

    Raises:
        BadHierarchy: The document lacks a field, or its graph is no hierarchy.
    """
    graph = nx.DiGraph()
    try:
        for entry in document["nodes"]:
            fields = {**entry, "members": tuple(entry["members"])}
            graph.add_node(fields.pop("node"), **fields)
        for parent, child, order in document["edges"]:
            graph.add_edge(parent, child, order=order)
        labels = len(graph.nodes[ROOT]["members"])
        validate(graph, labels)
    except (KeyError, TypeError, ValueError) as error:
        raise BadHierarchy(
            f"The document describes no hierarchy ({error!r}). Build it again from its clusters."
        ) from error
    return graph


def _add_label(graph: nx.DiGraph, parent: str, leaf: int, *, order: int) -> None:
    graph.add_node(f"label-{leaf}", kind="label", label=leaf, members=(leaf,), net=None)
    graph.add_edge(parent, f"label-{leaf}", order=order)


def _add_group(graph: nx.DiGraph, node: str, tree: Nested, *, kind: str) -> None:
    members = tuple(sorted(leaves(tree)))
    graph.add_node(node, kind=kind, members=members, net=node if len(tree) > 1 else None)
    groups = [child for child in tree if not isinstance(child, int)]
    for order, group in enumerate(groups):
        name = f"cluster-{order}" if node == ROOT else f"{node}-{order}"
        _add_group(graph, name, group, kind="cluster")
        graph.add_edge(node, name, order=order)
    own = sorted(child for child in tree if isinstance(child, int))
    for order, leaf in enumerate(own, start=len(groups)):
        _add_label(graph, node, leaf, order=order)


def _is_filled(tree: Nested) -> bool:
    return bool(tree) and all(isinstance(child, int) or _is_filled(child) for child in tree)
