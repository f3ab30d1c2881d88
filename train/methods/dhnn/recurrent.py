"""
Recurrent networks over the steps of a label's path, of fixed length or until an end output.

Both turn the vectors of a CNN into logits for the training, and into the log probabilities that a
beam search needs.

Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for Hierarchical
Classification of Images, IEEE Big Data 2020.
"""

import torch
import torch.nn.functional as F  # noqa: N812  # the name in torch's documentation
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from train.methods.dhnn.beam import Continuations
from train.methods.dhnn.cell import Cell, State
from train.params.dhnn import CellKind
from train.tree.label_path import NOTHING, BranchPoint, Chain, LabelPaths, levels

_EMBEDDING = 128  # numbers in the vector of an emitted node


class FixedPath(nn.Module):
    """
    CNN-RNN: a bidirectional RNN with one step per level; all paths have the same length.

    The last layer reads the output o_t of both directions or, with the residual arc,
    $u_t + z(o_t)$, where z is linear.

    Source: Koo et al., slides "DHNN - RNN" and "DHNN - Residual Arc".

    Differs from the paper:
        A linear layer turns the p numbers of $u_t + z(o_t)$ into logits of the nodes; in the slides
        the dimensions p and |V| do not match.
    """

    def __init__(
        self, paths: LabelPaths, *, inputs: int, hidden: int, cell: CellKind, residual: bool
    ) -> None:
        """
        Builds both directions, z if `residual`, and the last layer.

        Args:
            paths: The path of each label.
            inputs: p, numbers in each input vector.
            hidden: Numbers in the state of each direction.
            cell: lstm or gru.
            residual: Whether there is a residual arc.
        """
        super().__init__()
        self.levels, self.steps = levels(paths.sequences), paths.steps
        self.down = Cell(cell, inputs, hidden)
        self.up = Cell(cell, inputs, hidden)
        self.arc = nn.Linear(2 * hidden, inputs) if residual else None
        self.predictions = _last(inputs if residual else 2 * hidden, paths.outputs)

    def forward(
        self,
        u: Float[Tensor, "batch step p"],
        targets: Int[Tensor, "batch step"] | None = None,  # noqa: ARG002  # as in EndedPath
    ) -> Float[Tensor, "batch step output"]:
        """Returns the logits of each step, which do not depend on `targets`."""
        vectors = u.unbind(dim=1)
        both = zip(
            self._read(self.down, vectors), self._read(self.up, vectors[::-1])[::-1], strict=True
        )
        features = torch.stack([torch.cat(pair, dim=1) for pair in both], dim=1)
        if self.arc is not None:
            features = u + self.arc(features)
        logits: Tensor = self.predictions(features)
        return logits

    def continuations(
        self,
        u: Float[Tensor, "batch step p"],
        *,
        chosen: bool = False,  # noqa: ARG002  # as in EndedPath
    ) -> Continuations:
        """Returns the callback of a search; all steps are computed at once, whether `chosen` or not."""
        log_probabilities = torch.log_softmax(self(u).float(), dim=2)

        def of_level(number: int, _reached: Bool[Tensor, "batch decision"]) -> Tensor:
            level = self.levels[number]
            chains = [chain for decision in level for chain in decision.chains]
            return along(log_probabilities[:, number:], chains)

        return of_level

    @property
    def macs(self) -> tuple[int, list[int]]:
        """MACs per image of the whole RNN, and of each decision: zero, as all steps are executed."""
        arc = 0 if self.arc is None else self.arc.weight.numel()
        step = self.down.macs + self.up.macs + arc + self.predictions.weight.numel()
        return self.steps * step, [0 for level in self.levels for _ in level]

    @property
    def macs_of_path(self) -> int:
        """MACs per image in training: those of all steps."""
        return self.macs[0]

    @staticmethod
    def _read(cell: Cell, vectors: tuple[Tensor, ...]) -> list[Tensor]:
        """Returns the hidden state after each vector."""
        state, outputs = cell.start(vectors[0]), []
        for vector in vectors:
            state = cell(vector, state)
            outputs.append(state[0])
        return outputs


