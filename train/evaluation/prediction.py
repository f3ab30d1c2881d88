"""
Runs a trained classifier over images, and builds the table of predictions that later stages read.

The table has one row per image, sorted by `post_id`; probabilities are float32, in leaf order.
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
    """Outputs of a classifier for a set of images, in the order of the images."""

    probabilities: Float[np.ndarray, "image leaf"]
    """Probabilities in the method's default mode."""
    full: Float[np.ndarray, "image leaf"] | None
    """Probabilities with all branches executed; None if the method has no branches."""
    coarse: Float[np.ndarray, "image cluster"] | None
    """Probabilities of the clusters that the method predicts; None if it predicts none."""
    executed: dict[str, float]
    """Share of images that execute each part of `cost().macs` in the default mode."""


@torch.no_grad()
def mirrored(
    classifier: HierarchicalClassifier, images: ImageSet, *, device: torch.device
) -> Float[np.ndarray, "image leaf"]:
    """Returns the mean of the probabilities of each image and of its mirror image."""
    means = []
    for inputs in batches(images, device):
        total = classifier.predict_proba(inputs) + classifier.predict_proba(inputs.flip(3))
        means.append((total / 2).float().cpu().numpy())
    return np.concatenate(means)


@torch.no_grad()
def ten_views(
    classifier: HierarchicalClassifier, images: ImageSet, *, side: int, device: torch.device
) -> Float[np.ndarray, "image leaf"]:
    """
    Returns the mean of the probabilities over ten crops of `side` pixels of each image.

    The crops lie in the four corners and in the centre; each counts with its mirror image
    (Krizhevsky, Sutskever and Hinton 2012, section 4.1, as in HD-CNN's ten-view testing).
    """
    means = []
    for inputs in batches(images, device):
        far = inputs.shape[-1] - side
        corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
        crops = [inputs[:, :, y : y + side, x : x + side] for y, x in corners]
        views = [view for crop in crops for view in (crop, crop.flip(3))]
        total = torch.stack([classifier.predict_proba(view) for view in views]).mean(dim=0)
        means.append(total.float().cpu().numpy())
    return np.concatenate(means)


@torch.no_grad()
def predict(
    classifier: HierarchicalClassifier, images: ImageSet, *, device: torch.device
) -> Predictions:
    """Returns the outputs of the classifier for all images, computed in float32."""
    outputs: dict[str, list[np.ndarray]] = {}
    for inputs in batches(images, device):
        for name, values in classifier.outputs(inputs).items():
            outputs.setdefault(name, []).append(values.float().cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in outputs.items()}
    shares = joined["executed"].mean(axis=0, dtype=np.float64).tolist()
    return Predictions(
        joined["default"],
        joined.get("full"),
        joined.get("coarse"),
        executed=dict(zip(classifier.cost().macs, shares, strict=True)),
    )


def batches(
    images: ImageSet, device: torch.device, *, rows: Int[np.ndarray, " row"] | None = None
) -> Iterator[Float[Tensor, "batch 3 height width"]]:
    """Yields batches of network input on the device: all images, or those at `rows`, in order."""
    indices = np.arange(len(images)) if rows is None else rows
    for start in range(0, len(indices), _BATCH):
        yield augment.scale(images.batch(indices[start : start + _BATCH]).to(device))


def table(predictions: Predictions, images: ImageSet, *, split: str) -> pa.Table:
    """Returns the table of one split; of equal probabilities the lower leaf is predicted."""
    order = np.argsort(images.post_ids, kind="stable")
    predicted = predictions.probabilities.argmax(axis=1)
    return pa.table(
        {
            "post_id": images.post_ids[order],
            "split": [split] * len(order),
            "white_background": images.white[order],
            "label": images.labels[order].astype(np.int32),
            "predicted": predicted[order].astype(np.int32),
            "probabilities": list(predictions.probabilities[order]),
            "full": _rows(predictions.full, order),
            "coarse": _rows(predictions.coarse, order),
        },
        schema=SCHEMA,
    )


def _rows(values: np.ndarray | None, order: np.ndarray) -> list[np.ndarray | None]:
    return [None] * len(order) if values is None else list(values[order])
