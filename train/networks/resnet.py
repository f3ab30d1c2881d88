"""
Residual networks for small images.

`resnet20` … `resnet110`: basic blocks in three stages (He et al., Deep Residual Learning, 2016,
section 4.2), as in HierNet; `resnet164`: pre-activation bottlenecks (He et al., Identity Mappings,
2016), as in Dutt et al. The stem is block 0 and each residual block is one more block, so a method
can cut the network between any two of them.
"""

from torch import nn

from train.backbone.network import Network, activation, pooled_head
from train.backbone.residual import EXPANSION, BasicBlock, Bottleneck
from train.params.backbone import BASIC, Params

_BOTTLENECKS = 18  # of resnet164
_STAGES = (16, 32, 64)


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns resnet20 to resnet110, or resnet164 of bottlenecks.

    At width 1 and 100 labels resnet20 has 278,324 parameters and resnet164 has 1,726,388.
    """
    build = _basic if params.name in BASIC else _bottleneck
    return build(params, outputs=outputs, side=side)


def _basic(params: Params, *, outputs: int, side: int) -> Network:
    act = params.act
    widths = [max(1, round(stage * params.width)) for stage in _STAGES]
    channels = widths[0]
    stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    stem.append(activation(act, inplace=True))
    blocks = nn.Sequential(stem)
    for stage, own in enumerate(widths):
        for place in range(BASIC[params.name]):
            stride = 2 if stage and not place else 1
            blocks.append(
                BasicBlock(channels, own, stride=stride, act=act, attends=params.attention)
            )
            channels = own
    last = activation("elu") if act == "elu" else None
    return Network(blocks, pooled_head(channels, outputs, before=last), side=side)


def _bottleneck(params: Params, *, outputs: int, side: int) -> Network:
    act = params.act
    widths = [max(1, round(stage * params.width)) for stage in _STAGES]
    channels = widths[0]
    blocks = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for stage, inner in enumerate(widths):
        for place in range(_BOTTLENECKS):
            stride = 2 if stage and not place else 1
            blocks.append(
                Bottleneck(channels, inner, stride=stride, act=act, attends=params.attention)
            )
            channels = inner * EXPANSION
    blocks.append(nn.Sequential(nn.BatchNorm2d(channels), activation(act, inplace=True)))
    return Network(blocks, pooled_head(channels, outputs), side=side)
