"""
`uppsala`: a root over clusters, and a fine-tuned subnetwork per cluster (methods.md 2).

The root starts from the flat network with a fresh last layer; a subnetwork is a copy of its trained
parent whose convolutions are shared and frozen, so that one image passes through them once. A
tree may have any depth: what lies in a cluster may be clusters again, given or found by its
subnetwork's own confusions.
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from train import backbone
from train.backbone import Attached, Branch, Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.evaluation import metrics, prediction
from train.grouping import modularity
from train.methods.uppsala import descent
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy as trees

log = logging.getLogger(__name__)


class Params(BaseModel):
    """Section `uppsala`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_init: Literal["flat", "scratch"] = Field(
        "flat", description="root starts from the flat network of its seed, or from scratch"
    )
    freeze: Literal["conv", "last_block", "none"] = Field(
        "conv",
        description="convolutions that subnetworks share untrained: all (the report), all "
        "but the last block, none",
    )
    balance: sampling.Balance = Field(
        "resample",
        description="equal images per cluster at the root and per label below: resample (drawn "
        "anew each epoch), fixed (the report), weights (all images, weighted loss), none",
    )
    depth: int | None = Field(
        None,
        ge=2,
        le=100,
        description="networks on the longest path at most: a cluster whose "
        "subnetwork confuses its labels in groups is divided by them, and so on; null: the tree "
        "of the grouping as it is",
    )
    rollback: int = Field(
        0,
        ge=0,
        le=100,
        description="attempts after the first choice: a subnetwork learns to "
        "reject the images of the clusters beside it, and its parent then takes the next "
        "likeliest; 0: none (the report)",
    )
    root_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of the root; null: loop.epochs"
    )
    subnetwork_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of each subnetwork; null: loop.epochs"
    )
    lr_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="learning rate of what starts from trained weights, relative to loop.lr",
    )


