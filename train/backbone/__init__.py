"""
Builds networks by name; each maps images to logits.

Every backbone is a sequence of blocks and a head (`network`), and one module of train/networks builds
it. `layers` counts its parameters and MACs.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata

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


def build(params: Backbone, *, outputs: int, side: int, trains: bool = True) -> Network:
    """
    Returns an untrained network.

    The weights are drawn from torch's generator, so seed it before.

    Args:
        params: Section `backbone`.
        outputs: Number of logits.
        side: Side of the square images, in pixels.
        trains: Whether training follows, which starts from the pretrained weights that `params`
            name. False: the weights are loaded later, or only the shapes matter.

    Raises:
        BadParams: The images are too small for the network, its library has no such network, or the
            pretrained weights are absent or those of another network.
        MissingPackage: The library of the network is not installed.
    """
    module = importlib.import_module(f"train.networks.{params.module}")
    network: Network = module.network(params, outputs=outputs, side=side)
    initialise(network, how=params.init or _OWN_INIT.get(params.name, "he"))
    if trains and params.weights is not None:
        module.fill(network, params.weights)
    return network


def origin(params: Backbone) -> dict[str, str]:
    """Returns the version of the network's library and the SHA-256 of its pretrained weights, if any."""
    library, is_family, _ = params.name.partition("/")
    versions = {}
    if is_family:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    if params.weights is not None:
        versions["pretrained"] = hashlib.sha256(params.weights.read_bytes()).hexdigest()
    return versions
