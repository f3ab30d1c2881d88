"""
`UppsalaCNN`, the network of the report (methods.md 1.1), sized by width, depth of pooling and side.

A network is five convolution blocks and a dense head, so that a method can share the first and
train the second. Parameters and multiply-accumulates are counted from the layers themselves.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.errors import BadParams

_CONVOLUTIONS = (1, 1, 2, 2, 2)  # of each block; every block ends in a pool


class Params(BaseModel):
    """Section `backbone`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, int, int, int, int] = Field(
        (64, 128, 128, 128, 128), description="channels of the five blocks; the report's"
    )
    width: float = Field(
        1.0, gt=0, le=8, description="factor on all widths and on dense; 1 is the report's network"
    )
    dense: int = Field(512, ge=1, le=8192, description="units of the two dense layers")
    identity_pools: Literal["first", "last", "none"] = Field(
        "first",
        description="which pools are left out until the last map is at least 3 × 3: first (the "
        "rule for small pictures, costly), last (cheap, for CPUs), none (a 1 × 1 map at 32 px)",
    )
    batch_norm: bool = Field(
        False, description="normalise after each convolution; the report has none"
    )
    act: Literal["relu", "selu"] = Field("relu", description="activation; relu is the report's")
    dropout: float = Field(0.5, ge=0, lt=1, description="share dropped after the dense layers")
    noise: float = Field(
        0.01, ge=0, le=1, description="standard deviation of the noise added while training"
    )
    noise_at: Literal["feature", "input"] = Field(
        "feature", description="where noise is added: the last map (the report's table) or input"
    )
    init: Literal["glorot", "he"] = Field(
        "glorot", description="glorot: uniform, zero biases (Keras); he: normal, for large rates"
    )


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the layer table."""

    name: str
    output: tuple[int, ...]
    """Height, width, channels of a map, or the units of a dense layer."""
    params: int
    macs: int
    """Multiply-accumulates per picture."""


class Noise(nn.Module):
    """Adds Gaussian noise while training."""

    def __init__(self, sigma: float) -> None:
        """Keeps the standard deviation."""
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x`, with noise in training mode."""
        return x + self.sigma * torch.randn_like(x) if self.training and self.sigma else x


class UppsalaCNN(nn.Module):
    """Five convolution blocks (`blocks`) and a dense head (`head`): pictures to logits."""

    def __init__(self, params: Params, *, outputs: int, side: int) -> None:
        """
        Builds and initialises the network for square pictures of `side` pixels.

        Raises:
            BadParams: The picture is too small for a last map of one pixel.
        """
        super().__init__()
        widths = [max(1, round(width * params.width)) for width in params.widths]
        dense = max(1, round(params.dense * params.width))
        kept = _kept_pools(side, params.identity_pools)
        self.side = side
        self.blocks = nn.Sequential()
        channels, map_side = 3, side
        for number, (width, count) in enumerate(zip(widths, _CONVOLUTIONS, strict=True)):
            block = _block(params, number, count, channels, width, pool=kept[number])
            self.blocks.append(block)
            channels, map_side = width, map_side // 2 if kept[number] else map_side
        feature_noise = params.noise if params.noise_at == "feature" else 0.0
        self.features = (channels, map_side, map_side)
        self.head = nn.Sequential(
            OrderedDict(
                noise=Noise(feature_noise),
                flatten=nn.Flatten(),
                fc21=nn.Linear(channels * map_side * map_side, dense),
                act2=_activation(params.act),
                do2=nn.Dropout(params.dropout),
                fc51=nn.Linear(dense, dense),
                act5=_activation(params.act),
                do3=nn.Dropout(params.dropout),
                predictions=nn.Linear(dense, outputs),
            )
        )
        initialise(self, how=params.init)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output"]:
        """Returns logits."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


class Branch(nn.Module):
    """The own part of a network whose first blocks are another's: blocks, then a dense head."""

    def __init__(self, blocks: nn.Module, head: nn.Sequential) -> None:
        """Takes over both parts; `blocks` may be empty."""
        super().__init__()
        self.blocks = blocks
        self.head = head

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns logits from the maps of the shared blocks."""
        logits: Tensor = self.head(self.blocks(maps))
        return logits


class Attached(nn.Module):
    """A branch on a frozen stem, as it is trained: the stem neither learns nor keeps statistics."""

    def __init__(self, stem: nn.Module, branch: Branch) -> None:
        """Freezes the stem, whose tensors stay its owner's."""
        super().__init__()
        self.stem = stem.requires_grad_(requires_grad=False)
        self.branch = branch

    def train(self, mode: bool = True) -> "Attached":  # noqa: FBT001, FBT002  # torch's signature
        """Switches the branch alone: a frozen stem stays in evaluation mode."""
        super().train(mode)
        self.stem.eval()
        return self

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns the branch's logits; no gradient reaches the stem."""
        with torch.no_grad():
            maps = self.stem(x)
        logits: Tensor = self.branch(maps)
        return logits


