"""
Branches of equal shape on the same maps: computed in a loop, or as one grouped computation.

In the grouped computation one layer holds the channels of all branches, and a convolution has one
group for each branch. That saves calls, which take most of the time for few images on a CPU.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.backbone.network import Branch
from train.backbone.parts import parts_by_name
from train.backbone.residual import BasicBlock, Bottleneck

# Time of eight branches in a loop / grouped on one core, for 1, 2, 8 and 32 images: resnet20 1.5, 1.3,
# 0.8, 0.6; nin 1.05, 0.95, 0.9, 0.7 (`python -m benchmarks grouped`). No accelerator was measured.
_IMAGES, _DEVICE = 1, "cpu"

# Layers that treat every channel by itself, or in groups, or add equal channels. Attention and
# densenet's layers mix channels in other ways, so a grouped computation would mix the branches.
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
    The log probabilities of several branches on the same maps.

    The weights of a layer lie in one tensor, branch by branch, and the weights of each branch are
    views of it, as in torch's recurrent layers. So no weight is stored twice, and an in-place
    change changes both. If weights were moved, as by `to`, the next grouped computation joins them
    again, in about the time of the loop.
    """

    def __init__(self, parts: nn.ModuleDict) -> None:
        """Keeps a reference to the branches."""
        self.parts = parts
        self.most_images = _IMAGES  # of a grouped computation; more are computed in a loop
        self.groupable = _groupable([part.blocks for part in self._branches().values()])
        self._wide: nn.Module | None = None
        self._owners: list[tuple[nn.Module, str]] = []
        self._views: list[Tensor] = []

    def log_probabilities(self, maps: Tensor) -> dict[str, Tensor]:
        """Returns the log probabilities of each branch, (batch, output), under its name."""
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
        """Whether to group: few images, on a CPU, neither training nor export."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not self.groupable:
            return False
        few = maps.shape[0] <= self.most_images and maps.device.type == _DEVICE
        return few and not any(part.training for part in self.parts.values())

    def _branches(self) -> dict[str, Branch]:
        return parts_by_name(Branch, self.parts)

    def _grouped(self, maps: Tensor) -> list[Tensor]:
        """Returns the output maps of each branch's blocks; the heads are not grouped."""
        count = len(self.parts)
        wide = self._wide
        if wide is None or not self._in_place():
            wide = self._wide = self._joined()
        outputs: Tensor = wide(maps.repeat(1, count, 1, 1))
        return list(outputs.chunk(count, dim=1))

    def _in_place(self) -> bool:
        """Whether every weight is still a view; the kept views keep their memory allocated."""
        return all(
            getattr(layer, name).data_ptr() == view.data_ptr()
            for (layer, name), view in zip(self._owners, self._views, strict=True)
        )

    @torch.inference_mode(mode=False)  # or the weights could not be trained any more
    @torch.no_grad()
    def _joined(self) -> nn.Module:
        """Returns the first branch's blocks with all weights, and makes the branches' weights views."""
        blocks = [branch.blocks for branch in self._branches().values()]
        wide = copy.deepcopy(blocks[0]).requires_grad_(requires_grad=False).eval()
        self._owners, self._views = [], []
        for path, layer in wide.named_modules():
            own = [branch.get_submodule(path) for branch in blocks]
            for name, tensor in _tensors(layer).items():
                whole = torch.cat([getattr(part, name) for part in own])
                tensor.data = whole
                views = whole.chunk(len(own))
                for part, view in zip(own, views, strict=True):
                    getattr(part, name).data = view
                self._owners += [(part, name) for part in own]
                self._views += views
            if isinstance(layer, nn.Conv2d):
                layer.groups *= len(own)
        return wide


def _tensors(layer: nn.Module) -> Mapping[str, Tensor]:
    """Returns a layer's own weights and batch statistics, without the counter of batches."""
    tensors = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    return {name: tensor for name, tensor in tensors.items() if tensor.ndim}


def _groupable(blocks: list[nn.Module]) -> bool:
    """Whether there are several branches of equal shape, made of layers that work by channel."""
    shapes = {
        tuple((name, tensor.shape) for name, tensor in branch.state_dict().items())
        for branch in blocks
    }
    layers = [layer for branch in blocks for layer in branch.modules()]
    return (
        len(blocks) > 1
        and len(shapes) == 1
        and any(isinstance(layer, nn.Conv2d) for layer in layers)
        and all(type(layer) in _BY_CHANNEL for layer in layers)
    )
