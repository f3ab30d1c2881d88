"""
The structure of every backbone: a sequence of blocks, then a head.

Methods share the first blocks and train the rest. They need these two parts only, never the inside
of a block.
"""

import copy
from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DEVIATION = 0.05  # standard deviation of gaussian weights, as in HD-CNN's NIN


class Network(nn.Module):
    """Blocks (`blocks`) and a head (`head`) that ends in `predictions`: images to logits."""

    def __init__(self, blocks: nn.Sequential, head: nn.Sequential, *, side: int) -> None:
        """Takes both parts, made for square images of `side` pixels."""
        super().__init__()
        self.side = side
        self.blocks = blocks
        self.head = head

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output"]:
        """Returns logits."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


class Branch(nn.Module):
    """The later blocks and the head of a network whose first blocks belong to another network."""

    def __init__(self, blocks: nn.Module, head: nn.Sequential) -> None:
        """Takes both parts; `blocks` may be empty."""
        super().__init__()
        self.blocks = blocks
        self.head = head

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns logits from the maps of the shared blocks."""
        logits: Tensor = self.head(self.blocks(maps))
        return logits


class Attached(nn.Module):
    """A branch on a frozen stem: neither weights nor batch statistics of the stem change."""

    def __init__(self, stem: nn.Module, branch: Branch) -> None:
        """Freezes the stem; its tensors stay shared with the network they come from."""
        super().__init__()
        self.stem = stem.requires_grad_(requires_grad=False)
        self.branch = branch

    def train(self, mode: bool = True) -> "Attached":  # noqa: FBT001, FBT002  # torch's signature
        """Sets the mode of the branch; the frozen stem stays in evaluation mode."""
        super().train(mode)
        self.stem.eval()
        return self

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Returns the branch's logits; no gradient reaches the stem."""
        with torch.no_grad():
            maps = self.stem(x)
        logits: Tensor = self.branch(maps)
        return logits


class Pixels(nn.Module):
    """Turns maps into one row of channels for each pixel, for a dense layer on every pixel."""

    def __init__(self, count: int) -> None:
        """Keeps the number of pixels, from which the MACs of the head are counted."""
        super().__init__()
        self.count = count

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns rows, (batch, pixel, channel)."""
        return maps.flatten(2).transpose(1, 2)


def branch_of(network: Network, *, outputs: int, first_own: int) -> Branch:
    """
    Returns a copy of `network` from block `first_own` on, with a new last layer.

    The new layer is drawn from torch's generator, so seed it before.
    """
    own = copy.deepcopy(network.blocks[first_own:])
    branch = Branch(own, copy.deepcopy(network.head))
    replace_last(branch.head, outputs=outputs)
    return branch


def replace_last(head: nn.Sequential, *, outputs: int) -> None:
    """Replaces the last layer of `head` by a newly initialised one with `outputs` units."""
    last = head.get_submodule("predictions")
    assert isinstance(last, nn.Linear), "a head ends in a dense layer"  # noqa: S101  # our own mistake
    fresh = nn.Linear(last.in_features, outputs)
    nn.init.xavier_uniform_(fresh.weight)
    nn.init.zeros_(fresh.bias)
    head.predictions = fresh.to(last.weight.device)


def copy_parts(source: nn.Module, target: nn.Module, *, but: str | None = None) -> None:
    """
    Copies every tensor from the parts of `source` to the parts of `target` with the same name.

    The part `but` is left out. A slice of a sequence keeps the names of its blocks.
    """
    for name, part in target.named_children():
        if name != but:
            part.load_state_dict(source.get_submodule(name).state_dict())


def initialise(module: nn.Module, *, how: str) -> None:
    """
    Initialises all weights; biases are zero.

    `how` is glorot (uniform), he (normal, with a Glorot last layer) or gaussian (deviation 0.05).
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            if how == "gaussian":
                nn.init.normal_(part.weight, std=_DEVIATION)
            elif how == "he" and not name.endswith("predictions"):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def pooled_head(channels: int, outputs: int, *, before: nn.Module | None = None) -> nn.Sequential:
    """Returns a head: `before` on the map, the mean over the pixels, and one dense layer."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if before is not None:
        parts["act"] = before
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["predictions"] = nn.Linear(channels, outputs)
    return nn.Sequential(parts)


def activation(name: str, *, inplace: bool = False) -> nn.Module:
    """Returns a new activation layer: relu, selu or elu."""
    kinds: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "selu": nn.SELU, "elu": nn.ELU}
    return kinds[name](inplace=inplace)
