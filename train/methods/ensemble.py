"""
`ensemble`: several flat networks whose probabilities are averaged (methods.md 7.3).

A control: what a hierarchy gains by having several networks, a mean over as many may gain too.
"""

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train import backbone
from train.backbone import Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.tree import hierarchy as trees


class Params(BaseModel):
    """Section `ensemble`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(2, ge=1, le=100, description="flat networks, each from a start of its own")
    balance: sampling.Balance = Field(
        "none", description="equal images per label and epoch, as in section flat"
    )


class Classifier(nn.Module):
    """
    Flat networks that differ in their start and in the order and moves of what they see.

    Source: the control that methods.md 7.3 asks for; no published system.
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
        """Builds the members with one output a leaf; of the hierarchy only the leaves matter."""
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
        start: Mapping[str, Tensor] | None = None,
    ) -> FitReport:
        """Trains every member from its own start; `start` is not used."""
        del start
        leaves = [[leaf] for leaf in range(self.leaves)]
        sampler = sampling.by_class(data.train.labels, leaves, balance=self.params.balance)
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
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """Returns the mean of the members' probabilities, the same in every mode."""
        del mode
        centred = x - self.mean[:, None, None]
        rows = [
            torch.softmax(network(augment.middle(centred, network.side)).float(), dim=1)
            for network in self._networks()
        ]
        return torch.stack(rows).mean(dim=0)

    def coarse_proba(self, x: Float[Tensor, "batch 3 height width"]) -> None:
        """Returns None: there are no clusters."""
        del x

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default`, and `executed`: every member for every image."""
        executed = torch.ones(x.shape[0], len(self.members), dtype=torch.bool, device=x.device)
        return {"default": self.predict_proba(x), "executed": executed}

    def cost(self) -> Cost:
        """Returns parameters and MACs; every member is executed for every image."""
        macs = {
            f"member-{place}": sum(row.macs for row in backbone.layer_table(network))
            for place, network in enumerate(self._networks())
        }
        return Cost(params=backbone.count(self), macs=macs)

    def _networks(self) -> list[Network]:
        return [network for network in self.members if isinstance(network, Network)]
