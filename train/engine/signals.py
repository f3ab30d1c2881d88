r"""
Training signals beside the label, from a tree of the labels or from the network's own predictions.

They act in training only: the trained network, its predictions and their cost are those of a network
that was trained without them. Formulas and sources: `docs/methods/flat.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name in torch's documentation
from jaxtyping import Float, Int
from torch import Tensor, nn

from train import backbone
from train.backbone import Network
from train.engine.losses import Counting, cross_entropy, logits_of
from train.tree import hierarchy as trees


def tree_rows(groups: Int[Tensor, " label"], *, share: float) -> Float[Tensor, "label label"]:
    """
    Returns where the smoothed mass of each label goes; each row sums to one.

    `share` of it goes to the labels of the same group, the label itself included, in equal parts,
    and the rest to all labels. `groups` has the group of each label.

    Example:
        Groups (0, 0, 1, 1), share .5: row 0 is (.375, .375, .125, .125).
    """
    same = (groups[:, None] == groups[None, :]).double()
    inside = same / same.sum(dim=1, keepdim=True)
    return (share * inside + (1 - share) / len(groups)).float()


@dataclass(frozen=True, slots=True)
class TreeSmoothing:
    r"""
    Cross-entropy with targets $(1 - \epsilon) [j = y] + \epsilon R_{yj}$; uniform rows R are label smoothing.

    Source: Bertinetto, Mueller, Tertikas, Samangooei and Lord, Making Better Mistakes, CVPR 2020,
    section on soft labels, with the two levels of one grouping instead of all heights of a tree.
    """

    rows: Float[Tensor, "label label"]

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images; epsilon is `counting.label_smoothing`."""
        logits = logits_of(output)
        smoothed = counting.label_smoothing * self.rows.to(logits.device)[targets]
        smoothed[torch.arange(len(targets), device=logits.device), targets] += (
            1 - counting.label_smoothing
        )
        return F.cross_entropy(logits, smoothed, weight=counting.weights, reduction="sum")


@dataclass(frozen=True, slots=True)
class Curriculum:
    r"""
    Coarse to fine: cross-entropy of the groups at first, $-\log \sum_{j \in g(y)} p_j$, then of the labels.

    Source: Stretcu, Platanios, Mitchell and Poczos, Coarse-to-Fine Curriculum Learning (arXiv 2106.04072),
    with one coarse level, and one softmax over the labels throughout.
    """

    groups: Int[Tensor, " label"]
    """The group of each label."""
    until: float
    """Share of the schedule after which labels are learnt."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images."""
        if counting.progress >= self.until:
            return cross_entropy(output, targets, counting)
        logits = logits_of(output)
        groups = self.groups.to(logits.device)
        return _group_loss(_group_logits(logits, groups), groups[targets], targets, counting)


@dataclass(frozen=True, slots=True)
class HierarchicalCrossEntropy:
    r"""
    Cross-entropy of each decision on the path to the label: of the label in its group, and of the group.

    $-\log p(y \mid g(y)) - e^{-\alpha} \log p(g(y))$, where the probability of a group is the sum over
    its labels. With $\alpha = 0$ it is the cross-entropy of the labels.

    Source: Bertinetto, Mueller, Tertikas, Samangooei and Lord, Making Better Mistakes, CVPR 2020,
    section on hierarchical cross-entropy, with the two levels of one grouping.
    """

    groups: Int[Tensor, " label"]
    """The group of each label."""
    decay: float
    """Alpha: each level further up counts exp(-alpha) times the level below it."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images; targets are not smoothed."""
        logits, groups = logits_of(output), self.groups.to(targets.device)
        of_groups = _group_logits(logits, groups)
        label = F.cross_entropy(logits, targets, reduction="none")
        group = F.cross_entropy(of_groups, groups[targets], reduction="none")
        each = label - group + math.exp(-self.decay) * group
        return (each if counting.weights is None else each * counting.weights[targets]).sum()


