"""What the benchmarks of HD-CNN share: trained runs, and what every component says of images."""

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
class Trained:
    """The run of one seed, and the images that it is judged on."""

    seed: int
    classifier: Classifier
    val: ImageSet
    test: ImageSet


def trained() -> Iterator[Trained]:
    """Yields the run of every seed that results/hdcnn holds."""
    folders = sorted(Path("results", RUN).glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise SystemExit(f"results/{RUN} is empty: name a run '{RUN}' in params.yaml, `dvc repro`")
    val, test = (
        open_split(Path("data/shards"), Path("work/cache"), one) for one in ("val", "test")
    )
    for folder in folders:
        classifier = saved.load(folder).classifier
        if not isinstance(classifier, Classifier):
            raise SystemExit(f"{folder} is no run of method hdcnn")
        yield Trained(int(folder.name), classifier, val, test)


@torch.no_grad()
def answers(classifier: Classifier, pictures: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns B, and p_k of every label: (image, cluster) and (image, cluster, leaf)."""
    found = []
    for x in prediction.batches(pictures, torch.device("cpu")):
        maps = classifier.network.stem(classifier.centred(x))
        found.append((classifier.network.shares(maps).exp(), classifier.network.labels(maps).exp()))
    coarse, labels = zip(*found, strict=True)
    return torch.cat(coarse), torch.cat(labels)


@torch.no_grad()
def accuracy(classifier: Classifier, pictures: ImageSet) -> float:
    """Returns the share of images that are named rightly with every component executed."""
    coarse, labels = answers(classifier, pictures)
    full = (coarse[:, :, None] * labels).sum(dim=1)
    return float(np.mean(full.argmax(dim=1).numpy() == pictures.labels))
