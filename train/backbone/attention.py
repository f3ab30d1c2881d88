"""
Attention in a residual block, applied to its maps before they are added to the shortcut.

`se`: Hu, Shen and Sun, Squeeze-and-Excitation Networks (2018), section 3; `cbam`: Woo, Park, Lee and
Kweon, CBAM: Convolutional Block Attention Module (2018), section 3.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from train.params.backbone import Attention

_RATIO = 4  # channels per hidden unit; the papers' 16 would leave one unit for 16 channels
_WINDOW = 7


class Squeeze(nn.Module):
    """
    SE: scales each channel by the sigmoid of a two-layer network over the channels' means.

    With `peaks` the network is also applied to the channels' maxima, and the two results are added
    before the sigmoid. That is the channel attention of CBAM.
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
        pooled = [maps.mean(dim=(2, 3))]
        if self.peaks:
            pooled.append(maps.amax(dim=(2, 3)))
        scores: Tensor = self.grow(self.shrink(torch.stack(pooled, dim=1)).relu()).sum(dim=1)
        return maps * scores.sigmoid()[:, :, None, None]


class Cbam(nn.Module):
    """
    CBAM: channel attention, then spatial attention.

    Spatial attention scales each pixel by a 7 × 7 convolution over the channels' mean and maximum.
    """

    def __init__(self, channels: int) -> None:
        """Builds both halves; the convolution has no bias."""
        super().__init__()
        self.channels = Squeeze(channels, peaks=True)
        self.pixels = nn.Conv2d(2, 1, _WINDOW, padding=_WINDOW // 2, bias=False)

    def forward(self, maps: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Returns the scaled maps."""
        maps = self.channels(maps)
        pooled = torch.cat([maps.mean(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)], dim=1)
        scaled: Tensor = maps * self.pixels(pooled).sigmoid()
        return scaled


def attention(name: Attention, channels: int) -> nn.Module:
    """Returns a new attention module for maps of `channels` channels; `none` gives the identity."""
    kinds: dict[str, Callable[[int], nn.Module]] = {"se": Squeeze, "cbam": Cbam}
    return kinds[name](channels) if name in kinds else nn.Identity()
