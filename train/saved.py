"""
A run on disk: weights.safetensors, and model.json that says how to build the classifier around them.

Reads and writes results/RUN/SEED/. The weights carry model.json's facts too, leaf order among them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float
from pydantic import BaseModel
from torch import nn

from personae import files
from personae.errors import BadParams
from train import backbone
from train.backbone import Network
from train.classifier import HierarchicalClassifier
from train.data import augment
from train.errors import BadCheckpoint
from train.methods import METHODS, fusion
from train.runtime import checkpoint
from train.tree import hierarchy


@dataclass(frozen=True, slots=True)
class Saved:
    """A trained run: the classifier in evaluation mode, and the facts of model.json."""

    classifier: HierarchicalClassifier
    facts: dict[str, Any]


def method_params(method: str) -> type[BaseModel]:
    """
    Returns the parameter model of a method.

    Raises:
        BadParams: There is no such method.
    """
    if method not in METHODS:
        raise BadParams(f"'{method}' is no method. Known: {', '.join(METHODS)}.")
    params: type[BaseModel] = METHODS[method].Params
    return params


def build(
    method: str,
    own: BaseModel,
    backbone_params: backbone.Params,
    *,
    tree: nx.DiGraph,
    side: int,
    mean: Float[np.ndarray, "3"],
) -> HierarchicalClassifier:
    """Returns an untrained classifier; its weights are drawn from torch's generator: seed it first."""
    network: Callable[[int], Network] = partial(_network, backbone_params, side)
    classifier: HierarchicalClassifier = METHODS[method].Classifier(
        own, hierarchy=tree, build=network, mean=np.asarray(mean, dtype=np.float32)
    )
    return classifier


def save(folder: Path, classifier: HierarchicalClassifier, facts: Mapping[str, Any]) -> None:
    """Writes the weights, then model.json, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "weights.safetensors", classifier.state_dict(), facts)
    files.write_json(folder / "model.json", facts)


def load(folder: Path) -> Saved:
    """
    Returns the run in `folder`.

    Raises:
        MissingInput: There is no trained run.
        BadCheckpoint: The weights are damaged, or do not fit model.json.
    """
    facts = files.read_json(folder / "model.json", stage="fit")
    try:
        classifier = _described(facts)
    except (KeyError, ValueError, TypeError) as error:
        raise BadCheckpoint(
            f"{folder / 'model.json'} describes no model of this version ({error!r}). Train again."
        ) from error
    tensors, _ = checkpoint.load(folder / "weights.safetensors")
    if not isinstance(classifier, nn.Module):
        raise BadCheckpoint(f"Method '{facts['method']}' keeps no weights.")
    checkpoint.fill(classifier, tensors, source=str(folder))
    classifier.eval()
    return Saved(classifier, facts)


def _described(facts: Mapping[str, Any]) -> HierarchicalClassifier:
    """Returns the untrained classifier that model.json describes."""
    params, method, mean = facts["params"], facts["method"], np.array(facts["mean"], np.float32)
    network = backbone.Params(**params["backbone"])
    side = augment.Params(**params["augment"]).network_side(facts["side"])
    if method == fusion.NAME:
        parts = facts["parts"]
        return fusion.Classifier(
            [_described(part) for part in parts],
            leaves=[[facts["labels"].index(label) for label in part["labels"]] for part in parts],
            build=partial(_network, network, side),
            mean=mean,
        )
    tree = hierarchy.from_json(facts["hierarchy"])
    own = method_params(method)(**params[method])
    return build(method, own, network, tree=tree, side=side, mean=mean)


def _network(params: backbone.Params, side: int, outputs: int) -> Network:
    return backbone.build(params, outputs=outputs, side=side)
