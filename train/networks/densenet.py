"""
DenseNet-BC-100 with growth 12 and compression 0.5 (Huang et al., Densely Connected Convolutional
Networks, 2017, section 3), which Dutt et al. use.

Three dense stages of 16 layers. Each layer and each transition is one block.
"""

import torch
from torch import Tensor, nn

from train.backbone.network import Network, pooled_head
from train.params.backbone import Params

_GROWTH, _LAYERS, _STAGES, _BOTTLENECK = 12, 16, 3, 4


class DenseLayer(nn.Module):
    """A 1 × 1 and a 3 × 3 convolution; their maps are concatenated to the input maps."""

    def __init__(self, channels: int, growth: int) -> None:
        """Builds the layer, which adds `growth` maps."""
        super().__init__()
        inner = _BOTTLENECK * growth
        self.inside = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input maps followed by the new maps."""
        return torch.cat([x, self.inside(x)], dim=1)


def network(params: Params, *, outputs: int, side: int) -> Network:
    """Returns DenseNet-BC-100; at width 1 and 100 labels it has 800,032 parameters."""
    growth = max(1, round(_GROWTH * params.width))
    channels = 2 * growth
    blocks = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False))
    for stage in range(_STAGES):
        for _ in range(_LAYERS):
            blocks.append(DenseLayer(channels, growth))
            channels += growth
        if stage < _STAGES - 1:
            blocks.append(
                nn.Sequential(
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2),
                )
            )
            channels //= 2
    blocks.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
    return Network(blocks, pooled_head(channels, outputs), side=side)
