"""
Communities of confused labels by Newman's leading eigenvector, with a sweep of the resolution.

Newman 2006, "Modularity and community structure in networks" (PNAS 103, 8577-8582;
arXiv:physics/0602124). The input is a confusion matrix M whose rows sum to one, the output is a
partition. The recursion, the acceptance of a division and the sweep also serve other ways to
propose a division, such as `laplacian`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping.partition import ZERO, Partition, affinity, isolated


@dataclass(frozen=True, slots=True)
class Group:
    """A group of labels that may be divided in two."""

    weights: Float[np.ndarray, "member member"]
    """A of the members."""
    surplus: Float[np.ndarray, "member member"]
    """B^(g) of the members, as defined in `bisect`."""


Propose = Callable[[Group], np.ndarray]
"""From a group to 1 or -1 for each member: a division that may be accepted."""


@dataclass(frozen=True, slots=True)
class SweptPartition:
    """The partition of one resolution, its quality, and whether it may be selected."""

    gamma: float
    clusters: Partition
    micp: float
    excess: float
    """MICP minus the expected MICP of random clusters of the same sizes; the sweep maximises it."""
    modularity: float
    refused: str | None
    """Why the partition may not be selected; None if it may."""


def leading(group: Group) -> Float[np.ndarray, " member"]:
    """Returns the signs of the leading eigenvector of B^(g) (`bisect`), improved by `refine`."""
    return refine(group.surplus, signs(leading_vector(group.surplus)))


def communities(
    weights: Float[np.ndarray, "label label"], *, gamma: float, propose: Propose = leading
) -> Partition:
    """
    Returns the clusters of a symmetric, non-negative weight matrix at resolution `gamma`.

    `propose` suggests a division in two. It is accepted if it increases the modularity; then the
    parts are tried in the same way (Newman 2006, eq. 2 to 6). A label without any weight is a
    cluster of its own.

    Differs from the paper:
        gamma scales the null model (Reichardt and Bornholdt 2006, "Statistical mechanics of
        community detection"); Newman has gamma = 1.
    """
    clusters, connected = isolated(weights)
    if not len(connected):
        return clusters
    surplus, total = modularity_matrix(weights, gamma=gamma), float(weights.sum())
    groups = [connected]
    while groups:
        group = groups.pop()
        parts = bisect(weights, surplus, group, total=total, propose=propose)
        if parts is None:
            clusters.append(sorted(int(label) for label in group))
        else:
            groups += parts
    return sorted(clusters)


def bisection(weights: Float[np.ndarray, "label label"]) -> Partition:
    """
    Returns the first division of `communities` at gamma = 1, whose parts are not divided again.

    A label without any weight is a cluster of its own.

    Raises:
        BadHierarchy: No division in two increases the modularity.
    """
    clusters, connected = isolated(weights)
    surplus, total = modularity_matrix(weights, gamma=1.0), float(weights.sum())
    parts = bisect(weights, surplus, connected, total=total) if len(connected) else None
    if parts is None:
        raise BadHierarchy(
            f"No division of {len(weights)} labels in two increases the modularity: the validation "
            "images show too few confusions, or all labels are confused alike. Take more "
            "validation images, or clustering.confusion: soft."
        )
    return sorted([*clusters, *(sorted(int(label) for label in part) for part in parts)])


def modularity_matrix(
    weights: Float[np.ndarray, "label label"], *, gamma: float
) -> Float[np.ndarray, "label label"]:
    """Returns B = A - gamma k k^T / 2m, or zeros without any weight (Newman 2006, eq. 3)."""
    degrees = weights.sum(axis=1)
    total = degrees.sum()
    if total <= ZERO:
        return np.zeros_like(weights)
    return np.asarray(weights - gamma * np.outer(degrees, degrees) / total)


def modularity(
    surplus: Float[np.ndarray, "label label"], clusters: Partition, total: float
) -> float:
    """
    Returns Q = (1/2m) times the sum of B within the clusters; 0 without any weight.

    Args:
        surplus: B of `modularity_matrix`.
        clusters: A partition.
        total: 2m, the sum of all weights.
    """
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
    Returns the two parts of the proposed division of `group`, or None if it gains nothing.

    With B^(g)_ij = B_ij - delta_ij sum_l B_il over the group (Newman 2006, eq. 6) and the proposed
    signs s, the gain in modularity is dQ = s^T B^(g) s / (2 * 2m) (eq. 5), where `total` is 2m.
    """
    block = surplus[np.ix_(group, group)]
    block = block - np.diag(block.sum(axis=1))
    side = propose(Group(weights[np.ix_(group, group)], block))
    gain = float(side @ block @ side) / (2 * total)
    if gain <= ZERO or abs(side.sum()) == len(side):
        return None
    return [group[side > 0], group[side < 0]]


def leading_vector(block: Float[np.ndarray, "member member"]) -> Float[np.ndarray, " member"]:
    """Returns the eigenvector of the largest eigenvalue, its entry of largest size positive."""
    return facing(np.linalg.eigh(block)[1][:, -1])


def facing(vector: Float[np.ndarray, " member"]) -> Float[np.ndarray, " member"]:
    """Returns the vector or its negative, so that the entry of largest size is positive."""
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]))


