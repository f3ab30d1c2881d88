"""
Random controls: groupings of the same shape with the labels drawn anew.

They show the gain of any branching, independent of which labels are grouped (docs/methods/evaluation.md).
"""

from collections.abc import Mapping

from train.grouping import overlap
from train.grouping.partition import nested, shuffled
from train.grouping.rules import COVER, MAIN, GroupingTree

_CONTROL = 73  # separates these random streams from others of the same seed
_DISJOINT = f"{COVER}_disjoint"
_KEYS = {
    "given": 3,
    "average_linkage": 4,
    "bisection": 5,
    COVER: 6,
    "dendrogram": 7,
    "given_deep": 8,
    "families": 9,
}
"""Groupings with a random control of their own, and what separates their random streams."""

SOURCES = {f"random_{name}": name for name in _KEYS} | {_DISJOINT: COVER}
"""Each control of a single grouping, and that grouping."""


SIZED = {"random": (), "random_1": (1,), "random_2": (2,)}
"""The controls with the cluster sizes of the grouping `MAIN`, and what separates their streams."""


def controls(groupings: Mapping[str, GroupingTree], *, seed: int) -> dict[str, GroupingTree]:
    """
    Returns the controls of the given groupings.

    Three have the cluster sizes of the grouping `modularity`; the groupings of `SOURCES` have one
    each. `hdcnn_disjoint` has the groups of `hdcnn` without their overlap.
    """
    result = {}
    if MAIN in groupings:
        main = groupings[MAIN].tree
        result = {
            name: GroupingTree(shuffled(main, key=[seed, _CONTROL, *key]))
            for name, key in SIZED.items()
        }
    for name, key in _KEYS.items():
        if name in groupings:
            result[f"random_{name}"] = _control(groupings[name], key=[seed, _CONTROL, key])
    if COVER in groupings:
        result[_DISJOINT] = GroupingTree(groupings[COVER].tree)
    return result


def _control(grouping: GroupingTree, *, key: list[int]) -> GroupingTree:
    if grouping.cover is None:
        return GroupingTree(shuffled(grouping.tree, key=key))
    clusters, cover = overlap.permuted(grouping.clusters, grouping.cover, key=key)
    return GroupingTree(nested(clusters), cover=cover)
