"""
HierNet's grouping: average linkage that merges the closest groups, with a largest group size.

Tempfli and Sándor, "HierNet: Image Recognition with Hierarchical Convolutional Networks", section 4.
The input is CPM, the mean predicted probabilities of each label's images; the output is a partition.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from train.grouping.partition import ZERO, Partition, must_group

_DIGITS = 12  # of a proximity: equal means stay equal in whichever order their terms are added


def groups(cpm: Float[np.ndarray, "label label"], *, g_max: int, p_min: float) -> Partition:
    """
    Returns the groups that remain when no two may be merged.

    Each step merges the closest pair that has at most `g_max` labels and a proximity above `p_min`.
    Ties go to the pair with the lowest labels.

    Differs from the paper:
        The paper can be read as stopping at the first pair that is too large. Such a pair is passed
        over here, as in the authors' code (github.com/levtempfli/HierNet).
    """
    remaining: Partition = [[label] for label in range(len(cpm))]
    for proximity, merged in merges(proximities(cpm), g_max=g_max):
        if proximity <= round(p_min, _DIGITS):
            break
        remaining = merged
    return remaining


def swept(
    cpm: Float[np.ndarray, "label label"], *, g_max: int, count: int
) -> tuple[float, Partition]:
    """
    Returns the p_min that gives nearest to `count` groups, and these groups.

    The candidates are the proximities of all merges, and 0; other values of p_min give no other
    groups. Ties go to more groups. Labels that are never confused are not merged.

    Raises:
        BadHierarchy: No p_min from 0 up gives at least two groups of which one has two labels.
    """
    steps = [step for step in merges(proximities(cpm), g_max=g_max) if step[0] > ZERO]
    floors = [proximity for proximity, _ in [*steps[1:], (0.0, [])]]
    best: tuple[float, Partition] = (1.0, [[label] for label in range(len(cpm))])
    distance = np.inf
    for (proximity, merged), p_min in zip(steps, floors, strict=False):
        difference = abs(len(merged) - count)
        if len(merged) > 1 and proximity > p_min and difference < distance:
            best, distance = (p_min, merged), difference
    remedy = (
        "The validation images show too few confusions: take more of them, or set "
        "clustering.p_min and clustering.g_max."
    )
    return best[0], must_group(best[1], remedy=remedy)


def proximities(cpm: Float[np.ndarray, "label label"]) -> Float[np.ndarray, "label label"]:
    """Returns CPM[a, b] + CPM[b, a] for each pair of labels, with zeros on the diagonal."""
    result = cpm + cpm.T
    np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def merges(
    proximity: Float[np.ndarray, "label label"], *, g_max: int
) -> Iterator[tuple[float, Partition]]:
    """
    Yields for each merge the proximity of the merged pair, and all groups afterwards.

    The proximity of two groups is the mean over all pairs of their labels. It never increases from
    one merge to the next, so that a threshold only decides where to stop.
    """
    sums = proximity.astype(np.float64)
    remaining: Partition = [[label] for label in range(len(sums))]
    sizes = np.ones(len(sums))
    while len(remaining) > 1:
        means = np.round(sums / np.outer(sizes, sizes), _DIGITS)
        allowed = np.triu(np.add.outer(sizes, sizes) <= g_max, k=1)
        if not allowed.any():
            return
        first, second = divmod(int(np.argmax(np.where(allowed, means, -np.inf))), len(remaining))
        closest = float(means[first, second])
        sums[first] += sums[second]
        sums[:, first] += sums[:, second]
        sums = np.delete(np.delete(sums, second, axis=0), second, axis=1)
        sizes[first] += sizes[second]
        sizes = np.delete(sizes, second)
        merged = sorted(remaining[first] + remaining[second])
        between = remaining[first + 1 : second]
        remaining = [*remaining[:first], merged, *between, *remaining[second + 1 :]]
        yield closest, remaining
