"""
Conversion of a CNN's maps to the inputs of an RNN: a vector of fixed length from each map.

Every conversion ends in 16 channels of 4 × 4 pixels, so that the vectors of maps of any size can be
averaged.

Source: Koo, Klabjan and Utke, Combined Convolutional and Recurrent Neural Networks for Hierarchical
Classification of Images, IEEE Big Data 2020, slides "DHNN - Conversion Operations".
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.params.dhnn import ConversionKind, Layers

CHANNELS, GRID = 16, 4
LENGTH = CHANNELS * GRID * GRID
"""p: numbers in each input vector of the RNN."""
_KERNEL = 3


class Conversion(nn.Module):
    r"""
    g, from one map to one vector of p numbers.

    `linear` is the mode product $g(a) = vec(a \times_1 U_1 \times_2 U_2 \times_3 U_3)$ with three
    trained matrices. `pool` averages pixels instead of U_2 and U_3. `conv` applies a 3 × 3
    convolution instead of U_1, then averages pixels.

    Differs from the paper:
        The slides' pooling has no weights. Stages with different numbers of channels need U_1, a
        1 × 1 convolution; here it follows the averaging, which gives the same result.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, kind: ConversionKind, shape: tuple[int, int, int]) -> None:
        """Builds the conversion for maps of `shape` (channels, height, width)."""
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
        self.trains_pixels = kind == "linear"

    def forward(
        self, maps: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch p"]:
        """Returns the vector of each map."""
        small = mode_product(self.before(maps), rows=self.rows, columns=self.columns)
        vectors: Tensor = self.mix(small.movedim(1, 3)).movedim(3, 1).flatten(1)
        return vectors

    @property
    def macs(self) -> int:
        """MACs per image; averaging has none, as in a pooling layer."""
        channels, height, width = self.shape
        if isinstance(self.before, nn.Conv2d):
            return self.before.weight.numel() * height * width
        shrunk = channels * GRID * width * (height + GRID) if self.trains_pixels else 0
        return shrunk + channels * LENGTH


def mode_product(
    maps: Float[Tensor, "batch channel height width"],
    *,
    rows: Float[Tensor, "n height"],
    columns: Float[Tensor, "v width"],
    channels: Float[Tensor, "m channel"] | None = None,
) -> Float[Tensor, "batch m n v"]:
    r"""
    Returns the mode product $a \times_1 U_1 \times_2 U_2 \times_3 U_3$ of each map a.

    Args:
        maps: a.
        rows: U_2.
        columns: U_3.
        channels: U_1; None keeps the channels.

    Example:
        0 to 7 in a map of 2 × 2 × 2, channels [[1, 1]], rows the identity, columns [[1, -1]]: the
        map [[[-2], [-2]]].
    """
    product = rows @ maps @ columns.T
    return product if channels is None else torch.einsum("bdnv,md->bmnv", product, channels)


def averages(size: int) -> Float[Tensor, "n size"]:
    """
    Returns the matrix that averages `size` pixels to 4, as torch's adaptive average pooling does.

    A matrix product is exported to ONNX and deterministic on every device; the pooling is not.
    """
    result = torch.zeros(GRID, size)
    for index in range(GRID):
        first, last = index * size // GRID, -(-(index + 1) * size // GRID)
        result[index, first:last] = 1 / (last - first)
    return result


def sets(layers: Layers, *, stages: int, steps: int) -> list[list[int]]:
    r"""
    Returns S_t: the stages of the CNN that feed each step t, counted from 0.

    `last` is the last stage at every step, `all` all stages at every step.

    Differs from the paper:
        The slides do not define "Alt". `alt` is our reading: stage $\lceil stages \cdot t / steps
        \rceil$ at step t, so that coarse steps read earlier stages than fine steps.

    Example:
        Three stages and two steps: alt gives [[1], [2]], last [[2], [2]].
    """
    if layers == "last":
        return [[stages - 1]] * steps
    if layers == "all":
        return [list(range(stages))] * steps
    return [[-(-stages * step // steps) - 1] for step in range(1, steps + 1)]


def mean(vectors: list[Float[Tensor, "batch p"]]) -> Float[Tensor, "batch p"]:
    r"""
    Returns $u_t = \frac{1}{|S_t|} \sum_{s \in S_t} g(a_s)$, from the vectors $g(a_s)$ of a step.

    Example:
        (1, 3) and (3, 5): (2, 4).
    """
    return torch.stack(vectors).mean(dim=0)
