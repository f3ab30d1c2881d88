"""
`flat`: one CNN with one softmax over all labels (`docs/methods/flat.md`).

The baseline of every comparison. Stage `clustering` reads its confusions, and `uppsala`, `hiernet`
and `hdcnn` start from its weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae.errors import BadParams
from train import backbone
from train.backbone import Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine import loop, signals
from train.engine.schedule import TrainingRecipe
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.params.flat import Params
from train.runtime import distributed
from train.tree import hierarchy as trees


class Classifier(nn.Module):
    """
    One network over all leaves.

    Source: Colin and Nagarajan, A hierarchical architecture of CNNs to increase the performance on
    a categorization problem, Uppsala University 2018, section 4.1 (flat architecture).
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
        """Builds the network with one output per leaf; the clusters of the hierarchy are not used."""
        super().__init__()
        self.params = params
        self.hierarchy = hierarchy
        self.leaves = trees.leaf_count(hierarchy)
        self.network = build(self.leaves)
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,  # noqa: ARG002  # the signature of every method
    ) -> FitReport:
        """
        Trains the network from a random initialisation.

        Raises:
            BadParams: A training signal needs groups of labels and the run's tree has none, or it has
                no effect with this recipe or network.
        """
        sampler = sampling.by_label(
            data.train.labels, range(self.leaves), balance=self.params.balance
        )
        task = Task(
            name="root",
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampler,
            macs_trained=self.cost().macs_max,
        )
        network, task = self._with_signal(task, loop.recipe_of(trainer.params))
        report = trainer.fit(network, task, seed=seed)
        self.network.eval()
        return FitReport((report,), from_flat=False)

    def _with_signal(self, task: Task, recipe: TrainingRecipe) -> tuple[nn.Module, Task]:
        """Returns the network and the task with the training signal that the parameters name."""
        params, network = self.params, self.network
        if params.smoothing == "tree" and not recipe.label_smoothing:
            raise BadParams(
                "flat.smoothing: tree moves the share loop.label_smoothing of each target, and that "
                "is 0 in this recipe. Take loop.recipe: fast with a label_smoothing above 0."
            )
        if params.curriculum and recipe.stops_early:
            raise BadParams(
                "flat.curriculum learns groups first, and this recipe would stop early on the "
                "labels meanwhile. Take loop.recipe: fast or step."
            )
        if params.smoothing == "online":
            images = task.sampler.epoch_images // distributed.world_size()
            learner = signals.OnlineTargets(network, labels=self.leaves, epoch_images=images)
            return learner, replace(task, loss=signals.online_smoothing, shows_targets=True)
        if not params.uses_groups:
            return network, task
        try:
            groups = signals.groups_of(trees.clusters(self.hierarchy), self.leaves)
        except ValueError as error:
            raise BadParams(
                f"The section 'flat' has a signal from groups of labels, and {error} in the tree of "
                "this run. Give the run a grouping of disjoint groups, such as `given`."
            ) from error
        if params.smoothing == "tree":
            rows = signals.tree_rows(groups, share=params.tree_share)
            return network, replace(task, loss=signals.TreeSmoothing(rows))
        if params.curriculum:
            return network, replace(task, loss=signals.Curriculum(groups, params.curriculum))
        if params.hierarchical_decay is not None:
            loss = signals.HierarchicalCrossEntropy(groups, params.hierarchical_decay)
            return network, replace(task, loss=loss)
        blocks = len(network.blocks)
        if (params.coarse_after or 0) > blocks:
            raise BadParams(
                f"flat.coarse_after is {params.coarse_after}, and the backbone has {blocks} blocks. "
                "Lower it."
            )
        after = params.coarse_after or max(1, blocks // 2)
        with_head = signals.WithCoarseHead(network, after=after, groups=int(groups.max()) + 1)
        macs = task.macs_trained + with_head.macs
        coarse = signals.CoarseHeadLoss(groups, params.coarse_weight)
        return with_head, replace(task, loss=coarse, macs_trained=macs)

    def predict_proba(
        self,
        x: Float[Tensor, "batch 3 height width"],
        *,
        mode: Mode = "default",  # noqa: ARG002  # the signature of every method
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the leaf probabilities, which are the same in every mode."""
        logits = self.network(augment.middle(x - self.mean[:, None, None], self.network.side))
        return torch.softmax(logits.float(), dim=1)

    def coarse_proba(self, x: Float[Tensor, "batch 3 height width"]) -> None:
        """Returns None: there are no clusters."""

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` and `executed`: the network is executed for every image."""
        executed = torch.ones(x.shape[0], 1, dtype=torch.bool, device=x.device)
        return {"default": self.predict_proba(x), "executed": executed}

    def cost(self) -> Cost:
        """Returns the number of parameters and the MACs of the network."""
        macs = sum(row.macs for row in backbone.layer_table(self.network))
        return Cost(params=backbone.count(self.network), macs={"root": macs})