def branch_of(network: UppsalaCNN, *, outputs: int, first_own: int) -> Branch:
    """
    Returns a copy of `network` from block `first_own` (0..5) on, with a fresh last layer.

    The fresh layer is drawn from torch's generator: seed it first.
    """
    own = copy.deepcopy(network.blocks[first_own:])
    branch = Branch(own, copy.deepcopy(network.head))
    replace_last(branch.head, outputs=outputs)
    return branch


def replace_last(head: nn.Sequential, *, outputs: int) -> None:
    """Puts a freshly initialised prediction layer of `outputs` units into `head`."""
    last = head.get_submodule("predictions")
    assert isinstance(last, nn.Linear), "a head ends in a dense layer"  # noqa: S101  # our own mistake
    fresh = nn.Linear(last.in_features, outputs)
    nn.init.xavier_uniform_(fresh.weight)
    nn.init.zeros_(fresh.bias)
    head.predictions = fresh.to(last.weight.device)


def initialise(module: nn.Module, *, how: str) -> None:
    """Draws all weights: Glorot uniform with zero biases, or He normal with a Glorot last layer."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            if how == "he" and not name.endswith("predictions"):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def layer_table(network: UppsalaCNN) -> list[Layer]:
    """Returns every layer with its output, parameters and MACs, in order."""
    rows: list[Layer] = []
    side = network.side
    for block in network.blocks:
        for name, part in block.named_children():
            if isinstance(part, nn.MaxPool2d):
                side //= 2
                rows.append(Layer(name, (side, side, rows[-1].output[-1]), 0, 0))
            elif isinstance(part, nn.Conv2d):
                macs = side * side * part.weight.numel()
                rows.append(Layer(name, (side, side, part.out_channels), count(part), macs))
            elif count(part):
                rows.append(Layer(name, rows[-1].output, count(part), 0))
    rows += [
        Layer(name, (part.out_features,), count(part), part.weight.numel())
        for name, part in network.head.named_children()
        if isinstance(part, nn.Linear)
    ]
    return rows


def macs_of_blocks(network: UppsalaCNN) -> list[int]:
    """Returns the MACs per picture of each of the five blocks."""
    table = {row.name: row.macs for row in layer_table(network)}
    return [
        sum(table.get(name, 0) for name, _ in block.named_children()) for block in network.blocks
    ]


def macs_of_head(head: nn.Module) -> int:
    """Returns the MACs per picture of a dense head: its weights without biases."""
    return sum(part.weight.numel() for part in head.modules() if isinstance(part, nn.Linear))


def count(*modules: nn.Module) -> int:
    """Counts the parameters of `modules`, those they share once."""
    found = {id(part): part.numel() for module in modules for part in module.parameters()}
    return sum(found.values())


def _block(
    params: Params, number: int, convolutions: int, channels: int, width: int, *, pool: bool
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if number == 0 and params.noise_at == "input":
        parts["noise"] = Noise(params.noise)
    for place in range(convolutions):
        name = f"B{number + 1}C{place + 1}"
        parts[name] = nn.Conv2d(channels, width, 3, padding=1)
        if params.batch_norm:
            parts[f"{name}N"] = nn.BatchNorm2d(width)
        parts[f"{name}A"] = _activation(params.act)
        channels = width
    parts[f"B{number + 1}P"] = nn.MaxPool2d(2) if pool else nn.Identity()
    return nn.Sequential(parts)


def _kept_pools(side: int, identity: str) -> Sequence[bool]:
    """
    Says which of the five pools halve the map.

    methods.md 1.1 replaces the first two at 32 pixels, which keeps the last map at 4 × 4; the same
    rule for any side drops pools until that map is at least 3 × 3 (one at 48 or 64 pixels).
    """
    dropped = 0
    if identity != "none":
        while dropped < len(_CONVOLUTIONS) and side // 2 ** (len(_CONVOLUTIONS) - dropped) < 3:
            dropped += 1
    if side // 2 ** (len(_CONVOLUTIONS) - dropped) < 1:
        raise BadParams(
            f"Pictures of {side} pixels leave nothing after {len(_CONVOLUTIONS)} pools. Set "
            "backbone.identity_pools to first or last, or measure.side to 32 or more."
        )
    places = range(len(_CONVOLUTIONS))
    if identity == "first":
        return [place >= dropped for place in places]
    return [place < len(_CONVOLUTIONS) - dropped for place in places]


def _activation(name: str) -> nn.Module:
    return nn.ReLU() if name == "relu" else nn.SELU()
