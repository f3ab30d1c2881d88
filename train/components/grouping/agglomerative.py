"""Agglomerative clustering: average linkage on 1 - A, cut once, or twice into a tree."""

import numpy as np
from jaxtyping import Float

from train.components.grouping.average_linkage import merges
from train.components.grouping.partition import ZERO, Partition, must_group
from train.components.hierarchy import Nested
from train.errors import BadHierarchy


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with nothing on its diagonal.

    Labels that are never confused have distance 1 and are not merged, so that more groups than
    asked for may be left. Nothing caps the size of a group, unlike in `average_linkage`.

    Raises:
        BadHierarchy: That is one group, or all labels apart.
    """
    found: Partition = [[label] for label in range(len(weights))]
    for proximity, left in merges(weights, g_max=len(weights)):
        if proximity <= ZERO or len(found) <= clusters:
            break
        found = left
    return must_group(
        found,
        remedy=f"{clusters} were asked for: set clustering.clusters, or take more validation "
        "pictures to see confusions.",
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
            "clustering.clusters to more, or take more validation pictures to see confusions."
        )
    tree: Nested = []
    for group in upper:
        inside: list[list[int]] = [one for one in lower if one[0] in group]
        tree.append(list(group) if len(inside) == 1 else [_node(one) for one in inside])
    return tree


def _node(group: list[int]) -> int | Nested:
    return group[0] if len(group) == 1 else list(group)
