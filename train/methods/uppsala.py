"""
`uppsala`: a root over clusters, and a fine-tuned subnetwork per cluster (methods.md 2).

The root starts from the flat network with a fresh last layer; a subnetwork is a copy of the trained
root whose convolutions are shared and frozen, so that one picture passes through them once.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
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
    A tree of two levels.

    Source: the report of the Uppsala students, its hierarchical network of depth 2 (methods.md 2.1).

    Differs:
        The shared convolutions run once per picture (1.0018 times the flat network's MACs instead
        of 2); the report loads and runs whole networks one after the other.
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
        Builds the root and an untrained branch per cluster of two or more labels.

        Raises:
            BadHierarchy: The tree is deeper than a root, clusters and labels.
        """
        super().__init__()
        if len(hierarchy.nodes["root"]["members"]) < 2:
            raise BadHierarchy("A classifier needs at least two labels, and there is one.")
        deepest = max(len(path) for path in trees.paths(hierarchy).values())
        if deepest > 3:
            raise BadHierarchy(
                f"The tree has {deepest} levels, and uppsala takes three: root, clusters, labels."
            )
        self.params = params
        self.hierarchy = hierarchy
        self.clusters = trees.clusters(hierarchy)
        self.leaves = sum(map(len, self.clusters))
        self.root = build(len(self.clusters))
        blocks = len(self.root.blocks)
        self.first_own = {"conv": blocks, "last_block": blocks - 1, "none": 0}[params.freeze]
        self.branches = nn.ModuleDict()
        for node, members in zip(self._nodes(), self.clusters, strict=True):
            if len(members) > 1:
                self.branches[node] = self._branch(len(members))
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
        Trains the root, then every subnetwork from it.

        Raises:
            MissingInput: The root is to start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        reports = []
        if self.params.root_init == "flat":
            self._begin_from(start, seed=seed)
        elif len(self.clusters) == 1 and self.first_own:
            raise BadHierarchy(
                "One cluster holds every label, so there is no root to train, and its convolutions "
                "would stay random. Set uppsala.root_init: flat, or uppsala.freeze: none."
            )
        if len(self.clusters) > 1:
            reports.append(trainer.fit(self.root, self._root_task(data), seed=seed))
        pairs = [
            self._own_task(data, node, members, seed=seed)
            for node, members in zip(self._nodes(), self.clusters, strict=True)
            if len(members) > 1
        ]
        reports += trainer.fit_all(pairs, seed=seed)
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns leaf probabilities by `route` (the default, the report's rule) or in `full`.

        By route only the branch that the root prefers is executed, once for all pictures that
        take it, and the row is that branch's own distribution. In full every leaf gets the product
        of the probabilities along its path.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        maps, coarse = self._root(x)
        chosen = coarse.argmax(dim=1)
        result = torch.zeros(x.shape[0], self.leaves, device=x.device)
        for place, members in enumerate(self.clusters):
            rows = torch.nonzero(chosen == place).flatten()
            if len(rows):
                inside = self._inside(place, maps[rows])
                result[rows[:, None], torch.tensor(members, device=x.device)] = inside
        return result

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the root's probabilities over its clusters, in their order."""
        return self._root(x)[1]

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (by route), `full` and `coarse`, the shared blocks executed once."""
        maps, coarse = self._root(x)
        full = torch.zeros(x.shape[0], self.leaves, device=x.device)
        route = torch.zeros_like(full)
        chosen = coarse.argmax(dim=1)
        for place, members in enumerate(self.clusters):
            inside = self._inside(place, maps)
            full[:, members] = coarse[:, place : place + 1] * inside
            route[:, members] = inside * (chosen == place)[:, None]
        return {"default": route, "full": full, "coarse": coarse}

    def shares(self, coarse: Float[np.ndarray, "picture cluster"] | None) -> dict[str, float]:
        """Returns the share of pictures that execute each network by route."""
        result = {"root": 1.0}
        if coarse is not None:
            taken = np.bincount(coarse.argmax(axis=1), minlength=len(self.clusters)) / len(coarse)
            nodes = zip(self._nodes(), taken, strict=True)
            result |= {node: float(share) for node, share in nodes if node in self.branches}
        return result

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
        if len(self.clusters) > 1:
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
        backbone.replace_last(self.root.head, outputs=len(self.clusters))
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
            outputs=trees.parents(self.clusters),
            sampler=sampling.by_class(
                data.train.labels, self.clusters, balance=self.params.balance
            ),
            macs_trained=macs,
            epochs=self.params.root_epochs,
            lr_scale=self.params.lr_scale if self.params.root_init == "flat" else 1.0,
        )

    def _own_task(self, data: DataModule, node: str, members: list[int], *, seed: int) -> Pair:
        """Returns a cluster's fresh branch on the frozen stem, and what it learns."""
        seeds.seed(seed, "uppsala", node)
        branch = self._branch(len(members))
        self.branches[node] = branch
        outputs = np.full(self.leaves, -1)
        outputs[members] = np.arange(len(members))
        groups = [[leaf] for leaf in members]
        blocks = backbone.macs_of_blocks(self.root)
        task = sampling.Task(
            name=node,
            data=data,
            outputs=outputs,
            sampler=sampling.by_class(data.train.labels, groups, balance=self.params.balance),
            macs_trained=sum(blocks[self.first_own :]) + backbone.macs_of_head(branch.head),
            macs_frozen=sum(blocks[: self.first_own]),
            epochs=self.params.subnetwork_epochs,
            lr_scale=self.params.lr_scale,
            slow=("branch.blocks",),
            waits_for="root" if len(self.clusters) > 1 else None,
        )
        return Attached(self.root.blocks[: self.first_own], branch), task

    def _branch(self, outputs: int) -> Branch:
        return backbone.branch_of(self.root, outputs=outputs, first_own=self.first_own)

    def _root(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the maps of the shared blocks and the probabilities over the clusters."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        maps = self.root.blocks[: self.first_own](centred)
        if len(self.clusters) == 1:
            return maps, torch.ones(x.shape[0], 1, device=x.device)
        logits = self.root.head(self.root.blocks[self.first_own :](maps))
        return maps, torch.softmax(logits.float(), dim=1)

    def _inside(self, place: int, maps: Tensor) -> Tensor:
        """Returns the probabilities of a cluster's labels, given the cluster."""
        node = self._nodes()[place]
        if node not in self.branches:
            return torch.ones(maps.shape[0], 1, device=maps.device)
        return torch.softmax(self.branches[node](maps).float(), dim=1)

    def _branches(self) -> list[tuple[str, Branch]]:
        return [(node, part) for node, part in self.branches.items() if isinstance(part, Branch)]

    def _nodes(self) -> list[str]:
        return trees.children(self.hierarchy, trees.ROOT)
