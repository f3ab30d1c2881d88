"""One step of an LSTM or a GRU: torch's cells, with a state of the same form for both."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.params.dhnn import CellKind

State = tuple[Tensor, Tensor]
"""Hidden state h and cell state c, each (batch, hidden); a GRU has no cell state and returns c as it
is."""


class Cell(nn.Module):
    r"""
    One recurrent step $h_t = r_h(u_t, h_{t-1})$.

    Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for
    Hierarchical Classification of Images, IEEE Big Data 2020, slide "DHNN - RNN".

    Differs from the paper:
        The slide "LSTM cell" prints the equations of a GRU; both cells are available here. torch's
        GRU applies the reset gate after the product with the state, the slide before it.
    """

    def __init__(self, kind: CellKind, inputs: int, hidden: int) -> None:
        """Initialises all weights uniformly within $1 / sqrt(hidden)$."""
        super().__init__()
        self.kind, self.hidden = kind, hidden
        self.cell = nn.LSTMCell(inputs, hidden) if kind == "lstm" else nn.GRUCell(inputs, hidden)
        # Drawn and registered in this order, all bits of the runs recorded in `experiments` repeat:
        # the weights of a seed, and the norm by which gradients are clipped.
        for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"):
            weight: nn.Parameter = getattr(self.cell, name)
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)
            delattr(self.cell, name)
            self.cell.register_parameter(name, weight)

    def forward(self, x: Float[Tensor, "batch p"], state: State) -> State:
        """Returns the state after reading `x`."""
        hidden, cell = state
        if isinstance(self.cell, nn.LSTMCell):
            hidden, cell = self.cell(x, (hidden, cell))
        else:
            hidden = self.cell(x, hidden)
        return hidden, cell

    def start(self, x: Float[Tensor, "batch ..."]) -> State:
        """Returns h_0 = c_0 = 0 for each row of `x`."""
        zeros = x.new_zeros(x.shape[0], self.hidden, dtype=torch.float32)
        return zeros, zeros

    @property
    def macs(self) -> int:
        """MACs of one step and image: those of the products with the input and with the state."""
        return self.cell.weight_ih.numel() + self.cell.weight_hh.numel()