def signs(vector: Float[np.ndarray, " member"]) -> Float[np.ndarray, " member"]:
    """Returns 1 or -1 for each entry; an entry between -1e-10 and 0 counts as positive."""
    return np.where(vector > -ZERO, 1.0, -1.0)


def refine(
    block: Float[np.ndarray, "member member"], side: Float[np.ndarray, " member"]
) -> Float[np.ndarray, " member"]:
    """
    Returns signs that no pass of Kernighan and Lin's kind improves (Newman 2006, "Implementation").

    A pass flips every member once, each time the member of largest gain (ties: the first), and
    keeps the best prefix of the flips. Flipping i changes s^T B^(g) s by
    4 (B^(g)_ii - s_i (B^(g) s)_i).
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
            return side  # the gain was a rounding error
        side = better


def sweep(
    confusion: Float[np.ndarray, "label label"],
    *,
    gammas: Sequence[float],
    largest: float = 0.5,
    diagonal: bool = False,
    propose: Propose = leading,
) -> list[SweptPartition]:
    """
    Returns the partition of each resolution, in the order of `gammas`.

    Args:
        confusion: M, whose rows sum to one.
        gammas: Resolutions, from the finest to the coarsest.
        largest: Largest share of the labels that one cluster may have.
        diagonal: Keep the diagonal of A.
        propose: How a group is divided.
    """
    weights = affinity(confusion, diagonal=diagonal)
    total, candidates = float(weights.sum()), []
    for gamma in gammas:
        clusters = communities(weights, gamma=gamma, propose=propose)
        candidates.append(
            SweptPartition(
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
    """Returns the resolutions of a sweep, from the finest to the coarsest; none is below `last`."""
    steps = int((first - last) / step + ZERO)
    return [round(first - index * step, 6) for index in range(steps + 1)]


def accepted(candidates: Sequence[SweptPartition]) -> SweptPartition | None:
    """Returns the partition of largest excess that is not refused (ties: the larger gamma)."""
    return _best([candidate for candidate in candidates if candidate.refused is None])


def select(candidates: Sequence[SweptPartition]) -> SweptPartition:
    """
    Returns the accepted partition, or if all are refused the best one that groups labels.

    Its `refused` then names the reason, for the caller to report.

    Raises:
        BadHierarchy: No resolution gives at least two clusters of which one has two labels.
    """
    chosen = accepted(candidates)
    if chosen is None:
        grouping = [one for one in candidates if 1 < len(one.clusters) < _labels(one)]
        chosen = _best(grouping)
    if chosen is None:
        sizes = sorted({len(candidate.clusters) for candidate in candidates})
        raise BadHierarchy(
            f"The {_labels(candidates[0])} labels have no grouping: the sweep gives only {sizes} "
            "clusters. The validation images show too few confusions, or all labels are confused "
            "alike. Take more validation images, clustering.confusion: soft, or another range of "
            "gamma."
        )
    return chosen


def _best(candidates: Sequence[SweptPartition]) -> SweptPartition | None:
    return max(
        candidates,
        key=lambda candidate: (round(candidate.excess, 12), candidate.gamma),
        default=None,
    )


def _refusal(clusters: Partition, labels: int, *, largest: float) -> str | None:
    if len(clusters) < 2:
        return "one_cluster"
    if len(clusters) > labels / 2:
        return "too_many_clusters"
    if max(map(len, clusters)) > largest * labels:
        return "giant_cluster"
    return None


def _labels(candidate: SweptPartition) -> int:
    return sum(map(len, candidate.clusters))
