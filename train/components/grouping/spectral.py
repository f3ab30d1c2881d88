"""
Spectral clustering into K clusters: normalised cut, then k-means (methods.md 6.3, `spectral_k`).

In comes A, the symmetric confusions, which is 1 - D of HD-CNN off its diagonal.
"""

import numpy as np
from jaxtyping import Float, Int

from train.components.grouping.laplacian import normalised
from train.components.grouping.partition import ZERO, Partition, by_owner, isolated, must_group
from train.errors import BadHierarchy


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
    return must_group(found, remedy="Set clustering.clusters, or take more validation pictures.")


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
    Returns the cluster of each point: the best of Lloyd's optima from as many starts as points.

    A start takes one point and adds the one farthest from all centres until there are enough.
    Points that coincide share a cluster, so that fewer clusters may be used than asked for.
    """
    best, least = np.zeros(len(points), dtype=np.int64), np.inf
    for start in range(len(points)):
        owners, spread = _lloyd(points, _spread_out(points, start, clusters))
        if spread < least - ZERO:
            best, least = owners, spread
    return best


def _spread_out(points: np.ndarray, start: int, clusters: int) -> np.ndarray:
    chosen = [start]
    nearest = ((points - points[start]) ** 2).sum(axis=1)
    while len(chosen) < clusters:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.asarray(points[chosen])


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    owners = np.full(len(points), -1)
    while True:
        squares = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
        nearest = squares.argmin(axis=1)
        if np.array_equal(nearest, owners):
            return owners, float(squares.min(axis=1).sum())
        owners = nearest
        used = np.unique(owners)
        centres = centres.copy()
        centres[used] = [points[owners == place].mean(axis=0) for place in used]
