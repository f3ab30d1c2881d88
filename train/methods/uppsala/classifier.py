"""
`uppsala`: a root network over clusters, and a fine-tuned subnetwork per cluster.

The root starts from the flat network with a new last layer. A subnetwork is a copy of its trained
parent; its convolutions are shared and frozen, so that an image passes through them once. A cluster
may contain clusters, from the given tree or from the confusions of its own subnetwork. Method,
example and sources: `docs/methods/uppsala.md`.
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from personae.sampling import Sampler
from train import backbone
from train.backbone import Attached, Branch, Network
from train.backbone.parts import parts_by_name
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.evaluation import metrics, prediction
from train.grouping import modularity
from train.methods.uppsala import descent, nodes
from train.params.uppsala import Params
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy as trees

log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """
    A tree of networks.

    Source: Colin and Nagarajan, A hierarchical architecture of CNNs to increase the performance on
    a categorization problem, Uppsala University 2018, section 4.2.

    Differs from the paper:
        The shared convolutions are executed once per image: in a tree of two levels a prediction
        has 1.0018 times the MACs of the flat network. The report loads and executes whole networks
        one after the other: 2 times. The report proposes rollback and extension but does not
        implement them.
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
        Builds the root, and an untrained branch for each node below it with several children.

        Raises:
            BadHierarchy: There is only one label, or a node has two parents.
        """
        super().__init__()
        self.leaves = trees.leaf_count(hierarchy)
        if not nx.is_tree(hierarchy):
            raise BadHierarchy(
                "uppsala takes a tree, and a node of this hierarchy has two parents. Choose a "
                "grouping without overlap."
            )
        self.params = params
        self.hierarchy = hierarchy
        self.root = build(len(trees.children(hierarchy, trees.ROOT)))
        blocks = len(self.root.blocks)
        self.first_own = {"conv": blocks, "last_block": blocks - 1, "none": 0}[params.freeze]
        self.branches = nn.ModuleDict()
        for node in nodes.with_network(hierarchy):
            self.branches[node] = self._branch(node, nodes.source(hierarchy, node))
        self.tasks: dict[str, str] = {}  # by node, the name of the training that ran last
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
        Trains the root, then level by level every subnetwork from its parent.

        With `depth`, a cluster whose subnetwork confuses its labels in groups is divided into these
        groups: a second network, `NODE-clusters`, starts from the subnetwork and predicts the group.

        Raises:
            BadHierarchy: All labels are in one cluster, `root_init` is scratch and convolutions are
                frozen, so that they would never be trained.
            BadParams: With `depth`, validation images are also trained on, or the tree is deeper.
            MissingInput: The root starts from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        self._check(data)
        reports = []
        trains_root = nodes.has_network(self.hierarchy, trees.ROOT)
        if self.params.root_init == "flat":
            self._copy_flat(start, seed=seed)
        if trains_root:
            reports.append(trainer.fit(self.root, self._root_task(data), seed=seed))
        self.tasks = {trees.ROOT: trees.ROOT} if trains_root else {}
        level = nodes.next_level(self.hierarchy, [trees.ROOT])
        while level:
            pairs = [self._own_task(data, node, seed=seed) for node in level]
            reports += trainer.fit_all(pairs, seed=seed)
            divided = [node for node in level if self._divide(node, data)]
            pairs = [self._own_task(data, node, seed=seed) for node in divided]
            reports += trainer.fit_all(pairs, seed=seed)
            level = nodes.next_level(self.hierarchy, level)
        self.eval()
        return FitReport(tuple(reports), from_flat=self.params.root_init == "flat")

    def refit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        again: Collection[str],
        anew: Collection[str],
    ) -> FitReport:
        """
        Trains the unshared layers of the root and some subnetworks; no other tensor changes.

        Source: Colin and Nagarajan, section 4.2.1, which proposes to extend the set of labels by
        training a part of the networks.

        Args:
            data: Images of all labels.
            trainer: Trains one network at a time.
            seed: Determines every random number of the training.
            again: Nodes whose subnetworks are trained further, from their weights.
            anew: Nodes whose subnetworks start from their parents.
        """
        reports = []
        if nodes.has_network(self.hierarchy, trees.ROOT):
            frozen = sum(backbone.macs_of_blocks(self.root)[: self.first_own])
            task = self._root_task(data)
            trained, rate = task.macs_trained - frozen, self.params.lr_scale
            task = replace(task, macs_trained=trained, macs_frozen=frozen, lr_scale=rate)
            own = Branch(self.root.blocks[self.first_own :], self.root.head)
            network = Attached(self.root.blocks[: self.first_own], own)
            reports.append(trainer.fit(network, task, seed=seed))
            self.tasks[trees.ROOT] = trees.ROOT
        changed = [node for node in self.branches if node in {*again, *anew}]
        pairs = [self._own_task(data, node, seed=seed, anew=node in anew) for node in changed]
        reports += trainer.fit_all(pairs, seed=seed)
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        r"""
        Returns the leaf probabilities by `route` (the default, the report's rule) or in `full`.

        `route` executes each network only for the images that reach it, and returns the
        probabilities of the last network; with rollback a network may reject an image. `full`
        returns $P(leaf) = \prod P(child | node)$ along the path of each leaf.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        maps = self._maps(x)

        def logits_of(node: str, mask: Bool[Tensor, " batch"]) -> Float[Tensor, "batch output"]:
            rows = torch.nonzero(mask).flatten()
            if len(rows) == len(maps):
                return self._logits(node, maps)
            logits = torch.zeros(len(maps), len(self._classes(node)), device=maps.device)
            if len(rows):
                logits[rows] = self._logits(node, maps[rows])
            return logits

        return self._route(logits_of, maps).rows

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the root's probabilities of its clusters, in their order."""
        logits = self._logits(trees.ROOT, self._maps(x))
        return descent.inside(self.hierarchy, trees.ROOT, logits)

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (route), `executed` in that mode, `full` and `coarse` of one forward pass."""
        maps = self._maps(x)
        logits = {node: self._logits(node, maps) for node in trees.inner(self.hierarchy)}
        route = self._route(lambda node, _: logits[node], maps)
        executed = [
            route.executed[node] for node in (trees.ROOT, *nodes.with_network(self.hierarchy))
        ]
        return {
            "default": route.rows,
            "executed": torch.stack(executed, dim=1),
            "full": descent.full(self.hierarchy, logits),
            "coarse": descent.inside(self.hierarchy, trees.ROOT, logits[trees.ROOT]),
        }

    def cost(self) -> Cost:
        """
        Returns the number of parameters and the MACs; the shared blocks belong to part `root`.

        Example:
            Six clusters of five labels at 128 pixels: root and one branch have 729,290,240 MACs,
            1.0018 times those of the flat network.
        """
        blocks = backbone.macs_of_blocks(self.root)
        shared, own = sum(blocks[: self.first_own]), sum(blocks[self.first_own :])
        macs = {"root": shared}
        if nodes.has_network(self.hierarchy, trees.ROOT):
            macs["root"] += own + backbone.macs_of_head(self.root.head)
        for node, branch in self._branches().items():
            macs[node] = own + backbone.macs_of_head(branch.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _check(self, data: DataModule) -> None:
        """Refuses impossible parameters before the training starts."""
        trains_root = nodes.has_network(self.hierarchy, trees.ROOT)
        if self.params.root_init == "scratch" and not trains_root and self.first_own:
            raise BadHierarchy(
                "One cluster holds every label, so there is no root to train, and its convolutions "
                "would stay random. Set uppsala.root_init: flat, or uppsala.freeze: none."
            )
        deepest = nodes.depth(self.hierarchy)
        if self.params.depth and self.params.depth < deepest:
            raise BadParams(
                f"uppsala.depth is {self.params.depth}, and the grouping has {deepest} networks on a "
                "path: it divides clusters further and joins none. Raise it, set uppsala.depth: null, "
                "or choose a grouping of fewer levels."
            )
        if self.params.depth and np.isin(data.val.post_ids, data.train.post_ids).any():
            raise BadParams(
                "uppsala.depth divides clusters by the confusions on the validation images, and "
                "these are trained on (data.train_on_val). Set uppsala.depth: null, or "
                "data.train_on_val: false."
            )

    def _copy_flat(self, start: Mapping[str, Tensor] | None, *, seed: int) -> None:
        """Copies the flat network into the root, except the last layer, which is initialised anew."""
        if start is None:
            raise MissingInput(
                "The root starts from the flat network of the same seed, which has not been trained. "
                "Run stage 'flat' first, or set uppsala.root_init: scratch."
            )
        seeds.seed(seed, "uppsala", "root")
        backbone.replace_last(
            self.root.head, outputs=len(trees.children(self.hierarchy, trees.ROOT))
        )
        last = {n: t for n, t in self.root.state_dict().items() if n.startswith("head.predictions")}
        copied = {n: t for n, t in start.items() if not n.startswith("head.predictions")}
        checkpoint.fill(self.root, {**copied, **last}, source="the flat network")

    def _root_task(self, data: DataModule) -> Task:
        macs = sum(row.macs for row in backbone.layer_table(self.root))
        return Task(
            name="root",
            data=data,
            outputs=self._outputs(trees.ROOT),
            sampler=self._sampler(data, trees.ROOT),
            macs_trained=macs,
            epochs=self.params.root_epochs,
            lr_scale=self.params.lr_scale if self.params.root_init == "flat" else 1.0,
        )

    def _own_task(self, data: DataModule, node: str, *, seed: int, anew: bool = True) -> Pair:
        """
        Returns a node's branch on the frozen shared blocks, and its training task.

        If `anew`, the branch starts from its parent's network; once the node is divided, from the
        node's own network over its labels.
        """
        divided = node in self.tasks
        name, source = (
            (f"{node}-clusters", node) if divided else (node, nodes.source(self.hierarchy, node))
        )
        seeds.seed(seed, "uppsala", name)
        branch = self._branch(node, source) if anew else self._branches()[node]
        self.branches[node] = branch
        blocks = backbone.macs_of_blocks(self.root)
        task = Task(
            name=name,
            data=data,
            outputs=self._outputs(node),
            sampler=self._sampler(data, node),
            macs_trained=sum(blocks[self.first_own :]) + backbone.macs_of_head(branch.head),
            macs_frozen=sum(blocks[: self.first_own]),
            epochs=self.params.subnetwork_epochs,
            lr_scale=self.params.lr_scale,
            slow=("branch.blocks",),
            waits_for=self.tasks.get(source),
        )
        self.tasks[node] = name
        return Attached(self.root.blocks[: self.first_own], branch), task

    def _divide(self, node: str, data: DataModule) -> bool:
        """Divides the labels of `node` into groups by its confusions; returns whether it did."""
        path = nx.shortest_path(self.hierarchy, trees.ROOT, node)
        depth = nodes.networks_on(self.hierarchy, path)
        labels = trees.own_labels(self.hierarchy, node)
        children = len(trees.children(self.hierarchy, node))
        if depth >= (self.params.depth or 0) or len(labels) < children:
            return False
        confusion = metrics.normalise_rows(self._confusions(node, data))
        chosen = modularity.accepted(modularity.sweep(confusion, gammas=modularity.resolutions()))
        if chosen is None:
            return False
        groups = [[labels[index] for index in group] for group in chosen.clusters]
        self.hierarchy = trees.divide(self.hierarchy, node, groups)
        log.info("%s: divided into groups of labels %s", node, groups)
        return True

    @torch.no_grad()
    def _confusions(self, node: str, data: DataModule) -> Int[np.ndarray, "label label"]:
        """Returns the confusion counts of `node` on the validation images of its labels."""
        self.eval()
        children = len(trees.children(self.hierarchy, node))
        outputs = self._outputs(node)[data.val.labels]
        rows = np.flatnonzero((outputs >= 0) & (outputs < children))
        inputs = prediction.batches(data.val, self.mean.device, rows=rows)
        logits = [self._logits(node, self._maps(x)) for x in inputs]
        predicted = torch.cat(logits)[:, :children].argmax(dim=1)
        distributed.broadcast([predicted])
        return metrics.confusion_counts(outputs[rows], predicted.cpu().numpy(), leaves=children)

    def _sampler(self, data: DataModule, node: str) -> Sampler:
        return sampling.by_class(
            data.train.labels, self._classes(node), balance=self.params.balance
        )

    def _branch(self, node: str, source: str) -> Branch:
        """Returns a copy of the network of `source` with a new last layer."""
        outputs = len(self._classes(node))
        if source == trees.ROOT:
            return backbone.branch_of(self.root, outputs=outputs, first_own=self.first_own)
        branch = copy.deepcopy(parts_by_name(Branch, self.branches)[source])
        backbone.replace_last(branch.head, outputs=outputs)
        return branch

    def _maps(self, x: Tensor) -> Tensor:
        """Returns the maps after the shared blocks."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        maps: Tensor = self.root.blocks[: self.first_own](centred)
        return maps

    def _logits(self, node: str, maps: Tensor) -> Tensor:
        """Returns the logits of a node's network; zeros where there is no network."""
        if not nodes.has_network(self.hierarchy, node):
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        if node == trees.ROOT:
            logits: Tensor = self.root.head(self.root.blocks[self.first_own :](maps))
        else:
            logits = self.branches[node](maps)
        return logits.float()

    def _route(self, logits_of: descent.LogitsOf, maps: Tensor) -> descent.Route:
        return descent.route(self.hierarchy, logits_of, images=maps, attempts=self.params.rollback)

    def _branches(self) -> dict[str, Branch]:
        branches = parts_by_name(Branch, self.branches)
        return {node: branches[node] for node in nodes.with_network(self.hierarchy)}

    def _classes(self, node: str) -> list[tuple[int, ...]]:
        return nodes.classes(self.hierarchy, node, rollback=self.params.rollback)

    def _outputs(self, node: str) -> Int[np.ndarray, " leaf"]:
        return nodes.outputs(
            self.hierarchy, node, leaves=self.leaves, rollback=self.params.rollback
        )
