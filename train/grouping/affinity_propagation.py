"""
Affinity propagation: clusters points around exemplars, whose number is a result.

Frey and Dueck 2007, "Clustering by passing messages between data points" (Science 315, 972-976).
Each round updates two messages for every pair of points: the responsibility r(i, k) says how well
k suits as the exemplar of i (eq. 1), the availability a(i, k) how well i would do to choose k
(eq. 2). The rounds end when the exemplars stay the same.
"""

import numpy as np
from jaxtyping import Float, Int

_MOST, _SETTLED = 1000, 15  # most rounds; rounds without a change that count as convergence
_NOISE = 100 * np.finfo(np.float64).eps  # relative to a similarity: breaks ties, which oscillate


def clusters_of(
    points: Float[np.ndarray, "point dimension"], *, damping: float
) -> Int[np.ndarray, " point"]:
    """
    Returns the cluster of each point.

    The similarity of two points is their negative squared distance. The preference of each point,
    its similarity to itself, is the median of all similarities. The noise that breaks ties has a
    fixed seed, so that the same points give the same clusters. Without any exemplar all points are
    one cluster.

    Args:
        points: Coordinates.
        damping: Share of the previous message in an update, at least 0.5 and below 1.
    """
    similarities = -((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(similarities, np.median(similarities))
    noise = np.random.default_rng(0).standard_normal(similarities.shape)
    exemplars = _exemplars(similarities * (1 + _NOISE * noise), damping=damping)
    if not len(exemplars):
        return np.zeros(len(points), dtype=np.int64)
    owners = _owners(similarities, exemplars)
    # The most central point of a cluster may be another one than its exemplar.
    centres = []
    for cluster in range(len(exemplars)):
        inside = np.flatnonzero(owners == cluster)
        own = similarities[np.ix_(inside, inside)].sum(axis=0)
        centres.append(inside[np.argmax(own)])
    return _owners(similarities, np.array(centres))


def _exemplars(
    similarities: Float[np.ndarray, "point point"], *, damping: float
) -> Int[np.ndarray, " exemplar"]:
    points = len(similarities)
    every = np.arange(points)
    responsibility, availability = np.zeros((2, points, points))
    chosen, unchanged = np.zeros(points, dtype=bool), 0
    for _ in range(_MOST):
        sums = availability + similarities
        first = sums.argmax(axis=1)
        best = sums[every, first]
        sums[every, first] = -np.inf
        fresh = similarities - best[:, None]
        fresh[every, first] = similarities[every, first] - sums.max(axis=1)
        responsibility = damping * responsibility + (1 - damping) * fresh

        positive = np.maximum(responsibility, 0)
        positive[every, every] = responsibility[every, every]
        fresh = positive.sum(axis=0)[None, :] - positive
        own = fresh[every, every]
        fresh = np.minimum(fresh, 0)
        fresh[every, every] = own
        availability = damping * availability + (1 - damping) * fresh

        is_exemplar = (availability + responsibility)[every, every] > 0
        unchanged = unchanged + 1 if (is_exemplar == chosen).all() else 1
        chosen = is_exemplar
        if unchanged >= _SETTLED and chosen.any():
            break
    return np.flatnonzero(chosen)


def _owners(
    similarities: Float[np.ndarray, "point point"], exemplars: Int[np.ndarray, " exemplar"]
) -> Int[np.ndarray, " point"]:
    owners = similarities[:, exemplars].argmax(axis=1)
    owners[exemplars] = np.arange(len(exemplars))
    return np.asarray(owners)
