"""
Spectral clustering into a given number of clusters: normalised cut, then k-means.

This is how the text of Yan et al. 2015, "HD-CNN" (arXiv:1410.0736), section 4, groups labels; its
code uses `eigenmap`. The input is A, the symmetric confusions: 1 - D off the diagonal for HD-CNN's
distances D.
"""

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.grouping.laplacian import normalised
from train.grouping.partition import ZERO, Partition, by_owner, isolated, must_group


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with a zero diagonal.

    A label without any weight is a cluster of its own, and is one of the `clusters`.

    Raises:
        BadHierarchy: No cluster remains for the other labels, or the labels have no grouping.

    Differs from the paper:
        k-means starts once from each label instead of 20 times at random, so that another order
        of the labels gives the same clusters.
    """
    singletons, connected = isolated(weights)
    remaining = clusters - len(singletons)
    if not 1 <= remaining <= len(connected):
        raise BadHierarchy(
            f"{clusters} clusters are impossible: {len(singletons)} of {len(weights)} labels are "
            "never confused, and each is a cluster of its own. Set clustering.clusters, or take "
            "clustering.confusion: soft."
        )
    points = embedding(weights[np.ix_(connected, connected)], dimensions=remaining)
    owners = k_means(points, clusters=remaining)
    return must_group(
        sorted(singletons + by_owner(connected, owners)),
        remedy="Set clustering.clusters, or take more validation images.",
    )


def embedding(
    weights: Float[np.ndarray, "label label"], *, dimensions: int
) -> Float[np.ndarray, "label dimension"]:
    """
    Returns the leading eigenvectors of A v = lambda D v as coordinates of the labels.

    This is the relaxation of the normalised cut (Shi and Malik 2000, "Normalized cuts and image
    segmentation", eq. 6). All degrees must be positive.
    """
    vectors = np.linalg.eigh(normalised(weights))[1][:, ::-1][:, :dimensions]
    return np.asarray(vectors / np.sqrt(weights.sum(axis=1))[:, None])


def k_means(
    points: Float[np.ndarray, "point dimension"], *, clusters: int
) -> Int[np.ndarray, " point"]:
    """
    Returns the cluster of each point: the best of the local optima that start from each point.

    A start takes one point as a centre, and adds the point that leaves the least sum of squares
    until there are `clusters` centres. Then all points move to their nearest centres until none
    moves, and single points move as long as the sum of squares decreases (Hartigan 1975,
    "Clustering algorithms", chapter 4). Equal points share a cluster, so that fewer than
    `clusters` may be used.
    """
    squares = _squares(points, points)
    best, least = np.zeros(len(points), dtype=np.int64), np.inf
    for start in range(len(points)):
        owners, spread = _settled(points, points[_greedy(squares, start, clusters)])
        if spread < least - ZERO:
            best, least = owners, spread
    return best


def _greedy(squares: np.ndarray, start: int, clusters: int) -> list[int]:
    chosen, nearest = [start], squares[start]
    while len(chosen) < clusters:
        remaining = np.minimum(nearest, squares).sum(axis=1)  # with that point as the next centre
        chosen.append(int(np.argmin(remaining)))
        nearest = np.minimum(nearest, squares[chosen[-1]])
    return chosen


def _settled(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the clusters of a local optimum, and its sum of squares; overwrites `centres`."""
    every = np.arange(len(points))
    owners = _squares(points, centres).argmin(axis=1)
    while True:
        sizes = np.bincount(owners, minlength=len(centres))
        used = np.flatnonzero(sizes)
        centres[used] = [points[owners == cluster].mean(axis=0) for cluster in used]
        squares = _squares(points, centres)
        nearest, own = squares.argmin(axis=1), squares[every, owners]
        nearer = squares[every, nearest] < own - ZERO
        if nearer.any():
            owners = np.where(nearer, nearest, owners)
            continue
        # Leaving a cluster of n points frees n/(n-1) d^2; entering one of n costs n/(n+1) d^2.
        costs = squares * (sizes / (sizes + 1))
        costs[every, owners] = np.inf
        size = sizes[owners]
        gains = (own * size / np.maximum(size - 1, 1))[:, None] - costs
        point, cluster = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[point, cluster] <= ZERO:
            return owners, float(own.sum())
        owners[point] = cluster


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.asarray(((points[:, None] - centres[None]) ** 2).sum(axis=2))
