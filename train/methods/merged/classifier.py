"""
`merged`: a category head and a label head that share their first stages (methods.md 3).

Both are trained at once on the sum of their losses. At test time each is adapted to the other,
image by image: how far, alpha, is chosen on the validation images and kept with the weights.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # as in the trainer
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from personae.errors import BadParams, MissingInput
from train import backbone
from train.backbone import Branch, Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine import losses
from train.engine.losses import Counting
from train.engine.task import Task
from train.engine.trainer import Pair, Trainer
from train.errors import BadHierarchy
from train.evaluation import prediction
from train.methods.merged import adaptation
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy as trees

log = logging.getLogger(__name__)

_STAGES = 3
_COARSE = "coarse"  # name of the category branch, beside the root, in costs and trainings


class Params(BaseModel):
    """Section `merged`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merge: int = Field(
        2,
        ge=0,
        le=3,
        description="stages of three that both branches share: 0 none, not even the "
        "stem, 3 everything but the heads; a stage is a third of the blocks after the first one "
        "(those of a resnet; a densenet's transition ends its stage). The paper's best are 1 and 2",
    )
    separate: bool = Field(
        default=False,
        description="with merge: 0, train the branches as two networks, one after "
        "the other, instead of together",
    )
    stop_gradient: bool = Field(
        default=False,
        description="the category branch reads what is shared and does not teach it",
    )
    coarse_weight: float = Field(
        1.0, gt=0, le=100, description="weight of the categories' loss beside that of the labels"
    )
    alpha_coarse: float | None = Field(
        None,
        ge=0,
        le=2,
        description="adaptation of the categories: 0 none, 1 to the mean, 2 to "
        "what the labels say; null: chosen on the validation images",
    )
    alpha_fine: float | None = Field(
        None,
        ge=0,
        le=2,
        description="adaptation of the labels: 0 none, 1 to the mean, 2 to what "
        "the categories say; null: chosen on the validation images",
    )
    transfer: bool = Field(
        default=False,
        description="every block starts from the flat network of its seed, else from "
        "scratch (the paper)",
    )
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes over the training set; null: loop.epochs"
    )
    lr_scale: float = Field(
        1.0, gt=0, le=10, description="learning rate after the transfer, relative to loop.lr"
    )
    balance: sampling.Balance = Field(
        "none",
        description="equal images per label and epoch: resample, fixed, weights; none: all "
        "images (the paper)",
    )


class Merged(nn.Module):
    """Shared blocks, then a branch over the labels and one over the categories: both logits."""

    def __init__(
        self, stem: nn.Module, fine: Branch, coarse: Branch | None, *, stop_gradient: bool
    ) -> None:
        """Takes over the parts; a single category has no branch, for it is certain."""
        super().__init__()
        self.stem, self.fine, self.coarse = stem, fine, coarse
        self.stop_gradient = stop_gradient

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch leaf"], Float[Tensor, "batch cluster"]]:
        """Returns the logits of the labels, and beside them those of the categories."""
        maps = self.stem(x)
        fine: Tensor = self.fine(maps)
        if self.coarse is None:
            return fine, fine.new_zeros(len(fine), 1)
        return fine, self.coarse(maps.detach() if self.stop_gradient else maps)


@dataclass(frozen=True, slots=True)
class BothLosses:
    """The cross-entropy of the labels, and that of the categories beside them."""

    parents: Int[Tensor, " leaf"]
    strength: float

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images, each weighted as its label is."""
        labels = losses.cross_entropy(output, targets, counting)
        return labels + self.strength * self.of_categories(output[1].float(), targets, counting)

    def of_categories(
        self,
        logits: Float[Tensor, "batch cluster"],
        targets: Int[Tensor, " batch"],
        counting: Counting,
    ) -> Float[Tensor, ""]:
        """Returns the categories' part, not yet multiplied by its strength."""
        categories = self.parents.to(targets.device)[targets]
        each = F.cross_entropy(
            logits, categories, reduction="none", label_smoothing=counting.label_smoothing
        )
        return (each if counting.weights is None else each * counting.weights[targets]).sum()


