"""
`fusion`: trained trees below a new root that chooses between them (`docs/methods/uppsala.md`).

It has no section in train/params, so METHODS has no such entry: `python -m train merge` makes it
from trained runs, not stage `fit` from a grouping. Once saved, it is a classifier like any other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae.balance import Balance
from train import backbone
from train.backbone import Network
from train.backbone.parts import parts_of
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
    A root network, and below each of its outputs a whole classifier with its own convolutions.

    Source: Colin and Nagarajan, A hierarchical architecture of CNNs to increase the performance on
    a categorization problem, Uppsala University 2018, section 4.2.1, which proposes to
    merge architectures in this way and does not build it.
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
        Builds the root with one output per part.

        Args:
            parts: Trained classifiers.
            leaves: For each part, the leaf of each of its labels in the fused data set.
            build: Builds a backbone from its number of outputs.
            mean: Mean of each channel of the training images, in 0..1.

        Raises:
            BadHierarchy: Two parts share a leaf, or a leaf is in no part.
            TypeError: A part is no module.
        """
        super().__init__()
        self.hierarchy = grafting.joined([part.hierarchy for part in parts], leaves)
        self.leaves = [list(own) for own in leaves]
        self.root = build(len(parts))
        self.parts = nn.ModuleList(parts_of(nn.Module, parts))
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
        balance: Balance = "resample",
        epochs: int | None = None,
        lr_scale: float = 1.0,
    ) -> FitReport:
        """
        Trains the root to choose the part; no tensor of the parts changes.

        Args:
            data: Images of the labels of all parts.
            trainer: Trains the root.
            seed: Determines every random number of the training.
            start: State dict of a trained network, copied into the root except for the last layer;
                None: the random initialisation.
            balance: How equal numbers of images of each part are drawn.
            epochs: Passes over the training images; None: `loop.epochs`.
            lr_scale: Learning rate, relative to `loop.lr`.

        Raises:
            BadCheckpoint: `start` holds a network of another shape.
        """
        if start is not None:
            last = {n: t for n, t in self.root.state_dict().items() if _is_last(n)}
            copied = {n: t for n, t in start.items() if not _is_last(n)}
            checkpoint.fill(self.root, {**copied, **last}, source="the first tree's root")
        outputs = np.full(sum(map(len, self.leaves)), -1)
        for index, own in enumerate(self.leaves):
            outputs[own] = index
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
        Returns the leaf probabilities by `route` (the default) or in `full`.

        `route` executes only the part with the largest root probability and returns that part's
        probabilities; leaves of other parts get zero. `full` executes every part and returns
        $P(part) P(leaf | part)$.
        """
        if mode == "full":
            return self.outputs(x)["full"]
        chosen = self.coarse_proba(x).argmax(dim=1)
        result = torch.zeros(x.shape[0], sum(map(len, self.leaves)), device=x.device)
        for index, (part, own) in enumerate(self._parts()):
            rows = torch.nonzero(chosen == index).flatten()
            if len(rows):
                probabilities = part.predict_proba(x[rows], mode=mode)
                result[rows[:, None], torch.tensor(own, device=x.device)] = probabilities
        return result

    def coarse_proba(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch part"]:
        """Returns the root's probabilities of the parts."""
        centred = augment.middle(x - self.mean[:, None, None], self.root.side)
        return torch.softmax(self.root(centred).float(), dim=1)

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """Returns `default` (route), `executed` in that mode, `full` and `coarse` of one forward pass."""
        coarse = self.coarse_proba(x)
        chosen = coarse.argmax(dim=1)
        full = torch.zeros(x.shape[0], sum(map(len, self.leaves)), device=x.device)
        route = torch.zeros_like(full)
        executed = [torch.ones_like(coarse[:, :1]).bool()]
        for index, (part, own) in enumerate(self._parts()):
            outputs, reached = part.outputs(x), (chosen == index)[:, None]
            full[:, own] = coarse[:, index : index + 1] * outputs.get("full", outputs["default"])
            route[:, own] = reached * outputs["default"]
            executed.append(reached & outputs["executed"])
        return {
            "default": route,
            "executed": torch.cat(executed, dim=1),
            "full": full,
            "coarse": coarse,
        }

    def cost(self) -> Cost:
        """Returns the number of parameters and the MACs; root and parts share no layers."""
        macs = {"root": sum(row.macs for row in backbone.layer_table(self.root))}
        for index, (part, _) in enumerate(self._parts()):
            own = part.cost().macs
            macs |= {grafting.renamed(name, index): value for name, value in own.items()}
        return Cost(params=backbone.count(self), macs=macs)

    def _parts(self) -> list[tuple[HierarchicalClassifier, list[int]]]:
        """Returns each part with its leaves."""
        classifiers = cast("list[HierarchicalClassifier]", list(self.parts))
        return list(zip(classifiers, self.leaves, strict=True))


def _is_last(name: str) -> bool:
    return name.startswith("head.predictions")
