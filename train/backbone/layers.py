"""
The layers of a network: output shapes, parameters and MACs (multiply-accumulate operations).

One forward pass on torch's `meta` device gives every layer's output shape. Convolutions and dense
layers have MACs; other layers count as free. A network with parameters elsewhere is refused.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import BadParams
from train.backbone.network import Network, Pixels

Module = TypeVar("Module", bound=nn.Module)

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the layer table."""

    block: int | None
    """Index of the block; None in the head."""
    name: str
    output: tuple[int, ...]
    """Height, width and channels of a map, or the units of a dense layer."""
    params: int
    macs: int
    """Multiply-accumulate operations per image."""


def layer_table(network: Network) -> list[Layer]:
    """
    Returns every layer with parameters and every pooling layer, in the order of execution.

    Raises:
        BadParams: The network cannot take images of its side, returns no logits, or has parameters
            whose MACs cannot be counted.
    """
    shadow = _shadow(network)
    rows: list[Layer] = []
    counter = FlopCounterMode(display=False)
    flops_before: dict[str, int] = {}

    def start(name: str) -> None:
        flops_before[name] = counter.get_total_flops()

    def note(name: str, part: nn.Module, output: Tensor) -> None:
        where, _, rest = name.partition(".")
        number, _, inside = rest.partition(".")
        block = int(number) if where == "blocks" else None
        shape = tuple(output.shape[1:])
        if len(shape) == 3:
            shape = (shape[1], shape[2], shape[0])
        # The counter counts a multiplication and an addition apart: two FLOPs for each MAC.
        macs = (counter.get_total_flops() - flops_before[name]) // 2
        rows.append(Layer(block, inside or number or rest, shape, count(part), macs))

    for name, part in shadow.named_modules():
        if _is_counted(part):
            part.register_forward_pre_hook(lambda _part, _given, name=name: start(name))
            part.register_forward_hook(
                lambda part, _given, output, name=name: note(name, part, output)
            )
    try:
        with torch.no_grad(), counter:
            logits = shadow(torch.zeros(1, 3, network.side, network.side, device="meta"))
    except (RuntimeError, AssertionError) as error:  # timm asserts sizes
        raise BadParams(
            f"The backbone cannot take images of {network.side} pixels ({error}). Choose another "
            "backbone.name, or larger images (measure.side)."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise BadParams("The backbone returns something else than logits: choose another one.")
    unseen = count(network) - sum(row.params for row in rows)
    if unseen > 0:
        raise BadParams(
            f"{unseen} parameters of the backbone work outside convolutions, dense layers and norms "
            "(attention, for example), so its MACs cannot be counted. Choose another backbone.name."
        )
    return rows


def _is_counted(part: nn.Module) -> bool:
    """Returns whether a part is a row of the table: the parts in it, if any, have no parameters."""
    if not list(part.children()):
        return isinstance(part, _POOLS) or count(part) > 0
    # timm's norms hold their activation.
    return count(part) > 0 and not count(*part.children())


def macs_of_blocks(network: Network) -> list[int]:
    """Returns the MACs per image of each block."""
    table = layer_table(network)
    blocks = range(len(network.blocks))
    return [sum(row.macs for row in table if row.block == block) for block in blocks]


def blocks_nearest(block_macs: Sequence[int], *, share: float) -> int:
    """Returns how many first blocks have nearest to `share` of all MACs; one block at least is left."""
    target = share * sum(block_macs)
    sums = list(accumulate(block_macs))[:-1]
    return 1 + int(np.argmin([abs(shared - target) for shared in sums]))


def macs_of_head(head: nn.Module) -> int:
    """Returns the MACs per image of a head: those of its dense layers, at every pixel."""
    pixels = next((part.count for part in head.modules() if isinstance(part, Pixels)), 1)
    dense = (part.weight.numel() for part in head.modules() if isinstance(part, nn.Linear))
    return pixels * sum(dense)


def map_shapes(network: Network) -> list[tuple[int, int, int]]:
    """Returns channels, height and width after each block; vectors are maps of one pixel."""
    shadow = _shadow(network.blocks)
    maps, shapes = torch.zeros(1, 3, network.side, network.side, device="meta"), []
    with torch.no_grad():
        for block in shadow:
            maps = block(maps)
            channels, height, width = (*maps.shape[1:], 1, 1)[:3]
            shapes.append((channels, height, width))
    return shapes


def channels_after(network: Network, blocks: int) -> int:
    """Returns the number of channels after the first `blocks` blocks."""
    shadow = _shadow(network.blocks[:blocks])
    with torch.no_grad():
        maps = shadow(torch.zeros(1, 3, network.side, network.side, device="meta"))
    return int(maps.shape[1])


def count(*modules: nn.Module) -> int:
    """Counts the parameters of `modules`; a shared parameter counts once."""
    sizes = {id(part): part.numel() for module in modules for part in module.parameters()}
    return sum(sizes.values())


def _shadow(module: Module) -> Module:
    """Returns a copy on the `meta` device in evaluation mode, for the shapes of its outputs."""
    shadow = copy.deepcopy(module).to("meta").eval()
    for part in shadow.modules():
        if isinstance(part, nn.BatchNorm2d):
            # Torch computes these shapes in Python, which would take most of a forward pass.
            part.forward = _unchanged  # type: ignore[assignment, method-assign]  # on this copy only
    return shadow


def _unchanged(x: Tensor) -> Tensor:
    return x
