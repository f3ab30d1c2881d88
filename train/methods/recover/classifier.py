"""
`recover`: an early exit over all labels, and tails over sets of labels that are easily confused.

Every image passes the trunk, the first blocks of the backbone. If the
exit's largest probability is high, its prediction stands. Otherwise the image passes one tail, a copy
of the other blocks, which divides the probability of its set among the labels of the set. All parts are trained together from scratch, each image
through the trunk and one tail, so that training costs what a flat network costs. Method, example and
sources: `docs/methods/recover.md`.
"""

import logging
from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personae.errors import BadParams
from train import backbone
from train.backbone import Branch, Network
from train.backbone.parts import parts_by_name
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.evaluation import prediction
from train.methods.recover import mixing
from train.methods.recover.routed import ExitAndTail, Routed
from train.params.recover import Params
from train.runtime import distributed
from train.tree import hierarchy as trees

log = logging.getLogger(__name__)

_TRUNK = 0.5  # share of the MACs: routing pays where a substantial share of them is routed
_ALL = "all"  # node of the single set of a run without groups


class Classifier(nn.Module):
    """
    A trunk with an early exit, and a tail for each set of labels.

    Without groups in the tree there is one tail over all labels: the control that asks whether the
    sets matter.

    Source: ours. Early exits: Teerapittayanon, McDanel and Kung, BranchyNet, ICPR 2016, section III.
    Branches that are trained together: HierNet (`docs/methods/hiernet.md`).
    """

    mean: Tensor
    rule: Tensor  # (2,): a and theta

    def __init__(
        self,
        params: Params,
        *,
        hierarchy: nx.DiGraph,
        build: Callable[[int], Network],
        mean: Float[np.ndarray, "3"],
    ) -> None:
        """
        Builds the trunk, the exit, and a tail for every set of two labels and more.

        Raises:
            BadHierarchy: There is only one label.
            BadParams: The backbone has fewer blocks than the trunk and one more.
        """
        super().__init__()
        self.params, self.hierarchy = params, hierarchy
        self.leaves = trees.leaf_count(hierarchy)
        nodes = trees.children(hierarchy, trees.ROOT)
        clusters = dict(zip(nodes, trees.clusters(hierarchy), strict=True))
        sets = {node: members for node, members in clusters.items() if len(members) > 1}
        self.clusters = list(clusters.values()) if sets else []
        sets = sets or {_ALL: list(range(self.leaves))}
        whole = build(self.leaves)
        self.side, self.block_macs = whole.side, backbone.macs_of_blocks(whole)
        self.first_own = _division(params, self.block_macs)
        channels = backbone.channels_after(whole, self.first_own)
        self.network = Routed(
            whole.blocks[: self.first_own],
            backbone.pooled_head(channels, self.leaves),
            {node: self._tail(build, len(members)) for node, members in sets.items()},
            sets=sets,
            labels=self.leaves,
            routed=params.routed,
        )
        self.register_buffer("mean", torch.from_numpy(mean))
        # Until `fit` chooses: half of each, and no early exit.
        rule = (
            0.5 if params.mix is None else params.mix,
            2.0 if params.exit_at is None else params.exit_at,
        )
        self.register_buffer("rule", torch.tensor(rule))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,  # noqa: ARG002  # the signature of every method
    ) -> FitReport:
        """
        Trains all parts together, then chooses a and theta if they are not given.

        Raises:
            BadParams: They would be chosen on images that are trained on.
        """
        self._check_images(data)
        macs = self.cost().macs
        task = Task(
            name=trees.ROOT,
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampling.by_label(
                data.train.labels, range(self.leaves), balance=self.params.balance
            ),
            macs_trained=macs[trees.ROOT] + self._tail_macs(data.train.labels),
            loss=ExitAndTail(),
            shows_targets=True,
        )
        report = trainer.fit(self.network, task, seed=seed)
        self.eval()
        self._choose(data)
        return FitReport((report,), from_flat=False)

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns the label probabilities.

        `default` and `route` execute the chosen tails, and none for an image that leaves at the
        exit. `full` executes every tail, without early exit.
        """
        maps = self.network.trunk(self._centred(x))
        exit_ = self._exit(maps)
        if mode == "full":
            return self._full(exit_, self.network.spread(maps))
        is_open = self._is_open(exit_)
        sets = mixing.chosen(exit_, self.network.members, tails=self.params.tails)
        result = torch.where(is_open[:, None], torch.zeros_like(exit_), exit_)
        for index, node in enumerate(self.network.tails):
            for column in range(sets.shape[1]):
                rows = torch.nonzero(is_open & (sets[:, column] == index)).flatten()
                if len(rows):
                    own = self.network.members[index]
                    inside = torch.zeros(len(rows), self.leaves, device=x.device)
                    inside[:, own] = self.network.inside(node, maps[rows])
                    members = own.expand(len(rows), -1)
                    mixed = mixing.mixed(exit_[rows], inside, members, mix=self.rule[0])
                    result[rows] += mixed / sets.shape[1]
        return result

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"] | None:
        """Returns the exit's mass of each cluster over their sum; None without clusters."""
        if not self.clusters:
            return None
        return self._coarse(self._exit(self.network.trunk(self._centred(x))))

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """
        Returns `default`, `executed` in that mode, `full` and `coarse` of one forward pass.

        Every tail is computed, because the graph of an exported file cannot depend on the images.
        """
        maps = self.network.trunk(self._centred(x))
        exit_ = self._exit(maps)
        is_open = self._is_open(exit_)
        sets = mixing.chosen(exit_, self.network.members, tails=self.params.tails)
        spread = self.network.spread(maps)
        routed = self._through_tails(exit_, spread, sets, mix=self.rule[0])
        index = torch.arange(len(self.network.tails), device=x.device)
        passed = (sets[:, :, None] == index).any(dim=1) & is_open[:, None]
        outputs = {
            "default": torch.where(is_open[:, None], routed, exit_),
            "executed": torch.cat([torch.ones_like(is_open)[:, None], passed], dim=1),
            "full": self._full(exit_, spread),
        }
        return outputs | ({"coarse": self._coarse(exit_)} if self.clusters else {})

    def cost(self) -> Cost:
        """
        Returns the number of parameters and the MACs.

        Part `root` is the trunk and the exit; each tail is a part by the name of its set.
        """
        shared, own = self.block_macs[: self.first_own], self.block_macs[self.first_own :]
        macs = {trees.ROOT: sum(shared) + backbone.macs_of_head(self.network.exit)}
        for node, tail in parts_by_name(Branch, self.network.tails).items():
            macs[node] = sum(own) + backbone.macs_of_head(tail.head)
        return Cost(params=backbone.count(self), macs=macs)

    def _centred(self, x: Tensor) -> Tensor:
        return augment.middle(x - self.mean[:, None, None], self.side)

    def _exit(self, maps: Tensor) -> Float[Tensor, "batch leaf"]:
        return torch.softmax(self.network.at_exit(maps).float(), dim=1)

    def _is_open(self, exit_: Float[Tensor, "batch leaf"]) -> Bool[Tensor, " batch"]:
        """Returns which images pass a tail: those whose largest probability is below theta."""
        return exit_.max(dim=1).values < self.rule[1]

    def _coarse(self, exit_: Float[Tensor, "batch leaf"]) -> Float[Tensor, "batch cluster"]:
        members = torch.from_numpy(trees.membership(self.clusters, self.leaves)).to(exit_.device)
        mass = mixing.masses(exit_, members)
        return mass / mass.sum(dim=1, keepdim=True)

    def _full(
        self, exit_: Float[Tensor, "batch leaf"], spread: Float[Tensor, "batch set leaf"]
    ) -> Float[Tensor, "batch leaf"]:
        return mixing.every(exit_, spread, self.network.members, mix=self.rule[0])

    def _tail_macs(self, labels: Int[np.ndarray, " image"]) -> int:
        """Returns the MACs of the tails per training image; a label without a tail costs none."""
        macs = self.cost().macs
        members = self.network.members.cpu().numpy()
        own = np.array([macs[node] for node in self.network.tails])
        of_label = (own[:, None] * members).sum(axis=0) / np.maximum(members.sum(axis=0), 1)
        return round(float(of_label[labels].mean()))

    def _through_tails(
        self,
        exit_: Float[Tensor, "batch leaf"],
        spread: Float[Tensor, "batch set leaf"],
        sets: Int[Tensor, "batch tail"],
        *,
        mix: float | Tensor,
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the mean over the chosen sets of exit and tail, mixed."""
        rows = torch.arange(exit_.shape[0], device=exit_.device)
        each = [
            mixing.mixed(exit_, spread[rows, own], self.network.members[own], mix=mix)
            for own in sets.unbind(dim=1)
        ]
        return torch.stack(each).mean(dim=0)

    def _tail(self, build: Callable[[int], Network], outputs: int) -> Branch:
        whole = build(outputs)
        return Branch(whole.blocks[self.first_own :], whole.head)

    def _check_images(self, data: DataModule) -> None:
        """Refuses, before the training starts, to choose on images that are trained on."""
        given = self.params.mix is not None and self.params.exit_at is not None
        if not given and data.trains_on_val:
            raise BadParams(
                "recover chooses mix and exit_at on the validation images, and these are trained on "
                "(data.train_on_val). Set recover.mix and recover.exit_at, or data.train_on_val: false."
            )

    @torch.no_grad()
    def _choose(self, data: DataModule) -> None:
        """Chooses a and theta by the accuracy on the validation images, where they are not given."""
        mixes = mixing.MIXES if self.params.mix is None else (self.params.mix,)
        thetas = mixing.EXITS if self.params.exit_at is None else (self.params.exit_at,)
        exits, with_tails = [], []
        for x in prediction.batches(data.val, self.mean.device):
            maps = self.network.trunk(self._centred(x))
            exit_, spread = self._exit(maps), self.network.spread(maps)
            exits.append(exit_.cpu())
            sets = mixing.chosen(exit_, self.network.members, tails=self.params.tails)
            tried = [self._through_tails(exit_, spread, sets, mix=mix).cpu() for mix in mixes]
            with_tails.append(torch.stack(tried))
        labels = torch.from_numpy(data.val.labels)
        every = list(torch.cat(with_tails, dim=1))
        rule = mixing.choose(torch.cat(exits), every, labels, mixes=mixes, exits=thetas)
        self.rule.copy_(torch.tensor(rule))
        distributed.broadcast([self.rule])
        log.info("a = %.2f, theta = %.2f", *self.rule.tolist())


def _division(params: Params, block_macs: list[int]) -> int:
    """
    Returns the number of blocks in the trunk.

    Raises:
        BadParams: No block is left for the tails.
    """
    most = len(block_macs) - 1
    if not most or (params.trunk or 0) > most:
        raise BadParams(
            f"recover.trunk {params.trunk or 'unset'} leaves no block for the tails: the backbone has "
            f"{len(block_macs)}. Lower it, or choose another backbone.name, such as resnet20."
        )
    if params.trunk is not None:
        return params.trunk
    return backbone.blocks_nearest(block_macs, share=_TRUNK)
