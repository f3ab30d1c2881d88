"""
Beam search over the valid paths of a tree.

At every step only children of the last nodes of the kept paths are candidates, so that every decoded
path leads from the root to a leaf. The score of a path is the sum of its log probabilities.

Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for Hierarchical
Classification of Images, IEEE Big Data 2020, algorithm 1.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from train.tree.label_path import Level

Continuations = Callable[
    [int, Bool[Tensor, "batch decision"]], Float[Tensor, "batch continuation step"]
]
"""Callback: from the number of a level and the decisions reached by an image's kept paths to the log
probabilities of each continuation, ordered by decision.

A continuation has one step, or all remaining steps of the path if only one leaf is left; zeros
follow. Rows of decisions that an image has not reached are undefined."""


def search(
    levels: Sequence[Level],
    continuations: Continuations,
    *,
    batch: int | torch.SymInt,
    width: int | None,
    device: torch.device,
) -> tuple[Float[Tensor, "batch leaf"], Bool[Tensor, "batch decision"]]:
    """
    Returns the scores of the leaves that the beam reaches, and the decisions that it reaches.

    While decisions follow anywhere in the tree, each step keeps the `width` paths with the largest
    score so far. The decoded leaf is the leaf with the largest score at the end.

    Args:
        levels: The decisions of the tree, level by level.
        continuations: Callback for the log probabilities of a level.
        batch: Number of images.
        width: Paths kept at each step; None keeps all, so that every leaf has a score.
        device: Device of the log probabilities.

    Returns:
        Scores, -inf for leaves that are not reached; and whether each decision is reached, for the
        decisions of all levels in order.

    Differs from the paper:
        The slides do not say whether the score at the last step includes the earlier steps; here it
        does. The forced steps after the last decision add to the scores and choose nothing.

    Example:
        P(A) = .3, P(B) = .4; D = .6 under A, G = .3 under B: width 1 ends at G (.12), 2 at D (.18).
    """
    leaves = sum(end is not None for level in levels for decision in level for end in decision.ends)
    # Not torch.full: its node would have the name of the output `full` in an exported file.
    ended = torch.zeros(batch, leaves, device=device) - torch.inf
    forced: list[Tensor] = []  # log probabilities that each later step adds to the reached leaves
    reached = torch.zeros(batch, 1, device=device)
    visited = []
    for number, level in enumerate(levels):
        visited.append(reached.isfinite())
        if forced:
            ended = ended + forced.pop(0)
        steps = continuations(number, visited[-1])
        parents = [index for index, decision in enumerate(level) for _ in decision.ends]
        scores = reached[:, parents] + steps[:, :, 0]
        ends = [end for decision in level for end in decision.ends]
        final = [index for index, end in enumerate(ends) if end is not None]
        if final:
            own = torch.tensor([ends[index] for index in final], device=device)
            ended = ended.index_copy(1, own, scores[:, final])
            forced += [torch.zeros_like(ended)] * (steps.shape[2] - 1 - len(forced))
            for later in range(1, steps.shape[2]):
                added = steps[:, :, later][:, final]
                forced[later - 1] = forced[later - 1].index_copy(1, own, added)
        open_ = [index for index, end in enumerate(ends) if end is None]
        if open_:
            kept = keep(torch.cat([ended, scores[:, open_]], dim=1), width=width)
            ended, reached = kept[:, :leaves], kept[:, leaves:]
    return sum(forced, ended), torch.cat(visited, dim=1)


def keep(scores: Float[Tensor, "batch path"], *, width: int | None) -> Float[Tensor, "batch path"]:
    """Returns the scores with -inf for all but the `width` largest of a row; None keeps all."""
    if width is None or width >= scores.shape[1]:
        return scores
    best = scores.topk(width, dim=1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, value=True)
    return scores.masked_fill(~chosen, -torch.inf)
