"""
`uppsala_cnn`: the network of the Uppsala report, scaled by width, pooling and image side.

Five convolution blocks and a dense head. A test compares it with the report's table of layers. See
docs/methods/uppsala.md.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from personae.errors import BadParams
from train.backbone.network import Network, activation
from train.params.backbone import Params

_CONVOLUTIONS = (1, 1, 2, 2, 2)  # of each block; every block ends in a pool


class Noise(nn.Module):
    """Adds Gaussian noise in training mode."""

    def __init__(self, sigma: float) -> None:
        """Keeps the standard deviation."""
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x`, with noise in training mode."""
        return x + self.sigma * torch.randn_like(x) if self.training and self.sigma else x


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns the network; with the defaults at 128 pixels and 25 labels it has 2,285,721 parameters.

    Raises:
        BadParams: The image is too small for a last map of one pixel.
    """
    widths = [max(1, round(width * params.width)) for width in params.widths]
    dense = max(1, round(params.dense * params.width))
    kept = _kept_pools(side, params.identity_pools)
    blocks = nn.Sequential()
    channels, map_side = 3, side
    for number, (width, count) in enumerate(zip(widths, _CONVOLUTIONS, strict=True)):
        blocks.append(_block(params, number, count, channels, width, pool=kept[number]))
        channels, map_side = width, map_side // 2 if kept[number] else map_side
    head = nn.Sequential(
        OrderedDict(
            noise=Noise(params.noise if params.noise_at == "feature" else 0.0),
            flatten=nn.Flatten(),
            fc21=nn.Linear(channels * map_side * map_side, dense),
            act2=activation(params.act),
            do2=nn.Dropout(params.dropout),
            fc51=nn.Linear(dense, dense),
            act5=activation(params.act),
            do3=nn.Dropout(params.dropout),
            predictions=nn.Linear(dense, outputs),
        )
    )
    return Network(blocks, head, side=side)


def _block(
    params: Params, number: int, convolutions: int, channels: int, width: int, *, pool: bool
) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if number == 0 and params.noise_at == "input":
        parts["noise"] = Noise(params.noise)
    for place in range(convolutions):
        name = f"B{number + 1}C{place + 1}"
        parts[name] = nn.Conv2d(channels, width, 3, padding=1)
        if params.batch_norm:
            parts[f"{name}N"] = nn.BatchNorm2d(width)
        parts[f"{name}A"] = activation(params.act)
        channels = width
    parts[f"B{number + 1}P"] = nn.MaxPool2d(2) if pool else nn.Identity()
    return nn.Sequential(parts)


def _kept_pools(side: int, identity: str) -> Sequence[bool]:
    """
    Returns for each of the five pools whether it halves the map.

    At 32 pixels two pools are dropped, which keeps the last map at 4 × 4. For any side, pools are
    dropped until the last map is at least 3 × 3: one pool at 48 or 64 pixels.
    """
    dropped = 0
    if identity != "none":
        while dropped < len(_CONVOLUTIONS) and side // 2 ** (len(_CONVOLUTIONS) - dropped) < 3:
            dropped += 1
    if side // 2 ** (len(_CONVOLUTIONS) - dropped) < 1:
        raise BadParams(
            f"Images of {side} pixels leave nothing after {len(_CONVOLUTIONS)} pools. Set "
            "backbone.identity_pools to first or last, or measure.side to 32 or more."
        )
    places = range(len(_CONVOLUTIONS))
    if identity == "first":
        return [place >= dropped for place in places]
    return [place < len(_CONVOLUTIONS) - dropped for place in places]
