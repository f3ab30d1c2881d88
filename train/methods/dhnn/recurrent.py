"""
Recurrent networks over the steps of a label's path: one of fixed length, one that ends it (methods.md 4.3, 4.5).

Both turn vectors of a CNN into logits over outputs for training, and into the log probabilities that
a search asks for.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from train.methods.dhnn.beam import Look
from train.tree.label_path import NOTHING, BranchPoint, Chain, LabelPaths, levels

CellKind = Literal["lstm", "gru"]
State = tuple[Tensor, Tensor]
"""h and c of each image; a GRU leaves c as it is."""
_GATES = {"lstm": 4, "gru": 3}
_EMBEDDING = 128  # numbers that stand for a node which was emitted


class Cell(nn.Module):
    """
    One step of an LSTM or a GRU, of dense layers, whose operations are counted as any other's.

    It has the parameters of torch's cells, both biases included, and their results.

    Differs:
        The slide headed "LSTM cell" prints the equations of a GRU: both are here. As in torch, a
        GRU's reset gate acts behind the product with the state.
    """

    def __init__(self, kind: CellKind, inputs: int, hidden: int) -> None:
        """Draws all weights uniformly within 1 / sqrt(hidden)."""
        super().__init__()
        self.kind, self.hidden = kind, hidden
        self.given = nn.Linear(inputs, _GATES[kind] * hidden)
        self.kept = nn.Linear(hidden, _GATES[kind] * hidden)
        for weight in self.parameters():
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Float[Tensor, "batch p"], state: State) -> State:
        """Returns the state after reading `x`."""
        given, kept, (hidden, cell) = self.given(x), self.kept(state[0]), state
        if self.kind == "lstm":
            into, forget, fresh, out = (given + kept).chunk(4, dim=1)
            cell = forget.sigmoid() * cell + into.sigmoid() * fresh.tanh()
            return out.sigmoid() * cell.tanh(), cell
        reset, update, fresh = given.chunk(3, dim=1)
        reset_kept, update_kept, fresh_kept = kept.chunk(3, dim=1)
        fresh = (fresh + (reset + reset_kept).sigmoid() * fresh_kept).tanh()
        share = (update + update_kept).sigmoid()
        return (1 - share) * fresh + share * hidden, cell

    def start(self, x: Tensor) -> State:
        """Returns h_0 = c_0 = 0 for each row of `x`."""
        zeros = x.new_zeros(x.shape[0], self.hidden, dtype=torch.float32)
        return zeros, zeros

    @property
    def macs(self) -> int:
        """MACs of one step."""
        return self.given.weight.numel() + self.kept.weight.numel()


class FixedPath(nn.Module):
    """
    CNN-RNN: a bidirectional RNN with one step a level, every path of the same length.

    With the residual arc $u_t + z(o_t)$ is what the last layer reads, else o_t.
    """

    def __init__(
        self, paths: LabelPaths, *, inputs: int, hidden: int, cell: CellKind, residual: bool
    ) -> None:
        """Builds both directions, z where there is an arc, and the layer that says the nodes."""
        super().__init__()
        self.levels, self.steps = levels(paths.sequences), paths.steps
        self.down = Cell(cell, inputs, hidden)
        self.up = Cell(cell, inputs, hidden)
        self.arc = nn.Linear(2 * hidden, inputs) if residual else None
        self.predictions = _last(inputs if residual else 2 * hidden, paths.outputs)

    def forward(
        self, u: Float[Tensor, "batch step p"], targets: Int[Tensor, "batch step"] | None = None
    ) -> Float[Tensor, "batch step output"]:
        """Returns the logits of each step, which do not depend on `targets`."""
        del targets
        vectors = u.unbind(dim=1)
        both = zip(
            self._read(self.down, vectors), self._read(self.up, vectors[::-1])[::-1], strict=True
        )
        found = torch.stack([torch.cat(pair, dim=1) for pair in both], dim=1)
        if self.arc is not None:
            found = u + self.arc(found)
        logits: Tensor = self.predictions(found)
        return logits

    def look(self, u: Float[Tensor, "batch step p"], *, chosen: bool = False) -> Look:
        """Returns what a search asks; everything is known at once, `chosen` or not."""
        del chosen
        said = torch.log_softmax(self(u).float(), dim=2)

        def at(number: int, reached: Bool[Tensor, "batch decision"]) -> Tensor:
            del reached
            level = self.levels[number]
            chains = [chain for decision in level for chain in decision.chains]
            return along(said[:, number:], chains)

        return at

    @property
    def macs(self) -> tuple[int, list[int]]:
        """MACs of everything; no decision adds any."""
        arc = 0 if self.arc is None else self.arc.weight.numel()
        step = self.down.macs + self.up.macs + arc + self.predictions.weight.numel()
        return self.steps * step, [0 for level in self.levels for _ in level]

    @property
    def macs_of_path(self) -> int:
        """MACs of every path: all steps are executed."""
        return self.macs[0]

    @staticmethod
    def _read(cell: Cell, vectors: tuple[Tensor, ...]) -> list[Tensor]:
        state, found = cell.start(vectors[0]), []
        for vector in vectors:
            state = cell(vector, state)
            found.append(state[0])
        return found


class EndedPath(nn.Module):
    """
    CNN-S2S: an encoder over the CNN's vectors, a decoder that emits nodes until the path ends.

    The decoder starts from the encoder's last state and reads at each step the node before, in
    training the true one (teacher forcing).

    Differs:
        One direction in the encoder, so that its state is the decoder's. Each node's embedding has
        128 numbers. No attention. A leaf without another beside it and what
        follows it, its end at least, are forced once it is named.
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
        Builds an encoder of `reads` steps and the decoder.

        `forced` is the share of steps that are told the truth in training.
        """
        super().__init__()
        self.levels, self.forced = levels(paths.sequences), forced
        self.reads, self.steps = reads, paths.steps
        self.begin = len(paths.nodes)  # what the first step reads
        self.encoder = Cell(cell, inputs, hidden)
        self.decoder = Cell(cell, _EMBEDDING, hidden)
        self.embedding = nn.Embedding(self.begin + 1, _EMBEDDING)
        self.predictions = _last(hidden, paths.outputs)

    def forward(
        self, u: Float[Tensor, "batch step p"], targets: Int[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step output"]:
        """Returns the logits of each step on the way of `targets`; after its end they mean nothing."""
        state, logits = self._encode(u), []
        node = targets.new_full((len(targets),), self.begin)
        for step in range(targets.shape[1]):
            state = self.decoder(self.embedding(node), state)
            logits.append(self.predictions(state[0]))
            # Behind a leaf comes its end, and behind that nothing: what they read is not judged.
            node = targets[:, step].clamp(0, self.begin - 1)
            if self.forced < 1:
                own = logits[-1][:, : self.begin].argmax(dim=1)
                told = torch.rand(len(node), device=node.device) < self.forced
                node = torch.where(told, node, own)
        return torch.stack(logits, dim=1)

    def look(self, u: Float[Tensor, "batch step p"], *, chosen: bool = False) -> Look:
        """
        Returns what a search asks, level by level.

        With `chosen` the decoder runs for the images that have reached a decision, else for all.
        """
        states: dict[Chain, State] = {}
        begun = self._encode(u)

        def at(number: int, reached: Bool[Tensor, "batch decision"]) -> Tensor:
            level = self.levels[number]
            steps = max(len(chain) for decision in level for chain in decision.chains)
            return torch.cat(
                [
                    self._decide(
                        decision, begun, states, reached[:, place] if chosen else None, steps=steps
                    )
                    for place, decision in enumerate(level)
                ],
                dim=1,
            )

        return at

    @property
    def macs(self) -> tuple[int, list[int]]:
        """MACs of the encoder, and of each decision, level by level."""
        decisions = [decision for level in self.levels for decision in level]
        # One step to come here, and those that follow a leaf which is alone.
        steps = [1 + sum(len(chain) - 1 for chain in one.chains) for one in decisions]
        return self.reads * self.encoder.macs, [self._step_macs * count for count in steps]

    @property
    def macs_of_path(self) -> int:
        """MACs of the longest path, as training goes it."""
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
        begun: State,
        states: dict[Chain, State],
        reached: Bool[Tensor, " batch"] | None,
        *,
        steps: int,
    ) -> Float[Tensor, "batch continuation step"]:
        """Goes one step on and returns the continuations' log probabilities; zeros elsewhere."""
        before = decision.before
        node = before[-1] if before else self.begin
        if reached is None:
            states[before] = self._step(node, states[before[:-1]] if before else begun)
            return self._continue(decision, states[before], steps=steps)
        rows = reached.nonzero().flatten()
        result = begun[0].new_zeros(len(reached), len(decision.chains), steps)
        if len(rows):  # else nothing below is reached either
            state = states[before[:-1]] if before else begun
            after = self._step(node, (state[0][rows], state[1][rows]))
            result[rows] = self._continue(decision, after, steps=steps)
            hidden, cell = (torch.zeros_like(part) for part in begun)
            hidden[rows], cell[rows] = after
            states[before] = hidden, cell
        return result

    def _step(self, node: int | Tensor, state: State) -> State:
        nodes = torch.as_tensor(node, device=state[0].device).expand(state[0].shape[0])
        after: State = self.decoder(self.embedding(nodes), state)
        return after

    def _say(self, state: State) -> Float[Tensor, "row output"]:
        return torch.log_softmax(self.predictions(state[0]).float(), dim=1)

    def _continue(
        self, decision: BranchPoint, state: State, *, steps: int
    ) -> Float[Tensor, "row continuation step"]:
        """Returns the log probabilities of each continuation and its forced rest, of `steps` steps."""
        chains = decision.chains
        first = self._say(state)[:, [chain[0] for chain in chains], None]
        parts, order = [], []
        for length in sorted({len(chain) for chain in chains}):
            places = [place for place, chain in enumerate(chains) if len(chain) == length]
            order += places
            rest = [first.new_zeros(first.shape[0], len(places), steps - length)]
            if length > 1:
                rest.insert(0, self._rest([chains[place] for place in places], state))
            parts.append(torch.cat(rest, dim=2))
        forced = torch.cat(parts, dim=1)[:, [order.index(place) for place in range(len(order))]]
        return torch.cat([first, forced], dim=2)

    def _rest(self, chains: list[Chain], state: State) -> Float[Tensor, "row chain step"]:
        """Returns the log probabilities of what follows the first output of chains of equal length."""
        nodes = torch.tensor(chains, device=state[0].device)
        rows, (count, length) = state[0].shape[0], nodes.shape
        hidden, cell = (part[:, None].expand(-1, count, -1).flatten(0, 1) for part in state)
        inside, found = (hidden, cell), []
        for step in range(1, length):
            inside = self._step(nodes[:, step - 1].expand(rows, count).flatten(), inside)
            said = self._say(inside).view(rows, count, -1)
            asked = nodes[:, step].expand(rows, count)
            found.append(said.gather(2, asked[:, :, None]))
        return torch.cat(found, dim=2)


Decoder = FixedPath | EndedPath


def along(
    said: Float[Tensor, "batch step output"], chains: list[Chain]
) -> Float[Tensor, "batch chain step"]:
    """Returns what is said of each chain's outputs, the first one at the first step; then zeros."""
    found = []
    for step in range(max(map(len, chains))):
        outputs = [chain[min(step, len(chain) - 1)] for chain in chains]
        over = torch.tensor([len(chain) <= step for chain in chains], device=said.device)
        found.append(said[:, step, outputs].masked_fill(over, 0.0))
    return torch.stack(found, dim=2)


def losses(
    logits: Float[Tensor, "batch step output"],
    targets: Int[Tensor, "batch step"],
    *,
    weights: Float[Tensor, " step"],
    smoothing: float = 0.0,
) -> Float[Tensor, " batch"]:
    """
    Returns the sum over steps of w_t times the cross-entropy; steps after the end count nothing.

    Example:
        Logits 1 2 0 0 0 0 0 and 0 0 0 0 1 3 2 of A to G, truth B, F: .715181 and .532017, so
        1.247198 with w = (1, 1) and 0.586966 with (.3, .7) (methods.md 4.3).
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
