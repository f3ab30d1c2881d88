"""
Coarse category consistency: the mean coarse distribution of a batch stays what it must be (methods.md 6.4).

A term of HD-CNN's loss, so that the coarse component keeps its meaning while everything is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from train.engine.losses import Counting, cross_entropy
from train.runtime import distributed


@dataclass(frozen=True, slots=True)
class Consistency:
    r"""$\frac{\lambda}{2} \sum_k (t_k - \frac{1}{n} \sum_i B_{ik})^2$ of a batch of n images."""

    targets: Sequence[float]
    """t_k, for each cluster; they sum to one."""
    strength: float
    """lambda; HD-CNN's is 5."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " picture"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the cross-entropy of the labels, and the term for B beside their logits."""
        return (
            cross_entropy(output, targets, counting) + self.term(output[1].float()) * counting.share
        )

    def term(self, coarse: Float[Tensor, "image cluster"]) -> Float[Tensor, ""]:
        """
        Returns the term for B, one row an image of this process's part of the batch.

        The mean is over the parts of all processes. The gradient is multiplied by their number,
        because the wrapper that trains them takes the mean of what must be summed up here.

        Example:
            B (.7, .2, .1), (.5, .4, .1), (.2, .7, .1), (.6, .1, .3), t = (.4, .4, .2), lambda 5:
            .0375, and -(lambda/n) (t_k - mean B_k) is its gradient.
        """
        own = coarse.sum(dim=0)
        count = torch.full_like(own[:1], len(coarse))
        whole = distributed.all_reduce(torch.cat([own.detach(), count]))
        sums = whole[:-1] + distributed.world_size() * (own - own.detach())
        targets = torch.tensor(self.targets, device=own.device, dtype=own.dtype)
        return self.strength / 2 * (targets - sums / whole[-1]).square().sum()


def targets(
    clusters: Sequence[Sequence[int]], pictures: Sequence[int] | Int[np.ndarray, " label"]
) -> list[float]:
    """
    Returns t_k = images of the labels in S_k / sum over k' of those in S_k'.

    A label in several sets counts in each, as in the authors' code, so that they sum to one.

    Example:
        {0, 1, 2}, {2, 3, 4}, {5} and as many images of each label: 3/7, 3/7, 1/7.
    """
    sizes = [sum(int(pictures[label]) for label in one) for one in clusters]
    return [size / sum(sizes) for size in sizes]
