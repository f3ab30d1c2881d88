"""
`hiernet`: one network with a branch per group of labels.

The first blocks of the backbone are shared. The group head predicts the group; one branch per group
predicts the label within it: P(label) = P(group) · P(label given group). All parts are trained
together on the cross-entropy of P(label), and start from the blocks of the flat network. Method,
example and sources: `docs/methods/hiernet.md`.
"""

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from train import backbone
from train.backbone import Branch, Network
from train.backbone.parts import parts_by_name
from train.backbone.residual import BasicBlock
from train.backbone.siblings import Siblings
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.errors import BadHierarchy
from train.params.hiernet import Params
from train.runtime import checkpoint, seeds
from train.tree import hierarchy as trees

_PUBLISHED = {
    "relu": {9: (5, 2), 15: (9, 3), 21: (12, 4), 27: (16, 5), 54: (38, 4)},
    "elu": {9: (6, 2), 15: (9, 3), 21: (15, 2), 27: (19, 5), 54: (38, 4)},
}
"""Split and added blocks, by activation and number of residual blocks (section 5.7)."""
_SHARED, _ADDED = 0.6, 0.2  # shares of the blocks of other backbones, near those of the table


class Tree(nn.Module):
    """
    The shared blocks, the group head and the branches: images to log probabilities of the leaves.

    Source: Tempfli and Sándor, HierNet, sections 3.1 to 3.3.
    """

    order: Tensor  # (leaf,): index of a leaf among the labels of all branches in a row
    parents: Tensor  # (leaf,): group of each leaf

    def __init__(
        self,
        stem: nn.Module,
        group_head: Branch | None,
        branches: Mapping[str, Branch],
        *,
        clusters: Mapping[str, list[int]],
    ) -> None:
        """
        Takes over the parts.

        Args:
            stem: The shared blocks.
            group_head: The group head; None if there is only one cluster.
            branches: The branch of each cluster, by node; may be missing for a cluster of one label.
            clusters: The labels of each cluster, by node.
        """
        super().__init__()
        self.stem = stem
        self.group_head = group_head
        self.branches = nn.ModuleDict(branches)
        self.siblings = Siblings(self.branches)
        self.clusters = dict(clusters)
        # The labels of all branches in a row are a permutation of the leaves.
        inside = [leaf for members in clusters.values() for leaf in members]
        self.register_buffer("order", torch.tensor(inside).argsort())
        parents = trees.parents(list(clusters.values()))
        self.register_buffer("parents", torch.from_numpy(parents))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch leaf"]:
        r"""
        Returns $\log P(j) = \log q_{g(j)} + \log r_{g(j)}(j)$ with every branch executed.

        q are the probabilities of the groups, r_g those of the labels in group g (section 3.2).
        Rows of P sum to one, so that cross-entropy with log P as logits is -log P(true label).

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

    def labels(self, maps: Tensor) -> Float[Tensor, "batch leaf"]:
        """Returns log r of every label in its group, in the order of the leaves."""
        by_node = self.siblings.log_probabilities(maps)
        certain = torch.zeros(maps.shape[0], 1, device=maps.device)
        inside = [by_node.get(node, certain) for node in self.clusters]
        return torch.cat(inside, dim=1)[:, self.order]

    def inside(self, node: str, maps: Tensor) -> Float[Tensor, "batch member"]:
        """Returns log r of the labels of one cluster; zero for a cluster without a branch."""
        if node not in self.branches:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        return torch.log_softmax(self.branches[node](maps).float(), dim=1)


class Classifier(nn.Module):
    """
    A tree of two levels, trained as one network.

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
            BadHierarchy: There is only one label, a level between clusters and labels, or a label
                in two clusters.
            BadParams: The backbone has fewer blocks than split and group head need.
        """
        super().__init__()
        _check(hierarchy)
        self.params, self.hierarchy, self.build = params, hierarchy, build
        nodes = trees.children(hierarchy, trees.ROOT)
        clusters = dict(zip(nodes, trees.clusters(hierarchy), strict=True))
        self.leaves = sum(map(len, clusters.values()))
        whole = build(self.leaves)
        split, added = _division(params, whole)
        self.first_own, self.last_added = split + 1, split + added
        self.block_macs, self.side = backbone.macs_of_blocks(whole), whole.side
        self.network = Tree(
            whole.blocks[: self.first_own],
            self._group_head(len(clusters)) if len(clusters) > 1 else None,
            {
                node: self._branch(len(members))
                for node, members in clusters.items()
                if len(members) > 1 or not params.prune_singletons
            },
            clusters=clusters,
        )
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
        return FitReport((report,))

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
        maps = self.network.stem(self._centred(x))
        chosen = self.network.groups(maps).exp().argmax(dim=1)
        result = torch.zeros(x.shape[0], self.leaves, device=x.device)
        for index, (node, members) in enumerate(self.network.clusters.items()):
            rows = torch.nonzero(chosen == index).flatten()
            if len(rows):
                inside = self.network.inside(node, maps[rows]).exp()
                result[rows[:, None], torch.tensor(members, device=x.device)] = inside
        return result

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns q, the probabilities of the clusters, in their order."""
        return self.network.groups(self.network.stem(self._centred(x))).exp()

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (route), `executed` in that mode, `full` and `coarse` of one forward pass."""
        maps = self.network.stem(self._centred(x))
        groups, labels = self.network.groups(maps), self.network.labels(maps)
        coarse, parents = groups.exp(), self.network.parents
        chosen = coarse.argmax(dim=1)
        route = labels.exp() * (chosen[:, None] == parents)
        full = (groups[:, parents] + labels).exp()
        index_of = {node: index for index, node in enumerate(self.network.clusters)}
        branches = [chosen == index_of[node] for node in self.network.branches]
        executed = torch.stack([torch.ones_like(chosen, dtype=torch.bool), *branches], dim=1)
        return {"default": route, "executed": executed, "full": full, "coarse": coarse}

    def cost(self) -> Cost:
        """
        Returns the number of parameters and the MACs; part `root` is the shared blocks and the
        group head.

        Example:
            resnet20 at 32 pixels with groups of 40, 20, 12, 8, 7, 6, 5 and 2 labels: 1,924,924
            parameters; 49,204,224 MACs by the route to the largest group, 173,988,608 in full.
        """
        shared, own = self.block_macs[: self.first_own], self.block_macs[self.first_own :]
        macs = {trees.ROOT: sum(shared)}
        if self.network.group_head is not None:
            added = self.block_macs[self.first_own : self.last_added + 1]
            macs[trees.ROOT] += sum(added) + backbone.macs_of_head(self.network.group_head.head)
        for node, branch in self._branches().items():
            macs[node] = sum(own) + backbone.macs_of_head(branch.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _centred(self, x: Tensor) -> Tensor:
        return augment.middle(x - self.mean[:, None, None], self.side)

    def _group_head(self, outputs: int) -> Branch:
        """Returns the group head: copies of blocks after the split, pooling, a dense layer (3.3)."""
        whole = self.build(outputs)
        own = whole.blocks[self.first_own : self.last_added + 1]
        channels = backbone.channels_after(whole, self.last_added + 1)
        # The head of an elu resnet starts with an activation; this head needs it as well.
        head = backbone.pooled_head(channels, outputs, before=getattr(whole.head, "act", None))
        backbone.replace_last(head, outputs=outputs)
        return Branch(own, head)

    def _branch(self, outputs: int) -> Branch:
        whole = self.build(outputs)
        return Branch(whole.blocks[self.first_own :], whole.head)

    def _branches(self) -> dict[str, Branch]:
        return parts_by_name(Branch, self.network.branches)

    def _copy_flat(self, start: Mapping[str, Tensor] | None) -> None:
        """Copies the blocks of the flat network into all parts of the tree."""
        if start is None:
            raise MissingInput(
                "The blocks start from the flat network of the same seed, which has not been trained. "
                "Run stage 'flat' first, or set hiernet.transfer: false."
            )
        flat = self.build(self.leaves)
        checkpoint.fill(flat, start, source="the flat network")
        backbone.copy_parts(flat.blocks, self.network.stem)
        if self.network.group_head is not None:
            backbone.copy_parts(flat.blocks, self.network.group_head.blocks)
        for branch in self._branches().values():
            backbone.copy_parts(flat.blocks, branch.blocks)
            backbone.copy_parts(flat.head, branch.head, but="predictions")

    def _draw_last_layers(self, seed: int) -> None:
        """Initialises the last layers of the group head and the branches, each from its own seed."""
        if self.network.group_head is not None:
            seeds.seed(seed, "hiernet", trees.ROOT)
            clusters = len(self.network.clusters)
            backbone.replace_last(self.network.group_head.head, outputs=clusters)
        for node, branch in self._branches().items():
            seeds.seed(seed, "hiernet", node)
            backbone.replace_last(branch.head, outputs=len(self.network.clusters[node]))


def _check(hierarchy: nx.DiGraph) -> None:
    """Refuses a hierarchy that is no tree of root, clusters and labels."""
    trees.leaf_count(hierarchy)
    if not nx.is_tree(hierarchy):
        raise BadHierarchy(
            "hiernet takes a tree, and a label of this hierarchy has two parents. Choose a "
            "grouping without overlap."
        )
    deepest = max(len(path) for path in trees.paths(hierarchy).values())
    if deepest > 3:
        raise BadHierarchy(
            f"The tree has {deepest} levels, and hiernet takes three: root, clusters, labels. "
            "Choose a grouping of two levels."
        )


def _division(params: Params, network: Network) -> tuple[int, int]:
    """
    Returns the numbers of shared blocks, without the first block, and of the group head's blocks.

    Raises:
        BadParams: The backbone has only one block, or fewer blocks than both numbers together.
    """
    blocks = len(network.blocks) - 1
    if not blocks:
        raise BadParams(
            "The backbone has one block, and hiernet shares some blocks and copies the others. Choose "
            "another backbone.name, such as resnet20."
        )
    flavour = "elu" if hasattr(network.head, "act") else "relu"
    is_basic = all(isinstance(block, BasicBlock) for block in list(network.blocks)[1:])
    published = _PUBLISHED[flavour].get(blocks) if is_basic else None
    usual_split, usual_added = published or (
        round(_SHARED * blocks),
        max(1, round(_ADDED * blocks)),
    )
    split = usual_split if params.split is None else params.split
    added = params.group_blocks
    if added is None:
        added = max(0, min(usual_added, blocks - split))
    if split + added > blocks:
        raise BadParams(
            f"hiernet.split {split} and hiernet.group_blocks {added} are more than the {blocks} "
            "blocks that this backbone has after the first one. Lower one of them."
        )
    return split, added
