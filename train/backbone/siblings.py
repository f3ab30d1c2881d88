"""
Branches of one shape that all work on the same maps: in a loop, or as one grouped computation.

Grouped, a layer of all branches is one layer whose channels stand branch by branch, its convolutions
in as many groups. That saves calls, which is what a few images on a CPU are mostly waiting for.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.backbone.network import Branch
from train.backbone.resnet import BasicBlock, Bottleneck

# Time of eight branches in a loop / grouped on one core, for 1, 2, 8 and 32 images: resnet20 1.5, 1.3,
# 0.8, 0.6; nin 1.05, 0.95, 0.9, 0.7 (`python -m benchmarks grouped`). No accelerator was measured.
_PICTURES, _DEVICE = 1, "cpu"

# What treats every channel by itself, or in groups, or adds channels of the same place. Attention and
# densenet's layers mix channels in other ways: side by side they would mix those of all branches.
_BY_CHANNEL = (
    nn.Sequential,
    nn.Identity,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.ReLU,
    nn.ELU,
    nn.SELU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    BasicBlock,
    Bottleneck,
)


class Siblings:
    """
    What branches say of the same maps.

    The weights of a layer lie in one tensor, branch by branch, and those of a branch become views
    of their part of it, as in torch's recurrent layers. So nothing is held twice or can be out of
    date: what changes a weight in place changes both. Weights that were moved elsewhere, as by
    `to`, are put together again by the next grouped computation, in about the time of the loop.
    """

    def __init__(self, parts: nn.ModuleDict) -> None:
        """Keeps a reference to the branches, which stay their owner's; their layers stay as well."""
        self.parts = parts
        self.groupable = _groupable([part.blocks for part in self._branches().values()])
        self._wide: nn.Module | None = None
        self._places: list[tuple[nn.Module, str]] = []
        self._views: list[Tensor] = []

    def log_probabilities(self, maps: Tensor) -> dict[str, Tensor]:
        """Returns the normalised logarithms of each branch, (batch, output), under its name."""
        branches = self._branches()
        if self.at_once(maps):
            heads = [branch.head for branch in branches.values()]
            logits = [head(own) for head, own in zip(heads, self._grouped(maps), strict=True)]
        else:
            logits = [branch(maps) for branch in branches.values()]
        return {
            name: torch.log_softmax(row.float(), dim=1)
            for name, row in zip(branches, logits, strict=True)
        }

    def at_once(self, maps: Tensor) -> bool:
        """Says whether these maps are worth it: few, on a CPU, and nothing is trained or exported."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not self.groupable:
            return False
        few = maps.shape[0] <= _PICTURES and maps.device.type == _DEVICE
        return few and not any(part.training for part in self.parts.values())

    def _branches(self) -> dict[str, Branch]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Branch)}

    def _grouped(self, maps: Tensor) -> list[Tensor]:
        """Returns what the blocks of each branch make of the maps; heads differ in their outputs."""
        count = len(self.parts)
        wide = self._wide
        if wide is None or not self._in_place():
            wide = self._wide = self._joined()
        found: Tensor = wide(maps.repeat(1, count, 1, 1))
        return list(found.chunk(count, dim=1))

    def _in_place(self) -> bool:
        """Says whether every weight still is a view; the views themselves keep their memory taken."""
        return all(
            getattr(layer, name).data_ptr() == view.data_ptr()
            for (layer, name), view in zip(self._places, self._views, strict=True)
        )

    @torch.inference_mode(mode=False)  # or the weights could not be trained any more
    @torch.no_grad()
    def _joined(self) -> nn.Module:
        """Returns the first branch's blocks with the weights of all, and makes theirs views."""
        blocks = [branch.blocks for branch in self._branches().values()]
        wide = copy.deepcopy(blocks[0]).requires_grad_(requires_grad=False).eval()
        self._places, self._views = [], []
        for path, layer in wide.named_modules():
            own = [one.get_submodule(path) for one in blocks]
            for name, tensor in _tensors(layer).items():
                whole = torch.cat([getattr(one, name) for one in own])
                tensor.data = whole
                views = whole.chunk(len(own))
                for one, view in zip(own, views, strict=True):
                    getattr(one, name).data = view
                self._places += [(one, name) for one in own]
                self._views += views
            if isinstance(layer, nn.Conv2d):
                layer.groups *= len(own)
        return wide


def _tensors(layer: nn.Module) -> Mapping[str, Tensor]:
    """A layer's own weights and statistics, without the number of batches that it was trained on."""
    found = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    return {name: tensor for name, tensor in found.items() if tensor.ndim}


def _groupable(blocks: list[nn.Module]) -> bool:
    """Says whether there are several of the same shape, of layers that are known to work by channel."""
    shapes = {
        tuple((name, tensor.shape) for name, tensor in one.state_dict().items()) for one in blocks
    }
    layers = [layer for one in blocks for layer in one.modules()]
    return (
        len(blocks) > 1
        and len(shapes) == 1
        and any(isinstance(layer, nn.Conv2d) for layer in layers)
        and all(type(layer) in _BY_CHANNEL for layer in layers)
    )
