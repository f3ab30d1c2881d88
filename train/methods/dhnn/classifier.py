"""
`dhnn`: a CNN, and an RNN that says the path from the root to the label (methods.md 4).

Each step says one node of all the tree's, from the maps of a stage of the CNN. A label's
probability is the product along its path; a beam search may follow the likeliest paths alone.
`rnn` has one step a level, `s2s` emits nodes until the path ends. Everything trains together.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from personae.errors import BadParams
from train import backbone
from train.backbone import Network
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.losses import Counting
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.methods.dhnn import beam, conversion, recurrent
from train.methods.dhnn.beam import Look
from train.methods.dhnn.conversion import Conversion, Kind, Layers
from train.methods.dhnn.recurrent import Decoder, EndedPath, FixedPath
from train.tree import hierarchy as trees
from train.tree import label_path
from train.tree.label_path import LabelPaths


class Params(BaseModel):
    """Section `dhnn`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rnn", "s2s"] = Field(
        "rnn",
        description="rnn: a bidirectional RNN over paths of one length, a shallow leaf "
        "repeated; s2s: an encoder, and a decoder that ends each path, for trees of uneven depth",
    )
    order: label_path.Order = Field(
        "root_first", description="of the steps: root_first, or leaf_first"
    )
    conversion: Kind = Field(
        "pool", description="maps to the RNN's inputs: pool (the slides' advice), linear, conv"
    )
    layers: Layers = Field(
        "alt",
        description="stages of the CNN that feed a step: last, alt (deeper step by step; our "
        "reading of the slides), all (their mean)",
    )
    cell: recurrent.CellKind = Field("lstm", description="lstm, gru")
    hidden: int = Field(256, ge=1, le=8192, description="numbers in an RNN's state; 512 is 'large'")
    residual: bool = Field(
        default=True, description="rnn: what a step reads is added to what the RNN makes of it"
    )
    teacher_forcing: float = Field(
        1.0,
        ge=0,
        le=1,
        description="s2s: share of steps that are told the true node before, in "
        "training; the others go on from the likeliest",
    )
    step_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, description="of the steps' losses, one a step (s2s: and one for the end); null: equal"
    )
    beam: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="paths that a prediction keeps at each step, 1: greedy; "
        "null: all, so that a label's probability is its path's",
    )
    balance: sampling.Balance = Field(
        "none",
        description="equal images per label and epoch: resample, fixed, weights; none: all "
        "pictures",
    )


