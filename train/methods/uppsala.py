"""
`uppsala`: a root over clusters, and a fine-tuned subnetwork per cluster (methods.md 2).

The root starts from the flat network with a fresh last layer; a subnetwork is a copy of its trained
parent whose convolutions are shared and frozen, so that one picture passes through them once. A
tree may have any depth: what lies in a cluster may be clusters again.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.components import augment, backbone, checkpoint, sampling, seeds
from train.components import hierarchy as trees
from train.components.backbone import Attached, Branch, Network
from train.components.classifier import Cost, FitReport, Mode
from train.components.data import DataModule
from train.components.trainer import Pair, Trainer
from train.errors import BadHierarchy, MissingInput


class Params(BaseModel):
    """Section `uppsala`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_init: Literal["flat", "scratch"] = Field(
        "flat", description="root starts from the flat network of its seed, or from scratch"
    )
    freeze: Literal["conv", "last_block", "none"] = Field(
        "conv", description="convolutions that subnetworks share untrained: all (the report), all "
        "but the last block, none",
    )  # fmt: skip
    balance: sampling.Balance = Field(
        "resample",
        description="equal pictures per cluster at the root and per label below: resample (drawn "
        "anew each epoch), fixed (the report), weights (all pictures, weighted loss), none",
    )
    root_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of the root; null: loop.epochs"
    )
    subnetwork_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of each subnetwork; null: loop.epochs"
    )
    lr_scale: float = Field(
        1.0, gt=0, le=10, description="learning rate of what starts from trained weights, relative "
        "to loop.lr",
    )  # fmt: skip


