"""
Paths of labels as sequences of outputs, and where along them something is decided (methods.md 4.1).

A path leads from the root to a leaf. Every node but the root is an output of each step, so that a
step's target is one-hot over all nodes; which of them can follow is known from the tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
from jaxtyping import Int

from train.errors import BadHierarchy
from train.tree import hierarchy as trees

Order = Literal["root_first", "leaf_first"]
Chain = tuple[int, ...]
"""Outputs that follow one another without a choice between them."""
NOTHING = -1  # the target of a step after the end


@dataclass(frozen=True, slots=True)
class Paths:
    """Every leaf's path as a sequence of outputs."""

    nodes: tuple[str, ...]
    """All nodes but the root, level by level; a node's place is its output. The end comes after."""
    sequences: tuple[Chain, ...]
    """For each leaf, the outputs of its steps."""

    @property
    def steps(self) -> int:
        """Steps of the longest path."""
        return max(map(len, self.sequences))

    @property
    def outputs(self) -> int:
        """Outputs of each step: the nodes and, where it ends a path, the end."""
        return 1 + max(max(own) for own in self.sequences)

    def targets(self) -> Int[np.ndarray, "leaf step"]:
        """Returns what each step of a leaf's path is to say; NOTHING after its end."""
        result = np.full((len(self.sequences), self.steps), NOTHING, dtype=np.int64)
        for leaf, own in enumerate(self.sequences):
            result[leaf, : len(own)] = own
        return result


@dataclass(frozen=True, slots=True)
class Decision:
    """A place on the way at which several leaves are still possible."""

    before: Chain
    """Outputs that led here."""
    parent: int
    """Place of the decision before, among those of its level."""
    ends: tuple[int | None, ...]
    """For each continuation the leaf that is alone behind it, or None: a decision follows."""
    chains: tuple[Chain, ...]
    """For each continuation its outputs: one, or all that are left of the one leaf's path."""


Level = tuple[Decision, ...]


def encode(graph: nx.DiGraph, *, order: Order = "root_first", ended: bool = False) -> Paths:
    """
    Returns the paths of a tree, from the root down or from the leaf up.

    `ended` closes every path with the output of its end; without it all have the length of the
    deepest, whose step a shallower leaf repeats.

    Raises:
        BadHierarchy: A node has several parents, so that a leaf would have several paths.

    Example:
        Children A, B of the root, C, D of A and E, F, G of B: the outputs A to G are 0 to 6, and
        the path to F is 1, 5 (methods.md 4.1); ended it is 1, 5, 7.
    """
    if any(degree > 1 for _, degree in graph.in_degree()):
        raise BadHierarchy(
            "A node of the hierarchy has several parents, and a label must have one path. Choose a "
            "grouping whose groups do not overlap."
        )
    nodes = [trees.ROOT]
    for node in nodes:
        nodes += trees.children(graph, node)
    places = {node: place for place, node in enumerate(nodes[1:])}
    found = trees.paths(graph)
    own = [[places[node] for node in found[leaf][1:]] for leaf in sorted(found)]
    if not ended:
        deepest = max(map(len, own))
        own = [path + path[-1:] * (deepest - len(path)) for path in own]
    last = [len(places)] if ended else []
    ordered = (path[::-1] if order == "leaf_first" else path for path in own)
    return Paths(tuple(nodes[1:]), tuple((*path, *last) for path in ordered))


def levels(sequences: Sequence[Chain]) -> list[Level]:
    """
    Returns the decisions along the paths, level by level; all that are left differ at the root.

    A leaf that is alone behind an output is reached there: what follows in its path has no other
    choice, but counts in its score.
    """
    found: list[Level] = []
    open_: list[tuple[Chain, int, list[int]]] = [((), 0, list(range(len(sequences))))]
    while open_:
        level: list[Decision] = []
        following = []
        for before, parent, members in open_:
            groups: dict[int, list[int]] = {}
            for leaf in members:
                groups.setdefault(sequences[leaf][len(before)], []).append(leaf)
            chains: list[Chain] = []
            ends: list[int | None] = []
            for output, group in sorted(groups.items()):
                alone = len(group) == 1
                ends.append(group[0] if alone else None)
                chains.append(sequences[group[0]][len(before) :] if alone else (output,))
                if not alone:
                    following.append(((*before, output), len(level), group))
            level.append(Decision(before, parent, tuple(ends), tuple(chains)))
        found.append(tuple(level))
        open_ = following
    return found
