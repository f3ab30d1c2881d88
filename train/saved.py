"""
A trained run on disk: weights.safetensors, and model.json, which describes the classifier.

Reads and writes results/RUN/SEED/. The metadata of the weights repeats the description, so that the
file of weights alone names its labels.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor, nn

from personae import files, stages
from personae.errors import DiskRefused, MissingInput
from train import backbone, params
from train.backbone import Network
from train.classifier import HierarchicalClassifier
from train.documents import ModelDocument
from train.errors import BadCheckpoint
from train.methods import METHODS, fusion
from train.params.augment import Params as AugmentParams
from train.params.backbone import Backbone, model_of_network
from train.runtime import checkpoint, distributed
from train.tree import hierarchy

_OF_WEIGHTS = (
    "validation.parquet",
    "curves.csv",
    "fit.json",
    "predictions.parquet",
    "metrics.json",
    "cost.json",
)
"""Files beside the weights that describe these weights alone."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A trained run: the classifier in evaluation mode, and its model.json."""

    classifier: HierarchicalClassifier
    model: ModelDocument


def build(
    method: str,
    own: BaseModel,
    backbone_params: Backbone,
    *,
    tree: nx.DiGraph,
    side: int,
    mean: Float[np.ndarray, "3"],
    trains: bool = True,
) -> HierarchicalClassifier:
    """
    Returns an untrained classifier of `method` with the parameters `own`.

    The weights are drawn from torch's generator, so seed it before. `side` is that of the network's
    input in pixels; `mean` is the mean of each channel in 0..1. If `trains`, the networks start from
    the pretrained weights that their parameters name.
    """
    network: Callable[[int], Network] = partial(_network, backbone_params, side, trains)
    classifier: HierarchicalClassifier = METHODS[method].Classifier(
        own, hierarchy=tree, build=network, mean=np.asarray(mean, dtype=np.float32)
    )
    return classifier


@contextlib.contextmanager
def reserved(folder: Path, *, work_dir: Path) -> Iterator[None]:
    """
    Holds the run of `folder` for this process until the block ends or the process does.

    Of several processes that train together, rank 0 holds it. The lock lies in `work_dir`, because
    DVC removes `folder` before a training. A file system without locks holds nothing.

    Raises:
        AlreadyRunning: Another process trains or evaluates the run.
        OSError: `folder` cannot be written or made.
    """
    with contextlib.ExitStack() as held:
        if distributed.rank() == 0:
            files.check_writable(folder)
            digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
            lock = work_dir / "locks" / f"{folder.parent.name}-{folder.name}-{digest[:8]}"
            with contextlib.suppress(DiskRefused):
                held.enter_context(files.locked(lock, target=folder))
        yield


def save(folder: Path, classifier: HierarchicalClassifier, model: ModelDocument) -> None:
    """
    Writes the weights, then model.json with their SHA-256, each whole or not at all.

    First removes what an earlier training and its evaluation wrote, which other weights belong to.
    """
    for name in _OF_WEIGHTS:
        files.remove(folder / name)
    path = folder / "weights.safetensors"
    checkpoint.save(path, classifier.state_dict(), model.facts())
    digest = checkpoint.sha256(path)
    model.model_copy(update={"weights_sha256": digest}).write(folder / "model.json")


def copy(source: Path, folder: Path, *, run: str) -> None:
    """Writes the trained run of the folder `source` to `folder`, under the name `run`."""
    original = load(source)
    save(folder, original.classifier, original.model.model_copy(update={"run": run}))
    for file in ("validation.parquet", "curves.csv", "fit.json"):
        files.write_bytes(folder / file, (source / file).read_bytes())


def load_weights(folder: Path, model: ModelDocument) -> Mapping[str, Tensor]:
    """
    Returns the tensors of weights.safetensors in `folder`, which `model` describes.

    A model.json of an older version of the program names no hash; the weights are then not checked.

    Raises:
        BadCheckpoint: The weights are absent, damaged, or not those that model.json names; or the
            description in their metadata is not that of model.json.
    """
    tensors, described = _checked(folder, model)
    _check_description(folder, model, described)
    return tensors


