"""
Coarse category consistency: the regulariser of HD-CNN's joint training.

It keeps the mean coarse weights of a batch near the share of images in each cluster, so that the
coarse component still predicts clusters while all parts are trained.
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
    r"""
    Cross-entropy plus $\frac{\lambda}{2} \sum_k (t_k - \frac{1}{n} \sum_i B_{ik})^2$.

    B_ik is the coarse weight of cluster k for image i of a batch of n images.

    Source: Yan et al., HD-CNN, ICCV 2015, section 5.2 (coarse category consistency).
    """

    targets: Sequence[float]
    """t_k of each cluster; their sum is one."""
    strength: float
    """lambda; 5 in the published code of HD-CNN."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """
        Returns the sum of the images' losses, the term multiplied by their weight.

        `output` holds the log probabilities of the labels (batch, leaf) and B (batch, cluster).
        """
        return (
            cross_entropy(output, targets, counting) + self.term(output[1].float()) * counting.share
        )

    def term(self, coarse: Float[Tensor, "image cluster"]) -> Float[Tensor, ""]:
        """
        Returns the term for B, which has a row per image of this process.

        The mean is over the images of all processes. The gradient is multiplied by the number of
        processes, because DistributedDataParallel averages gradients that must be summed here.

        Example:
            B (.7, .2, .1), (.5, .4, .1), (.2, .7, .1), (.6, .1, .3), t = (.4, .4, .2), lambda 5:
            .0375. The gradient with respect to B_ik is -(lambda/n) (t_k - mean B_k).
        """
        own = coarse.sum(dim=0)
        count = torch.full_like(own[:1], len(coarse))
        total = distributed.all_reduce(torch.cat([own.detach(), count]))
        sums = total[:-1] + distributed.world_size() * (own - own.detach())
        targets = torch.tensor(self.targets, device=own.device, dtype=own.dtype)
        return self.strength / 2 * (targets - sums / total[-1]).square().sum()


def targets(
    clusters: Sequence[Sequence[int]], images: Sequence[int] | Int[np.ndarray, " label"]
) -> list[float]:
    r"""
    Returns $t_k = n(S_k) / \sum_{k'} n(S_{k'})$, where n(S) is the number of images with labels in S.

    A label in several sets counts in each of them, so that the targets sum to one. This follows
    the published code of HD-CNN; the paper defines the targets for disjoint sets.

    Args:
        clusters: S_k, the labels of each cluster.
        images: Number of training images of each label.

    Example:
        {0, 1, 2}, {2, 3, 4}, {5} and equally many images of each label: 3/7, 3/7, 1/7.
    """
    sizes = [sum(int(images[label]) for label in labels) for labels in clusters]
    return [size / sum(sizes) for size in sizes]
