"""
Attention that a residual block applies to its maps before they are added to the shortcut (methods.md 4.6).

`se`: Hu and others, Squeeze-and-Excitation Networks; `cbam`: Woo and others, Convolutional Block
Attention Module.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Attention = Literal["none", "se", "cbam"]
_RATIO = 4  # of channels to the units between; the papers' 16 would leave one unit of 16 channels
_WINDOW = 7


class Squeeze(nn.Module):
    """
    SE: channels scaled by the sigmoid of a small network over their means.

    With `peaks` the network also sees their maxima, and its two answers are added: the first half
    of CBAM.
    """

    def __init__(self, channels: int, *, peaks: bool = False) -> None:
        """Builds the two dense layers, with biases."""
        super().__init__()
        inside = max(1, channels // _RATIO)
        self.peaks = peaks
        self.shrink = nn.Linear(channels, inside)
        self.grow = nn.Linear(inside, channels)

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns the scaled maps."""
        seen = [maps.mean(dim=(2, 3))]
        if self.peaks:
            seen.append(maps.amax(dim=(2, 3)))
        found: Tensor = self.grow(self.shrink(torch.stack(seen, dim=1)).relu()).sum(dim=1)
        return maps * found.sigmoid()[:, :, None, None]


class Cbam(nn.Module):
    """CBAM: channels scaled, then pixels, by a 7 × 7 convolution over the channels' mean and maximum."""

    def __init__(self, channels: int) -> None:
        """Builds both halves; the convolution has no bias."""
        super().__init__()
        self.channels = Squeeze(channels, peaks=True)
        self.pixels = nn.Conv2d(2, 1, _WINDOW, padding=_WINDOW // 2, bias=False)

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns the scaled maps."""
        maps = self.channels(maps)
        seen = torch.cat([maps.mean(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)], dim=1)
        scaled: Tensor = maps * self.pixels(seen).sigmoid()
        return scaled


def attention(name: Attention, channels: int) -> nn.Module:
    """Returns a fresh module for maps of so many channels; `none` leaves them as they are."""
    kinds: dict[str, Callable[[int], nn.Module]] = {"se": Squeeze, "cbam": Cbam}
    return kinds[name](channels) if name in kinds else nn.Identity()