class Classifier(nn.Module):
    """
    A tree of networks.

    Source: the report of the Uppsala students, its hierarchical networks (methods.md 2.1, 2.7).

    Differs:
        The shared convolutions run once per picture (1.0018 times the flat network's MACs instead
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
            self.branches[node] = self._branch(node)
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

        Raises:
            MissingInput: The root is to start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        reports = []
        decides = self.hierarchy.nodes[trees.ROOT]["net"] is not None
        if self.params.root_init == "flat":
            self._begin_from(start, seed=seed)
        elif not decides and self.first_own:
            raise BadHierarchy(
                "One cluster holds every label, so there is no root to train, and its convolutions "
                "would stay random. Set uppsala.root_init: flat, or uppsala.freeze: none."
            )
        if decides:
            reports.append(trainer.fit(self.root, self._root_task(data), seed=seed))
        for level in self._levels():
            pairs = [self._own_task(data, node, seed=seed) for node in level]
            reports += trainer.fit_all(pairs, seed=seed)
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
        Trains the root's own part and some subnetworks once more; no other tensor changes.

        The root and the nodes `again` go on from the weights they have, the nodes `anew` start as
        copies of their parents (methods.md 2.7, extend). The shared blocks stay as they are.
        """
        reports = []
        if self.hierarchy.nodes[trees.ROOT]["net"] is not None:
            blocks = backbone.macs_of_blocks(self.root)
            frozen = sum(blocks[: self.first_own])
            task = self._root_task(data)
            task = replace(
                task,
                macs_trained=task.macs_trained - frozen,
                macs_frozen=frozen,
                lr_scale=self.params.lr_scale,
            )
            own = Branch(self.root.blocks[self.first_own :], self.root.head)
            network = Attached(self.root.blocks[: self.first_own], own)
            reports.append(trainer.fit(network, task, seed=seed))
        for level in self._levels():
            pairs = [
                self._own_task(data, node, seed=seed, anew=node in anew)
                for node in level
                if node in again or node in anew
            ]
            reports += trainer.fit_all(pairs, seed=seed)
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns leaf probabilities by `route` (the default, the report's rule) or in `full`.

        By route each network on the way down is executed once for all pictures that reach it, and
        the row is the last one's own distribution. In full every leaf gets the product of the
        probabilities along its path.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        maps, coarse = self._root(x)
        result = torch.zeros(x.shape[0], self.leaves, device=x.device)
        waiting = [(trees.ROOT, torch.arange(x.shape[0], device=x.device))]
        while waiting:
            node, rows = waiting.pop()
            inside = coarse[rows] if node == trees.ROOT else self._inside(node, maps[rows])
            below, labels = self._below(node), self._labels(node)
            if len(labels) == len(below):
                result[rows[:, None], torch.tensor(labels, device=x.device)] = inside
                continue
            chosen = inside.argmax(dim=1)
            for place, child in enumerate(below):
                taken = rows[chosen == place]
                if len(taken) and self.hierarchy.nodes[child]["kind"] == "label":
                    result[taken, self.hierarchy.nodes[child]["label"]] = 1.0
                elif len(taken):
                    waiting.append((child, taken))
        return result

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the root's probabilities over its clusters, in their order."""
        return self._root(x)[1]

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (by route), `executed` by it, `full` and `coarse`, in one pass."""
        maps, coarse = self._root(x)
        full = torch.zeros(x.shape[0], self.leaves, device=x.device)
        route = torch.zeros_like(full)
        # For each node the probability of coming there, and whether the route does.
        reached = {trees.ROOT: (torch.ones_like(coarse[:, :1]), torch.ones_like(coarse[:, :1]))}
        for node in self._inner():
            probability, routed = reached[node]
            inside = coarse if node == trees.ROOT else self._inside(node, maps)
            below, labels = self._below(node), self._labels(node)
            if len(labels) == len(below):
                full[:, labels], route[:, labels] = probability * inside, routed * inside
                continue
            chosen = inside.argmax(dim=1)
            for place, child in enumerate(below):
                part = probability * inside[:, place : place + 1]
                goes = routed * (chosen == place)[:, None]
                reached[child] = part, goes
                if self.hierarchy.nodes[child]["kind"] == "label":
                    leaf = self.hierarchy.nodes[child]["label"]
                    full[:, leaf : leaf + 1], route[:, leaf : leaf + 1] = part, goes
        taken = [reached[node][1] for node in (trees.ROOT, *self.branches)]
        executed = torch.cat(taken, dim=1).bool()
        return {"default": route, "executed": executed, "full": full, "coarse": coarse}

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

    def _root_task(self, data: DataModule) -> sampling.Task:
        macs = sum(row.macs for row in backbone.layer_table(self.root))
        return sampling.Task(
            name="root",
            data=data,
            outputs=self._outputs(trees.ROOT),
            sampler=self._sampler(data, trees.ROOT),
            macs_trained=macs,
            epochs=self.params.root_epochs,
            lr_scale=self.params.lr_scale if self.params.root_init == "flat" else 1.0,
        )

    def _own_task(self, data: DataModule, node: str, *, seed: int, anew: bool = True) -> Pair:
        """Returns a node's branch, a fresh one if `anew`, on the frozen stem, and what it learns."""
        seeds.seed(seed, "uppsala", node)
        branch = self._branch(node) if anew else dict(self._branches())[node]
        self.branches[node] = branch
        blocks = backbone.macs_of_blocks(self.root)
        parent = self._parent(node)
        task = sampling.Task(
            name=node,
            data=data,
            outputs=self._outputs(node),
            sampler=self._sampler(data, node),
            macs_trained=sum(blocks[self.first_own :]) + backbone.macs_of_head(branch.head),
            macs_frozen=sum(blocks[: self.first_own]),
            epochs=self.params.subnetwork_epochs,
            lr_scale=self.params.lr_scale,
            slow=("branch.blocks",),
            waits_for=parent if self.hierarchy.nodes[parent]["net"] is not None else None,
        )
        return Attached(self.root.blocks[: self.first_own], branch), task

    def _outputs(self, node: str) -> Int[np.ndarray, " leaf"]:
        """The output of `node` for each leaf; -1 for leaves that are not below it."""
        result = np.full(self.leaves, -1)
        for place, child in enumerate(self._below(node)):
            result[list(self.hierarchy.nodes[child]["members"])] = place
        return result

    def _sampler(self, data: DataModule, node: str) -> sampling.Sampler:
        groups = [self.hierarchy.nodes[child]["members"] for child in self._below(node)]
        return sampling.by_class(data.train.labels, groups, balance=self.params.balance)

    def _branch(self, node: str) -> Branch:
        """A copy of what the parent of `node` has learnt, with a last layer of its own."""
        outputs, parent = len(self._below(node)), self._parent(node)
        if parent == trees.ROOT:
            return backbone.branch_of(self.root, outputs=outputs, first_own=self.first_own)
        branch = copy.deepcopy(self.branches[parent])
        assert isinstance(branch, Branch), "branches are branches"  # noqa: S101  # torch loses the type
        backbone.replace_last(branch.head, outputs=outputs)
        return branch

    def _root(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the maps of the shared blocks and the probabilities over the clusters."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        maps = self.root.blocks[: self.first_own](centred)
        if self.hierarchy.nodes[trees.ROOT]["net"] is None:
            return maps, torch.ones(x.shape[0], 1, device=x.device)
        logits = self.root.head(self.root.blocks[self.first_own :](maps))
        return maps, torch.softmax(logits.float(), dim=1)

    def _inside(self, node: str, maps: Tensor) -> Tensor:
        """Returns the probabilities of a node's children, given the node."""
        if node not in self.branches:
            return torch.ones(maps.shape[0], 1, device=maps.device)
        return torch.softmax(self.branches[node](maps).float(), dim=1)

    def _branches(self) -> list[tuple[str, Branch]]:
        return [(node, part) for node, part in self.branches.items() if isinstance(part, Branch)]

    def _below(self, node: str) -> list[str]:
        return trees.children(self.hierarchy, node)

    def _labels(self, node: str) -> list[int]:
        """The labels that hang on `node` itself, in the order of its outputs."""
        below = (self.hierarchy.nodes[child] for child in self._below(node))
        return [data["label"] for data in below if data["kind"] == "label"]

    def _inner(self) -> list[str]:
        """Every node but the labels, parents first, in the order of outputs."""
        found = [trees.ROOT]
        for node in found:
            found += [c for c in self._below(node) if self.hierarchy.nodes[c]["kind"] != "label"]
        return found

    def _deciding(self) -> list[str]:
        """The nodes below the root that have a network."""
        return [n for n in self._inner()[1:] if self.hierarchy.nodes[n]["net"] is not None]

    def _levels(self) -> list[list[str]]:
        """The deciding nodes by the number of decisions above them."""
        depth = nx.shortest_path_length(self.hierarchy, trees.ROOT)
        nodes = self._deciding()
        return [
            [n for n in nodes if depth[n] == level] for level in sorted({depth[n] for n in nodes})
        ]

    def _parent(self, node: str) -> str:
        """The nearest node above that decides; the root where none does."""
        (parent,) = self.hierarchy.predecessors(node)
        return parent if parent == trees.ROOT or parent in self.branches else self._parent(parent)
