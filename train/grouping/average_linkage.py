"""
HierNet's grouping: closest groups first, average linkage, capped in size (methods.md 5.2).

In comes CPM, the mean predicted probabilities of each label's images; out comes a partition.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from train.grouping.partition import ZERO, Partition, must_group

_DIGITS = 12  # of a proximity: equal means stay equal, whatever the order of their sums


def groups(cpm: Float[np.ndarray, "label label"], *, g_max: int, p_min: float) -> Partition:
    """
    Returns the groups that are left when no two may be merged any more.

    At each step the closest pair with at most `g_max` labels together and a proximity above
    `p_min` is merged; a pair that is closer and too large is passed over, as the authors' code
    does. Ties go to the pair with the lowest labels.
    """
    found: Partition = [[label] for label in range(len(cpm))]
    for proximity, left in merges(proximities(cpm), g_max=g_max):
        if proximity <= round(p_min, _DIGITS):
            break
        found = left
    return found


def swept(
    cpm: Float[np.ndarray, "label label"], *, g_max: int, wanted: int
) -> tuple[float, Partition]:
    """
    Returns the p_min whose groups are nearest in number to `wanted`, and these groups.

    Every p_min that changes anything is tried: the proximities of the merges, and 0. Ties go to
    more groups. Labels that are never confused are not merged.

    Raises:
        BadHierarchy: No p_min from 0 up gives more than one group and fewer than labels.
    """
    steps = [step for step in merges(proximities(cpm), g_max=g_max) if step[0] > ZERO]
    floors = [proximity for proximity, _ in [*steps[1:], (0.0, [])]]
    best: tuple[float, Partition] = (1.0, [[label] for label in range(len(cpm))])
    distance = np.inf
    for (proximity, found), p_min in zip(steps, floors, strict=False):
        apart = abs(len(found) - wanted)
        if len(found) > 1 and proximity > p_min and apart < distance:
            best, distance = (p_min, found), apart
    remedy = (
        "The validation images show too few confusions: take more of them, or set "
        "clustering.p_min and clustering.g_max."
    )
    return best[0], must_group(best[1], remedy=remedy)


def proximities(cpm: Float[np.ndarray, "label label"]) -> Float[np.ndarray, "label label"]:
    """Returns CPM[a, b] + CPM[b, a] of two labels; nothing on the diagonal."""
    result = cpm + cpm.T
    np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def merges(
    proximity: Float[np.ndarray, "label label"], *, g_max: int
) -> Iterator[tuple[float, Partition]]:
    """
    Yields each merge: the proximity of the pair, and the groups afterwards.

    The proximity of two groups is the mean over all pairs across. It never rises from one merge
    to the next, so stopping at a threshold is stopping early.
    """
    sums = proximity.astype(np.float64)
    found: Partition = [[label] for label in range(len(sums))]
    sizes = np.ones(len(sums))
    while len(found) > 1:
        means = np.round(sums / np.outer(sizes, sizes), _DIGITS)
        allowed = np.triu(np.add.outer(sizes, sizes) <= g_max, k=1)
        if not allowed.any():
            return
        first, second = divmod(int(np.argmax(np.where(allowed, means, -np.inf))), len(found))
        closest = float(means[first, second])
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sums = np.delete(np.delete(sums, second, axis=0), second, axis=1)
        sizes[first] += sizes[second]
        sizes = np.delete(sizes, second)
        merged = sorted(found[first] + found[second])
        found = [*found[:first], merged, *found[first + 1 : second], *found[second + 1 :]]
        yield closest, found
