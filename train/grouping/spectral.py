"""
Spectral clustering into K clusters: normalised cut, then k-means (methods.md 6.3, `spectral_k`).

In comes A, the symmetric confusions, which is 1 - D of HD-CNN off its diagonal.
"""

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.grouping.laplacian import normalised
from train.grouping.partition import ZERO, Partition, by_owner, isolated, must_group


def groups(weights: Float[np.ndarray, "label label"], *, clusters: int) -> Partition:
    """
    Returns `clusters` groups of a symmetric weight matrix A with nothing on its diagonal.

    Labels without any weight stand alone and count among the clusters.

    Raises:
        BadHierarchy: That leaves no cluster for the other labels, or groups nothing.

    Differs:
        k-means starts once from each label, spread out from there, and not 20 times by chance:
        so renaming the labels changes nothing.
    """
    alone, connected = isolated(weights)
    left = clusters - len(alone)
    if not 1 <= left <= len(connected):
        raise BadHierarchy(
            f"{clusters} clusters are impossible: {len(alone)} of {len(weights)} labels are never "
            "confused and stand alone. Set clustering.clusters, or take clustering.confusion: soft."
        )
    points = embedding(weights[np.ix_(connected, connected)], dimensions=left)
    found = sorted(alone + by_owner(connected, k_means(points, clusters=left)))
    return must_group(found, remedy="Set clustering.clusters, or take more validation images.")


def embedding(
    weights: Float[np.ndarray, "label label"], *, dimensions: int
) -> Float[np.ndarray, "label dimension"]:
    """
    Returns the leading eigenvectors of A v = lambda D v as the labels' coordinates.

    This is the relaxation of the normalised cut (Shi and Malik 2000, eq. 6); degrees are positive.
    """
    vectors = np.linalg.eigh(normalised(weights))[1][:, ::-1][:, :dimensions]
    return np.asarray(vectors / np.sqrt(weights.sum(axis=1))[:, None])


def k_means(
    points: Float[np.ndarray, "point dimension"], *, clusters: int
) -> Int[np.ndarray, " point"]:
    """
    Returns the cluster of each point: the best of as many optima as there are points to start from.

    A start takes one point and adds the one that leaves the least sum of squares, as often. No
    move of points to the nearest centres, or of one point, betters what it ends in.
    Points that coincide share a cluster, so that fewer clusters may be used than asked for.
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
        left = np.minimum(nearest, squares).sum(axis=1)  # if that point were taken next
        chosen.append(int(np.argmin(left)))
        nearest = np.minimum(nearest, squares[chosen[-1]])
    return chosen


def _settled(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Moves points to nearer centres, and where that ends, one by one to what gains most."""
    every = np.arange(len(points))
    owners = _squares(points, centres).argmin(axis=1)
    while True:
        sizes = np.bincount(owners, minlength=len(centres))
        used = np.flatnonzero(sizes)
        centres[used] = [points[owners == place].mean(axis=0) for place in used]
        squares = _squares(points, centres)
        nearest, own = squares.argmin(axis=1), squares[every, owners]
        nearer = squares[every, nearest] < own - ZERO
        if nearer.any():
            owners = np.where(nearer, nearest, owners)
            continue
        # Hartigan 1975: leaving frees n/(n-1) d^2, entering costs n/(n+1) d^2.
        costs = squares * (sizes / (sizes + 1))
        costs[every, owners] = np.inf
        left = sizes[owners]
        gains = (own * left / np.maximum(left - 1, 1))[:, None] - costs
        point, place = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[point, place] <= ZERO:
            return owners, float(own.sum())
        owners[point] = place


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.asarray(((points[:, None] - centres[None]) ** 2).sum(axis=2))
