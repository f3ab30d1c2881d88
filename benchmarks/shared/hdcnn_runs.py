"""Trained runs of HD-CNN, and the probabilities that their components give to images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from train import saved
from train.data.images import ImageSet, open_split
from train.evaluation import prediction
from train.methods.hdcnn.classifier import Classifier

RUN = "hdcnn"


@dataclass(frozen=True, slots=True)
class HdcnnRun:
    """The run of one seed, with the validation and test images."""

    seed: int
    classifier: Classifier
    val: ImageSet
    test: ImageSet


def trained() -> Iterator[HdcnnRun]:
    """Yields the run of every seed in results/hdcnn."""
    folders = sorted(Path("results", RUN).glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise SystemExit(f"results/{RUN} is empty: name a run '{RUN}' in params.yaml, `dvc repro`")
    val, test = (
        open_split(Path("data/shards"), Path("work/cache"), split) for split in ("val", "test")
    )
    for folder in folders:
        classifier = saved.load(folder).classifier
        if not isinstance(classifier, Classifier):
            raise SystemExit(f"{folder} is no run of method hdcnn")
        yield HdcnnRun(int(folder.name), classifier, val, test)


@torch.no_grad()
def probabilities(classifier: Classifier, images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns B_k, of shape (image, cluster), and p_k(j), of shape (image, cluster, leaf)."""
    outputs = []
    for x in prediction.batches(images, torch.device("cpu")):
        maps = classifier.network.stem(classifier.centred(x))
        outputs.append(
            (classifier.network.shares(maps).exp(), classifier.network.labels(maps).exp())
        )
    coarse, labels = zip(*outputs, strict=True)
    return torch.cat(coarse), torch.cat(labels)


@torch.no_grad()
def accuracy(classifier: Classifier, images: ImageSet) -> float:
    """Returns the accuracy with every component executed."""
    coarse, labels = probabilities(classifier, images)
    full = (coarse[:, :, None] * labels).sum(dim=1)
    return float(np.mean(full.argmax(dim=1).numpy() == images.labels))
