"""
Maps of a CNN to the input of an RNN, one vector of a fixed length from each (methods.md 4.2).

Every conversion ends in 16 channels of 4 × 4 pixels, so that maps of any size can be averaged.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Kind = Literal["pool", "linear", "conv"]
Layers = Literal["last", "alt", "all"]
CHANNELS, GRID = 16, 4
LENGTH = CHANNELS * GRID * GRID
"""p of methods.md 4.2: numbers in each input of the RNN."""
_KERNEL = 3


class Conversion(nn.Module):
    r"""
    One map to one vector: g of methods.md 4.2.

    `linear` is the mode product $vec(a \times_1 U_1 \times_2 U_2 \times_3 U_3)$, all three learnt;
    `pool` has averages in place of U_2 and U_3; `conv` has a 3 × 3 convolution in place of U_1, on
    the whole map.

    Differs:
        Pooling alone has no weights; maps of different widths need U_1, a 1 × 1 convolution, which
        here comes after the averaging: the result is the same.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, kind: Kind, shape: tuple[int, int, int]) -> None:
        """Builds the conversion of maps of so many channels, rows and columns."""
        super().__init__()
        self.shape = shape
        channels, height, width = shape
        self.before: nn.Module = nn.Identity()
        if kind == "conv":
            self.before = nn.Conv2d(channels, CHANNELS, _KERNEL, padding=_KERNEL // 2)
        if kind == "linear":
            self.rows = nn.Parameter(averages(height))
            self.columns = nn.Parameter(averages(width))
        else:
            self.register_buffer("rows", averages(height))
            self.register_buffer("columns", averages(width))
        self.mix: nn.Module = nn.Identity()
        if kind != "conv":
            self.mix = nn.Linear(channels, CHANNELS, bias=False)
        self.learnt = kind == "linear"

    def forward(
        self, maps: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch p"]:
        """Returns the vectors."""
        small = mode_product(self.before(maps), rows=self.rows, columns=self.columns)
        vectors: Tensor = self.mix(small.movedim(1, 3)).movedim(3, 1).flatten(1)
        return vectors

    @property
    def macs(self) -> int:
        """MACs per image; averaging costs none, as in any pool."""
        channels, height, width = self.shape
        if isinstance(self.before, nn.Conv2d):
            return self.before.weight.numel() * height * width
        shrunk = channels * GRID * width * (height + GRID) if self.learnt else 0
        return shrunk + channels * LENGTH


def mode_product(
    maps: Float[Tensor, "batch channel height width"],
    *,
    rows: Float[Tensor, "n height"],
    columns: Float[Tensor, "v width"],
    channels: Float[Tensor, "m channel"] | None = None,
) -> Float[Tensor, "batch m n v"]:
    """
    Returns maps whose modes were multiplied by matrices; without `channels` their mode stays.

    Example:
        0 to 7 in a map of 2 × 2 × 2, channels [[1, 1]], rows the identity, columns [[1, -1]]: the
        map [[[-2], [-2]]] (methods.md 4.2).
    """
    found = rows @ maps @ columns.T
    return found if channels is None else torch.einsum("bdnv,md->bmnv", found, channels)


def averages(size: int) -> Float[Tensor, "n size"]:
    """
    Returns the matrix that averages `size` pixels to 4, as torch's adaptive pool does.

    Its products are exact on every device and in an exported file, where the pool is not offered.
    """
    result = torch.zeros(GRID, size)
    for place in range(GRID):
        first, last = place * size // GRID, -(-(place + 1) * size // GRID)
        result[place, first:last] = 1 / (last - first)
    return result


def sets(layers: Layers, *, stages: int, steps: int) -> list[list[int]]:
    """
    Returns S_t: the stages of the CNN that feed each step, counted from 0.

    `last` is the last stage at every step, `all` the mean of all stages. The slides never define
    their "Alt": `alt` is read as a stage of its own for each step, shallower for the coarse ones.

    Example:
        Three stages and two steps: alt gives [[1], [2]], last [[2], [2]].
    """
    if layers == "last":
        return [[stages - 1]] * steps
    if layers == "all":
        return [list(range(stages))] * steps
    return [[-(-stages * step // steps) - 1] for step in range(1, steps + 1)]


def mean(vectors: list[Float[Tensor, "batch p"]]) -> Float[Tensor, "batch p"]:
    """Returns u_t, the mean over the set of a step; of (1, 3) and (3, 5) it is (2, 4)."""
    return torch.stack(vectors).mean(dim=0)
