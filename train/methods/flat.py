"""
`flat`: one CNN with one softmax over all labels (`docs/methods/flat.md`).

The baseline of every comparison. Stage `clustering` reads its confusions, and `uppsala`, `hiernet`
and `hdcnn` start from its weights.
"""

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from train import backbone
from train.backbone import Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.params.flat import Params
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
        """Trains the network from a random initialisation."""
        leaves = [[leaf] for leaf in range(self.leaves)]
        task = Task(
            name="root",
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampling.by_class(data.train.labels, leaves, balance=self.params.balance),
            macs_trained=self.cost().macs_max,
        )
        return FitReport((trainer.fit(self.network, task, seed=seed),))

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
