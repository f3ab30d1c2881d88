"""
What every backbone is: a row of blocks, then a head, so that methods can share, cut and extend it.

A method that shares the first blocks and trains the rest needs nothing but these two parts; how a
block looks inside is its backbone's affair.
"""

import copy
from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

_DEVIATION = 0.05  # of gaussian weights, as HD-CNN's block has them


class Network(nn.Module):
    """Blocks (`blocks`) and a head (`head`) that ends in `predictions`: images to logits."""

    def __init__(self, blocks: nn.Sequential, head: nn.Sequential, *, side: int) -> None:
        """Takes over both parts, made for square images of `side` pixels."""
        super().__init__()
        self.side = side
        self.blocks = blocks
        self.head = head

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output"]:
        """Returns logits."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


class Branch(nn.Module):
    """The own part of a network whose first blocks are another's: blocks, then a head."""

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


class Pixels(nn.Module):
    """Opens a head whose dense layer works on every pixel of a map: channels first to rows."""

    def __init__(self, places: int) -> None:
        """Keeps the number of pixels, which the operations of the head are counted by."""
        super().__init__()
        self.places = places

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns a row of channels for every pixel."""
        return maps.flatten(2).transpose(1, 2)


def branch_of(network: Network, *, outputs: int, first_own: int) -> Branch:
    """
    Returns a copy of `network` from block `first_own` (0: all of it) on, with a fresh last layer.

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


def copy_parts(source: nn.Module, target: nn.Module, *, but: str | None = None) -> None:
    """
    Copies every tensor of the parts that `target` has, from those of the same name, except `but`.

    A slice of a row keeps the names of its blocks, so that each finds the one it is a copy of.
    """
    for name, part in target.named_children():
        if name != but:
            part.load_state_dict(source.get_submodule(name).state_dict())


def initialise(module: nn.Module, *, how: str) -> None:
    """
    Draws all weights; biases are zero.

    `how` is glorot (uniform), he (normal, and a Glorot last layer) or gaussian (deviation 0.05).
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
    """Returns a head of the mean over the map and one dense layer; `before` acts on the map."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if before is not None:
        parts["act"] = before
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["predictions"] = nn.Linear(channels, outputs)
    return nn.Sequential(parts)


def activation(name: str, *, inplace: bool = False) -> nn.Module:
    """Returns a fresh activation: relu, selu or elu."""
    kinds: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "selu": nn.SELU, "elu": nn.ELU}
    return kinds[name](inplace=inplace)
