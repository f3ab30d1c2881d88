"""
Communities of confusions: Newman's leading eigenvector (2006), with a sweep of the resolution.

In comes a row-normalised confusion M; out comes a partition (methods.md 2.3). The recursion, its
acceptance and the sweep also serve other ways to propose a division, such as `laplacian`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping.partition import ZERO, Partition, affinity, isolated

log = logging.getLogger(__name__)

Propose = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From A and Bg of a group to a sign for each member: a division to be tried."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The partition of one resolution, with what speaks for and against it."""

    gamma: float
    clusters: Partition
    micp: float
    excess: float
    """MICP above that of random clusters of the same sizes: what the sweep maximises."""
    modularity: float
    refused: str | None
    """Why it may not be selected; None if it may."""


def leading(
    weights: Float[np.ndarray, "member member"], block: Float[np.ndarray, "member member"]
) -> Float[np.ndarray, " member"]:
    """Proposes the signs of the leading eigenvector of Bg, refined; `weights` play no part."""
    del weights
    return refine(block, signs(leading_vector(block)))


def communities(
    weights: Float[np.ndarray, "label label"], *, gamma: float, propose: Propose = leading
) -> Partition:
    """
    Returns the clusters of a symmetric, non-negative weight matrix at resolution `gamma`.

    Groups are split in two as `propose` says, as long as modularity gains (Newman 2006, eq. 2 to
    6). Labels without any weight stand alone.

    Differs:
        gamma scales the null model (Reichardt and Bornholdt 2006); the paper has gamma = 1.
    """
    found, connected = isolated(weights)
    if not len(connected):
        return found
    surplus, total = modularity_matrix(weights, gamma=gamma), float(weights.sum())
    groups = [connected]
    while groups:
        group = groups.pop()
        sides = bisect(weights, surplus, group, total=total, propose=propose)
        if sides is None:
            found.append(sorted(int(label) for label in group))
        else:
            groups += sides
    return sorted(found)


def bisection(weights: Float[np.ndarray, "label label"]) -> Partition:
    """
    Returns the first division of `communities` at gamma = 1, not divided again (methods.md 2.3).

    Labels without any weight stand alone here too.

    Raises:
        BadHierarchy: No division in two gains modularity.

    Example:
        M6 gives {0, 1, 2} and {3, 4, 5}, dQ = 0.254420.
    """
    found, connected = isolated(weights)
    surplus, total = modularity_matrix(weights, gamma=1.0), float(weights.sum())
    sides = bisect(weights, surplus, connected, total=total) if len(connected) else None
    if sides is None:
        raise BadHierarchy(
            f"No division of {len(weights)} labels in two gains modularity: the validation "
            "images show too few confusions, or all labels alike. Take more of them, or "
            "clustering.confusion: soft."
        )
    return sorted([*found, *(sorted(int(label) for label in side) for side in sides)])


def modularity_matrix(
    weights: Float[np.ndarray, "label label"], *, gamma: float
) -> Float[np.ndarray, "label label"]:
    """Returns B = A - gamma k k^T / 2m; zero where nothing is connected."""
    degrees = weights.sum(axis=1)
    total = degrees.sum()
    if total <= ZERO:
        return np.zeros_like(weights)
    return np.asarray(weights - gamma * np.outer(degrees, degrees) / total)


def modularity(
    surplus: Float[np.ndarray, "label label"], clusters: Partition, total: float
) -> float:
    """Returns Q = (1/2m) sum over clusters of their block of B; `total` is 2m. Zero without edges."""
    inside = sum(surplus[np.ix_(group, group)].sum() for group in clusters)
    return float(inside / total) if total > ZERO else 0.0


def bisect(
    weights: Float[np.ndarray, "label label"],
    surplus: Float[np.ndarray, "label label"],
    group: Int[np.ndarray, " member"],
    *,
    total: float,
    propose: Propose = leading,
) -> list[np.ndarray] | None:
    """
    Returns the two sides of the proposed division of `group`, or None if it gains no modularity.

    With Bg_ij = B_ij - delta_ij sum_l B_il over the group and s the proposed signs:
    dQ = s^T Bg s / (2 * 2m), `total` being 2m (methods.md 2.3).
    """
    block = surplus[np.ix_(group, group)]
    block = block - np.diag(block.sum(axis=1))
    side = propose(weights[np.ix_(group, group)], block)
    gain = float(side @ block @ side) / (2 * total)
    if gain <= ZERO or abs(side.sum()) == len(side):
        return None
    return [group[side > 0], group[side < 0]]


def leading_vector(block: Float[np.ndarray, "member member"]) -> Float[np.ndarray, " member"]:
    """Returns the eigenvector of the largest eigenvalue, its largest entry positive."""
    return facing(np.linalg.eigh(block)[1][:, -1])


