"""
Beam search over the valid paths of a tree (methods.md 4.4).

At every step only what can follow a kept path is a candidate, so that whatever is decoded is a path
from the root to a leaf. A path's score is the sum of its log probabilities, not normalised.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from train.tree.label_path import Level

Look = Callable[[int, Bool[Tensor, "batch decision"]], Float[Tensor, "batch continuation step"]]
"""The log probabilities of each continuation of a level's decisions, one decision after the other.

A continuation has one step, or all that are left of its leaf's path; zeros follow. The second
argument tells which decisions an image's kept paths have reached: what is returned for the others
is not used."""


def search(
    levels: Sequence[Level], look: Look, *, batch: int, width: int | None, device: torch.device
) -> tuple[Float[Tensor, "batch leaf"], Bool[Tensor, "batch decision"]]:
    """
    Returns the scores of the leaves reached at the last step, and which decisions were reached.

    After each step that a decision follows, somewhere in the tree, the `width` best paths are kept,
    each with the score of its steps so far; None keeps all, and every leaf has its score. A leaf
    that was not reached has -inf. The likeliest leaf is what the beam decodes.

    Differs:
        The slides' algorithm leaves open whether earlier steps count at the last one; they do.
        After the last decision only scores grow: what a path is forced to say decides nothing.

    Example:
        P(A) = .3, P(B) = .4; D = .6 under A, G = .3 under B: width 1 ends at G (.12), 2 at D (.18).
    """
    leaves = sum(end is not None for level in levels for decision in level for end in decision.ends)
    # Not torch.full: in an exported file an output has that name.
    ended = torch.zeros(batch, leaves, device=device) - torch.inf
    owed: list[Tensor] = []  # what each step to come adds to the leaves that are reached
    reached = torch.zeros(batch, 1, device=device)
    visited = []
    for number, level in enumerate(levels):
        visited.append(reached.isfinite())
        if owed:
            ended = ended + owed.pop(0)
        said = look(number, visited[-1])
        parents = [place for place, decision in enumerate(level) for _ in decision.ends]
        scores = reached[:, parents] + said[:, :, 0]
        ends = [end for decision in level for end in decision.ends]
        at = [place for place, end in enumerate(ends) if end is not None]
        if at:
            own = torch.tensor([ends[place] for place in at], device=device)
            ended = ended.index_copy(1, own, scores[:, at])
            owed += [torch.zeros_like(ended)] * (said.shape[2] - 1 - len(owed))
            for later in range(1, said.shape[2]):
                owed[later - 1] = owed[later - 1].index_copy(1, own, said[:, :, later][:, at])
        going_on = [place for place, end in enumerate(ends) if end is None]
        if going_on:
            kept = keep(torch.cat([ended, scores[:, going_on]], dim=1), width=width)
            ended, reached = kept[:, :leaves], kept[:, leaves:]
    return sum(owed, ended), torch.cat(visited, dim=1)


def keep(scores: Float[Tensor, "batch path"], *, width: int | None) -> Float[Tensor, "batch path"]:
    """Returns the scores with -inf for all but the `width` highest of a row."""
    if width is None or width >= scores.shape[1]:
        return scores
    best = scores.topk(width, dim=1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, value=True)
    return scores.masked_fill(~chosen, -torch.inf)
