"""
Paths of labels as sequences of output indices, and the branch points along the paths.

A path leads from the root to a leaf. Each step of a recurrent network has one output for every node
but the root, so that the target of a step is one-hot over all nodes (Koo, Klabjan and Utke 2020,
slide "Encoding Label Paths"). The tree says which outputs can follow a given one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from jaxtyping import Int

from train.errors import BadHierarchy
from train.params.dhnn import Order
from train.tree import hierarchy as trees

Chain = tuple[int, ...]
"""Output indices of consecutive steps."""
NOTHING = -1  # the target of a step after the end of a path


@dataclass(frozen=True, slots=True)
class LabelPaths:
    """The path of every leaf as a sequence of output indices."""

    nodes: tuple[str, ...]
    """All nodes but the root, level by level; the output index of a node is its index here."""
    sequences: tuple[Chain, ...]
    """For each leaf, the output indices of its steps."""

    @property
    def steps(self) -> int:
        """Returns the number of steps of the longest path."""
        return max(map(len, self.sequences))

    @property
    def outputs(self) -> int:
        """Returns the number of outputs of a step: the nodes and, if paths are ended, the end."""
        return 1 + max(max(own) for own in self.sequences)

    def targets(self) -> Int[np.ndarray, "leaf step"]:
        """Returns the target output of each step of each leaf's path (int64); NOTHING after the end."""
        result = np.full((len(self.sequences), self.steps), NOTHING, dtype=np.int64)
        for leaf, own in enumerate(self.sequences):
            result[leaf, : len(own)] = own
        return result


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A prefix of paths after which several leaves are still possible."""

    before: Chain
    """The prefix: outputs of the steps up to here."""
    parent: int
    """Index of the previous branch point in the level above."""
    ends: tuple[int | None, ...]
    """For each continuation, its only leaf, or None if another branch point follows."""
    chains: tuple[Chain, ...]
    """For each continuation, its next output, or all remaining outputs if it has only one leaf."""


Level = tuple[BranchPoint, ...]


def encode(graph: nx.DiGraph, *, order: Order = "root_first", ended: bool = False) -> LabelPaths:
    """
    Returns the paths of a tree.

    Args:
        graph: The tree.
        order: Direction of the sequences: from the root down or from the leaf up.
        ended: Add the output "end", whose index is the number of nodes, to every path. Without it
            all paths get the length of the longest: a shallower leaf repeats its last step.

    Raises:
        BadHierarchy: A node has several parents, so that a leaf would have several paths.

    Example:
        The root has the children A and B, A has C and D, and B has E, F and G: the outputs A to G
        are 0 to 6, and the path to F is 1, 5; with `ended` it is 1, 5, 7.
    """
    if any(degree > 1 for _, degree in graph.in_degree()):
        raise BadHierarchy(
            "A node of the hierarchy has several parents, and a label must have one path. Choose a "
            "grouping whose groups do not overlap."
        )
    nodes = [trees.ROOT]
    for node in nodes:
        nodes += trees.children(graph, node)
    outputs = {node: output for output, node in enumerate(nodes[1:])}
    path_of = trees.paths(graph)
    own = [[outputs[node] for node in path_of[leaf][1:]] for leaf in sorted(path_of)]
    if not ended:
        deepest = max(map(len, own))
        own = [path + path[-1:] * (deepest - len(path)) for path in own]
    last = [len(outputs)] if ended else []
    ordered = (path[::-1] if order == "leaf_first" else path for path in own)
    return LabelPaths(tuple(nodes[1:]), tuple((*path, *last) for path in ordered))


def levels(sequences: Sequence[Chain]) -> list[Level]:
    """
    Returns the branch points of the paths, level by level, beginning with the empty prefix.

    When only one leaf is possible after an output, its remaining steps form one chain: they have no
    alternative, but their probabilities count in the leaf's score.
    """
    result: list[Level] = []
    open_: list[tuple[Chain, int, list[int]]] = [((), 0, list(range(len(sequences))))]
    while open_:
        level: list[BranchPoint] = []
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
            level.append(BranchPoint(before, parent, tuple(ends), tuple(chains)))
        result.append(tuple(level))
        open_ = following
    return result
