"""Nodes of a tree of networks: which have a network, what it starts from, and its outputs."""

import networkx as nx
import numpy as np
from jaxtyping import Int

from train.tree import hierarchy as trees


def has_network(tree: nx.DiGraph, node: str) -> bool:
    """Returns whether a network decides at `node`; a cluster of one label has none."""
    return tree.nodes[node]["net"] is not None


def with_network(tree: nx.DiGraph) -> list[str]:
    """Returns the nodes below the root that have a network, parents before children."""
    return [node for node in trees.inner(tree)[1:] if has_network(tree, node)]


def networks_on(tree: nx.DiGraph, path: list[str]) -> int:
    """Returns the number of networks on a path of nodes."""
    return sum(has_network(tree, node) for node in path)


def depth(tree: nx.DiGraph) -> int:
    """Returns the largest number of networks on a path from the root to a label."""
    return max(networks_on(tree, path) for path in trees.paths(tree).values())


def source(tree: nx.DiGraph, node: str) -> str:
    """Returns the nearest node above `node` that has a network; the root if none has."""
    (parent,) = tree.predecessors(node)
    if parent == trees.ROOT or has_network(tree, parent):
        return str(parent)
    return source(tree, parent)


def next_level(tree: nx.DiGraph, level: list[str]) -> list[str]:
    """Returns the nodes whose network starts from the network of a node of `level`."""
    nodes = with_network(tree)
    return [node for node in nodes if node not in level and source(tree, node) in level]


def classes(tree: nx.DiGraph, node: str, *, rollback: int) -> list[tuple[int, ...]]:
    """Returns the leaves of each output: those of each child, then those to reject, if any."""
    below = [tree.nodes[child]["members"] for child in trees.children(tree, node)]
    rejected = _rejected(tree, node) if rollback else ()
    return below + ([rejected] if rejected else [])


def outputs(tree: nx.DiGraph, node: str, *, leaves: int, rollback: int) -> Int[np.ndarray, " leaf"]:
    """Returns the output of `node` for each leaf; -1 for leaves that it is not trained on."""
    result = np.full(leaves, -1)
    for index, members in enumerate(classes(tree, node, rollback=rollback)):
        result[list(members)] = index
    return result


def _rejected(tree: nx.DiGraph, node: str) -> tuple[int, ...]:
    """Returns the leaves of the other children of the parent, which a network rejects."""
    above = list(tree.predecessors(node))
    if not above or not has_network(tree, node):
        return ()
    own = tree.nodes[node]["members"]
    return tuple(leaf for leaf in tree.nodes[above[0]]["members"] if leaf not in own)
