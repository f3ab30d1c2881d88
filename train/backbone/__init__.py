"""
Builds networks by name; each maps images to logits.

Every backbone is a sequence of blocks and a head (`network`), and one module of train/networks builds
it. `layers` counts its parameters and MACs.
"""

import importlib

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
from train.params.backbone import Backbone, Params

__all__ = [
    "Attached",
    "Backbone",
    "Branch",
    "Layer",
    "Network",
    "Params",
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


def build(params: Backbone, *, outputs: int, side: int) -> Network:
    """
    Returns an untrained network for square images of `side` pixels.

    The weights are drawn from torch's generator, so seed it before.

    Raises:
        BadParams: The images are too small for the network, or its library has no such network.
        MissingPackage: The library of the network is not installed.
    """
    module = importlib.import_module(f"train.networks.{params.module}")
    network: Network = module.network(params, outputs=outputs, side=side)
    initialise(network, how=params.init or _OWN_INIT.get(params.name, "he"))
    return network
