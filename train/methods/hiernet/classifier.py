"""
`hiernet`: one network with a branch per group of labels.

The first blocks of the backbone are shared. The group head predicts the group; one branch per group
predicts the label within it: P(label) = P(group) · P(label given group). In a tree of several levels
a group is divided in the same way. All parts are trained together on the cross-entropy of P(label),
and start from the blocks of the flat network. Method, example and sources: `docs/methods/hiernet.md`.
"""

from collections.abc import Callable, Iterator, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae.errors import MissingInput
from train import backbone
from train.backbone import Branch, Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.errors import BadHierarchy
from train.methods.hiernet import splits
from train.methods.hiernet.tree import Tree
from train.params.hiernet import Params
from train.runtime import checkpoint, seeds
from train.tree import hierarchy as trees


class Classifier(nn.Module):
    """
    A tree of any depth, trained as one network.

    Source: Tempfli and Sándor, HierNet: Image Recognition with Hierarchical Convolutional Networks,
    sections 3 and 5.7 (tables 1 and 2).

    Differs from the paper:
        `default` is the paper's routing evaluation (`route`), as in `uppsala`; `full` is its
        conditional evaluation (section 3.2). Hidden dense layers, which the paper's backbones do
        not have, belong to the branches; the group head has none. Learning rates and epochs are
        those of section `loop`.
    """

    mean: Tensor

    def __init__(
        self,
        params: Params,
        *,
        hierarchy: nx.DiGraph,
        build: Callable[[int], Network],
        mean: Float[np.ndarray, "3"],
    ) -> None:
        """
        Builds the shared blocks, the group head and a branch per cluster.

        Raises:
            BadHierarchy: There is only one label, or a label in two clusters.
            BadParams: The backbone has fewer blocks than splits and group head need.
        """
        super().__init__()
        _check(hierarchy)
        self.params, self.hierarchy, self.build = params, hierarchy, build
        self.leaves = len(hierarchy.nodes[trees.ROOT]["members"])
        whole = build(self.leaves)
        self.ends = splits.shared(params, whole, levels=_levels(hierarchy, trees.ROOT) - 1)
        self.added = splits.division(params, whole)[1]
        self.block_macs, self.side = backbone.macs_of_blocks(whole), whole.side
        self.network = self._tree(trees.ROOT, whole.blocks[: self.ends[0]], level=0)
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
    ) -> FitReport:
        """
        Trains all parts together, on the cross-entropy of the label probabilities.

        Raises:
            MissingInput: The blocks start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        if self.params.transfer:
            self._copy_flat(start)
        self._draw_last_layers(seed)
        task = Task(
            name=trees.ROOT,
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampling.by_label(
                data.train.labels, range(self.leaves), balance=self.params.balance
            ),
            macs_trained=self.cost().macs_max,
            epochs=self.params.epochs,
            lr_scale=self.params.lr_scale if self.params.transfer else 1.0,
        )
        report = trainer.fit(self.network, task, seed=seed)
        self.eval()
        return FitReport((report,), from_flat=self.params.transfer)

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns the leaf probabilities by `route` (the default) or in `full`.

        `route` executes only the branch of the likeliest group and returns r of that group; other
        leaves get zero. `full` executes every branch and returns P, on which the network is trained.
        """
        if mode == "full":
            logarithms: Tensor = self.network(self._centred(x))
            return logarithms.exp()
        return self.network.route(self._centred(x))

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns q, the probabilities of the clusters, in their order."""
        return self.network.groups(self.network.stem(self._centred(x))).exp()

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (route), `executed` in that mode, `full` and `coarse` of one forward pass."""
        outputs = self.network.everything(self._centred(x))
        always = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        executed = [outputs.executed.get(part, always) for part in self.cost().macs]
        return {
            "default": outputs.route,
            "executed": torch.stack(executed, dim=1),
            "full": outputs.labels.exp(),
            "coarse": outputs.groups.exp(),
        }

    def cost(self) -> Cost:
        """
        Returns the number of parameters and the MACs; part `root`, and each node with groups of its
        own, has the blocks that its groups share and its group head.

        Example:
            resnet20 at 32 pixels with groups of 40, 20, 12, 8, 7, 6, 5 and 2 labels: 1,924,924
            parameters; 49,204,224 MACs by the route to the largest group, 173,988,608 in full.
        """
        macs: dict[str, int] = {}
        for node, level, part in self._parts():
            begin = self.ends[level - 1] if level else 0
            if isinstance(part, Branch):
                macs[node] = sum(self.block_macs[begin:]) + backbone.macs_of_head(part.head)
                continue
            end = self.ends[level]
            macs[node] = sum(self.block_macs[begin:end])
            if part.group_head is not None:
                added = self.block_macs[end : end + self.added]
                macs[node] += sum(added) + backbone.macs_of_head(part.group_head.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _centred(self, x: Tensor) -> Tensor:
        return augment.middle(x - self.mean[:, None, None], self.side)

    def _tree(self, node: str, stem: nn.Module, *, level: int) -> Tree:
        """Returns the tree below a node, whose groups share the blocks of `stem`."""
        graph = self.hierarchy
        rank = {leaf: index for index, leaf in enumerate(graph.nodes[node]["members"])}
        below = {child: graph.nodes[child]["members"] for child in trees.children(graph, node)}
        head = self._group_head(len(below), level=level) if len(below) > 1 else None
        branches: dict[str, Branch | Tree] = {}
        for child, members in below.items():
            if _levels(graph, child) > 1:
                own = self.build(len(members)).blocks[self.ends[level] : self.ends[level + 1]]
                branches[child] = self._tree(child, own, level=level + 1)
            elif len(members) > 1 or not self.params.prune_singletons:
                whole = self.build(len(members))
                branches[child] = Branch(whole.blocks[self.ends[level] :], whole.head)
        clusters = {child: [rank[leaf] for leaf in members] for child, members in below.items()}
        return Tree(stem, head, branches, clusters=clusters)

    def _group_head(self, outputs: int, *, level: int) -> Branch:
        """Returns a group head: copies of blocks after the split, pooling, a dense layer (3.3)."""
        whole = self.build(outputs)
        end = min(self.ends[level] + self.added, len(whole.blocks))
        channels = backbone.channels_after(whole, end)
        # The head of an elu resnet starts with an activation; this head needs it as well.
        head = backbone.pooled_head(channels, outputs, before=getattr(whole.head, "act", None))
        backbone.replace_last(head, outputs=outputs)
        return Branch(whole.blocks[self.ends[level] : end], head)

    def _parts(self) -> Iterator[tuple[str, int, Branch | Tree]]:
        """Yields every node with a part of its own, its level, and the part; parents come first."""
        level, parts = 0, dict[str, Branch | Tree]({trees.ROOT: self.network})
        while parts:
            yield from ((node, level, part) for node, part in parts.items())
            deeper = [part.branches for part in parts.values() if isinstance(part, Tree)]
            parts = {
                node: part
                for branches in deeper
                for node, part in branches.items()
                if isinstance(part, Branch | Tree)
            }
            level += 1

    def _copy_flat(self, start: Mapping[str, Tensor] | None) -> None:
        """Copies the blocks of the flat network into all parts of the tree."""
        if start is None:
            raise MissingInput(
                "The blocks start from the flat network of the same seed, which has not been trained. "
                "Run stage 'flat' first, or set hiernet.transfer: false."
            )
        flat = self.build(self.leaves)
        checkpoint.fill(flat, start, source="the flat network")
        for _, _, part in self._parts():
            if isinstance(part, Branch):
                backbone.copy_parts(flat.blocks, part.blocks)
                backbone.copy_parts(flat.head, part.head, but="predictions")
                continue
            backbone.copy_parts(flat.blocks, part.stem)
            if part.group_head is not None:
                backbone.copy_parts(flat.blocks, part.group_head.blocks)

    def _draw_last_layers(self, seed: int) -> None:
        """Initialises the last layers of group heads and branches, each from its own seed."""
        for node, _, part in self._parts():
            head = part.group_head if isinstance(part, Tree) else part
            if head is not None:
                seeds.seed(seed, "hiernet", node)
                members = self.hierarchy.nodes[node]["members"]
                outputs = len(part.clusters) if isinstance(part, Tree) else len(members)
                backbone.replace_last(head.head, outputs=outputs)


def _levels(hierarchy: nx.DiGraph, node: str) -> int:
    """Returns how many nodes decide on the longest path from `node` to a label below it."""
    below = trees.children(hierarchy, node)
    return 1 + max((_levels(hierarchy, child) for child in below), default=-1)


def _check(hierarchy: nx.DiGraph) -> None:
    """Refuses a hierarchy that is no tree."""
    trees.leaf_count(hierarchy)
    if not nx.is_tree(hierarchy):
        raise BadHierarchy(
            "hiernet takes a tree, and a label of this hierarchy has two parents. Choose a "
            "grouping without overlap."
        )
