"""Agglomerative clustering: average linkage on the distances 1 - A, cut at one or two levels."""

import numpy as np
from jaxtyping import Float

from train.errors import BadHierarchy
from train.grouping.average_linkage import merges
from train.grouping.partition import ZERO, Partition, must_group
from train.tree.hierarchy import Nested


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with a zero diagonal.

    Labels that are never confused have the distance 1 and are not merged, so that more groups may
    remain. Unlike in `average_linkage`, groups have no largest size.

    Raises:
        BadHierarchy: There would be one group, or a group for each label.
    """
    return must_group(
        _merged(weights, clusters=clusters),
        remedy=f"{clusters} clusters were requested: set clustering.clusters, or take more "
        "validation images to see confusions.",
    )


def cut_twice(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Nested:
    """
    Returns a tree of three levels: round(sqrt(clusters)) groups of `clusters` groups of labels.

    Both levels are cuts of the same sequence of merges, so that a lower group lies within one upper
    group. If an upper group has only one lower group, its labels are its children.

    Raises:
        BadHierarchy: A cut has one group, or a group for each label, or both cuts are equal.
    """
    lower = groups(weights, clusters=clusters)
    upper = groups(weights, clusters=max(2, round(clusters**0.5)))
    if len(upper) == len(lower):
        raise BadHierarchy(
            f"The {len(weights)} labels form {len(lower)} groups, which form no larger groups. "
            "Increase clustering.clusters, or take more validation images to see confusions."
        )
    tree: Nested = []
    for group in upper:
        inside: list[list[int]] = [part for part in lower if part[0] in group]
        tree.append(list(group) if len(inside) == 1 else [_node(part) for part in inside])
    return tree


def above(weights: Float[np.ndarray, "label label"], given: Partition) -> Nested:
    """
    Returns a tree of three levels that joins the groups of `given` into round(sqrt) groups.

    The weight between two groups is the mean weight of their pairs of labels. If an upper group has
    only one given group, its labels are its children.

    Raises:
        BadHierarchy: No two given groups join, or all of them do.
    """
    parts = np.array([[weights[np.ix_(one, other)].mean() for other in given] for one in given])
    np.fill_diagonal(parts, 0)
    upper = _merged(parts, clusters=max(2, round(len(given) ** 0.5)))
    if not 1 < len(upper) < len(given):
        raise BadHierarchy(
            f"The {len(given)} given groups would form {len(upper)} larger groups, which groups "
            "nothing. At least three groups with confusions between them are needed."
        )
    return [
        list(given[group[0]]) if len(group) == 1 else [_node(given[index]) for index in group]
        for group in upper
    ]


def _merged(weights: Float[np.ndarray, "part part"], *, clusters: int) -> Partition:
    """Merges parts until `clusters` groups remain, or the remaining groups are never confused."""
    remaining: Partition = [[part] for part in range(len(weights))]
    for proximity, merged in merges(weights, g_max=len(weights)):
        if proximity <= ZERO or len(remaining) <= clusters:
            break
        remaining = merged
    return remaining


def _node(group: list[int]) -> int | Nested:
    return group[0] if len(group) == 1 else list(group)
