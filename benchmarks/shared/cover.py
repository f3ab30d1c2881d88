"""
Covers: overlapping label sets that contain as many confused pairs of labels as possible.

The input is a symmetric matrix of weights w of label pairs with a zero diagonal. A cover is a list of
label sets, and R(cover) is the total weight of the pairs that at least one set contains.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from train.grouping.partition import ZERO

Cover = Sequence[Sequence[int]]
EXACT = 100_000  # most subsets that are enumerated; with more subsets, sets are grown
_SEEDS = 200  # heaviest pairs from which sets are grown


def count_weights(counts: Shaped[np.ndarray, "label label"]) -> Float[np.ndarray, "label label"]:
    """Returns w_ab = (C_ab + C_ba) / n of confusion counts C; over pairs they sum to the error rate."""
    weights = (counts + counts.T) / max(counts.sum(), 1)
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights)


def soft_weights(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "label label"]:
    """
    Returns w_ab = (1/n) sum of p_a p_b over the images of a or b.

    With few images for a label it has less noise than counts. It ranks pairs; its sum is no error
    rate.
    """
    leaves = probabilities.shape[1]
    sums = np.zeros((leaves, leaves))
    own = probabilities[np.arange(len(labels)), labels]
    np.add.at(sums, labels, own[:, None].astype(np.float64) * probabilities)
    np.fill_diagonal(sums, 0.0)
    return (sums + sums.T) / max(len(labels), 1)


def covered(cover: Cover, labels: int) -> Bool[np.ndarray, "label label"]:
    """Returns a mask of the pairs of different labels that some set of the cover contains."""
    mask = np.zeros((labels, labels), dtype=bool)
    for members in cover:
        mask[np.ix_(list(members), list(members))] = True
    np.fill_diagonal(mask, val=False)
    return mask


def recoverable(weights: Float[np.ndarray, "label label"], cover: Cover) -> float:
    """
    Returns R, the weight of the covered pairs.

    With w from counts R is the largest gain in accuracy of perfect experts, each of which corrects
    all confusions between labels of its set. R is monotone and submodular in the collection of
    sets.
    """
    return float(weights[covered(cover, len(weights))].sum() / 2)


def by_chance(weights: Float[np.ndarray, "label label"], cover: Cover) -> float:
    """Returns the expected R of the cover over all permutations of its labels."""
    labels = len(weights)
    pairs = covered(cover, labels).sum() / max(labels * (labels - 1), 1)
    return float(weights.sum() / 2 * pairs)


def permuted(
    weights: Float[np.ndarray, "label label"], cover: Cover, *, draws: int, seed: int
) -> list[float]:
    """Returns R of the cover for `draws` random permutations of its labels."""
    rng = np.random.default_rng([seed, 93])
    orders = [rng.permutation(len(weights)) for _ in range(draws)]
    return [
        recoverable(weights, [order[list(members)].tolist() for members in cover])
        for order in orders
    ]


def greedy_cover(
    weights: Float[np.ndarray, "label label"], *, experts: int, largest: int
) -> list[list[int]]:
    """
    Returns at most `experts` sets of at most `largest` labels, the heaviest first.

    Each set is the result of `best_subset` for the weights that are not covered yet, without labels
    that add nothing. If all sets can be enumerated, R is at least 1 - 1/e of the R of the best
    cover (Nemhauser, Wolsey and Fisher 1978, "An analysis of approximations for maximizing
    submodular set functions").
    """
    residual, cover = weights.astype(np.float64), []
    for _ in range(experts):
        best = best_subset(residual, largest)
        block = residual[np.ix_(best, best)]
        if block.sum() / 2 <= ZERO:
            break
        useful = [label for label, row in zip(best, block, strict=True) if row.sum() > 0]
        cover.append(useful)
        residual[np.ix_(useful, useful)] = 0.0
    return cover


def best_subset(residual: Float[np.ndarray, "label label"], size: int) -> list[int]:
    """
    Returns the `size` labels (or all labels, if fewer) with the largest weight between them.

    The result is exact if there are at most 100,000 such sets (ties: the first in lexical order),
    else it is that of `grown_subset`.
    """
    size = min(size, len(residual))
    if comb(len(residual), size) <= EXACT:
        return _enumerated(residual, size)
    return grown_subset(residual, size)


def grown_subset(residual: Float[np.ndarray, "label label"], size: int) -> list[int]:
    """
    Returns `size` labels, fewer than all, with a large weight between them.

    A set grows from each of the 200 heaviest pairs by the label that adds most weight; then single
    labels are exchanged as long as the weight increases. The heaviest of the sets is returned.
    """
    labels = len(residual)
    upper = np.triu(residual, k=1)
    heaviest = np.argsort(-upper, axis=None, kind="stable")[:_SEEDS]
    grown = [_grown(residual, divmod(int(pair), labels), size) for pair in heaviest]
    return max(grown, key=lambda subset: float(residual[np.ix_(subset, subset)].sum()))


def _enumerated(residual: np.ndarray, size: int) -> list[int]:
    subsets = np.array(list(combinations(range(len(residual)), size)), dtype=np.int64)
    inside = np.zeros(len(subsets))
    for first, second in combinations(range(size), 2):
        inside += residual[subsets[:, first], subsets[:, second]]
    # Rounded, so that equal sums stay equal in whichever order their terms are added.
    return [int(label) for label in subsets[np.argmax(np.round(inside, 12))]]


def _grown(residual: np.ndarray, pair: tuple[int, int], size: int) -> list[int]:
    chosen = np.zeros(len(residual), dtype=bool)
    chosen[list(pair)] = True
    while chosen.sum() < size:
        added = residual[:, chosen].sum(axis=1)
        chosen[np.argmax(np.where(chosen, -np.inf, added))] = True
    while True:
        weight = residual[:, chosen].sum(axis=1)  # between each label and the set
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        gains = (
            weight[outside][None, :] - residual[np.ix_(inside, outside)] - weight[inside][:, None]
        )
        leaving, entering = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[leaving, entering] <= ZERO:
            return [int(label) for label in inside]
        chosen[inside[leaving]], chosen[outside[entering]] = False, True
