"""
The network of HD-CNN: shared blocks, a coarse component, and a fine component per cluster.

The coarse component predicts B_k, the weight of cluster k. The fine component of cluster k predicts
p_k, the probabilities of the labels in the cluster. Clusters may overlap.
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
    """
    The whole HD-CNN as one module: images in, log probabilities of the labels out.

    Source: Yan et al., HD-CNN, ICCV 2015, section HD-CNN Architecture.
    """

    members: Tensor  # (cluster, leaf), bool: whether a leaf is in the set of a cluster
    places: Tensor  # (cluster, leaf): index of a leaf among the outputs of all components in a row

    def __init__(
        self,
        stem: nn.Module,
        coarse: Branch | None,
        fine: Mapping[str, Branch],
        *,
        clusters: Mapping[str, list[int]],
        leaves: int,
    ) -> None:
        """
        Takes over the parts.

        Args:
            stem: The shared blocks.
            coarse: The coarse component; None if there is only one cluster.
            fine: The component of each cluster, by node; none for a cluster of one label.
            clusters: The labels of each cluster, by node.
            leaves: Number of labels.
        """
        super().__init__()
        self.stem = stem
        self.coarse = coarse
        self.fine = nn.ModuleDict(fine)
        self.siblings = Siblings(self.fine)
        self.clusters = dict(clusters)
        members = hierarchy.membership(list(clusters.values()), leaves)
        self.register_buffer("members", torch.from_numpy(members))
        # After the outputs of all components there is one more, which is -inf: labels outside a set.
        sizes = [len(labels) for labels in clusters.values()]
        places = np.full(members.shape, sum(sizes))
        starts = accumulate(sizes, initial=0)
        for row, start, labels in zip(places, starts, clusters.values(), strict=False):
            row[labels] = start + np.arange(len(labels))
        self.register_buffer("places", torch.from_numpy(places))

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch leaf"], Float[Tensor, "batch cluster"]]:
        r"""
        Returns $\log p(j) = \log \sum_k B_k p_k(j)$ with every component executed, and B (eq. 1).

        B_k is the weight of cluster k, and p_k are the label probabilities of its fine component.
        Rows of p sum to one, so that cross-entropy with log p as logits is -log p(true label).
        """
        maps = self.stem(x)
        coarse = self.shares(maps)
        return torch.logsumexp(coarse[:, :, None] + self.labels(maps), dim=1), coarse.exp()

    def shares(self, maps: Tensor) -> Float[Tensor, "batch cluster"]:
        r"""
        Returns log B, with $B_k = b_k / \sum_l b_l$ and $b_k = \sum_{j \in S_k} p_B(j)$.

        p_B are the label probabilities of the coarse component, S_k the labels of cluster k. A
        label in several sets counts in each of them, as in the published code. With a single
        cluster log B is zero.

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
        Returns log p_k of every label with all components executed; -inf outside their clusters.

        `Siblings` computes the components in one grouped convolution or one after the other,
        whichever is faster for this number of images.
        """
        by_node = self.siblings.log_probabilities(maps)
        certain = torch.zeros(maps.shape[0], 1, device=maps.device)
        inside = [by_node.get(node, certain) for node in self.clusters]
        outside = torch.full_like(inside[0][:, :1], -torch.inf)
        return torch.cat([*inside, outside], dim=1)[:, self.places]

    def inside(self, node: str, maps: Tensor) -> Float[Tensor, "batch member"]:
        """Returns log p_k of the labels of one cluster; zero for a cluster of one label."""
        if node not in self.fine:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        return torch.log_softmax(self.fine[node](maps).float(), dim=1)

    def executed(
        self, maps: Tensor, chosen: Bool[Tensor, "batch cluster"]
    ) -> Float[Tensor, "batch cluster leaf"]:
        """
        Returns p_k of every label; the probabilities of a skipped component are zero.

        Runs each component only on the images that selected it. Grouped convolution is used only if
        every image selects every component; for a subset, copying the weights costs as much time as
        it saves.
        """
        if chosen.all():
            return self.labels(maps).exp()
        result = torch.zeros(*chosen.shape, self.members.shape[1], device=maps.device)
        for index, (node, members) in enumerate(self.clusters.items()):
            rows = torch.nonzero(chosen[:, index]).flatten()
            if len(rows):
                labels = torch.tensor(members, device=maps.device)
                result[rows[:, None], index, labels] = self.inside(node, maps[rows]).exp()
        return result
