"""
`fast_cnn`: a small network for CPUs, designed for this project.

A few layers with many channels on small maps use a CPU's matrix units better than the many thin
layers of a ResNet. Pooling before norm and activation makes those two four times as cheap.
"""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from train.backbone.network import Network, pooled_head
from train.params.backbone import Params

_WIDTHS = (32, 64, 128, 256)  # channels of the stem and of the three blocks, which halve the map


def network(params: Params, *, outputs: int, side: int) -> Network:
    """Returns the network: a stem, then three blocks of two 3 × 3 convolutions."""
    widths = [max(1, round(own * params.width)) for own in _WIDTHS]
    blocks = nn.Sequential(_convolution(3, widths[0], pool=False))
    for channels, own in pairwise(widths):
        first = _convolution(channels, own, pool=True)
        blocks.append(nn.Sequential(*first, *_convolution(own, own, pool=False)))
    return Network(blocks, pooled_head(widths[-1], outputs), side=side)


def _convolution(channels: int, width: int, *, pool: bool) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    if pool:
        parts["pool"] = nn.MaxPool2d(2)
    parts["norm"] = nn.BatchNorm2d(width)
    parts["act"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)
