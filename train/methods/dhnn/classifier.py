"""
`dhnn`: a CNN, and an RNN that predicts the path from the root to the label.

Each step predicts one of all nodes of the tree, from the maps of a stage of the CNN. The score of a
label is the product of the probabilities along its path; a beam search computes only the likeliest
paths. `rnn` has one step per level, `s2s` emits nodes until the path ends. All parts are trained
together. Method, example and sources: `docs/methods/dhnn.md`.
"""

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personae.errors import BadParams
from train import backbone
from train.backbone import Network
from train.backbone.parts import parts_of
from train.classifier import Cost, FitReport, Mode
from train.data import augment, sampling
from train.data.images import DataModule
from train.engine.losses import Counting
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.methods.dhnn import beam, conversion, recurrent
from train.methods.dhnn.beam import Continuations
from train.methods.dhnn.conversion import Conversion
from train.methods.dhnn.recurrent import Decoder, EndedPath, FixedPath
from train.params.dhnn import Params
from train.tree import hierarchy as trees
from train.tree import label_path
from train.tree.label_path import LabelPaths


class PathNetwork(nn.Module):
    """
    The backbone's blocks, the conversions of its stages' maps, and the decoder of paths.

    Source: Koo et al., slide "DHNN Structure".
    """

    targets: Tensor  # (leaf, step), int64: y_t as outputs
    weights: Tensor  # (step,): w_t

    def __init__(self, params: Params, whole: Network, paths: LabelPaths) -> None:
        """
        Takes over the backbone's blocks; its head is not used.

        Raises:
            BadParams: The number of step weights is not the number of steps.
        """
        super().__init__()
        shapes = backbone.map_shapes(whole)
        self.taps = [
            index
            for index, shape in enumerate(shapes)
            if index + 1 == len(shapes) or shape[1:] != shapes[index + 1][1:]
        ]
        # An encoder has a step per stage, an RNN a step per node of a path.
        steps = paths.steps if params.kind == "rnn" else len(self.taps)
        self.sets = conversion.sets(params.layers, stages=len(self.taps), steps=steps)
        if params.kind == "rnn" and params.order == "leaf_first":
            self.sets.reverse()  # the leaf reads the deepest maps, at whichever step it is
        self.blocks = whole.blocks
        # The head of an elu resnet starts with an activation; the last map needs it here as well.
        self.act = getattr(whole.head, "act", nn.Identity())
        self.conversions = nn.ModuleDict(
            {
                str(stage): Conversion(params.conversion, shapes[self.taps[stage]])
                for stage in sorted({stage for stages in self.sets for stage in stages})
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
        """
        Returns the score of every leaf or, with `labels`, the logits of each step of their paths.

        Scores are (batch, leaf), logits (batch, step, output).
        """
        inputs = self.read(x)
        if labels is not None:
            logits: Tensor = self.decoder(inputs, self.targets[labels])
            return logits
        return self.search(self.decoder.continuations(inputs), batch=len(x), width=None)[0]

    def losses(
        self, output: Tensor, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images of their weighted losses, from the logits of each step."""
        losses = recurrent.losses(
            output.float(),
            self.targets[targets],
            weights=self.weights,
            smoothing=counting.label_smoothing,
        )
        return (losses if counting.weights is None else losses * counting.weights[targets]).sum()

    def read(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch step p"]:
        """Returns u_1 to u_T, the inputs of the RNN or of the encoder."""
        vectors: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                stage = self.taps.index(index)
                last = stage + 1 == len(self.taps)
                if str(stage) in self.conversions:
                    maps = x if x.ndim == 4 else x[:, :, None, None]
                    vectors[stage] = self.conversions[str(stage)](self.act(maps) if last else maps)
        means = [conversion.mean([vectors[stage] for stage in stages]) for stages in self.sets]
        return torch.stack(means, dim=1)

    def search(
        self, continuations: Continuations, *, batch: int | torch.SymInt, width: int | None
    ) -> tuple[Float[Tensor, "batch leaf"], Bool[Tensor, "batch decision"]]:
        """Returns the scores of the leaves and the decisions reached, as `beam.search`."""
        return beam.search(
            self.decoder.levels,
            continuations,
            batch=batch,
            width=width,
            device=self.targets.device,
        )


class Classifier(nn.Module):
    """
    A backbone and an RNN over the paths of a tree of any depth.

    Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for
    Hierarchical Classification of Images, IEEE Big Data 2020 (slides of the talk).

    Differs from the paper:
        `full` is the softmax of the scores of all paths. `default` is the same without a beam; with
        a beam it is the softmax over the leaves that the beam reaches. `route` is a beam of width 1:
        the softmax over the labels below the last chosen node. There is one recurrent layer, and
        the losses of all steps have equal weights. Optimiser (the slides: Adam), learning rates and
        epochs are those of section `loop`. The CNN is trained from scratch. The inputs of the RNN
        have 256 numbers: 16 channels of 4 × 4 pixels.
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
            BadHierarchy: There is only one label, or a node has several parents.
            BadParams: The number of step weights is not the number of steps.
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
        start: Mapping[str, Tensor] | None = None,  # noqa: ARG002  # the signature of every method
    ) -> FitReport:
        """Trains all parts together, from a random initialisation."""
        task = Task(
            name=trees.ROOT,
            data=data,
            outputs=np.arange(self.leaves),
            sampler=sampling.by_label(
                data.train.labels, range(self.leaves), balance=self.params.balance
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
        Returns the leaf probabilities from all paths (`full`), by beam search (`default`), or from
        the greedy path (`route`).

        The decoder of `s2s` runs only for the decisions that the beam reaches.
        """
        width = 1 if mode == "route" else self.params.beam
        if mode == "full" or width is None:
            scores: Tensor = self.network(self.centred(x))
            return scores.softmax(dim=1)
        inputs = self.network.read(self.centred(x))
        continuations = self.network.decoder.continuations(inputs, chosen=True)
        return self.network.search(continuations, batch=len(x), width=width)[0].softmax(dim=1)

    def coarse_proba(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch cluster"]:
        """Returns the probabilities of the clusters, in their order."""
        return self.outputs(x)["coarse"]

    def outputs(self, x: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """
        Returns `default`, `executed` in that mode, `full` and `coarse` of one forward pass.

        `coarse` is the softmax of the first step over the clusters; leaf first, it is the sum of
        `full` over the labels of a cluster.
        """
        decoder, batch = self.network.decoder, x.shape[0]
        continuations = decoder.continuations(self.network.read(self.centred(x)))
        all_images = torch.ones(batch, 1, dtype=torch.bool, device=x.device)
        steps = [continuations(number, all_images) for number in range(len(decoder.levels))]

        def by_beam(width: int | None) -> tuple[Tensor, Tensor]:
            return self.network.search(
                lambda number, _reached: steps[number], batch=batch, width=width
            )

        scores, reached = by_beam(self.params.beam)
        every = scores if self.params.beam is None else by_beam(None)[0]
        full = every.softmax(dim=1)
        coarse = steps[0][:, :, 0].softmax(dim=1)
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
        Returns the number of parameters and the MACs.

        For `rnn` everything is part `root`. `s2s` has a part for each further node with a decision:
        the step that reads the node, and the forced steps of leaves that are left alone.
        """
        steps, decisions = self.network.decoder.macs
        macs = {trees.ROOT: self._read_macs() + steps + decisions[0]}
        levels = [decision for level in self.network.decoder.levels for decision in level]
        for decision, own in zip(levels[1:], decisions[1:], strict=True):
            if own:
                macs[self.paths.nodes[decision.before[-1]]] = own
        return Cost(params=backbone.count(self), macs=macs)

    def centred(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns the network's input: the centre crop of the images minus the channel means."""
        return augment.middle(x - self.mean[:, None, None], self.side)

    def _read_macs(self) -> int:
        """Returns the MACs per image of the blocks and of the conversions."""
        conversions = parts_of(Conversion, self.network.conversions.values())
        return self.block_macs + sum(part.macs for part in conversions)


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
    """Returns w_t; by default 1 / T for each of T steps."""
    given = params.step_weights
    if given is None:
        return torch.full((steps,), 1 / steps)
    if len(given) != steps:
        raise BadParams(
            f"dhnn.step_weights has {len(given)} numbers, and the paths of this tree have {steps} "
            "steps (for s2s, the end is a step). Give one number per step, or null."
        )
    return torch.tensor(given, dtype=torch.float32)
