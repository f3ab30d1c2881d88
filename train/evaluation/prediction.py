"""
A trained classifier and images to the table of predictions that every stage below reads.

One row per image, sorted by `post_id`; probabilities are in leaf order, in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from train.classifier import HierarchicalClassifier
from train.data import augment
from train.data.images import ImageSet

_BATCH = 256
_ROWS = pa.list_(pa.field("item", pa.float32(), nullable=False))

SCHEMA = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("white_background", pa.bool_(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("probabilities", _ROWS, nullable=False),
        pa.field("full", _ROWS),
        pa.field("coarse", _ROWS),
    ]
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier says of some images, in their order."""

    probabilities: Float[np.ndarray, "image leaf"]
    """In the method's default mode."""
    full: Float[np.ndarray, "image leaf"] | None
    """All branches executed; None where there is one path only."""
    coarse: Float[np.ndarray, "image cluster"] | None
    """Over the router's own clusters."""
    executed: dict[str, float]
    """For each part of `cost().macs`, the share of images that execute it in the default mode."""


@torch.no_grad()
def mirrored(
    classifier: HierarchicalClassifier, pictures: ImageSet, *, device: torch.device
) -> Float[np.ndarray, "image leaf"]:
    """Returns the mean of the probabilities of each image and of its mirror image."""
    found = []
    for inputs in batches(pictures, device):
        both = classifier.predict_proba(inputs) + classifier.predict_proba(inputs.flip(3))
        found.append((both / 2).float().cpu().numpy())
    return np.concatenate(found)


@torch.no_grad()
def predict(
    classifier: HierarchicalClassifier, pictures: ImageSet, *, device: torch.device
) -> Predictions:
    """Runs the classifier over images, in float32 whatever it was trained in."""
    found: dict[str, list[np.ndarray]] = {}
    for inputs in batches(pictures, device):
        for name, values in classifier.outputs(inputs).items():
            found.setdefault(name, []).append(values.float().cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    shares = joined["executed"].mean(axis=0, dtype=np.float64).tolist()
    return Predictions(
        joined["default"],
        joined.get("full"),
        joined.get("coarse"),
        executed=dict(zip(classifier.cost().macs, shares, strict=True)),
    )


def batches(
    pictures: ImageSet, device: torch.device, *, rows: Int[np.ndarray, " row"] | None = None
) -> Iterator[Float[Tensor, "batch 3 height width"]]:
    """Yields network input on the device: all images, or those at `rows`, in order."""
    wanted = np.arange(len(pictures)) if rows is None else rows
    for start in range(0, len(wanted), _BATCH):
        yield augment.scale(pictures.batch(wanted[start : start + _BATCH]).to(device))


def table(predictions: Predictions, pictures: ImageSet, *, split: str) -> pa.Table:
    """Returns the rows of one split; ties of the likeliest label go to the lower leaf."""
    order = np.argsort(pictures.post_ids, kind="stable")
    predicted = predictions.probabilities.argmax(axis=1)
    return pa.table(
        {
            "post_id": pictures.post_ids[order],
            "split": [split] * len(order),
            "white_background": pictures.white[order],
            "label": pictures.labels[order].astype(np.int32),
            "predicted": predicted[order].astype(np.int32),
            "probabilities": list(predictions.probabilities[order]),
            "full": _rows(predictions.full, order),
            "coarse": _rows(predictions.coarse, order),
        },
        schema=SCHEMA,
    )


def _rows(values: np.ndarray | None, order: np.ndarray) -> list[np.ndarray | None]:
    return [None] * len(order) if values is None else list(values[order])
