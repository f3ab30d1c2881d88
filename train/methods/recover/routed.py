"""The network of `recover`: a trunk, an exit over all labels, and tails over sets of labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from train.backbone import Branch
from train.backbone.parts import parts_by_name
from train.backbone.siblings import Siblings
from train.engine.losses import Counting, cross_entropy
from train.methods.recover import mixing
from train.tree import hierarchy as trees


class Routed(nn.Module):
    """
    Every image passes the trunk and the exit; in training it also passes one tail.

    A set of one label has no tail: its probability is that of the exit.
    """

    members: Tensor  # (set, label), bool: the labels of each tail's set
    positions: Tensor  # (set, label), int64: index of a label among the tail's outputs

    def __init__(
        self,
        trunk: nn.Module,
        exit_: nn.Module,
        tails: Mapping[str, Branch],
        *,
        sets: Mapping[str, list[int]],
        labels: int,
        routed: float,
    ) -> None:
        """
        Takes over the parts.

        Args:
            trunk: The shared blocks.
            exit_: The head over all labels, on the maps of the trunk.
            tails: The tail of each set, by node.
            sets: The labels of each tail, by the same nodes.
            labels: Number of all labels.
            routed: Share of the training images that are routed as predictions are.
        """
        super().__init__()
        self.trunk, self.exit = trunk, exit_
        self.tails = nn.ModuleDict(tails)
        self.siblings = Siblings(self.tails)
        self.routed = routed
        members = torch.from_numpy(trees.membership(list(sets.values()), labels))
        positions = torch.zeros(len(sets), labels, dtype=torch.int64)
        for index, own in enumerate(sets.values()):
            positions[index, own] = torch.arange(len(own))
        self.register_buffer("members", members)
        self.register_buffer("positions", positions)

    def forward(
        self, x: Float[Tensor, "batch 3 height width"], targets: Int[Tensor, " batch"] | None = None
    ) -> Any:
        """
        Returns the exit's logits; in training also the tails' part of the loss.

        That is, for each image, the log probability of its label in its tail, and the mean of the
        log probabilities of that tail's labels; both zero for a label without a tail.
        """
        maps = self.trunk(x)
        logits = self.at_exit(maps)
        if targets is None or not self.training:
            return logits
        own = self._assigned(logits, targets)
        of_label = torch.zeros(len(targets), device=logits.device)
        of_all = torch.zeros_like(of_label)
        for index, tail in enumerate(self._tails().values()):
            rows = torch.nonzero(own == index).flatten()
            if not len(rows):
                # A tail without images still takes part, because every process must reduce it.
                of_all = of_all + 0 * sum(part.sum() for part in tail.parameters())
                continue
            # Batch norm takes no batch of one value: a lone image is computed twice.
            own_maps = maps[rows] if len(rows) > 1 else maps[rows].repeat(2, 1, 1, 1)
            inside = torch.log_softmax(tail(own_maps).float(), dim=1)[: len(rows)]
            columns = self.positions[index, targets[rows]]
            of_label = of_label.index_put((rows,), inside[torch.arange(len(rows)), columns])
            of_all = of_all.index_put((rows,), inside.mean(dim=1))
        return logits, of_label, of_all

    def at_exit(self, maps: Tensor) -> Float[Tensor, "batch label"]:
        """Returns the exit's logits; its pooling sums in one order, whatever the memory layout is."""
        logits: Tensor = self.exit(maps.contiguous())
        return logits

    def inside(self, node: str, maps: Tensor) -> Float[Tensor, "batch member"]:
        """Returns q of the labels of one set."""
        return torch.softmax(self._tails()[node](maps).float(), dim=1)

    def spread(self, maps: Tensor) -> Float[Tensor, "batch set label"]:
        """Returns q of every set, zero outside of it, with every tail executed."""
        by_node = self.siblings.log_probabilities(maps)
        rows = [
            torch.zeros(maps.shape[0], self.members.shape[1], device=maps.device).index_copy(
                1, torch.nonzero(self.members[index]).flatten(), logarithms.exp()
            )
            for index, logarithms in enumerate(by_node.values())
        ]
        return torch.stack(rows, dim=1)

    @torch.no_grad()
    def _assigned(
        self, logits: Float[Tensor, "batch label"], targets: Int[Tensor, " batch"]
    ) -> Int[Tensor, " batch"]:
        """Returns the set of each image, drawn among those of its label; -1 if there is none."""
        own = self.members.T[targets].float()  # (batch, set)
        has_tail = own.any(dim=1)
        own[~has_tail, 0] = 1.0  # multinomial takes no row of zeros
        by_label = torch.multinomial(own, 1).flatten()
        exit_ = torch.softmax(logits.float(), dim=1)
        routed = mixing.chosen(exit_, self.members, tails=1).flatten()
        is_right = self.members[routed, targets]
        is_routed = torch.rand(len(targets), device=logits.device) < self.routed
        assigned = torch.where(is_right & is_routed, routed, by_label)
        result: Tensor = assigned.masked_fill(~has_tail, -1)
        return result

    def _tails(self) -> dict[str, Branch]:
        return parts_by_name(Branch, self.tails)


@dataclass(frozen=True, slots=True)
class ExitAndTail:
    """Cross-entropy of the exit over all labels, plus that of one tail over the labels of its set."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images; both terms have the same smoothing and class weights."""
        loss = cross_entropy(output, targets, counting)
        if not isinstance(output, tuple):
            return loss
        _, of_label, of_all = output
        smoothing = counting.label_smoothing
        tail = -(1 - smoothing) * of_label - smoothing * of_all
        weighted = tail if counting.weights is None else tail * counting.weights[targets]
        total: Tensor = loss + weighted.sum()
        return total
