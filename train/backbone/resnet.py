"""
Residual networks for small images.

`resnet20` … `resnet110`: basic blocks in three stages (He et al., Deep Residual Learning, 2016,
section 4.2), as in HierNet; `resnet164`: pre-activation bottlenecks (He et al., Identity Mappings,
2016), as in Dutt et al. The stem is block 0 and each residual block is one more block, so a method
can cut the network between any two of them.
"""

from torch import Tensor, nn

from train.backbone.attention import attention
from train.backbone.network import Network, activation, pooled_head
from train.params.backbone import BASIC, Attention

_BOTTLENECKS, _EXPANSION = 18, 4  # of resnet164
_STAGES = (16, 32, 64)


class BasicBlock(nn.Module):
    """
    Two 3 × 3 convolutions with a shortcut, which is a projection where the width changes.

    With `elu` there is no norm after the first convolution and no activation after the sum, as in
    the code of HierNet's authors.
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, act: str, attends: Attention = "none"
    ) -> None:
        """Builds the block; a stride above 1 or a new width makes the shortcut a convolution."""
        super().__init__()
        plain = act == "elu"
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.Identity() if plain else nn.BatchNorm2d(width)
        self.act1 = activation(act, inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.attention = attention(attends, width)
        self.act2 = nn.Identity() if plain else activation(act, inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            projection = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's maps."""
        inside = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        result: Tensor = self.act2(self.attention(inside) + self.shortcut(x))
        return result


class Bottleneck(nn.Module):
    """Norm and activation before each of 1 × 1, 3 × 3 (with the stride) and 1 × 1 convolutions."""

    def __init__(
        self, channels: int, inner: int, *, stride: int, act: str, attends: Attention = "none"
    ) -> None:
        """Builds the block; where the width changes the shortcut starts from the activated maps."""
        super().__init__()
        outer = inner * _EXPANSION
        self.pre = nn.Sequential(nn.BatchNorm2d(channels), activation(act, inplace=True))
        self.inside = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            activation(act, inplace=True),
            nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            activation(act, inplace=True),
            nn.Conv2d(inner, outer, 1, bias=False),
        )
        self.attention = attention(attends, outer)
        changes = stride > 1 or channels != outer
        self.shortcut = nn.Conv2d(channels, outer, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's maps."""
        # The first activation works in place on what the norm returned, never on `x`.
        active = self.pre(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        result: Tensor = self.attention(self.inside(active)) + kept
        return result


def basic(
    name: str, *, width: float, act: str, outputs: int, side: int, attends: Attention = "none"
) -> Network:
    """Returns resnet20 to resnet110; at width 1 and 100 labels resnet20 has 278,324 parameters."""
    widths = [max(1, round(stage * width)) for stage in _STAGES]
    channels = widths[0]
    stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    stem.append(activation(act, inplace=True))
    blocks = nn.Sequential(stem)
    for stage, own in enumerate(widths):
        for place in range(BASIC[name]):
            stride = 2 if stage and not place else 1
            blocks.append(BasicBlock(channels, own, stride=stride, act=act, attends=attends))
            channels = own
    last = activation("elu") if act == "elu" else None
    return Network(blocks, pooled_head(channels, outputs, before=last), side=side)


def bottleneck(
    *, width: float, act: str, outputs: int, side: int, attends: Attention = "none"
) -> Network:
    """Returns resnet164; at width 1 and 100 labels it has 1,726,388 parameters."""
    widths = [max(1, round(stage * width)) for stage in _STAGES]
    channels = widths[0]
    blocks = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for stage, inner in enumerate(widths):
        for place in range(_BOTTLENECKS):
            stride = 2 if stage and not place else 1
            blocks.append(Bottleneck(channels, inner, stride=stride, act=act, attends=attends))
            channels = inner * _EXPANSION
    blocks.append(nn.Sequential(nn.BatchNorm2d(channels), activation(act, inplace=True)))
    return Network(blocks, pooled_head(channels, outputs), side=side)