@dataclass(frozen=True, slots=True)
class CoarseHeadLoss:
    """Cross-entropy of the labels plus `weight` times that of the groups, from a head of their own."""

    groups: Int[Tensor, " label"]
    """The group of each label."""
    weight: float

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images; `output` has the logits of labels and of groups."""
        groups = self.groups.to(targets.device)
        coarse = _group_loss(output[1].float(), groups[targets], targets, counting)
        return cross_entropy(output, targets, counting) + self.weight * coarse


class WithCoarseHead(nn.Module):
    """A network with a second head over groups of labels, on the maps of an earlier block."""

    def __init__(self, network: Network, *, after: int, groups: int) -> None:
        """
        Keeps a reference to the network, and draws the head from torch's generator.

        `after` is the number of blocks below the head.
        """
        super().__init__()
        self.network = network
        self.after = after
        self.coarse = backbone.pooled_head(backbone.channels_after(network, after), groups)

    @property
    def macs(self) -> int:
        """MACs per image of the second head."""
        return backbone.macs_of_head(self.coarse)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Any:
        """Returns the logits of labels, and in training those of groups too."""
        maps = self.network.blocks[: self.after](x)
        logits = self.network.head(self.network.blocks[self.after :](maps))
        if not self.training:
            return logits
        # The one block of some networks of a library returns vectors.
        return logits, self.coarse(maps if maps.ndim == 4 else maps[:, :, None, None])


class OnlineTargets(nn.Module):
    """
    A network, and for each label the mean of its probabilities for images that it predicts rightly.

    The means of one epoch are the soft targets of the next; in the first epoch they are uniform.

    Source: Zhang, Jiang, Hou, Wei, Han, Li and Cheng, Delving Deep into Label Smoothing (arXiv 2011.12562),
    section on online label smoothing.

    Differs from the paper:
        Under `torchrun` the means of rank 0 are used, over its own images; an epoch is then its
        share of the images, rounded down.
    """

    soft: Tensor  # (label, label): row y is the soft target of label y
    sums: Tensor  # (label, label): probabilities of this epoch, by label
    counts: Tensor  # (label,): images behind each row of `sums`
    seen: Tensor  # (): images of this epoch

    def __init__(self, network: nn.Module, *, labels: int, epoch_images: int) -> None:
        """Keeps a reference to the network; `epoch_images` is the number of images in an epoch."""
        super().__init__()
        self.network = network
        self.epoch_images = epoch_images
        self.register_buffer("soft", torch.full((labels, labels), 1 / labels))
        self.register_buffer("sums", torch.zeros(labels, labels))
        self.register_buffer("counts", torch.zeros(labels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(
        self, x: Float[Tensor, "batch 3 height width"], targets: Int[Tensor, " batch"] | None = None
    ) -> Any:
        """Returns the logits, and in training the soft targets of the images too."""
        logits: Tensor = self.network(x)
        if targets is None or not self.training:
            return logits
        soft = self.soft[targets]
        self._remember(logits.detach().float(), targets)
        return logits, soft

    @torch.no_grad()
    def _remember(self, logits: Tensor, targets: Tensor) -> None:
        right = logits.argmax(dim=1) == targets
        self.sums.index_add_(0, targets[right], torch.softmax(logits[right], dim=1))
        self.counts.index_add_(0, targets[right], torch.ones_like(logits[right, 0]))
        self.seen += len(targets)
        if int(self.seen) >= self.epoch_images:
            known = self.counts > 0
            self.soft[known] = self.sums[known] / self.counts[known, None]
            for buffer in (self.sums, self.counts, self.seen):
                buffer.zero_()


def online_smoothing(
    output: Any, targets: Int[Tensor, " batch"], counting: Counting
) -> Float[Tensor, ""]:
    """Returns half the cross-entropy of the labels plus half that of the soft targets, summed."""
    logits = logits_of(output)
    hard = F.cross_entropy(logits, targets, weight=counting.weights, reduction="sum")
    if not isinstance(output, tuple):
        return hard
    soft = F.cross_entropy(logits, output[1], weight=counting.weights, reduction="sum")
    return (hard + soft) / 2


def groups_of(clusters: Sequence[Sequence[int]], labels: int) -> Int[Tensor, " label"]:
    """
    Returns the group of each label.

    Raises:
        ValueError: The clusters are no partition of the labels, or there is no group of several.
    """
    owners = trees.membership(clusters, labels).sum(axis=0)
    if (owners > 1).any():
        raise ValueError("a label lies in several groups")
    if (owners < 1).any() or len(clusters) in (1, labels):
        raise ValueError("there are no groups of labels")
    return torch.from_numpy(trees.parents(clusters))


def _group_logits(
    logits: Float[Tensor, "batch label"], groups: Int[Tensor, " label"]
) -> Float[Tensor, "batch group"]:
    """Returns the logarithm of the summed exponentials of each group's logits."""
    columns = [logits[:, groups == group] for group in range(int(groups.max()) + 1)]
    return torch.stack([torch.logsumexp(column, dim=1) for column in columns], dim=1)


def _group_loss(
    logits: Float[Tensor, "batch group"],
    groups: Int[Tensor, " batch"],
    targets: Int[Tensor, " batch"],
    counting: Counting,
) -> Float[Tensor, ""]:
    """Returns the cross-entropy of the groups; an image has the class weight of its label."""
    each = F.cross_entropy(
        logits, groups, reduction="none", label_smoothing=counting.label_smoothing
    )
    return (each if counting.weights is None else each * counting.weights[targets]).sum()
