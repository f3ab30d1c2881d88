"""
`hdcnn`: fine components on overlapping label sets, averaged by a coarse one (methods.md 6).

The first blocks of the backbone are shared. The coarse component is the flat network's rest: its
label probabilities, summed over each set, say how much the fine component of that set counts. Parts
are trained one by one and then together, and a prediction may leave out the parts that count little.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from train import backbone
from train.backbone import Attached, Branch, Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.pictures import DataModule
from train.engine import losses
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.methods.hdcnn import quantise
from train.methods.hdcnn.consistency import Consistency, targets
from train.methods.hdcnn.mixture import Mixture
from train.runtime import checkpoint, seeds
from train.tree import hierarchy as trees

_SHARED = 1 / 3  # of the MACs, where nothing else is asked for: stem and first stage of a resnet


class Params(BaseModel):
    """Section `hdcnn`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="blocks after the first one (a resnet's stem) that all "
        "components share; null: about a third of the operations (a resnet's first stage, the "
        "first block of nin)",
    )
    component_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of each fine component; null: loop.epochs"
    )
    joint_epochs: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="passes of everything together afterwards; 0: none, null: loop.epochs",
    )
    component_lr_scale: float = Field(
        1.0, gt=0, le=10, description="learning rate of a fine component, relative to loop.lr"
    )
    joint_lr_scale: float = Field(
        0.1, gt=0, le=10, description="learning rate of the tuning together, relative to loop.lr"
    )
    consistency: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="lambda, weight of the coarse category consistency in the "
        "tuning together; 0: without",
    )
    beta: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="a component runs on images that give its set at least "
        "1 / (beta K) of K sets (the paper: 6); null: every component on every image",
    )
    balance: sampling.Balance = Field(
        "none",
        description="equal images per label and epoch: resample, fixed, weights; none: all "
        "images (the paper, whose data are balanced)",
    )


