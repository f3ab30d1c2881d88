"""
Partitions of the labels: what every grouping rule returns, and what they share.

A partition is a list of clusters, sorted inside and ordered by their smallest label.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.tree.hierarchy import Nested, leaves

Partition = list[list[int]]
ZERO = 1e-10  # smaller weights, gains and entries of an eigenvector are none (methods.md 2.3)


def affinity(
    confusion: Float[np.ndarray, "label label"], *, diagonal: bool = False
) -> Float[np.ndarray, "label label"]:
    """Returns A = (M + M^T)/2, without its diagonal unless asked: self-loops swamp the degrees."""
    result = (confusion + confusion.T) / 2
    if not diagonal:
        np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def isolated(weights: Float[np.ndarray, "label label"]) -> tuple[Partition, np.ndarray]:
    """Returns the labels without any weight, each a cluster of its own, and all other labels."""
    degrees = weights.sum(axis=1)
    alone = [[int(label)] for label in np.flatnonzero(degrees <= ZERO)]
    return alone, np.flatnonzero(degrees > ZERO)


def by_owner(
    labels: Sequence[int] | Int[np.ndarray, " label"], owners: Int[np.ndarray, " label"]
) -> Partition:
    """Returns the clusters of `labels`, those of one owner together."""
    found: dict[int, list[int]] = {}
    for label, owner in zip(labels, owners.tolist(), strict=True):
        found.setdefault(owner, []).append(int(label))
    return sorted(sorted(cluster) for cluster in found.values())


def must_group(clusters: Partition, *, remedy: str) -> Partition:
    """
    Returns `clusters`, which must group something: more than one, and fewer than labels.

    Raises:
        BadHierarchy: They do not; `remedy` ends the message with what to do.
    """
    labels = sum(map(len, clusters))
    if not 1 < len(clusters) < labels:
        raise BadHierarchy(
            f"No grouping of {labels} labels was found: there would be {len(clusters)} clusters. "
            f"{remedy}"
        )
    return clusters


def shuffled(tree: Nested, *, key: Sequence[int]) -> Nested:
    """
    Returns a tree of the same shape with the labels drawn anew: the control of methods.md 7.3.

    A partition is a tree of two levels. `key` seeds the draw; groups are sorted as in a partition.
    """
    order = np.random.default_rng(list(key)).permutation(len(leaves(tree)))
    return _filled(tree, iter(order.tolist()))


def _filled(tree: Nested, labels: Iterator[int]) -> Nested:
    filled = [next(labels) if isinstance(one, int) else _filled(one, labels) for one in tree]
    return sorted(filled, key=_first)


def _first(one: "int | Nested") -> int:
    return one if isinstance(one, int) else min(map(_first, one))