class PathNetwork(nn.Module):
    """The backbone's blocks, conversions of its stages' maps, and the decoder of paths."""

    targets: Tensor
    weights: Tensor

    def __init__(self, params: Params, whole: Network, paths: LabelPaths) -> None:
        """
        Takes over the backbone's blocks; its head is not used.

        Raises:
            BadParams: There are not as many step weights as steps.
        """
        super().__init__()
        shapes = backbone.map_shapes(whole)
        self.taps = [
            place
            for place, shape in enumerate(shapes)
            if place + 1 == len(shapes) or shape[1:] != shapes[place + 1][1:]
        ]
        # An encoder has a step for each stage, an RNN one for each node of a path.
        steps = paths.steps if params.kind == "rnn" else len(self.taps)
        self.sets = conversion.sets(params.layers, stages=len(self.taps), steps=steps)
        if params.kind == "rnn" and params.order == "leaf_first":
            self.sets.reverse()  # the deepest maps for the leaf, wherever its step is
        self.blocks = whole.blocks
        # The activation that closes a network of the elu flavour closes its last map here too.
        self.act = getattr(whole.head, "act", nn.Identity())
        self.conversions = nn.ModuleDict(
            {
                str(stage): Conversion(params.conversion, shapes[self.taps[stage]])
                for stage in sorted({stage for some in self.sets for stage in some})
            }
        )
        self.decoder = _decoder(params, paths, reads=steps)
        self.register_buffer("targets", torch.from_numpy(paths.targets()))
        self.register_buffer("weights", _weights(params, paths.steps))

    def forward(
        self,
        x: Float[Tensor, "batch 3 height width"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Tensor:
        """Returns every leaf's score or, on the way to `labels`, the logits of each step."""
        inputs = self.read(x)
        if labels is not None:
            logits: Tensor = self.decoder(inputs, self.targets[labels])
            return logits
        return self.search(self.decoder.look(inputs), batch=len(x), width=None)[0]

    def losses(
        self, output: Tensor, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over images of each one's weighted sum of the steps' losses."""
        each = recurrent.losses(
            output.float(),
            self.targets[targets],
            weights=self.weights,
            smoothing=counting.label_smoothing,
        )
        return (each if counting.weights is None else each * counting.weights[targets]).sum()

    def read(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch step p"]:
        """Returns u_1 to u_T from images."""
        found: dict[int, Tensor] = {}
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in self.taps:
                stage = self.taps.index(place)
                last = stage + 1 == len(self.taps)
                if str(stage) in self.conversions:
                    maps = x if x.ndim == 4 else x[:, :, None, None]
                    found[stage] = self.conversions[str(stage)](self.act(maps) if last else maps)
        means = [conversion.mean([found[stage] for stage in some]) for some in self.sets]
        return torch.stack(means, dim=1)

    def search(self, look: Look, *, batch: int, width: int | None) -> tuple[Tensor, Tensor]:
        """Returns the leaves' scores and the decisions reached, as `beam.search`."""
        return beam.search(
            self.decoder.levels, look, batch=batch, width=width, device=self.targets.device
        )


class Classifier(nn.Module):
    """
    A backbone and an RNN over the paths of a tree of any depth.

    Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for
    Hierarchical Classification of Images (methods.md 4).

    Differs:
        `full` is the softmax of the scores of all paths, and so is `default` but for a beam: then it
        is over the leaves that the beam reaches at its last step. `route` is greedy: over the labels
        below the last chosen node. Residual arcs add to the RNN's inputs a linear map of its state,
        which a last layer reads: the slides' dimensions leave it out. One recurrent layer, and every
        step's loss weighs the same. Optimiser (the slides: Adam), rates and epochs are those of
        `loop`, and weights are the backbone's, from scratch. Inputs have 256 numbers, in 16 channels.
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
        Builds the backbone, its conversions and the decoder.

        Raises:
            BadHierarchy: There is one label only, or a node has several parents.
            BadParams: There are not as many step weights as steps.
        """
        super().__init__()
        self.params, self.hierarchy = params, hierarchy
        self.leaves = trees.leaf_count(hierarchy)
        self.paths = label_path.encode(hierarchy, order=params.order, ended=params.kind == "s2s")
        whole = build(self.leaves)
        self.block_macs, self.side = sum(backbone.macs_of_blocks(whole)), whole.side
        self.network = PathNetwork(params, whole, self.paths)
        self.parents = trees.parents(trees.clusters(hierarchy))
        self.register_buffer("mean", torch.from_numpy(mean))

    def fit(
        self,
        data: DataModule,
        trainer: Trainer,
        *,
        seed: int,
        start: Mapping[str, Tensor] | None = None,
    ) -> FitReport:
        """Trains everything at once, from scratch; `start` is not used."""
        del start
        task = Task(
            name=trees.ROOT,
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampling.by_class(
                data.train.labels,
                [[leaf] for leaf in range(self.leaves)],
                balance=self.params.balance,
            ),
            macs_trained=self._read_macs() + self.network.decoder.macs_of_path,
            loss=self.network.losses,
            shows_targets=True,
        )
        report = trainer.fit(self.network, task, seed=seed)
        self.eval()
        return FitReport((report,), from_flat=False)

    def predict_proba(
        self, x: Float[Tensor, "batch 3 height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns leaf probabilities over all paths (`full`), by `beam`, or greedily (`route`).

        A decoder of variable length runs only where the beam has been.
        """
        width = 1 if mode == "route" else self.params.beam
        if mode == "full" or width is None:
            scores: Tensor = self.network(self.centred(x))
            return scores.softmax(dim=1)
        look = self.network.decoder.look(self.network.read(self.centred(x)), chosen=True)
        return self.network.search(look, batch=len(x), width=width)[0].softmax(dim=1)

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the probabilities over the clusters, in their order."""
        return self.outputs(x)["coarse"]

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """
        Returns `default` (by beam), `executed` by it, `full` and `coarse`, in one pass.

        `coarse` is what the first step says of the clusters; leaf first it is the sum over a
        cluster's labels.
        """
        look, batch = self.network.decoder.look(self.network.read(self.centred(x))), x.shape[0]
        anything = torch.ones(batch, 1, dtype=torch.bool, device=x.device)
        said = [look(number, anything) for number in range(len(self.network.decoder.levels))]

        def by_beam(width: int | None) -> tuple[Tensor, Tensor]:
            return self.network.search(
                lambda number, _reached: said[number], batch=batch, width=width
            )

        scores, reached = by_beam(self.params.beam)
        every = scores if self.params.beam is None else by_beam(None)[0]
        full = every.softmax(dim=1)
        coarse = said[0][:, :, 0].softmax(dim=1)
        if self.params.order == "leaf_first":
            clusters = torch.eye(self.parents.max() + 1, device=x.device)
            coarse = full @ clusters[torch.from_numpy(self.parents)]
        executed = reached[:, : len(self.cost().macs)]
        return {
            "default": scores.softmax(dim=1),
            "executed": executed,
            "full": full,
            "coarse": coarse,
        }

    def cost(self) -> Cost:
        """
        Returns parameters and MACs; of an RNN everything is the root's.

        A decoder of variable length has a part for each node below which it decides: one step, and
        one for the end of every label there.
        """
        steps, decisions = self.network.decoder.macs
        macs = {trees.ROOT: self._read_macs() + steps + decisions[0]}
        levels = [decision for level in self.network.decoder.levels for decision in level]
        for decision, own in zip(levels[1:], decisions[1:], strict=True):
            if own:
                macs[self.paths.nodes[decision.before[-1]]] = own
        return Cost(params=backbone.count(self), macs=macs)

    def centred(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns what the network is given: the middle of the images, less the mean colour."""
        return augment.middle(x - self.mean[:, None, None], self.side)

    def _read_macs(self) -> int:
        """MACs of the blocks and of each conversion."""
        parts = self.network.conversions.values()
        return self.block_macs + sum(part.macs for part in parts if isinstance(part, Conversion))


def _decoder(params: Params, paths: LabelPaths, *, reads: int) -> Decoder:
    size = conversion.LENGTH
    if params.kind == "rnn":
        return FixedPath(
            paths, inputs=size, hidden=params.hidden, cell=params.cell, residual=params.residual
        )
    return EndedPath(
        paths,
        inputs=size,
        reads=reads,
        hidden=params.hidden,
        cell=params.cell,
        forced=params.teacher_forcing,
    )


def _weights(params: Params, steps: int) -> Float[Tensor, " step"]:
    """Returns w_t: one in all where nothing else is asked for."""
    given = params.step_weights
    if given is None:
        return torch.full((steps,), 1 / steps)
    if len(given) != steps:
        raise BadParams(
            f"dhnn.step_weights has {len(given)} numbers, and the paths of this tree have {steps} "
            "steps (of s2s, the end is one). Give one number a step, or null."
        )
    return torch.tensor(given, dtype=torch.float32)
