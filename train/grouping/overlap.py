"""
Overlapping label sets from disjoint clusters: HD-CNN's gamma (methods.md 6.3, point 4).

A label joins each cluster for whose labels its images are often enough taken.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from jaxtyping import Float

from train.grouping.partition import ZERO, Partition
from train.tree import hierarchy


def likelihoods(
    soft: Float[np.ndarray, "label label"], clusters: Partition
) -> Float[np.ndarray, "label cluster"]:
    """
    Returns u_k(j): the mean probability that images of label j are given to labels of cluster k.

    `soft` has the mean predicted probabilities of each label's images in its rows.
    """
    return np.asarray(soft @ hierarchy.membership(clusters, len(soft)).T)


def grown(
    clusters: Partition,
    soft: Float[np.ndarray, "label label"],
    *,
    gamma: float,
    largest: float,
) -> list[list[int]]:
    """
    Returns the clusters, in their order, with every label j for which u_k(j) >= 1 / (gamma K).

    Larger gamma means more overlap. A set is grown to `largest` of all labels at most, the
    likeliest first (ties: the lower label); members of the cluster itself always stay.

    Example:
        M6 in {0, 1, 2}, {3, 4}, {5}: gamma 4 adds nothing, 5 adds 3 to the first and 2 to the
        second, 10 makes both {0, 1, 2, 3, 4}.
    """
    room = ceil(largest * len(soft) - ZERO)
    chances = likelihoods(soft, clusters)
    found = []
    for place, cluster in enumerate(clusters):
        others = [
            label
            for label in np.argsort(-chances[:, place], kind="stable").tolist()
            if label not in cluster
        ]
        enough = [
            one for one in others if chances[one, place] >= 1 / (gamma * len(clusters)) - ZERO
        ]
        found.append(sorted([*cluster, *enough[: max(room - len(cluster), 0)]]))
    return found


def permuted(
    clusters: Partition, cover: Sequence[Sequence[int]], *, key: Sequence[int]
) -> tuple[Partition, list[list[int]]]:
    """
    Returns clusters and cover with the labels drawn anew: sizes and overlaps stay (methods.md 7.3).

    `key` seeds the draw; clusters are sorted as in a partition, and their sets with them.
    """
    order = np.random.default_rng(list(key)).permutation(sum(map(len, clusters)))
    both = sorted(
        (sorted(order[list(cluster)].tolist()), sorted(order[list(one)].tolist()))
        for cluster, one in zip(clusters, cover, strict=True)
    )
    return [cluster for cluster, _ in both], [one for _, one in both]