class EndedPath(nn.Module):
    """
    CNN-S2S: an encoder over the CNN's vectors, and a decoder that emits nodes until the path ends.

    The decoder starts from the last state of the encoder. At each step it reads the previous node:
    in training the true node (teacher forcing), else the node of the path that is followed.

    Source: Koo et al., slides "DHNN - General Tree Model", "DHNN: CNN-S2S" and "Sequence to
    Sequence (S2S)".

    Differs from the paper:
        The encoder has one direction, so that its state fits the decoder. The embedding of a node
        has 128 numbers. There is no attention. If only one leaf is left below an emitted node, the
        rest of its path is forced; it includes at least the end.
    """

    def __init__(
        self,
        paths: LabelPaths,
        *,
        inputs: int,
        reads: int,
        hidden: int,
        cell: CellKind,
        forced: float,
    ) -> None:
        """
        Builds the encoder and the decoder.

        Args:
            paths: The path of each label, closed by the end.
            inputs: p, numbers in each vector of the CNN.
            reads: Steps of the encoder.
            hidden: Numbers in the state.
            cell: lstm or gru.
            forced: Share in 0..1 of training steps that read the true previous node.
        """
        super().__init__()
        self.levels, self.forced = levels(paths.sequences), forced
        self.reads, self.steps = reads, paths.steps
        self.begin = len(paths.nodes)  # the embedding that the first step reads
        self.encoder = Cell(cell, inputs, hidden)
        self.decoder = Cell(cell, _EMBEDDING, hidden)
        self.embedding = nn.Embedding(self.begin + 1, _EMBEDDING)
        self.predictions = _last(hidden, paths.outputs)

    def forward(
        self, u: Float[Tensor, "batch stage p"], targets: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step output"]:
        """Returns the logits of each step along `targets`; those after the end are undefined."""
        state, logits = self._encode(u), []
        node = targets.new_full((len(targets),), self.begin)
        for step in range(targets.shape[1]):
            state = self.decoder(self.embedding(node), state)
            logits.append(self.predictions(state[0]))
            # The end and the steps after it have no node; their outputs have no part in the loss.
            node = targets[:, step].clamp(0, self.begin - 1)
            if self.forced < 1:
                own = logits[-1][:, : self.begin].argmax(dim=1)
                is_forced = torch.rand(len(node), device=node.device) < self.forced
                node = torch.where(is_forced, node, own)
        return torch.stack(logits, dim=1)

    def continuations(
        self, u: Float[Tensor, "batch stage p"], *, chosen: bool = False
    ) -> Continuations:
        """
        Returns the callback of a search, to be called level by level.

        If `chosen`, the decoder runs only for the images that have reached a decision.
        """
        states: dict[Chain, State] = {}
        encoded = self._encode(u)

        def of_level(number: int, reached: Bool[Tensor, "batch decision"]) -> Tensor:
            level = self.levels[number]
            steps = max(len(chain) for decision in level for chain in decision.chains)
            return torch.cat(
                [
                    self._decide(
                        decision,
                        encoded,
                        states,
                        reached[:, index] if chosen else None,
                        steps=steps,
                    )
                    for index, decision in enumerate(level)
                ],
                dim=1,
            )

        return of_level

    @property
    def macs(self) -> tuple[int, list[int]]:
        """MACs per image of the encoder, and of each decision, level by level."""
        decisions = [decision for level in self.levels for decision in level]
        # One step to reach the decision, and the forced steps of each leaf that is left alone.
        steps = [1 + sum(len(chain) - 1 for chain in decision.chains) for decision in decisions]
        return self.reads * self.encoder.macs, [self._step_macs * count for count in steps]

    @property
    def macs_of_path(self) -> int:
        """MACs per image in training: those of the longest path."""
        return self.reads * self.encoder.macs + self.steps * self._step_macs

    @property
    def _step_macs(self) -> int:
        return self.decoder.macs + self.predictions.weight.numel()

    def _encode(self, u: Tensor) -> State:
        state = self.encoder.start(u)
        for vector in u.unbind(dim=1):
            state = self.encoder(vector, state)
        return state

    def _decide(
        self,
        decision: BranchPoint,
        encoded: State,
        states: dict[Chain, State],
        reached: Bool[Tensor, " batch"] | None,
        *,
        steps: int,
    ) -> Float[Tensor, "batch continuation step"]:
        """Runs one step; returns the log probabilities of its continuations, zero for rows not reached."""
        before = decision.before
        node = before[-1] if before else self.begin
        if reached is None:
            states[before] = self._step(node, states[before[:-1]] if before else encoded)
            return self._continue(decision, states[before], steps=steps)
        rows = reached.nonzero().flatten()
        result = encoded[0].new_zeros(len(reached), len(decision.chains), steps)
        if len(rows):  # otherwise no decision below is reached either
            state = states[before[:-1]] if before else encoded
            after = self._step(node, (state[0][rows], state[1][rows]))
            result[rows] = self._continue(decision, after, steps=steps)
            hidden, cell = (torch.zeros_like(part) for part in encoded)
            hidden[rows], cell[rows] = after
            states[before] = hidden, cell
        return result

    def _step(self, node: int | Tensor, state: State) -> State:
        nodes = torch.as_tensor(node, device=state[0].device).expand(state[0].shape[0])
        after: State = self.decoder(self.embedding(nodes), state)
        return after

    def _log_probabilities(self, state: State) -> Float[Tensor, "row output"]:
        return torch.log_softmax(self.predictions(state[0]).float(), dim=1)

    def _continue(
        self, decision: BranchPoint, state: State, *, steps: int
    ) -> Float[Tensor, "row continuation step"]:
        """Returns the log probabilities of each continuation and its forced steps; zeros up to `steps`."""
        chains = decision.chains
        first = self._log_probabilities(state)[:, [chain[0] for chain in chains], None]
        parts, order = [], []
        for length in sorted({len(chain) for chain in chains}):
            indices = [index for index, chain in enumerate(chains) if len(chain) == length]
            order += indices
            rest = [first.new_zeros(first.shape[0], len(indices), steps - length)]
            if length > 1:
                rest.insert(0, self._rest([chains[index] for index in indices], state))
            parts.append(torch.cat(rest, dim=2))
        forced = torch.cat(parts, dim=1)[:, [order.index(index) for index in range(len(order))]]
        return torch.cat([first, forced], dim=2)

    def _rest(self, chains: list[Chain], state: State) -> Float[Tensor, "row chain step"]:
        """Returns the log probabilities of all outputs but the first, of chains of equal length."""
        nodes = torch.tensor(chains, device=state[0].device)
        rows, (count, length) = state[0].shape[0], nodes.shape
        hidden, cell = (part[:, None].expand(-1, count, -1).flatten(0, 1) for part in state)
        inside, columns = (hidden, cell), []
        for step in range(1, length):
            inside = self._step(nodes[:, step - 1].expand(rows, count).flatten(), inside)
            log_probabilities = self._log_probabilities(inside).view(rows, count, -1)
            outputs = nodes[:, step].expand(rows, count)
            columns.append(log_probabilities.gather(2, outputs[:, :, None]))
        return torch.cat(columns, dim=2)


Decoder = FixedPath | EndedPath


def along(
    log_probabilities: Float[Tensor, "batch step output"], chains: list[Chain]
) -> Float[Tensor, "batch chain position"]:
    """
    Returns the log probability of each output of each chain; zero after the end of a chain.

    The first output of a chain belongs to the first step of `log_probabilities`.
    """
    columns = []
    for step in range(max(map(len, chains))):
        outputs = [chain[min(step, len(chain) - 1)] for chain in chains]
        ended = torch.tensor(
            [len(chain) <= step for chain in chains], device=log_probabilities.device
        )
        columns.append(log_probabilities[:, step, outputs].masked_fill(ended, 0.0))
    return torch.stack(columns, dim=2)


def losses(
    logits: Float[Tensor, "batch step output"],
    targets: Int[Tensor, "batch step"],
    *,
    weights: Float[Tensor, " step"],
    smoothing: float = 0.0,
) -> Float[Tensor, " batch"]:
    r"""
    Returns $\sum_t w_t CE(y_t, softmax(o_t))$ of each image, without the steps after its path's end.

    Source: Koo et al., slide "DHNN - Training and Inference".

    Args:
        logits: o_t, over all nodes and, for CNN-S2S, the end.
        targets: y_t as indices of outputs; NOTHING after the end.
        weights: w_t.
        smoothing: Label smoothing in 0..1.

    Example:
        Logits 1 2 0 0 0 0 0 and 0 0 0 0 1 3 2 of nodes A to G, true path B, F: .715181 and .532017,
        so 1.247198 with w = (1, 1) and 0.586966 with (.3, .7).
    """
    each = F.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        ignore_index=NOTHING,
        reduction="none",
        label_smoothing=smoothing,
    )
    return each.view(targets.shape) @ weights


def _last(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
