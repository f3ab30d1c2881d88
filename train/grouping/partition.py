"""
Partitions of the labels: what grouping rules return, and the steps that several rules share.

A partition is a list of clusters. Each cluster is sorted, and clusters are ordered by their smallest
label.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.tree.hierarchy import Nested, leaves

Partition = list[list[int]]
ZERO = (
    1e-10  # smaller weights, gains and entries of eigenvectors are rounding errors, and count as 0
)


def affinity(
    confusion: Float[np.ndarray, "label label"], *, diagonal: bool = False
) -> Float[np.ndarray, "label label"]:
    """
    Returns the symmetric weights A = (M + M^T) / 2 of a confusion matrix M.

    The diagonal is zero unless `diagonal` is set: correct predictions are much more frequent than
    confusions, and would dominate the degrees.
    """
    result = (confusion + confusion.T) / 2
    if not diagonal:
        np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def isolated(
    weights: Float[np.ndarray, "label label"],
) -> tuple[Partition, Int[np.ndarray, " connected"]]:
    """Returns a cluster for each label without any weight, and the indices of all other labels."""
    degrees = weights.sum(axis=1)
    singletons = [[int(label)] for label in np.flatnonzero(degrees <= ZERO)]
    return singletons, np.flatnonzero(degrees > ZERO)


def by_owner(
    labels: Sequence[int] | Int[np.ndarray, " label"], owners: Int[np.ndarray, " label"]
) -> Partition:
    """Returns the partition of `labels` in which labels with equal `owners` share a cluster."""
    clusters: dict[int, list[int]] = {}
    for label, owner in zip(labels, owners.tolist(), strict=True):
        clusters.setdefault(owner, []).append(int(label))
    return sorted(sorted(cluster) for cluster in clusters.values())


def must_group(clusters: Partition, *, remedy: str) -> Partition:
    """
    Returns `clusters` unchanged if there are at least two, and one of them has two labels.

    Raises:
        BadHierarchy: There is one cluster, or every label is a cluster; the message ends with
            `remedy`, which says what to do.
    """
    labels = sum(map(len, clusters))
    if not 1 < len(clusters) < labels:
        raise BadHierarchy(
            f"The {labels} labels have no grouping: there would be {len(clusters)} clusters. "
            f"{remedy}"
        )
    return clusters


def nested(clusters: Partition) -> Nested:
    """Returns a partition as a tree of two levels."""
    return [list(cluster) for cluster in clusters]


def shuffled(tree: Nested, *, key: Sequence[int]) -> Nested:
    """
    Returns a tree of the same shape with the labels in random order: a control.

    Args:
        tree: A tree of any depth.
        key: Seeds of the random order.

    Groups are sorted by their smallest label at every level.
    """
    order = np.random.default_rng(list(key)).permutation(len(leaves(tree)))
    return _filled(tree, iter(order.tolist()))


def _filled(tree: Nested, labels: Iterator[int]) -> Nested:
    filled = [next(labels) if isinstance(node, int) else _filled(node, labels) for node in tree]
    return sorted(filled, key=_smallest)


def _smallest(node: "int | Nested") -> int:
    return node if isinstance(node, int) else min(map(_smallest, node))
