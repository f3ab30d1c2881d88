"""
Builds networks by name; each maps images to logits.

Every backbone is a sequence of blocks and a head (`network`). `layers` counts its parameters and MACs.
"""

from train.backbone import uppsala_cnn
from train.backbone.densenet import densenet_bc
from train.backbone.fast_cnn import fast_cnn
from train.backbone.layers import (
    Layer,
    blocks_nearest,
    channels_after,
    count,
    layer_table,
    macs_of_blocks,
    macs_of_head,
    map_shapes,
)
from train.backbone.network import (
    Attached,
    Branch,
    Network,
    branch_of,
    copy_parts,
    initialise,
    pooled_head,
    replace_last,
)
from train.backbone.nin import nin
from train.backbone.resnet import basic, bottleneck
from train.params.backbone import BASIC, TORCHVISION, Params

__all__ = [
    "Attached",
    "Branch",
    "Layer",
    "Network",
    "blocks_nearest",
    "branch_of",
    "build",
    "channels_after",
    "copy_parts",
    "count",
    "initialise",
    "layer_table",
    "macs_of_blocks",
    "macs_of_head",
    "map_shapes",
    "pooled_head",
    "replace_last",
]

_OWN_INIT = {"uppsala_cnn": "glorot", "nin": "gaussian"}  # he elsewhere

_SIZED = {"fast_cnn": fast_cnn, "densenet_bc_100": densenet_bc}  # their only parameter is width


def build(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns an untrained network for square images of `side` pixels.

    The weights are drawn from torch's generator, so seed it before.

    Raises:
        BadParams: The images are too small for the network, or torchvision has no such classifier.
    """
    network = _built(params, outputs, side)
    initialise(network, how=params.init or _OWN_INIT.get(params.name, "he"))
    return network


def _built(params: Params, outputs: int, side: int) -> Network:
    if params.name == "uppsala_cnn":
        return uppsala_cnn.uppsala_cnn(params, outputs=outputs, side=side)
    if params.name == "nin":
        return nin(
            width=params.width,
            dropout=params.dropout,
            logit_relu=params.logit_relu,
            outputs=outputs,
            side=side,
        )
    if params.name in _SIZED:
        return _SIZED[params.name](width=params.width, outputs=outputs, side=side)
    if params.name in BASIC:
        return basic(
            params.name,
            width=params.width,
            act=params.act,
            outputs=outputs,
            side=side,
            attends=params.attention,
        )
    if params.name == "resnet164":
        return bottleneck(
            width=params.width,
            act=params.act,
            outputs=outputs,
            side=side,
            attends=params.attention,
        )
    from train.backbone.classifiers import classifier

    return classifier(params.name.removeprefix(TORCHVISION), outputs=outputs, side=side)