def facing(vector: Float[np.ndarray, " member"]) -> Float[np.ndarray, " member"]:
    """Returns the vector or its negative, so that its largest entry is positive on every machine."""
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]))


def signs(vector: Float[np.ndarray, " member"]) -> Float[np.ndarray, " member"]:
    """Returns 1 or -1 for each entry; those below 1e-10 in absolute value count as positive."""
    return np.where(vector > -ZERO, 1.0, -1.0)


def refine(
    block: Float[np.ndarray, "member member"], side: Float[np.ndarray, " member"]
) -> Float[np.ndarray, " member"]:
    """
    Returns signs that no pass of Kernighan and Lin's can better (Newman 2006, "refinement").

    A pass flips every member once, each time the one that gains most (ties: the first), and keeps
    the best prefix of the flips. Flipping i changes s^T Bg s by 4 (Bg_ii - s_i (Bg s)_i).
    """
    while True:
        trial, free = side.copy(), np.ones(len(side), dtype=bool)
        gains, flipped = [], []
        for _ in side:
            change = 4 * (np.diag(block) - trial * (block @ trial))
            best = int(np.argmax(np.where(free, change, -np.inf)))
            trial[best] *= -1
            free[best] = False
            gains.append(float(change[best]))
            flipped.append(best)
        running = np.cumsum(gains)
        kept = int(np.argmax(running))
        if running[kept] <= ZERO:
            return side
        better = side.copy()
        better[flipped[: kept + 1]] *= -1
        if better @ block @ better <= side @ block @ side:
            return side  # what looked like a gain was rounding
        side = better


def sweep(
    confusion: Float[np.ndarray, "label label"],
    *,
    gammas: Sequence[float],
    largest: float = 0.5,
    diagonal: bool = False,
    propose: Propose = leading,
) -> list[Candidate]:
    """
    Returns one candidate for each resolution.

    Args:
        confusion: M, its rows summing to one.
        gammas: Resolutions, from the finest to the coarsest.
        largest: Largest share of the labels that one cluster may hold.
        diagonal: Keep the diagonal of A.
        propose: How a group is divided.
    """
    weights = affinity(confusion, diagonal=diagonal)
    total, candidates = float(weights.sum()), []
    for gamma in gammas:
        clusters = communities(weights, gamma=gamma, propose=propose)
        candidates.append(
            Candidate(
                gamma=gamma,
                clusters=clusters,
                micp=metrics.micp(confusion, clusters),
                excess=metrics.micp_excess(confusion, clusters),
                modularity=modularity(modularity_matrix(weights, gamma=gamma), clusters, total),
                refused=_refusal(clusters, len(weights), largest=largest),
            )
        )
    return candidates


def resolutions(first: float = 2.0, last: float = 0.1, step: float = 0.1) -> list[float]:
    """Returns the resolutions of a sweep, from the finest to the coarsest."""
    return [round(first - place * step, 6) for place in range(round((first - last) / step) + 1)]


def accepted(candidates: Sequence[Candidate]) -> Candidate | None:
    """Returns the allowed candidate of largest excess, if any; ties go to the larger gamma."""
    return _best([one for one in candidates if one.refused is None])


def select(candidates: Sequence[Candidate]) -> Candidate:
    """
    Returns the accepted candidate; if every one is refused, the best that still groups something.

    Raises:
        BadHierarchy: No resolution gives at least two clusters with two labels in one of them.
    """
    chosen = accepted(candidates)
    if chosen is None:
        chosen = _best([one for one in candidates if 1 < len(one.clusters) < _labels(one)])
        if chosen is not None:
            log.warning("every partition of the sweep is refused; the best of them stands in")
    if chosen is None:
        sizes = sorted({len(one.clusters) for one in candidates})
        raise BadHierarchy(
            f"No grouping of {_labels(candidates[0])} labels was found: the sweep gives {sizes} "
            "clusters only. The validation images show too few confusions (or all labels "
            "alike); take more of them, clustering.confusion: soft, or another range of gamma."
        )
    return chosen


def _best(candidates: Sequence[Candidate]) -> Candidate | None:
    return max(candidates, key=lambda one: (round(one.excess, 12), one.gamma), default=None)


def _refusal(clusters: Partition, labels: int, *, largest: float) -> str | None:
    if len(clusters) < 2:
        return "one_cluster"
    if len(clusters) > labels / 2:
        return "too_many_clusters"
    if max(map(len, clusters)) > largest * labels:
        return "giant_cluster"
    return None


def _labels(candidate: Candidate) -> int:
    return sum(map(len, candidate.clusters))