def _checked(folder: Path, model: ModelDocument) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Returns the tensors and the description of weights that have the hash of model.json."""
    path = folder / "weights.safetensors"
    if model.weights_sha256 is not None and checkpoint.sha256(path) != model.weights_sha256:
        raise BadCheckpoint(
            f"{path} has another SHA-256 than model.json names: it was changed or damaged after the "
            "training. Restore it, or train again."
        )
    return checkpoint.load(path)


def _check_description(folder: Path, model: ModelDocument, described: Mapping[str, Any]) -> None:
    if model.weights_sha256 is not None and described != model.facts():
        raise BadCheckpoint(
            f"{folder / 'model.json'} differs from the description in weights.safetensors: it was "
            "changed or damaged after the training. Restore it, or train again."
        )


def load(folder: Path) -> Saved:
    """
    Returns the run in `folder`.

    Raises:
        MissingInput: There is no trained run; the message lists those that there are.
        BadDocument: model.json has another shape.
        BadCheckpoint: The weights are damaged, or do not fit model.json.
    """
    path = folder / "model.json"
    if not path.exists():
        raise MissingInput(f"{stages.absent(path, ModelDocument.stage)}{_known(folder)}")
    model = ModelDocument.read(path)
    try:
        classifier = _untrained(model)
        leaves = len(classifier.hierarchy.nodes[hierarchy.ROOT]["members"])
        if leaves != len(model.labels):
            raise ValueError(f"{len(model.labels)} labels for {leaves} leaves")  # noqa: TRY301  # translated like the others
    except (KeyError, ValueError, TypeError) as error:
        raise BadCheckpoint(
            f"{folder / 'model.json'} describes no model of this version ({error!r}). Train again."
        ) from error
    tensors, described = _checked(folder, model)
    if not isinstance(classifier, nn.Module):
        raise BadCheckpoint(f"Method '{model.method}' has no weights to load.")
    checkpoint.fill(classifier, tensors, source=str(folder))
    _check_description(folder, model, described)
    classifier.eval()
    return Saved(classifier, model)


def _known(folder: Path) -> str:
    """Returns a line with the trained runs beside `folder`; empty if there are none."""
    trained = sorted(path.parent for path in folder.parent.parent.glob("*/*/model.json"))
    names = ", ".join(f"{path.parent.name} (seed {path.name})" for path in trained)
    return f"\nTrained are: {names}." if names else ""


def _untrained(model: ModelDocument) -> HierarchicalClassifier:
    """Returns the untrained classifier that model.json describes."""
    mean = np.array(model.mean, dtype=np.float32)
    network = network_params(model)
    side = AugmentParams(**model.params["augment"]).network_side(model.side)
    if model.method == fusion.NAME:
        if model.parts is None:
            raise ValueError("the parts of the merged run are absent")
        return fusion.Classifier(
            [_untrained(part) for part in model.parts],
            leaves=[[model.labels.index(label) for label in part.labels] for part in model.parts],
            build=partial(_network, network, side, False),
            mean=mean,
        )
    tree = hierarchy.from_json(model.hierarchy.model_dump(mode="json", exclude_unset=True))
    own = params.model_of(params.known_method(model.method))(**model.params[model.method])
    return build(model.method, own, network, tree=tree, side=side, mean=mean, trains=False)


def network_params(model: ModelDocument) -> Backbone:
    """Returns the parameters of the network that model.json describes."""
    values = model.params["backbone"]
    return model_of_network(values.get("name"))(**values)


def _network(params: Backbone, side: int, trains: bool, outputs: int) -> Network:  # noqa: FBT001  # bound by `partial`
    return backbone.build(params, outputs=outputs, side=side, trains=trains)
