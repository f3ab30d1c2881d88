"""
Overlapping label sets from disjoint clusters, as in HD-CNN.

Yan et al. 2015, "HD-CNN" (arXiv:1410.0736), section 4, "Overlapping coarse categories". A label joins
each cluster whose labels are often enough predicted for its images.
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
    Returns u_k(j), the mean probability that images of label j get for the labels of cluster k.

    Args:
        soft: Mean predicted probabilities; row j is the mean over the images of label j.
        clusters: The disjoint clusters.
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
    Returns the K clusters in their order, each with all labels j of u_k(j) >= 1 / (gamma K).

    The members of a cluster always stay in its set.

    Args:
        clusters: The disjoint clusters.
        soft: Mean predicted probabilities; row j is the mean over the images of label j.
        gamma: Larger values give more overlap.
        largest: Share of all labels up to which a set grows, in decreasing order of u_k (ties: the
            lower label).
    """
    capacity = ceil(largest * len(soft) - ZERO)
    threshold = 1 / (gamma * len(clusters)) - ZERO
    sets = []
    for cluster, chances in zip(clusters, likelihoods(soft, clusters).T, strict=True):
        order = np.argsort(-chances, kind="stable").tolist()
        joining = [label for label in order if label not in cluster and chances[label] >= threshold]
        sets.append(sorted([*cluster, *joining[: max(capacity - len(cluster), 0)]]))
    return sets


def permuted(
    clusters: Partition, cover: Sequence[Sequence[int]], *, key: Sequence[int]
) -> tuple[Partition, list[list[int]]]:
    """
    Returns clusters and sets of the same sizes and overlaps with the labels in random order.

    Args:
        clusters: The disjoint clusters.
        cover: The set of each cluster.
        key: Seeds of the random order.

    Clusters are sorted as in a partition, and each set has the index of its cluster.
    """
    order = np.random.default_rng(list(key)).permutation(sum(map(len, clusters)))
    both = sorted(
        (sorted(order[list(cluster)].tolist()), sorted(order[list(members)].tolist()))
        for cluster, members in zip(clusters, cover, strict=True)
    )
    return [cluster for cluster, _ in both], [members for _, members in both]
