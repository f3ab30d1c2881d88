"""The blocks of residual networks, with two or three convolutions and a shortcut."""

from torch import Tensor, nn

from train.backbone.attention import attention
from train.backbone.network import activation
from train.params.backbone import Attention

EXPANSION = 4  # of a bottleneck's last convolution


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
        outer = inner * EXPANSION
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
