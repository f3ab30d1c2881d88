"""
`ensemble`: several flat networks whose probabilities are averaged (`docs/methods/evaluation.md`).

A control for methods with several networks: averaging several flat networks may gain as much.
"""

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from train import backbone
from train.backbone import Network
from train.backbone.parts import parts_of
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.params.ensemble import Params
from train.tree import hierarchy as trees


class Classifier(nn.Module):
    """
    Flat networks with different initialisations, orders of the images and augmentations.

    Source: none, a control of this project. The probabilities are averaged as in the ensembles of
    Dutt, Pellerin and Quénot, Improving Hierarchical Image Classification with Merged CNN
    Architectures, CBMI 2017, section 4.
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
        """Builds the members with one output per leaf; the clusters of the hierarchy are not used."""
        super().__init__()
        self.params = params
        self.hierarchy = hierarchy
        self.leaves = trees.leaf_count(hierarchy)
        self.members = nn.ModuleList(build(self.leaves) for _ in range(params.members))
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,  # noqa: ARG002  # the signature of every method
    ) -> FitReport:
        """Trains every member from its own random initialisation."""
        sampler = sampling.by_label(
            data.train.labels, range(self.leaves), balance=self.params.balance
        )
        pairs = [
            (
                network,
                Task(
                    name=name,
                    data=data,
                    outputs=np.arange(self.leaves),
                    sampler=sampler,
                    macs_trained=macs,
                ),
            )
            for network, (name, macs) in zip(self.members, self.cost().macs.items(), strict=True)
        ]
        return FitReport(tuple(trainer.fit_all(pairs, seed=seed)))

    def predict_proba(
        self,
        x: Float[Tensor, "batch 3 height width"],
        *,
        mode: Mode = "default",  # noqa: ARG002  # the signature of every method
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the mean of the members' probabilities, which is the same in every mode."""
        centred = x - self.mean[:, None, None]
        probabilities = [
            torch.softmax(network(augment.middle(centred, network.side)).float(), dim=1)
            for network in self._networks()
        ]
        return torch.stack(probabilities).mean(dim=0)

    def coarse_proba(self, x: Float[Tensor, "batch 3 height width"]) -> None:
        """Returns None: there are no clusters."""

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` and `executed`: every member is executed for every image."""
        executed = torch.ones(x.shape[0], len(self.members), dtype=torch.bool, device=x.device)
        return {"default": self.predict_proba(x), "executed": executed}

    def cost(self) -> Cost:
        """Returns the number of parameters and the MACs of each member, which are equal."""
        macs = sum(row.macs for row in backbone.layer_table(self._networks()[0]))
        names = [f"member-{index}" for index in range(len(self.members))]
        return Cost(params=backbone.count(self), macs=dict.fromkeys(names, macs))

    def _networks(self) -> list[Network]:
        return parts_of(Network, self.members)
