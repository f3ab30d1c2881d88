r"""
The prediction of a trunk with an exit and tails over sets of labels, as arithmetic on probabilities.

The exit gives $p^0$ over all labels. A tail gives $q_g$ over the labels of its set $S_g$. Method and
example: `docs/methods/recover.md`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SMALLEST = 1e-30  # a sum of masses below it counts as this one
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
EXITS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 2.0)
"""Values of a and theta that are tried on the validation images: quarters, and denser where most
probabilities of a trained network lie; 2 lets no image leave."""


def masses(
    exit_: Float[Tensor, "batch label"], members: Bool[Tensor, "set label"]
) -> Float[Tensor, "batch set"]:
    r"""Returns $P^0(S_g) = \sum_{j \in S_g} p^0_j$ for every set."""
    return exit_ @ members.T.to(exit_.dtype)


def chosen(
    exit_: Float[Tensor, "batch label"], members: Bool[Tensor, "set label"], *, tails: int
) -> Int[Tensor, "batch tail"]:
    """Returns the sets of largest mass, the largest first; at most as many as there are."""
    return masses(exit_, members).topk(min(tails, len(members)), dim=1).indices


def mixed(
    exit_: Float[Tensor, "batch label"],
    inside: Float[Tensor, "batch label"],
    members: Bool[Tensor, "batch label"],
    *,
    mix: float | Tensor,
) -> Float[Tensor, "batch label"]:
    r"""
    Returns $(1 - a) p^0_j + a P^0(S) q_j$ for j in S, and $p^0_j$ for the other labels.

    Args:
        exit_: p0.
        inside: q of each image's set S, zero outside of it.
        members: Which labels S has.
        mix: a.

    Example:
        p0 = (.5, .3, .15, .05), S = {0, 1}, q = (.25, .75), a = .5: (.35, .45, .15, .05).
    """
    mass = (exit_ * members).sum(dim=1, keepdim=True)
    return torch.where(members, (1 - mix) * exit_ + mix * mass * inside, exit_)


def every(
    exit_: Float[Tensor, "batch label"],
    spread: Float[Tensor, "batch set label"],
    members: Bool[Tensor, "set label"],
    *,
    mix: float | Tensor,
) -> Float[Tensor, "batch label"]:
    r"""
    Returns the mixture with every tail executed: $(1 - a) p^0_j + a c \sum_{g \ni j} P^0(S_g) q_{g,j}$.

    c is the mass of all sets together over the sum of their masses, 1 for sets without overlap.
    Labels in no set keep $p^0_j$.
    """
    inside = members.any(dim=0)
    mass = masses(exit_, members)
    whole = (exit_ * inside).sum(dim=1, keepdim=True)
    # A certain exit may leave the sets no mass at all.
    total = mass.sum(dim=1, keepdim=True).clamp(min=_SMALLEST)
    tails = (mass[:, :, None] * spread).sum(dim=1) * whole / total
    return torch.where(inside, (1 - mix) * exit_ + mix * tails, exit_)


def choose(
    exit_: Float[Tensor, "batch label"],
    with_tails: Sequence[Float[Tensor, "batch label"]],
    labels: Int[Tensor, " batch"],
    *,
    mixes: Sequence[float] = MIXES,
    exits: Sequence[float] = EXITS,
) -> tuple[float, float]:
    """
    Returns a and theta of the largest accuracy; of equal ones the cheapest, then the smaller a.

    Args:
        exit_: p0 of the validation images.
        with_tails: Their probabilities without early exit, for each a of `mixes`.
        labels: Their labels.
        mixes: Values of a to try, in ascending order.
        exits: Values of theta to try, in ascending order.
    """
    top = exit_.max(dim=1)
    at_exit = top.indices == labels
    best = (-1.0, 0.0, 0.0)
    for theta in exits:  # in the order of cost
        leaves = top.values >= theta
        for mix, probabilities in zip(mixes, with_tails, strict=True):
            right = torch.where(leaves, at_exit, probabilities.argmax(dim=1) == labels)
            accuracy = float(right.double().mean())
            if accuracy > best[0]:
                best = (accuracy, mix, theta)
    return best[1], best[2]
