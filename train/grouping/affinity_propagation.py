"""
Affinity propagation: clusters around exemplars, their number an outcome (Frey and Dueck 2007).

Points send one another how well one would represent the other (responsibility) and how much it is
asked to (availability), until the exemplars stay the same.
"""

import numpy as np
from jaxtyping import Float, Int

_MOST, _SETTLED = 1000, 15  # rounds; rounds without a change after which it has converged
_NOISE = 100 * np.finfo(np.float64).eps  # of a similarity: breaks ties, which would oscillate


def clusters_of(
    points: Float[np.ndarray, "point dimension"], *, damping: float
) -> Int[np.ndarray, " point"]:
    """
    Returns the cluster of each point, by its coordinates.

    The similarity of two points is their squared distance, negative; the preference of every point
    for being an exemplar is the median of all similarities. The same points give the same clusters;
    the noise that breaks ties is always the same. Where no exemplar emerges, all are one cluster.
    """
    similarities = -((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(similarities, np.median(similarities))
    noise = np.random.default_rng(0).standard_normal(similarities.shape)
    exemplars = _exemplars(similarities * (1 + _NOISE * noise), damping=damping)
    if not len(exemplars):
        return np.zeros(len(points), dtype=np.int64)
    owners = _owners(similarities, exemplars)
    # The best centre of each cluster need not be the one around which it was found.
    centres = []
    for place in range(len(exemplars)):
        inside = np.flatnonzero(owners == place)
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

        asked = np.maximum(responsibility, 0)
        asked[every, every] = responsibility[every, every]
        fresh = asked.sum(axis=0)[None, :] - asked
        own = fresh[every, every]
        fresh = np.minimum(fresh, 0)
        fresh[every, every] = own
        availability = damping * availability + (1 - damping) * fresh

        found = (availability + responsibility)[every, every] > 0
        unchanged = unchanged + 1 if (found == chosen).all() else 1
        chosen = found
        if unchanged >= _SETTLED and found.any():
            break
    return np.flatnonzero(chosen)


def _owners(
    similarities: Float[np.ndarray, "point point"], exemplars: Int[np.ndarray, " exemplar"]
) -> Int[np.ndarray, " point"]:
    owners = similarities[:, exemplars].argmax(axis=1)
    owners[exemplars] = np.arange(len(exemplars))
    return np.asarray(owners)
