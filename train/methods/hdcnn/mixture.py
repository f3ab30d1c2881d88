"""
The network of HD-CNN: shared blocks, a coarse component, and a fine one per label set (methods.md 6.1).

The sets may overlap. A fine component says which label of its set; the coarse one, how much it counts.
"""

from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from train.backbone import Branch
from train.backbone.siblings import Siblings
from train.tree import hierarchy


class Mixture(nn.Module):
    """Everything that is trained: images to log probabilities of the leaves, in their order."""

    members: Tensor
    places: Tensor

    def __init__(
        self,
        stem: nn.Module,
        coarse: Branch | None,
        fine: Mapping[str, Branch],
        *,
        clusters: Mapping[str, list[int]],
        leaves: int,
    ) -> None:
        """Takes over the parts; a cluster of one label has no component, one cluster no coarse."""
        super().__init__()
        self.stem = stem
        self.coarse = coarse
        self.fine = nn.ModuleDict(fine)
        self.siblings = Siblings(self.fine)
        self.clusters = dict(clusters)
        members = hierarchy.membership(list(clusters.values()), leaves)
        self.register_buffer("members", torch.from_numpy(members))
        # Where each label of each cluster stands among the outputs of all, one after the other.
        sizes = [len(inside) for inside in clusters.values()]
        places = np.full(members.shape, sum(sizes))
        starts = accumulate(sizes, initial=0)
        for row, start, inside in zip(places, starts, clusters.values(), strict=False):
            row[inside] = start + np.arange(len(inside))
        self.register_buffer("places", torch.from_numpy(places))

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch leaf"], Float[Tensor, "batch cluster"]]:
        r"""
        Returns $\log p(j) = \log \sum_k B_k p_k(j)$ with every component executed, and B.

        A row of p is normalised, so that cross-entropy on its logarithm as on logits is -log p of
        the true label.
        """
        maps = self.stem(x)
        coarse = self.shares(maps)
        return torch.logsumexp(coarse[:, :, None] + self.labels(maps), dim=1), coarse.exp()

    def shares(self, maps: Tensor) -> Float[Tensor, "batch cluster"]:
        r"""
        Returns log B from the shared maps: $b_k = \sum_{j \in S_k} p_B(j)$, normalised over k.

        A label in several sets counts in each. Zero for a single cluster.

        Example:
            {0, 1, 2}, {2, 3, 4}, {5} and p_B = (.30, .20, .15, .20, .10, .05): b = (.65, .45, .05),
            B = (.565217, .391304, .043478).
        """
        if self.coarse is None:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        fine = torch.log_softmax(self.coarse(maps).float(), dim=1)
        outside = ~self.members[None]
        sums = torch.logsumexp(fine[:, None, :].masked_fill(outside, -torch.inf), dim=2)
        return torch.log_softmax(sums, dim=1)

    def labels(self, maps: Tensor) -> Float[Tensor, "batch cluster leaf"]:
        """
        Returns log p_k of every label, all components executed; -inf outside their sets.

        One image on a CPU goes through all of them as one grouped computation, several through
        one component after the other: whatever was measured to be faster (`siblings`).
        """
        found = self.siblings.log_probabilities(maps)
        known = torch.zeros(maps.shape[0], 1, device=maps.device)
        rows = [found.get(node, known) for node in self.clusters]
        nothing = torch.full_like(rows[0][:, :1], -torch.inf)
        return torch.cat([*rows, nothing], dim=1)[:, self.places]

    def inside(self, node: str, maps: Tensor) -> Float[Tensor, "batch member"]:
        """Returns log p_k of the labels of one cluster."""
        if node not in self.fine:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        return torch.log_softmax(self.fine[node](maps).float(), dim=1)

    def answers(
        self, maps: Tensor, chosen: Bool[Tensor, "batch cluster"]
    ) -> Float[Tensor, "batch cluster leaf"]:
        """
        Returns p_k of every label, each component run once on the images that chose it.

        Some of the components are never grouped: gathering their weights for a single image took
        as long as it saved.
        """
        if chosen.all():
            return self.labels(maps).exp()
        result = torch.zeros(*chosen.shape, self.members.shape[1], device=maps.device)
        for place, (node, members) in enumerate(self.clusters.items()):
            rows = torch.nonzero(chosen[:, place]).flatten()
            if len(rows):
                labels = torch.tensor(members, device=maps.device)
                result[rows[:, None], place, labels] = self.inside(node, maps[rows]).exp()
        return result
