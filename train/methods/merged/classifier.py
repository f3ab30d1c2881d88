"""
`merged`: a category branch and a label branch that share their first stages.

Both are trained together on the sum of their losses. At test time the probabilities of each branch
are adapted to the other's; the amount, alpha, is chosen on the validation images and saved with the
weights. Method, example and sources: `docs/methods/merged.md`.
"""

import logging
from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from personae.sampling import Sampler
from train import backbone
from train.backbone import Branch, Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine import losses
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.evaluation import prediction
from train.methods.merged import adaptation
from train.methods.merged.network import BothLosses, Merged
from train.params.merged import Params
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy as trees

log = logging.getLogger(__name__)

_STAGES = 3  # of a resnet or a densenet
_COARSE = "coarse"  # name of the category branch in costs and trainings


class Classifier(nn.Module):
    """
    A branch for each of two levels, adapted to one another.

    `default` and `route` are the adapted label probabilities, `coarse` the adapted category
    probabilities, each with its own alpha. `full` uses alpha = 2: P(category) P(label | category),
    as in the other methods. Both branches are always executed.

    Source: Dutt, Pellerin and Quénot, Improving Hierarchical Image Classification with Merged CNN
    Architectures, CBMI 2017, sections 3.2 to 3.4.

    Differs from the paper:
        alpha is chosen on the validation images; the paper plots all values on the test images.
        Labels of a category with zero mass follow a corrected rule (`adaptation.adapt_fine`). The
        hidden dense layers of a head, which the paper's backbones do not have, belong to their
        branch, also with `merge: 3`. Learning rates and epochs are those of section `loop`.
        Gradients of both branches are clipped together.
    """

    mean: Tensor
    parents: Tensor
    alphas: Tensor

    def __init__(
        self,
        params: Params,
        *,
        hierarchy: nx.DiGraph,
        build: Callable[[int], Network],
        mean: Float[np.ndarray, "3"],
    ) -> None:
        """
        Builds the shared blocks and both branches.

        Raises:
            BadHierarchy: There is only one label, or the hierarchy is no tree of root, categories
                and labels.
            BadParams: `separate` branches would share blocks or weigh their losses, no block is
                shared that `stop_gradient` could concern, or the backbone has only one block, which
                cannot be divided.
        """
        super().__init__()
        _check(params, hierarchy)
        self.params, self.hierarchy, self.build = params, hierarchy, build
        self.leaves = trees.leaf_count(hierarchy)
        self.clusters = trees.clusters(hierarchy)
        whole = build(self.leaves)
        self.side, self.block_macs = whole.side, backbone.macs_of_blocks(whole)
        self.first_own = _division(params.merge, len(whole.blocks))
        coarse = None
        if len(self.clusters) > 1:
            categories = build(len(self.clusters))
            coarse = Branch(categories.blocks[self.first_own :], categories.head)
        self.network = Merged(
            whole.blocks[: self.first_own],
            Branch(whole.blocks[self.first_own :], whole.head),
            coarse,
            stop_gradient=params.stop_gradient,
        )
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("parents", torch.from_numpy(trees.parents(self.clusters)))
        # alpha of the categories and of the labels; 1, full agreement, until `fit` chooses.
        alphas = (params.alpha_coarse, params.alpha_fine)
        self.register_buffer(
            "alphas", torch.tensor([1.0 if alpha is None else alpha for alpha in alphas])
        )

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
    ) -> FitReport:
        """
        Trains both branches, then chooses each alpha that is not given.

        Raises:
            BadParams: alpha would be chosen on images that are trained on.
            MissingInput: The blocks start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        self._check_images(data)
        if self.params.transfer:
            self._copy_flat(start, seed=seed)
        if self.params.separate:
            reports = trainer.fit_all(self._separate_tasks(data), seed=seed)
        else:
            reports = [trainer.fit(self.network, self._joint_task(data), seed=seed)]
        self.eval()
        self._choose(data)
        return FitReport(tuple(reports), from_flat=self.params.transfer)

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the adapted leaf probabilities; `full` is P(category) P(label | category)."""
        coarse, fine = self.confidences(x)
        alpha = 2.0 if mode == "full" else self.alphas[1]
        return adaptation.adapt_fine(coarse, fine, self.parents, alpha=alpha)

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the adapted probabilities of the categories, in their order."""
        return adaptation.adapt_coarse(*self.confidences(x), self.parents, alpha=self.alphas[0])

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default`, `executed` in that mode, `full` and `coarse` of one forward pass."""
        coarse, fine = self.confidences(x)
        parts = 1 if self.network.coarse is None else 2
        return {
            "default": adaptation.adapt_fine(coarse, fine, self.parents, alpha=self.alphas[1]),
            "executed": torch.ones(x.shape[0], parts, dtype=torch.bool, device=x.device),
            "full": adaptation.adapt_fine(coarse, fine, self.parents, alpha=2.0),
            "coarse": adaptation.adapt_coarse(coarse, fine, self.parents, alpha=self.alphas[0]),
        }

    def confidences(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch cluster"], Float[Tensor, "batch leaf"]]:
        """Returns P_c and P_f, the probabilities of both branches before adaptation."""
        centred = augment.middle(x - self.mean[:, None, None], self.side)
        fine, coarse = self.network(centred)
        return torch.softmax(coarse.float(), dim=1), torch.softmax(fine.float(), dim=1)

    def cost(self) -> Cost:
        """
        Returns the number of parameters and the MACs.

        Part `root` is the shared blocks and the label branch, part `coarse` the category branch.

        Example:
            resnet164 with 100 labels in 20 categories: 3,432,216, 3,349,832, 3,023,560 and
            1,731,528 parameters for merge 0 to 3.
        """
        own = sum(self.block_macs[self.first_own :])
        macs = {trees.ROOT: sum(self.block_macs) + backbone.macs_of_head(self.network.fine.head)}
        if self.network.coarse is not None:
            macs[_COARSE] = own + backbone.macs_of_head(self.network.coarse.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _check_images(self, data: DataModule) -> None:
        """Refuses, before the training starts, to choose alpha on images that are trained on."""
        given = self.params.alpha_coarse is not None and self.params.alpha_fine is not None
        if not given and data.trains_on_val:
            raise BadParams(
                "merged chooses alpha on the validation images, and these are trained on "
                "(data.train_on_val). Set merged.alpha_coarse and merged.alpha_fine, or "
                "data.train_on_val: false."
            )

    def _copy_flat(self, start: Mapping[str, Tensor] | None, *, seed: int) -> None:
        """Copies the flat network into both branches; the category branch gets a new last layer."""
        if start is None:
            raise MissingInput(
                "The blocks start from the flat network of the same seed, which has not been trained. "
                "Run stage 'flat' first, or set merged.transfer: false."
            )
        flat = self.build(self.leaves)
        checkpoint.fill(flat, start, source="the flat network")
        backbone.copy_parts(flat.blocks, self.network.stem)
        backbone.copy_parts(flat.blocks, self.network.fine.blocks)
        backbone.copy_parts(flat.head, self.network.fine.head)
        if self.network.coarse is not None:
            backbone.copy_parts(flat.blocks, self.network.coarse.blocks)
            backbone.copy_parts(flat.head, self.network.coarse.head, but="predictions")
            seeds.seed(seed, "merged", _COARSE)
            backbone.replace_last(self.network.coarse.head, outputs=len(self.clusters))

    def _joint_task(self, data: DataModule) -> Task:
        """Returns the training task of both branches together."""
        loss: losses.Loss = losses.cross_entropy
        if self.network.coarse is not None:
            loss = BothLosses(self.parents.cpu(), self.params.coarse_weight)
        return self._task(
            data,
            self._every_label(data),
            name=trees.ROOT,
            outputs=np.arange(self.leaves),
            macs=self.cost().macs_max,
            loss=loss,
        )

    def _separate_tasks(self, data: DataModule) -> list[Pair]:
        """Returns each branch, which is a whole network, with its own training task."""
        macs = self.cost().macs
        task = self._task(
            data,
            self._every_label(data),
            name=trees.ROOT,
            outputs=np.arange(self.leaves),
            macs=macs[trees.ROOT],
        )
        pairs: list[Pair] = [(self.network.fine, task)]
        if self.network.coarse is not None:
            parents = self.parents.cpu().numpy()
            sampler = sampling.by_class(
                data.train.labels, self.clusters, balance=self.params.balance
            )
            task = self._task(data, sampler, name=_COARSE, outputs=parents, macs=macs[_COARSE])
            pairs.append((self.network.coarse, task))
        return pairs

    def _every_label(self, data: DataModule) -> Sampler:
        return sampling.by_label(data.train.labels, range(self.leaves), balance=self.params.balance)

    def _task(
        self,
        data: DataModule,
        sampler: Sampler,
        *,
        name: str,
        outputs: Int[np.ndarray, " leaf"],
        macs: int,
        loss: losses.Loss = losses.cross_entropy,
    ) -> Task:
        return Task(
            name=name,
            data=data,
            outputs=outputs,
            sampler=sampler,
            macs_trained=macs,
            epochs=self.params.epochs,
            lr_scale=self.params.lr_scale if self.params.transfer else 1.0,
            loss=loss,
        )

    @torch.no_grad()
    def _choose(self, data: DataModule) -> None:
        """Chooses each alpha that is not given by the accuracy on the validation images."""
        batches = prediction.batches(data.val, self.mean.device)
        columns = zip(*(self.confidences(x) for x in batches), strict=True)
        coarse, fine = (torch.cat(column).cpu() for column in columns)
        labels, parents = torch.from_numpy(data.val.labels), self.parents.cpu()
        best = adaptation.chosen(adaptation.curve(coarse, fine, labels, parents))
        given = (self.params.alpha_coarse, self.params.alpha_fine)
        alphas = [
            chosen if alpha is None else alpha for alpha, chosen in zip(given, best, strict=True)
        ]
        self.alphas.copy_(torch.tensor(alphas))
        distributed.broadcast([self.alphas])
        log.info(
            "alpha of the categories %.1f, of the labels %.1f; total variation of both levels %.3f",
            *self.alphas.tolist(),
            adaptation.disagreement(coarse, fine, parents).mean(),
        )


def _check(params: Params, hierarchy: nx.DiGraph) -> None:
    """Refuses a hierarchy that is no tree of three levels, and contradicting parameters."""
    trees.leaf_count(hierarchy)
    deepest = max(len(path) for path in trees.paths(hierarchy).values())
    if deepest > 3 or not nx.is_tree(hierarchy):
        raise BadHierarchy(
            "merged takes a tree of root, clusters and labels, each label in one cluster; this "
            f"hierarchy has {deepest} levels, or a label in several clusters. Choose another grouping."
        )
    if params.separate and params.merge:
        raise BadParams(
            f"merged.separate trains two networks, and with merged.merge {params.merge} they share "
            "stages. Set merged.merge: 0, or merged.separate: false."
        )
    if params.stop_gradient and not params.merge:
        raise BadParams(
            "merged.stop_gradient keeps the gradient of the categories from the shared blocks, and "
            "with merged.merge 0 no block is shared. Set merged.merge to 1, 2 or 3, or "
            "merged.stop_gradient: false."
        )
    if params.separate and params.coarse_weight != 1:
        raise BadParams(
            f"merged.coarse_weight {params.coarse_weight:g} weighs one loss against the other, and "
            "merged.separate trains each branch on its own. Leave one of them out."
        )


def _division(merge: int, blocks: int) -> int:
    """
    Returns the number of shared blocks, including the first block, of a backbone of `blocks`.

    Source: Dutt et al., section 3.4, in which each of three stages ends at a pooling layer.

    Differs from the paper:
        The backbones have no such pooling. A stage is a third of the blocks after the first block:
        the stage of a resnet, or the stage of a densenet with the transition that ends it.

    Raises:
        BadParams: One block cannot be divided.

    Example:
        resnet164, a stem, 54 blocks and a norm: 0, 19, 37 and 56; densenet_bc_100, a stem, 48
        layers, two transitions and a norm: 0, 18, 35 and 52.
    """
    if blocks == 1 and merge in range(1, _STAGES):
        raise BadParams(
            f"The backbone has one block, and merged.merge {merge} shares some blocks and copies the "
            "others. Set merged.merge to 0 or 3, or choose another backbone.name, such as resnet20."
        )
    return 1 + (blocks - 1) * merge // _STAGES if merge else 0