class Classifier(nn.Module):
    """
    A tree of networks.

    Source: the report of the Uppsala students, its hierarchical networks (methods.md 2.1, 2.7).

    Differs:
        The shared convolutions run once per image (1.0018 times the flat network's MACs instead
        of 2 in a tree of two levels); the report loads and runs whole networks one after the other.
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
        Builds the root and an untrained branch per node below it that has something to decide.

        Raises:
            BadHierarchy: There is one label only, or one that hangs below two nodes.
        """
        super().__init__()
        self.leaves = trees.leaf_count(hierarchy)
        if not nx.is_tree(hierarchy):
            raise BadHierarchy(
                "uppsala takes a tree, and some node of this hierarchy has two parents."
            )
        self.params = params
        self.hierarchy = hierarchy
        self.root = build(len(self._below(trees.ROOT)))
        blocks = len(self.root.blocks)
        self.first_own = {"conv": blocks, "last_block": blocks - 1, "none": 0}[params.freeze]
        self.branches = nn.ModuleDict()
        for node in self._deciding():
            self.branches[node] = self._branch(node, self._parent(node))
        self.tasks: dict[str, str] = {}
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

        With `depth`, a cluster whose subnetwork confuses its labels in groups is divided by them:
        a second network, `NODE-clusters`, starts from that one and decides among the groups.

        Raises:
            BadHierarchy: There is no root to train, and it was not to start from the flat network.
            BadParams: Clusters are to be divided by the mistakes on images that are learnt.
            MissingInput: The root is to start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        self._check(data)
        reports = []
        decides = self.hierarchy.nodes[trees.ROOT]["net"] is not None
        if self.params.root_init == "flat":
            self._begin_from(start, seed=seed)
        if decides:
            reports.append(trainer.fit(self.root, self._root_task(data), seed=seed))
        self.tasks = {trees.ROOT: trees.ROOT} if decides else {}
        level = self._decided_by([trees.ROOT])
        while level:
            pairs = [self._own_task(data, node, seed=seed) for node in level]
            reports += trainer.fit_all(pairs, seed=seed)
            divided = [node for node in level if self._divide(node, data)]
            pairs = [self._own_task(data, node, seed=seed) for node in divided]
            reports += trainer.fit_all(pairs, seed=seed)
            level = self._decided_by(level)
        self.eval()
        return FitReport(tuple(reports))

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
        Trains the root's own part and some subnetworks; no other tensor changes (methods.md 2.7).

        The root and the nodes `again` go on from their weights, those `anew` start from the root's.
        """
        reports = []
        if self.hierarchy.nodes[trees.ROOT]["net"] is not None:
            frozen = sum(backbone.macs_of_blocks(self.root)[: self.first_own])
            task = self._root_task(data)
            trained, rate = task.macs_trained - frozen, self.params.lr_scale
            task = replace(task, macs_trained=trained, macs_frozen=frozen, lr_scale=rate)
            own = Branch(self.root.blocks[self.first_own :], self.root.head)
            network = Attached(self.root.blocks[: self.first_own], own)
            reports.append(trainer.fit(network, task, seed=seed))
            self.tasks[trees.ROOT] = trees.ROOT
        nodes = [node for node in self.branches if node in {*again, *anew}]
        pairs = [self._own_task(data, node, seed=seed, anew=node in anew) for node in nodes]
        reports += trainer.fit_all(pairs, seed=seed)
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns leaf probabilities by `route` (the default, the report's rule) or in `full`.

        By route each network on the way down is executed for the images that reach it alone, and
        the row is the last one's own distribution; with rollback it may send them back. In full
        every leaf gets the product of the probabilities along its path.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        maps = self._maps(x)

        def says(node: str, comes: Tensor) -> Tensor:
            rows = torch.nonzero(comes).flatten()
            if len(rows) == len(maps):
                return self._logits(node, maps)
            logits = torch.zeros(len(maps), len(self._classes(node)), device=maps.device)
            if len(rows):
                logits[rows] = self._logits(node, maps[rows])
            return logits

        return self._route(says, maps).rows

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the root's probabilities over its clusters, in their order."""
        logits = self._logits(trees.ROOT, self._maps(x))
        return descent.inside(self.hierarchy, trees.ROOT, logits)

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (by route), `executed` by it, `full` and `coarse`, in one pass."""
        maps = self._maps(x)
        logits = {node: self._logits(node, maps) for node in trees.inner(self.hierarchy)}
        route = self._route(lambda node, _: logits[node], maps)
        executed = [route.executed[node] for node in (trees.ROOT, *self._deciding())]
        return {
            "default": route.rows,
            "executed": torch.stack(executed, dim=1),
            "full": descent.full(self.hierarchy, logits),
            "coarse": descent.inside(self.hierarchy, trees.ROOT, logits[trees.ROOT]),
        }

    def cost(self) -> Cost:
        """
        Returns parameters and MACs; the shared blocks count with the root.

        Example:
            Six clusters of five labels at 128 pixels: root and one branch take 729,290,240 MACs,
            1.0018 times the flat network (methods.md 2.1).
        """
        blocks = backbone.macs_of_blocks(self.root)
        shared, own = sum(blocks[: self.first_own]), sum(blocks[self.first_own :])
        macs = {"root": shared}
        if self.hierarchy.nodes[trees.ROOT]["net"] is not None:
            macs["root"] += own + backbone.macs_of_head(self.root.head)
        for node, branch in self._branches():
            macs[node] = own + backbone.macs_of_head(branch.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _check(self, data: DataModule) -> None:
        """Refuses what cannot be trained as asked."""
        decides = self.hierarchy.nodes[trees.ROOT]["net"] is not None
        if self.params.root_init == "scratch" and not decides and self.first_own:
            raise BadHierarchy(
                "One cluster holds every label, so there is no root to train, and its convolutions "
                "would stay random. Set uppsala.root_init: flat, or uppsala.freeze: none."
            )
        if self.params.depth and np.isin(data.val.post_ids, data.train.post_ids).any():
            raise BadParams(
                "uppsala.depth divides clusters by the mistakes on the validation images, and "
                "these are trained on (data.train_on_val). Set uppsala.depth: null, or train "
                "without them."
            )

    def _begin_from(self, start: Mapping[str, Tensor] | None, *, seed: int) -> None:
        """Copies the flat network into the root, all but the last layer, which is drawn anew."""
        if start is None:
            raise MissingInput(
                "The root starts from the flat network of its seed, and there is none. Run stage "
                "'flat' first, or set uppsala.root_init: scratch."
            )
        seeds.seed(seed, "uppsala", "root")
        backbone.replace_last(self.root.head, outputs=len(self._below(trees.ROOT)))
        fresh = {
            n: t for n, t in self.root.state_dict().items() if n.startswith("head.predictions")
        }
        taken = {n: t for n, t in start.items() if not n.startswith("head.predictions")}
        checkpoint.fill(self.root, {**taken, **fresh}, source="the flat network")

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
        Returns a node's branch, a fresh one if `anew`, on the frozen stem, and what it learns.

        It starts from the parent's; once the node is divided, from the one over its labels.
        """
        divided = node in self.tasks
        name, source = (f"{node}-clusters", node) if divided else (node, self._parent(node))
        seeds.seed(seed, "uppsala", name)
        branch = self._branch(node, source) if anew else dict(self._branches())[node]
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
        """Puts the labels of `node` in groups, if its network confuses them so, and says whether."""
        path = nx.shortest_path(self.hierarchy, trees.ROOT, node)
        networks = sum(self.hierarchy.nodes[one]["net"] is not None for one in path)
        labels = trees.own_labels(self.hierarchy, node)
        if networks >= (self.params.depth or 0) or len(labels) < len(self._below(node)):
            return False
        confusion = metrics.normalise_rows(self._confusions(node, data))
        chosen = modularity.accepted(modularity.sweep(confusion, gammas=modularity.resolutions()))
        if chosen is None:
            return False
        groups = [[labels[place] for place in group] for group in chosen.clusters]
        self.hierarchy = trees.divide(self.hierarchy, node, groups)
        log.info("%s: divided, %s", node, groups)
        return True

    @torch.no_grad()
    def _confusions(self, node: str, data: DataModule) -> Int[np.ndarray, "label label"]:
        """Counts what the network of `node` says of the validation images of its labels."""
        self.eval()
        children = len(self._below(node))
        outputs = self._outputs(node)[data.val.labels]
        rows = np.flatnonzero((outputs >= 0) & (outputs < children))
        inputs = prediction.batches(data.val, self.mean.device, rows=rows)
        logits = [self._logits(node, self._maps(x)) for x in inputs]
        predicted = torch.cat(logits)[:, :children].argmax(dim=1)
        distributed.broadcast([predicted])
        return metrics.confusion_counts(outputs[rows], predicted.cpu().numpy(), leaves=children)

    def _outputs(self, node: str) -> Int[np.ndarray, " leaf"]:
        """The output of `node` for each leaf; -1 for leaves that it never sees."""
        result = np.full(self.leaves, -1)
        for place, leaves in enumerate(self._classes(node)):
            result[list(leaves)] = place
        return result

    def _sampler(self, data: DataModule, node: str) -> sampling.Sampler:
        return sampling.by_class(
            data.train.labels, self._classes(node), balance=self.params.balance
        )

    def _classes(self, node: str) -> list[tuple[int, ...]]:
        """The leaves of each output: those of each child, then those to be rejected."""
        below = [self.hierarchy.nodes[child]["members"] for child in self._below(node)]
        return below + ([self._rejected(node)] if self._rejected(node) else [])

    def _rejected(self, node: str) -> tuple[int, ...]:
        """The leaves beside `node` at its parent, where rollback lets that one choose again."""
        above = list(self.hierarchy.predecessors(node))
        if not self.params.rollback or not above or self.hierarchy.nodes[node]["net"] is None:
            return ()
        own = self.hierarchy.nodes[node]["members"]
        return tuple(leaf for leaf in self.hierarchy.nodes[above[0]]["members"] if leaf not in own)

    def _branch(self, node: str, source: str) -> Branch:
        """A copy of what the network of `source` has learnt, with a last layer of its own."""
        outputs = len(self._classes(node))
        if source == trees.ROOT:
            return backbone.branch_of(self.root, outputs=outputs, first_own=self.first_own)
        branch = copy.deepcopy(self.branches[source])
        assert isinstance(branch, Branch), "branches are branches"  # noqa: S101  # torch loses the type
        backbone.replace_last(branch.head, outputs=outputs)
        return branch

    def _maps(self, x: Tensor) -> Tensor:
        """Returns what comes out of the shared blocks."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        maps: Tensor = self.root.blocks[: self.first_own](centred)
        return maps

    def _logits(self, node: str, maps: Tensor) -> Tensor:
        """Returns what the network of a node says of maps; zeros where there is none."""
        if self.hierarchy.nodes[node]["net"] is None:
            return torch.zeros(maps.shape[0], 1, device=maps.device)
        if node == trees.ROOT:
            logits: Tensor = self.root.head(self.root.blocks[self.first_own :](maps))
        else:
            logits = self.branches[node](maps)
        return logits.float()

    def _route(self, says: descent.Says, maps: Tensor) -> descent.Route:
        return descent.route(self.hierarchy, says, images=maps, attempts=self.params.rollback)

    def _branches(self) -> list[tuple[str, Branch]]:
        parts = [(node, self.branches[node]) for node in self._deciding()]
        return [(node, part) for node, part in parts if isinstance(part, Branch)]

    def _below(self, node: str) -> list[str]:
        return trees.children(self.hierarchy, node)

    def _deciding(self) -> list[str]:
        """The nodes below the root that have a network, parents first."""
        nodes = trees.inner(self.hierarchy)[1:]
        return [node for node in nodes if self.hierarchy.nodes[node]["net"] is not None]

    def _decided_by(self, level: list[str]) -> list[str]:
        """The deciding nodes right below those of a level."""
        return [n for n in self._deciding() if n not in level and self._parent(n) in level]

    def _parent(self, node: str) -> str:
        """The nearest node above that decides; the root where none does."""
        (parent,) = self.hierarchy.predecessors(node)
        return parent if parent == trees.ROOT or parent in self.branches else self._parent(parent)
