"""
`hdcnn`: fine components on overlapping label sets, averaged with coarse weights.

The first blocks of the backbone are shared. The coarse component is the rest of the flat network:
the sum of its label probabilities over a set is the weight of that set's fine component. Components
are trained one by one, then all together. A prediction may skip components of small weight. Method,
example and sources: `docs/methods/hdcnn.md`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from personae.sampling import Sampler
from train import backbone
from train.backbone import Attached, Branch, Network
from train.backbone.parts import parts_by_name
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine import losses
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.methods.hdcnn import quantise
from train.methods.hdcnn.consistency import Consistency, targets
from train.methods.hdcnn.mixture import Mixture
from train.params.hdcnn import Params
from train.runtime import checkpoint, seeds
from train.tree import hierarchy as trees

_SHARED = 1 / 3  # of the MACs, by default: the stem and the first stage of a resnet


class Classifier(nn.Module):
    """
    A coarse component, and a fine component per label set.

    Source: Yan, Zhang, Piramuthu, Jagadeesh, DeCoste, Di and Yu, HD-CNN: Hierarchical Deep
    Convolutional Neural Networks for Large Scale Visual Recognition, ICCV 2015, sections HD-CNN
    Architecture, HD-CNN Training and HD-CNN Testing.

    Differs from the paper:
        `default` and `route` are conditional execution with `beta`; without `beta` they equal
        `full`. A set of one label has no component: the probability of that label is one. Learning
        rates and epochs are those of section `loop`, in passes instead of iterations. Biases have
        the same learning rate as all other weights. A prediction uses one view of an image instead
        of ten. The consistency term averages over a batch of `data.batch_size`.
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
        Builds the shared blocks, the coarse component and a fine component per cluster.

        Raises:
            BadHierarchy: There is only one label, or a level between clusters and labels.
            BadParams: The backbone has fewer blocks than `split`.
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
        Trains each fine component on frozen shared blocks, then all parts jointly.

        The coarse component and the shared blocks start from the flat network.

        Raises:
            MissingInput: `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
            BadParams: `loop.accumulate` divides batches, and the consistency term needs them whole.
        """
        self._check_batches(trainer)
        self._copy_flat(start)
        self._draw_last_layers(seed)
        pairs = [self._component_task(data, node) for node in self._fine()]
        reports = trainer.fit_all(pairs, seed=seed)
        if self.params.joint_epochs != 0:
            self.network.requires_grad_(requires_grad=True)
            task = self._joint_task(data)
            if reports:
                slowest = max(reports, key=lambda report: report.seconds)
                task = replace(task, waits_for=slowest.network)
            reports.append(trainer.fit(self.network, task, seed=seed))
        self.eval()
        return FitReport(tuple(reports))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        r"""
        Returns $p(j) = \sum_k B_k p_k(j) / \sum_k B_k$ over the executed components k (eq. 1).

        B_k is the weight of cluster k. p_k are the label probabilities of its fine component, zero
        outside the cluster.
        `full` executes all K components. `default` and `route` execute those that `chosen` returns.
        """
        maps = self.network.stem(self.centred(x))
        coarse = self.network.shares(maps).exp()
        chosen = (
            torch.ones_like(coarse, dtype=torch.bool) if mode == "full" else self.chosen(coarse)
        )
        return _averaged(coarse, chosen, self.network.executed(maps, chosen))

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns B, the coarse weights of the clusters, in their order; rows sum to one."""
        return self.network.shares(self.network.stem(self.centred(x))).exp()

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """
        Returns `default`, `executed` in that mode, `full` and `coarse` of one forward pass.

        Every component is computed, also those that `default` skips: their weight is zero. An
        exported file computes the same, because its graph cannot depend on the images.
        """
        maps = self.network.stem(self.centred(x))
        coarse = self.network.shares(maps).exp()
        chosen, every = self.chosen(coarse), torch.ones_like(coarse, dtype=torch.bool)
        fine = self.network.labels(maps).exp()
        column = {node: index for index, node in enumerate(self.network.clusters)}
        executed = [chosen[:, column[node]] for node in self.network.fine]
        return {
            "default": _averaged(coarse, chosen, fine),
            "executed": torch.stack([every[:, 0], *executed], dim=1),
            "full": _averaged(coarse, every, fine),
            "coarse": coarse,
        }

    def chosen(self, coarse: Float[Tensor, "batch cluster"]) -> Bool[Tensor, "batch cluster"]:
        r"""
        Returns which components are executed for an image: $B_k >= 1 / (\beta K)$.

        Where no weight reaches this threshold, which needs beta < 1, the component with the largest
        weight is executed.

        Source: Yan et al., section HD-CNN Testing, conditional execution.

        Example:
            B = (.565217, .391304, .043478): components 1 and 2 for beta 1 to 7, all three from
            beta = 7.666667 on.
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
        Returns the number of parameters and the MACs; part `root` is the shared blocks and the
        coarse component.

        Example:
            nin at 26 pixels with 9 components of 389 labels in total: 9,196,585 parameters and
            1,080,327,168 MACs with every component executed.
        """
        shared, own = self.block_macs[: self.first_own], self.block_macs[self.first_own :]
        macs = {trees.ROOT: sum(shared)}
        if self.network.coarse is not None:
            macs[trees.ROOT] += sum(own) + backbone.macs_of_head(self.network.coarse.head)
        for node, branch in self._fine().items():
            macs[node] = sum(own) + backbone.macs_of_head(branch.head)
        return Cost(params=backbone.count(self), macs=macs)

    def centred(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns the network's input: the centre crop of the images minus the channel means."""
        return augment.middle(x - self.mean[:, None, None], self.side)

    def compress(self, *, codebook: int, width: int) -> quantise.Storage:
        """Quantises the weights of the fine components in place, except their last layers."""
        return quantise.compress(self.network.fine, codebook=codebook, width=width)

    def _fine(self) -> dict[str, Branch]:
        return parts_by_name(Branch, self.network.fine)

    def _copy_flat(self, start: Mapping[str, Tensor] | None) -> None:
        """Copies the flat network into the shared blocks and into every component."""
        if start is None:
            raise MissingInput(
                "The shared blocks and the coarse component start from the flat network of the same "
                "seed, which has not been trained. Run stage 'flat' first."
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
        """Initialises the last layer of each fine component from a seed of its own."""
        for node, branch in self._fine().items():
            seeds.seed(seed, "hdcnn", node)
            backbone.replace_last(branch.head, outputs=len(self.network.clusters[node]))

    def _component_task(self, data: DataModule, node: str) -> Pair:
        """Returns a fine component on the frozen shared blocks, and its training task."""
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

    def _joint_task(self, data: DataModule) -> Task:
        """Returns the task of the joint training: label cross-entropy plus coarse consistency."""
        clusters = list(self.network.clusters.values())
        images = np.bincount(data.train.labels, minlength=self.leaves)
        if self.params.balance in ("resample", "fixed"):
            images = np.ones_like(images)  # an epoch has equally many images of each label
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
                Consistency(targets(clusters, images), strength)
                if strength
                else losses.cross_entropy
            ),
        )

    def _sampler(self, data: DataModule, members: list[int]) -> Sampler:
        return sampling.by_label(data.train.labels, members, balance=self.params.balance)

    def _check_batches(self, trainer: Trainer) -> None:
        """Refuses divided batches before the training starts, if the consistency term is used."""
        tuned = self.params.joint_epochs != 0 and self.params.consistency > 0
        if tuned and trainer.params.accumulate > 1:
            raise BadParams(
                f"loop.accumulate is {trainer.params.accumulate}, and hdcnn.consistency needs the "
                "mean over a whole batch. Set loop.accumulate: 1 with a lower data.batch_size, or "
                "hdcnn.consistency: 0."
            )


def _averaged(
    coarse: Float[Tensor, "batch cluster"],
    chosen: Bool[Tensor, "batch cluster"],
    fine: Float[Tensor, "batch cluster leaf"],
) -> Float[Tensor, "batch leaf"]:
    """Returns the average of the components' probabilities, weighted by B where chosen (eq. 1)."""
    weights = coarse * chosen
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (weights[:, :, None] * fine).sum(dim=1)


def _check(hierarchy: nx.DiGraph) -> None:
    """Refuses a hierarchy with more levels than root, clusters and labels."""
    trees.leaf_count(hierarchy)
    deepest = max(len(path) for path in trees.paths(hierarchy).values())
    if deepest > 3:
        raise BadHierarchy(
            f"The tree has {deepest} levels, and hdcnn takes three: root, clusters, labels. Choose "
            "a grouping of two levels."
        )


def _division(params: Params, block_macs: list[int]) -> int:
    """
    Returns the number of shared blocks, including the first block; 0 if none are shared.

    Without `split` it is the number whose MACs are nearest to a third of all.

    Raises:
        BadParams: The backbone has only one block, or fewer blocks than `split`, or `split` counts
            shared blocks and none are shared.
    """
    if not params.share:
        if params.split is not None:
            raise BadParams(
                "hdcnn.split counts shared blocks, and hdcnn.share is false. Unset one."
            )
        return 0
    blocks = len(block_macs) - 1
    if not blocks:
        raise BadParams(
            "The backbone has one block, and hdcnn shares some blocks and copies the others. Choose another "
            "backbone.name, such as resnet20, or hdcnn.share: false."
        )
    if params.split is None:
        return backbone.blocks_nearest(block_macs, share=_SHARED)
    if params.split > blocks:
        raise BadParams(
            f"hdcnn.split {params.split} is more than the {blocks} blocks that this backbone has "
            "after the first one. Lower it."
        )
    return params.split + 1
