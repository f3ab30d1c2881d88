"""The network of HierNet: shared blocks, a head over the groups, and a branch or a deeper tree for each."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.backbone import Branch
from train.backbone.siblings import Siblings
from train.tree import hierarchy as trees


class TreeOutputs(NamedTuple):
    """What one forward pass of every branch gives."""

    groups: Float[Tensor, "batch cluster"]
    """log q."""
    labels: Float[Tensor, "batch label"]
    """log P."""
    route: Float[Tensor, "batch label"]
    """Probabilities by `route`."""
    executed: dict[str, Tensor]
    """Where `route` executes a node below the tree's own: (batch,), bool."""


class Tree(nn.Module):
    """
    The shared blocks, the group head and the branches: images, or maps, to log P of the labels.

    In a tree of several levels a branch is a tree again, whose input are the maps of the tree above.
    Its labels are those of its node, in ascending order.

    Source: Tempfli and Sándor, HierNet, sections 3.1 to 3.3.
    """

    order: Tensor  # (label,): index of a label among the labels of all branches in a row
    parents: Tensor  # (label,): group of each label

    def __init__(
        self,
        stem: nn.Module,
        group_head: Branch | None,
        branches: "Mapping[str, Branch | Tree]",
        *,
        clusters: Mapping[str, list[int]],
    ) -> None:
        """
        Takes over the parts.

        Args:
            stem: The shared blocks.
            group_head: The group head; None if there is only one cluster.
            branches: The branch of each cluster, by node; may be missing for a cluster of one label.
            clusters: The labels of each cluster, by node, as numbers from 0 among those of the tree.
        """
        super().__init__()
        self.stem = stem
        self.group_head = group_head
        self.branches = nn.ModuleDict(branches)
        last = {node: part for node, part in branches.items() if isinstance(part, Branch)}
        self.siblings = Siblings(nn.ModuleDict(last))
        self.clusters = dict(clusters)
        # The labels of all branches in a row are a permutation of the labels.
        inside = [label for members in clusters.values() for label in members]
        self.register_buffer("order", torch.tensor(inside).argsort())
        parents = trees.parents(list(clusters.values()))
        self.register_buffer("parents", torch.from_numpy(parents))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch label"]:
        r"""
        Returns $\log P(j) = \log q_{g(j)} + \log r_{g(j)}(j)$ with every branch executed.

        q are the probabilities of the groups, r_g those of the labels in group g (section 3.2), which
        are such products again where the group has groups. Rows of P sum to one, so that
        cross-entropy with log P as logits is -log P(true label).

        Example:
            q = (.6, .4), r_0 = (.5, .3, .2), r_1 = (.9, .1): P = (.30, .18, .12, .36, .04), and the
            loss of label 3 is 1.021651.
        """
        maps = self.stem(x)
        return self.groups(maps)[:, self.parents] + self.labels(maps)

    def groups(self, maps: Tensor) -> Float[Tensor, "batch cluster"]:
        """Returns log q from the maps after the shared blocks; zero for a single cluster."""
        if self.group_head is None:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        return torch.log_softmax(self.group_head(maps).float(), dim=1)

    def labels(self, maps: Tensor) -> Float[Tensor, "batch label"]:
        """Returns log r of every label in its group, in the order of the labels."""
        by_node = self.siblings.log_probabilities(maps)
        deeper = {node: tree(maps) for node, tree in self.trees()}
        return self._in_order(by_node | deeper, maps)

    def route(self, x: Tensor) -> Float[Tensor, "batch label"]:
        """Returns r of the likeliest group at each level; only its branch is executed."""
        maps = self.stem(x)
        chosen = self.groups(maps).argmax(dim=1)
        result = torch.zeros(x.shape[0], len(self.order), device=x.device)
        for index, (node, members) in enumerate(self.clusters.items()):
            rows = torch.nonzero(chosen == index).flatten()
            if not len(rows):
                continue
            inside = torch.ones(len(rows), 1, device=x.device)
            if node in self.branches:
                branch = self.branches[node]
                inside = (
                    branch.route(maps[rows])
                    if isinstance(branch, Tree)
                    else torch.softmax(branch(maps[rows]).float(), dim=1)
                )
            result[rows[:, None], torch.tensor(members, device=x.device)] = inside
        return result

    def everything(self, x: Tensor) -> TreeOutputs:
        """Returns log q, log P, and `route` with the nodes that it executes."""
        maps = self.stem(x)
        groups, by_node = self.groups(maps), self.siblings.log_probabilities(maps)
        chosen = groups.argmax(dim=1)
        index_of = {node: index for index, node in enumerate(self.clusters)}
        executed = {node: chosen == index_of[node] for node in self.branches}
        routes = {node: logarithms.exp() for node, logarithms in by_node.items()}
        for node, tree in self.trees():
            below = tree.everything(maps)
            by_node[node], routes[node] = below.labels, below.route
            executed |= {name: mask & executed[node] for name, mask in below.executed.items()}
        labels = self._in_order(by_node, maps)
        route = self._in_order(routes, maps, alone=1.0) * (chosen[:, None] == self.parents)
        return TreeOutputs(groups, groups[:, self.parents] + labels, route, executed)

    def trees(self) -> "Iterator[tuple[str, Tree]]":
        """Yields the branches that are trees, with their nodes."""
        for node, part in self.branches.items():
            if isinstance(part, Tree):
                yield node, part

    def _in_order(
        self, by_node: Mapping[str, Tensor], maps: Tensor, *, alone: float = 0.0
    ) -> Float[Tensor, "batch label"]:
        """Joins the values of all groups; a label without a branch has the value `alone`."""
        # `torch.full` would be a node `full` in ONNX, which is the name of an output.
        certain = torch.zeros(maps.shape[0], 1, device=maps.device) + alone
        inside = [by_node.get(node, certain) for node in self.clusters]
        return torch.cat(inside, dim=1)[:, self.order]
