"""
`fusion`: two trained trees under a new root that decides between them (methods.md 2.7, merge).

No entry of METHODS and no section: it is made of trained runs by `python -m train merge`, not of a
grouping by `fit`. Trained and saved, it is a classifier like any other.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from train import backbone
from train.backbone import Network
from train.classifier import Cost, FitReport, HierarchicalClassifier, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.runtime import checkpoint
from train.tree import grafting

NAME = "fusion"


class Classifier(nn.Module):
    """
    A root network, and below each of its outputs a whole classifier with a trunk of its own.

    Source: the merging of hierarchies that the report of the Uppsala students outlines (methods.md
    2.7); nothing of it was built there.
    """

    mean: Tensor

    def __init__(
        self,
        parts: Sequence[HierarchicalClassifier],
        *,
        leaves: Sequence[Sequence[int]],
        build: Callable[[int], Network],
        mean: Float[np.ndarray, "3"],
    ) -> None:
        """
        Builds the root with one output a part; `leaves` has for each part the leaf of each of its.

        Raises:
            BadHierarchy: Two parts share a leaf, or one is left out.
        """
        super().__init__()
        self.hierarchy = grafting.joined([part.hierarchy for part in parts], leaves)
        self.leaves = [list(own) for own in leaves]
        self.root = build(len(parts))
        self.parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
        balance: sampling.Balance = "resample",
        epochs: int | None = None,
        lr_scale: float = 1.0,
    ) -> FitReport:
        """
        Trains the root, equal images from each part; no tensor of the parts changes.

        `start` holds the tensors of a trained network, whose last layer is not taken.

        Raises:
            BadCheckpoint: `start` holds a network of another shape.
        """
        if start is not None:
            mine = {n: t for n, t in self.root.state_dict().items() if _is_last(n)}
            taken = {n: t for n, t in start.items() if not _is_last(n)}
            checkpoint.fill(self.root, {**taken, **mine}, source="the first tree's root")
        outputs = np.full(sum(map(len, self.leaves)), -1)
        for place, own in enumerate(self.leaves):
            outputs[own] = place
        task = Task(
            name="root",
            data=data,
            outputs=outputs,
            sampler=sampling.by_class(data.train.labels, self.leaves, balance=balance),
            macs_trained=self.cost().macs["root"],
            epochs=epochs,
            lr_scale=lr_scale,
        )
        report = trainer.fit(self.root, task, seed=seed)
        self.eval()
        return FitReport((report,))

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns leaf probabilities by `route` (the default) or in `full`.

        By route only the part that the root prefers sees an image, and its row is that part's. In
        full every part's full row counts as much as the root says.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        chosen = self.coarse_proba(x).argmax(dim=1)
        result = torch.zeros(x.shape[0], sum(map(len, self.leaves)), device=x.device)
        for place, (part, own) in enumerate(self._parts()):
            rows = torch.nonzero(chosen == place).flatten()
            if len(rows):
                found = part.predict_proba(x[rows], mode=mode)
                result[rows[:, None], torch.tensor(own, device=x.device)] = found
        return result

    def coarse_proba(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch part"]:
        """Returns the root's probabilities over the parts."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        return torch.softmax(self.root(centred).float(), dim=1)

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (by route), `executed` by it, `full` and `coarse`, in one pass."""
        coarse = self.coarse_proba(x)
        chosen = coarse.argmax(dim=1)
        full = torch.zeros(x.shape[0], sum(map(len, self.leaves)), device=x.device)
        route = torch.zeros_like(full)
        executed = [torch.ones_like(coarse[:, :1]).bool()]
        for place, (part, own) in enumerate(self._parts()):
            found, goes = part.outputs(x), (chosen == place)[:, None]
            full[:, own] = coarse[:, place : place + 1] * found.get("full", found["default"])
            route[:, own] = goes * found["default"]
            executed.append(goes & found["executed"])
        return {
            "default": route,
            "executed": torch.cat(executed, dim=1),
            "full": full,
            "coarse": coarse,
        }

    def cost(self) -> Cost:
        """Returns parameters and MACs; nothing is shared between the root and the parts."""
        macs = {"root": sum(row.macs for row in backbone.layer_table(self.root))}
        for place, (part, _) in enumerate(self._parts()):
            own = part.cost().macs
            macs |= {grafting.renamed(name, place): value for name, value in own.items()}
        return Cost(params=backbone.count(self), macs=macs)

    def _parts(self) -> list[tuple[HierarchicalClassifier, list[int]]]:
        """Each part with its leaves."""
        parts = [part for part in self.parts if isinstance(part, HierarchicalClassifier)]
        return list(zip(parts, self.leaves, strict=True))


def _is_last(name: str) -> bool:
    return name.startswith("head.predictions")