class Classifier(nn.Module):
    """
    A coarse component and a fine one per label set.

    Source: Yan and others, HD-CNN: Hierarchical Deep Convolutional Neural Networks for Large Scale
    Visual Recognition (methods.md 6).

    Differs:
        `default` and `route` are conditional execution with `beta`, and equal `full` without it. A
        set of one label has no component: its answer is known. Rates and epochs are those of
        `loop`, by passes and not by iterations; biases learn at the rate of all other weights.
        Images are judged by one view. The mean of the consistency term is over a batch of
        `data.batch_size`.
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
        Builds the shared blocks, the coarse component and a fine one per cluster.

        Raises:
            BadHierarchy: There is one label only, or a level between clusters and labels.
            BadParams: The backbone has fewer blocks than the split takes.
        """
        super().__init__()
        _check(hierarchy)
        self.params, self.hierarchy, self.build = params, hierarchy, build
        nodes = trees.children(hierarchy, trees.ROOT)
        clusters = dict(zip(nodes, trees.clusters(hierarchy), strict=True))
        self.leaves = trees.leaf_count(hierarchy)
        whole = build(self.leaves)
        self.block_macs, self.side = backbone.macs_of_blocks(whole), whole.side
        self.first_own = _division(params, self.block_macs)
        self.network = Mixture(
            whole.blocks[: self.first_own],
            Branch(whole.blocks[self.first_own :], whole.head) if len(clusters) > 1 else None,
            {
                node: backbone.branch_of(whole, outputs=len(members), first_own=self.first_own)
                for node, members in clusters.items()
                if len(members) > 1
            },
            clusters=clusters,
            leaves=self.leaves,
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
        Trains each fine component on frozen shared blocks, then everything together.

        The coarse component and the shared blocks are the flat network's.

        Raises:
            MissingInput: `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
            BadParams: The consistency term needs the whole batch, and `loop.accumulate` parts it.
        """
        self._check_batches(trainer)
        self._begin_from(start)
        self._draw_last_layers(seed)
        pairs = [self._component(data, node) for node in self._fine()]
        reports = trainer.fit_all(pairs, seed=seed)
        if self.params.joint_epochs != 0:
            self.network.requires_grad_(requires_grad=True)
            task = self._joint(data)
            if reports:
                slowest = max(reports, key=lambda report: report.seconds)
                task = replace(task, waits_for=slowest.network)
            reports.append(trainer.fit(self.network, task, seed=seed))
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns $p(j) = sum_k B_k p_k(j) / sum_k B_k$ over the components that are executed.

        In `full` these are all. By default (`route` alike) component k is run on the images with
        B_k >= 1 / (beta K), or with the largest B where there is none.
        """
        maps = self.network.stem(self.centred(x))
        coarse = self.network.shares(maps).exp()
        chosen = (
            torch.ones_like(coarse, dtype=torch.bool) if mode == "full" else self.chosen(coarse)
        )
        return _averaged(coarse, chosen, self.network.answers(maps, chosen))

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns B, the coarse component's shares of the clusters, in their order."""
        return self.network.shares(self.network.stem(self.centred(x))).exp()

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (conditional), `executed` by it, `full` and `coarse`, in one pass."""
        maps = self.network.stem(self.centred(x))
        coarse = self.network.shares(maps).exp()
        chosen, every = self.chosen(coarse), torch.ones_like(coarse, dtype=torch.bool)
        answers = self.network.labels(maps).exp()
        places = {node: place for place, node in enumerate(self.network.clusters)}
        taken = [chosen[:, places[node]] for node in self.network.fine]
        return {
            "default": _averaged(coarse, chosen, answers),
            "executed": torch.stack([every[:, 0], *taken], dim=1),
            "full": _averaged(coarse, every, answers),
            "coarse": coarse,
        }

    def chosen(self, coarse: Float[Tensor, "batch cluster"]) -> Bool[Tensor, "batch cluster"]:
        """
        Says which components an image needs: B_k >= 1 / (beta K), or the largest where none is.

        Example:
            B = (.565217, .391304, .043478): 1 and 2 for beta 1 to 7, all from 7.666667 on.
        """
        if self.params.beta is None:
            return torch.ones_like(coarse, dtype=torch.bool)
        enough = coarse >= 1 / (self.params.beta * coarse.shape[1])
        clusters = torch.arange(coarse.shape[1], device=coarse.device)
        largest = clusters == coarse.argmax(dim=1, keepdim=True)
        # Not torch.where: onnxruntime has no such operation on booleans.
        return enough | (largest & ~enough.any(dim=1, keepdim=True))

    def cost(self) -> Cost:
        """
        Returns parameters and MACs; the shared blocks and the coarse component are the root's.

        Example:
            nin at 26 pixels with 9 components of 389 labels together: 9,196,585 parameters;
            1,080,327,168 MACs in full (methods.md 6.2).
        """
        shared, own = self.block_macs[: self.first_own], self.block_macs[self.first_own :]
        macs = {trees.ROOT: sum(shared)}
        if self.network.coarse is not None:
            macs[trees.ROOT] += sum(own) + backbone.macs_of_head(self.network.coarse.head)
        for node, branch in self._fine().items():
            macs[node] = sum(own) + backbone.macs_of_head(branch.head)
        return Cost(params=backbone.count(self), macs=macs)

    def centred(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns what the network is given: the middle of the images, less the mean colour."""
        return augment.middle(x - self.mean[:, None, None], self.side)

    def compress(self, *, codebook: int, width: int) -> quantise.Storage:
        """Quantises the fine components in place, all but their last layers (methods.md 6.6)."""
        return quantise.compress(self.network.fine, codebook=codebook, width=width)

    def _fine(self) -> dict[str, Branch]:
        parts = self.network.fine.items()
        return {node: part for node, part in parts if isinstance(part, Branch)}

    def _begin_from(self, start: Mapping[str, Tensor] | None) -> None:
        """Copies the flat network whole into the coarse component, and its rest into the fine."""
        if start is None:
            raise MissingInput(
                "The shared blocks and the coarse component are the flat network of their seed, and "
                "there is none. Run stage 'flat' first."
            )
        flat = self.build(self.leaves)
        checkpoint.fill(flat, start, source="the flat network")
        backbone.copy_parts(flat.blocks, self.network.stem)
        if self.network.coarse is not None:
            backbone.copy_parts(flat.blocks, self.network.coarse.blocks)
            backbone.copy_parts(flat.head, self.network.coarse.head)
        for branch in self._fine().values():
            backbone.copy_parts(flat.blocks, branch.blocks)
            backbone.copy_parts(flat.head, branch.head, but="predictions")

    def _draw_last_layers(self, seed: int) -> None:
        """Draws the layers that name the labels of a set, each from its own seed."""
        for node, branch in self._fine().items():
            seeds.seed(seed, "hdcnn", node)
            backbone.replace_last(branch.head, outputs=len(self.network.clusters[node]))

    def _component(self, data: DataModule, node: str) -> Pair:
        """Returns a fine component on the frozen shared blocks, and what it learns."""
        members, branch = self.network.clusters[node], self._fine()[node]
        outputs = np.full(self.leaves, -1)
        outputs[members] = np.arange(len(members))
        task = Task(
            name=node,
            data=data,
            outputs=outputs,
            sampler=self._sampler(data, members),
            macs_trained=self.cost().macs[node],
            macs_frozen=sum(self.block_macs[: self.first_own]),
            epochs=self.params.component_epochs,
            lr_scale=self.params.component_lr_scale,
        )
        return Attached(self.network.stem, branch), task

    def _joint(self, data: DataModule) -> Task:
        """Returns what everything together learns: the labels, and to keep the coarse shares."""
        clusters = list(self.network.clusters.values())
        pictures = np.bincount(data.train.labels, minlength=self.leaves)
        if self.params.balance in ("resample", "fixed"):
            pictures = np.ones_like(pictures)  # as many of each label in every epoch
        strength = self.params.consistency
        return Task(
            name=trees.ROOT,
            data=data,
            outputs=np.arange(self.leaves),
            sampler=self._sampler(data, list(range(self.leaves))),
            macs_trained=self.cost().macs_max,
            epochs=self.params.joint_epochs,
            lr_scale=self.params.joint_lr_scale,
            loss=(
                Consistency(targets(clusters, pictures), strength)
                if strength
                else losses.cross_entropy
            ),
        )

    def _sampler(self, data: DataModule, members: list[int]) -> sampling.Sampler:
        labels = [[leaf] for leaf in members]
        return sampling.by_class(data.train.labels, labels, balance=self.params.balance)

    def _check_batches(self, trainer: Trainer) -> None:
        """Refuses a batch in parts before hours of training, where its mean must be known."""
        tuned = self.params.joint_epochs != 0 and self.params.consistency > 0
        if tuned and trainer.params.accumulate > 1:
            raise BadParams(
                f"loop.accumulate is {trainer.params.accumulate}, and hdcnn.consistency is of the "
                "mean over a whole batch. Set loop.accumulate: 1 with a lower data.batch_size, or "
                "hdcnn.consistency: 0."
            )


def _averaged(
    coarse: Float[Tensor, "batch cluster"],
    chosen: Bool[Tensor, "batch cluster"],
    answers: Float[Tensor, "batch cluster leaf"],
) -> Float[Tensor, "batch leaf"]:
    weights = coarse * chosen
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (weights[:, :, None] * answers).sum(dim=1)


def _check(hierarchy: nx.DiGraph) -> None:
    """Refuses what is not a root over sets of labels."""
    trees.leaf_count(hierarchy)
    deepest = max(len(path) for path in trees.paths(hierarchy).values())
    if deepest > 3:
        raise BadHierarchy(
            f"The tree has {deepest} levels, and hdcnn takes three: root, clusters, labels. Choose "
            "a grouping of two levels."
        )


def _division(params: Params, block_macs: list[int]) -> int:
    """
    Returns the number of blocks that are shared, the first one counted.

    Raises:
        BadParams: The backbone has no more than one block, or fewer than the split takes.
    """
    blocks = len(block_macs) - 1
    if not blocks:
        raise BadParams(
            "The backbone is one block, and hdcnn shares some and copies the rest. Choose another "
            "backbone.name, such as resnet20."
        )
    if params.split is None:
        wanted = _SHARED * sum(block_macs)
        sums = list(accumulate(block_macs))[:blocks]
        return 1 + int(np.argmin([abs(shared - wanted) for shared in sums]))
    if params.split > blocks:
        raise BadParams(
            f"hdcnn.split {params.split} is more than the {blocks} blocks that this backbone has "
            "after the first one. Lower it."
        )
    return params.split + 1
