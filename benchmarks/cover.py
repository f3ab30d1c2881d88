"""
Which mistakes are recoverable: overlapping label sets that hold most confusions (methods.md 9.3).

In come weights w of unordered label pairs: symmetric, nothing on the diagonal. A cover is a list
of label sets; R is the weight of the pairs that stand together in one of them at least.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from train.grouping.partition import ZERO

Cover = Sequence[Sequence[int]]
EXACT = 100_000  # so many subsets are looked at one by one; beyond, sets are grown
_SEEDS = 200  # heaviest pairs that sets are grown from


def count_weights(counts: Shaped[np.ndarray, "label label"]) -> Float[np.ndarray, "label label"]:
    """Returns w_ab = (C_ab + C_ba) / n; over pairs they sum to the share of mistakes."""
    weights = (counts + counts.T) / max(counts.sum(), 1)
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights)


def soft_weights(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "label label"]:
    """
    Returns w_ab = (1/n) sum over images of a or b of p_a p_b.

    Smoother than counts where labels have few images. It ranks pairs; its sum is no error rate.
    """
    leaves = probabilities.shape[1]
    sums = np.zeros((leaves, leaves))
    own = probabilities[np.arange(len(labels)), labels]
    np.add.at(sums, labels, own[:, None].astype(np.float64) * probabilities)
    np.fill_diagonal(sums, 0.0)
    return (sums + sums.T) / max(len(labels), 1)


def covered(cover: Cover, labels: int) -> Bool[np.ndarray, "label label"]:
    """Says of each pair whether some set of the cover holds both; a label is no pair with itself."""
    found = np.zeros((labels, labels), dtype=bool)
    for subset in cover:
        found[np.ix_(list(subset), list(subset))] = True
    np.fill_diagonal(found, val=False)
    return found


def recoverable(weights: Float[np.ndarray, "label label"], cover: Cover) -> float:
    """
    Returns R, the weight of the covered pairs.

    With w from counts it is the largest gain in accuracy that perfect experts could bring when each
    corrects the pairs of its set. Monotone and submodular in the collection of sets.
    """
    return float(weights[covered(cover, len(weights))].sum() / 2)


def by_chance(weights: Float[np.ndarray, "label label"], cover: Cover) -> float:
    """Returns the expected R of the cover with its labels permuted, exactly."""
    labels = len(weights)
    pairs = covered(cover, labels).sum() / max(labels * (labels - 1), 1)
    return float(weights.sum() / 2 * pairs)


def permuted(
    weights: Float[np.ndarray, "label label"], cover: Cover, *, draws: int, seed: int
) -> list[float]:
    """Returns R of the cover with its labels permuted `draws` times: sizes and overlaps stay."""
    rng = np.random.default_rng([seed, 93])
    orders = [rng.permutation(len(weights)) for _ in range(draws)]
    return [recoverable(weights, [order[list(one)].tolist() for one in cover]) for order in orders]


def greedy_cover(
    weights: Float[np.ndarray, "label label"], *, experts: int, largest: int
) -> list[list[int]]:
    """
    Returns at most `experts` sets of at most `largest` labels, the heaviest first.

    Each set holds as much of the weight that is not yet covered as can be found. Where all sets
    can be enumerated, R is at least 1 - 1/e of that of the best cover (Nemhauser et al. 1978).
    Labels that add nothing to their set are left out of it.
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
    Returns the labels, `size` of them or all, between which most weight lies.

    Exact where there are at most 100,000 such sets (ties: the first in lexical order), else grown.
    """
    size = min(size, len(residual))
    if comb(len(residual), size) <= EXACT:
        return _enumerated(residual, size)
    return grown_subset(residual, size)


def grown_subset(residual: Float[np.ndarray, "label label"], size: int) -> list[int]:
    """
    Returns fewer than all labels between which much weight lies, found by growing.

    Sets grow from each of the 200 heaviest pairs by the label that adds most; then single labels
    are swapped as long as that gains; the best set is returned (methods.md 9.3).
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
    # Rounded, so that equal sums stay equal whatever the order they were added in.
    return [int(label) for label in subsets[np.argmax(np.round(inside, 12))]]


def _grown(residual: np.ndarray, pair: tuple[int, int], size: int) -> list[int]:
    chosen = np.zeros(len(residual), dtype=bool)
    chosen[list(pair)] = True
    while chosen.sum() < size:
        added = residual[:, chosen].sum(axis=1)
        chosen[np.argmax(np.where(chosen, -np.inf, added))] = True
    while True:
        weight = residual[:, chosen].sum(axis=1)  # of each label towards the set
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        gains = (
            weight[outside][None, :] - residual[np.ix_(inside, outside)] - weight[inside][:, None]
        )
        leaving, entering = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[leaving, entering] <= ZERO:
            return [int(label) for label in inside]
        chosen[inside[leaving]], chosen[outside[entering]] = False, True