class Classifier(nn.Module):
    """
    Two levels, each with a branch of its own, adapted to one another.

    `default` and `route` are the adapted labels, `coarse` the adapted categories, each with its
    alpha. `full` is alpha = 2, the product of the category's probability and the label's in it, as
    for the other methods. Both branches are always executed.

    Source: Dutt, Pellerin and Quénot, Improving Hierarchical Image Classification with Merged CNN
    Architectures (methods.md 3).

    Differs:
        alpha is chosen on the validation images, where the paper plots it on the test images.
        The zero-mass rule is the corrected one. A head's hidden dense layers, which the paper's
        backbones do not have, belong to their branch, under `merge: 3` too. Rates and epochs are
        those of `loop`; a clipped gradient is clipped for both branches together.
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
            BadHierarchy: There is one label only, or no tree of root, categories and labels.
            BadParams: The branches are to be trained apart and share blocks, or the backbone is
                one block, which cannot be divided.
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
            other = build(len(self.clusters))
            coarse = Branch(other.blocks[self.first_own :], other.head)
        self.network = Merged(
            whole.blocks[: self.first_own],
            Branch(whole.blocks[self.first_own :], whole.head),
            coarse,
            stop_gradient=params.stop_gradient,
        )
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("parents", torch.from_numpy(trees.parents(self.clusters)))
        # Full agreement until `fit` has chosen: of the categories, then of the labels.
        given = (params.alpha_coarse, params.alpha_fine)
        self.register_buffer("alphas", torch.tensor([1.0 if one is None else one for one in given]))

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
            BadParams: alpha is to be chosen on images that are learnt.
            MissingInput: The blocks are to start from the flat network, and `start` is None.
            BadCheckpoint: `start` holds a network of another shape.
        """
        self._check_pictures(data)
        if self.params.transfer:
            self._begin_from(start, seed=seed)
        if self.params.separate:
            reports = trainer.fit_all(self._apart(data), seed=seed)
        else:
            reports = [trainer.fit(self.network, self._together(data), seed=seed)]
        self.eval()
        self._choose(data)
        return FitReport(tuple(reports), from_flat=self.params.transfer)

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the adapted leaf probabilities; in `full` the product along the path."""
        coarse, fine = self.confidences(x)
        alpha = 2.0 if mode == "full" else self.alphas[1]
        return adaptation.adapt_fine(coarse, fine, self.parents, alpha=alpha)

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the adapted probabilities of the categories, in their order."""
        return adaptation.adapt_coarse(*self.confidences(x), self.parents, alpha=self.alphas[0])

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default`, `executed` by it, `full` and `coarse`, in one pass."""
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
        """Returns P_c and P_f, what the two heads say before they are adapted."""
        centred = augment.middle(x - self.mean[:, None, None], self.side)
        fine, coarse = self.network(centred)
        return torch.softmax(coarse.float(), dim=1), torch.softmax(fine.float(), dim=1)

    def cost(self) -> Cost:
        """
        Returns parameters and MACs; the shared blocks and the label branch are the root's.

        Example:
            resnet164 with 100 labels in 20 categories: 3,432,216, 3,349,832, 3,023,560 and
            1,731,528 parameters for merge 0 to 3 (methods.md 3.3).
        """
        own = sum(self.block_macs[self.first_own :])
        macs = {trees.ROOT: sum(self.block_macs) + backbone.macs_of_head(self.network.fine.head)}
        if self.network.coarse is not None:
            macs[_COARSE] = own + backbone.macs_of_head(self.network.coarse.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _check_pictures(self, data: DataModule) -> None:
        """Refuses to choose alpha by images that are learnt, before hours of training."""
        given = self.params.alpha_coarse is not None and self.params.alpha_fine is not None
        if not given and np.isin(data.val.post_ids, data.train.post_ids).any():
            raise BadParams(
                "merged chooses alpha on the validation images, and these are trained on "
                "(data.train_on_val). Set merged.alpha_coarse and merged.alpha_fine, or train "
                "without them."
            )

    def _begin_from(self, start: Mapping[str, Tensor] | None, *, seed: int) -> None:
        """Copies the flat network whole, and all but its last layer into the category branch."""
        if start is None:
            raise MissingInput(
                "The blocks start from the flat network of their seed, and there is none. Run "
                "stage 'flat' first, or set merged.transfer: false."
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

    def _together(self, data: DataModule) -> Task:
        """Returns what both branches learn at once: the labels, and beside them the categories."""
        every = [[leaf] for leaf in range(self.leaves)]
        loss: losses.Loss = losses.cross_entropy
        if self.network.coarse is not None:
            loss = BothLosses(self.parents.cpu(), self.params.coarse_weight)
        return self._task(
            data,
            every,
            name=trees.ROOT,
            outputs=np.arange(self.leaves),
            macs=self.cost().macs_max,
            loss=loss,
        )

    def _apart(self, data: DataModule) -> list[Pair]:
        """Returns each branch, a whole network here, and what it learns."""
        every = [[leaf] for leaf in range(self.leaves)]
        macs = self.cost().macs
        task = self._task(
            data, every, name=trees.ROOT, outputs=np.arange(self.leaves), macs=macs[trees.ROOT]
        )
        pairs: list[Pair] = [(self.network.fine, task)]
        if self.network.coarse is not None:
            parents = self.parents.cpu().numpy()
            task = self._task(
                data, self.clusters, name=_COARSE, outputs=parents, macs=macs[_COARSE]
            )
            pairs.append((self.network.coarse, task))
        return pairs

    def _task(
        self,
        data: DataModule,
        classes: Sequence[Sequence[int]],
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
            sampler=sampling.by_class(data.train.labels, classes, balance=self.params.balance),
            macs_trained=macs,
            epochs=self.params.epochs,
            lr_scale=self.params.lr_scale if self.params.transfer else 1.0,
            loss=loss,
        )

    @torch.no_grad()
    def _choose(self, data: DataModule) -> None:
        """Takes each alpha that was not given from the accuracies on the validation images."""
        batches = prediction.batches(data.val, self.mean.device)
        said = zip(*(self.confidences(x) for x in batches), strict=True)
        coarse, fine = (torch.cat(parts).cpu() for parts in said)
        labels, parents = torch.from_numpy(data.val.labels), self.parents.cpu()
        best = adaptation.chosen(adaptation.curve(coarse, fine, labels, parents))
        given = (self.params.alpha_coarse, self.params.alpha_fine)
        taken = [own if one is None else one for one, own in zip(given, best, strict=True)]
        self.alphas.copy_(torch.tensor(taken))
        distributed.broadcast([self.alphas])
        log.info(
            "alpha of the categories %.1f, of the labels %.1f; %.3f of the mass disagrees",
            *self.alphas.tolist(),
            adaptation.disagreement(coarse, fine, parents).mean(),
        )


def _check(params: Params, hierarchy: nx.DiGraph) -> None:
    """Refuses what is not a tree of a root over categories of labels, and contradicting wishes."""
    trees.leaf_count(hierarchy)
    deepest = max(len(path) for path in trees.paths(hierarchy).values())
    if deepest > 3 or not nx.is_tree(hierarchy):
        raise BadHierarchy(
            "merged takes a tree of root, clusters and labels, each label in one cluster; this "
            f"hierarchy has {deepest} levels, or a label in several. Choose another grouping."
        )
    if params.separate and params.merge:
        raise BadParams(
            f"merged.separate trains two networks, and merged.merge {params.merge} lets them share "
            "stages. Set merged.merge: 0, or merged.separate: false."
        )


def _division(merge: int, blocks: int) -> int:
    """
    Returns the blocks that are shared, the first one counted, of a backbone that has `blocks`.

    Example:
        resnet164, a stem, 54 blocks and a norm: 0, 19, 37 and 56; densenet_bc_100, a stem, 48
        layers, two transitions and a norm: 0, 18, 35 and 52.
    """
    if blocks == 1 and merge in range(1, _STAGES):
        raise BadParams(
            f"The backbone is one block, and merged.merge {merge} shares some and copies the rest. "
            "Set merged.merge to 0 or 3, or choose another backbone.name, such as resnet20."
        )
    return 1 + (blocks - 1) * merge // _STAGES if merge else 0
