"""
`nin`: the CIFAR100-NIN network of HD-CNN (Yan et al., HD-CNN, 2015, section 6.1).

Three convolutions, each followed by 1 × 1 convolutions. Made for crops of 26 pixels
(`augment.crop: 26`). HD-CNN shares the first block. See docs/methods/hdcnn.md.
"""

from collections import OrderedDict

from torch import Tensor, nn

from personae.errors import BadParams
from train.backbone.network import Network, Pixels
from train.params.backbone import Params


class MeanOfPixels(nn.Module):
    """Averages the logits of all pixels; the original clips negative logits before."""

    def __init__(self, *, relu: bool) -> None:
        """Keeps whether negative logits of a pixel become zero before the mean."""
        super().__init__()
        self.relu = relu

    def forward(self, rows: Tensor) -> Tensor:
        """Returns logits."""
        return (rows.relu() if self.relu else rows).mean(dim=1)


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns the network; at width 1, 26 pixels and 100 labels it has 984,356 parameters.

    Dropout stands at the start of blocks 2 and 3, so that branches on a frozen block 1 have it.

    Raises:
        BadParams: The image is too small for two pools.
    """
    first, second, full = (max(1, round(own * params.width)) for own in (160, 96, 192))
    dropout, last = params.dropout, _pooled(_pooled(side))
    if side < 6:
        raise BadParams(
            f"nin takes images of 6 pixels or more, and these have {side}. Set measure.side, or "
            "choose another backbone.name."
        )
    blocks = nn.Sequential(
        _block("1", 3, full, (("cccp1", first), ("cccp2", second)), kernel=5),
        _block("2", second, full, (("cccp3", full), ("cccp4", full)), kernel=5, dropout=dropout),
        _block("3", full, full, (("cccp5", full),), kernel=3, dropout=dropout, pool=False),
    )
    head = nn.Sequential(
        OrderedDict(
            pixels=Pixels(last * last),
            predictions=nn.Linear(full, outputs),
            mean=MeanOfPixels(relu=params.logit_relu),
        )
    )
    return Network(blocks, head, side=side)


def _block(
    number: str,
    channels: int,
    width: int,
    small: tuple[tuple[str, int], ...],
    *,
    kernel: int,
    dropout: float = 0.0,
    pool: bool = True,
) -> nn.Sequential:
    """Returns a convolution without activation, followed by 1 × 1 convolutions with activation."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if dropout:
        parts["drop"] = nn.Dropout(dropout)
    parts[f"conv{number}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
    for name, own in small:
        parts[name] = nn.Conv2d(width, own, 1)
        parts[f"{name}A"] = nn.ReLU(inplace=True)
        width = own
    if pool:
        parts[f"pool{number}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return nn.Sequential(parts)


def _pooled(side: int) -> int:
    """Returns the side of a map after a pool of 3 pixels and stride 2, rounded up."""
    return -(-(side - 3) // 2) + 1
