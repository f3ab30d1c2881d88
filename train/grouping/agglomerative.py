"""Agglomerative clustering: average linkage on 1 - A, cut once, twice, or above told groups."""

import numpy as np
from jaxtyping import Float

from train.errors import BadHierarchy
from train.grouping.average_linkage import merges
from train.grouping.partition import ZERO, Partition, must_group
from train.tree.hierarchy import Nested


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with nothing on its diagonal.

    Labels that are never confused have distance 1 and are not merged, so that more groups than
    asked for may be left. Nothing caps the size of a group, unlike in `average_linkage`.

    Raises:
        BadHierarchy: That is one group, or all labels apart.
    """
    return must_group(
        _merged(weights, clusters=clusters),
        remedy=f"{clusters} were asked for: set clustering.clusters, or take more validation "
        "images to see confusions.",
    )


def cut_twice(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Nested:
    """
    Returns a tree of two levels above the labels: `clusters` groups, in round(sqrt) of them.

    Both are cuts of the same merges, so that a group lies whole in one above it. One that is alone
    there is no level of its own.

    Raises:
        BadHierarchy: A cut is one group or all labels apart, or both cuts are the same.
    """
    lower = groups(weights, clusters=clusters)
    upper = groups(weights, clusters=max(2, round(clusters**0.5)))
    if len(upper) == len(lower):
        raise BadHierarchy(
            f"{len(lower)} groups of {len(weights)} labels are found, and none above them. Set "
            "clustering.clusters to more, or take more validation images to see confusions."
        )
    tree: Nested = []
    for group in upper:
        inside: list[list[int]] = [one for one in lower if one[0] in group]
        tree.append(list(group) if len(inside) == 1 else [_node(one) for one in inside])
    return tree


def above(weights: Float[np.ndarray, "label label"], told: Partition) -> Nested:
    """
    Returns a tree of two levels above the labels: the groups of `told`, in round(sqrt) groups.

    Two told groups are as near as their labels are in the mean. One that joins no other is no level
    of its own.

    Raises:
        BadHierarchy: No two told groups join, or all do.
    """
    parts = np.array([[weights[np.ix_(one, other)].mean() for other in told] for one in told])
    np.fill_diagonal(parts, 0)
    upper = _merged(parts, clusters=max(2, round(len(told) ** 0.5)))
    if not 1 < len(upper) < len(told):
        raise BadHierarchy(
            f"The {len(told)} groups that are told would lie in {len(upper)} above them, which groups "
            "nothing. It takes three groups with confusions between them."
        )
    return [
        list(told[group[0]]) if len(group) == 1 else [_node(told[place]) for place in group]
        for group in upper
    ]


def _merged(weights: Float[np.ndarray, "part part"], *, clusters: int) -> Partition:
    """Merges until so many groups are left, or those left are never confused."""
    found: Partition = [[part] for part in range(len(weights))]
    for proximity, left in merges(weights, g_max=len(weights)):
        if proximity <= ZERO or len(found) <= clusters:
            break
        found = left
    return found


def _node(group: list[int]) -> int | Nested:
    return group[0] if len(group) == 1 else list(group)
