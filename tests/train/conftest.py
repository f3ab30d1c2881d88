"""Fixtures for the training tests: 16-pixel images of four labels in two families."""

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from train import backbone
from train.data import augment
from train.data.images import DataModule, ImageSet, channel_mean
from train.documents import ModelDocument
from train.engine import loop
from train.engine.trainer import Trainer
from train.methods import METHODS
from train.runtime import seeds
from train.tree import hierarchy

SIDE = 16
LABELS = ("ann", "bea", "cem", "dua")
FAMILIES = ((0, 1), (2, 3))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Uses one thread: faster than two on two shared cores, and bit-identical between runs."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


@pytest.fixture(autouse=True, scope="session")
def _no_sync():
    """Skips fsync: only a power failure loses data that was not synced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


def draw(leaf, rng, side=SIDE):
    """Draws an image: the family sets the background colour, the label the position of the mark."""
    image = rng.integers(0, 60, size=(side, side, 3))
    image[..., 0 if leaf < 2 else 2] += 120
    start = 2 if leaf % 2 == 0 else side // 2
    top = start + int(rng.integers(0, 3))
    image[top : top + side // 4, start : start + side // 3] += 70
    return np.clip(image, 0, 255).astype(np.uint8)


def pictures(per_label, *, seed, first_id=1, leaves=range(4)):
    """Builds a split in memory with shuffled labels; `leaves` renames the labels."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(np.arange(4), per_label))
    images = np.stack([draw(kind, rng) for kind in kinds])
    labels = np.array([leaves[kind] for kind in kinds], dtype=np.int64)
    return ImageSet(
        images, labels, np.arange(len(labels)) + first_id, np.arange(len(labels)) % 3 == 0
    )


@pytest.fixture(scope="session")
def tiny_data():
    """Builds a data module in memory: `tiny_data(per_label, leaves=…)`."""

    def build(per_label=8, *, leaves=range(4)):
        train = pictures(per_label, seed=1, leaves=leaves)
        val = pictures(per_label, seed=2, first_id=1000, leaves=leaves)
        return DataModule(LABELS, SIDE, "0" * 64, train, val)

    return build


@pytest.fixture
def two_level_hierarchy():
    """Builds the tree with the two families as clusters."""
    return hierarchy.from_clusters(FAMILIES, len(LABELS))


BACKBONE = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, noise=0.0, init="he"
)
STILL = augment.Params(rotation=0, zoom=1, shift=0, flip="none")
LOOP = loop.Params(
    epochs=20, lr=0.1, threads=1, device="cpu", label_smoothing=0.0, weight_decay=0.0, ema=0.5
)


def trainers(root):
    """Returns a function that builds trainers; the checkpoints are in folders of `root`."""

    def build(data, *, params=LOOP, moves=STILL, batch_size=16, folder="work"):
        return Trainer(
            params=params,
            augment=moves,
            batch_size=batch_size,
            mean=torch.from_numpy(channel_mean(data.train.images)),
            device=torch.device("cpu"),
            work_dir=root / folder,
        )

    return build


@pytest.fixture
def make_trainer(tmp_path):
    """Builds a trainer that writes its checkpoints to `tmp_path`."""
    return trainers(tmp_path)


@pytest.fixture(scope="session")
def make_classifier():
    """Builds an untrained classifier: `make_classifier("uppsala", tree, seed=0, freeze=…)`."""

    def build(method, tree, *, seed=0, network=BACKBONE, mean=(0.3, 0.2, 0.3), **own):
        module = METHODS[method]
        seeds.seed(seed, method)
        return module.Classifier(
            module.Params(**own),
            hierarchy=tree,
            build=lambda outputs: backbone.build(network, outputs=outputs, side=SIDE),
            mean=np.array(mean, dtype=np.float32),
        )

    return build


@pytest.fixture(scope="session")
def model_of():
    """Builds the model.json of a run: `model_of("flat", tree, network, labels=…)`."""

    def build(method, tree, network=BACKBONE, **changes):
        facts = {
            "method": method,
            "run": method,
            "seed": 0,
            "grouping": None,
            "labels": LABELS,
            "hierarchy": hierarchy.to_json(tree),
            "params": {"augment": {}, "backbone": network.model_dump(mode="json"), method: {}},
            "backbone": network.name,
            "side": SIDE,
            "mean": (0.3, 0.2, 0.3),
            "root_sha256": "c" * 64,
            "versions": {},
        }
        return ModelDocument(**(facts | changes))

    return build


@pytest.fixture
def noise():
    """Builds random images for any number of labels: `noise(8)` gives four images per label."""

    def build(labels):
        rng = np.random.default_rng(labels)
        leaves = np.repeat(np.arange(labels), 4)
        parts = [
            ImageSet(
                rng.integers(0, 255, size=(len(leaves), SIDE, SIDE, 3), dtype=np.uint8),
                leaves,
                np.arange(len(leaves)) + first,
                np.zeros(len(leaves), dtype=bool),
            )
            for first in (1, 1000)
        ]
        return DataModule(tuple(f"label_{leaf}" for leaf in range(labels)), SIDE, "0" * 64, *parts)

    return build


@pytest.fixture
def fitted_tree(make_classifier, make_trainer, tiny_data):
    """Trains uppsala for one epoch on four labels; returns the classifier and its report."""

    def build(clusters, *, folder="work", data=None, **own):
        data = data or tiny_data()
        start = make_classifier("flat", hierarchy.flat(4)).network.state_dict()
        classifier = make_classifier("uppsala", hierarchy.from_clusters(clusters, 4), **own)
        params = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
        trainer = make_trainer(data, params=params, folder=folder)
        return classifier, classifier.fit(data, trainer, seed=0, start=start)

    return build


def add_member(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shards(folder: Path, counts, *, side=SIDE, labels=LABELS, leaves=range(4), seed=0):
    """Writes shards as stage `shards` does; `counts` gives the images per label of each split."""
    folder.mkdir(parents=True)
    entries, post_id, rng = [], 1, np.random.default_rng(seed)
    for split, per_label in counts.items():
        path = folder / f"{split}-000000.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for leaf in rng.permutation(np.repeat(np.array(leaves), per_label)).tolist():
                buffer = io.BytesIO()
                Image.fromarray(draw(leaf, rng, side)).save(buffer, "PNG")
                record = {"post_id": post_id, "white_background": post_id % 3 == 0, "leaf": leaf}
                add_member(archive, f"{post_id}.png", buffer.getvalue())
                add_member(archive, f"{post_id}.cls", str(leaf).encode())
                add_member(archive, f"{post_id}.json", json.dumps(record).encode())
                post_id += 1
        entries.append({"shard": path.name, "split": split, "samples": per_label * len(leaves)})
    write_manifest(folder, entries, side=side)
    (folder / "classes.json").write_text(json.dumps({"labels": list(labels)}), encoding="utf-8")
    return folder


def write_manifest(folder, entries, *, side=SIDE):
    """Writes the manifest for the present content of the shards."""
    for entry in entries:
        entry["sha256"] = hashlib.sha256((folder / entry["shard"]).read_bytes()).hexdigest()
    lines = "".join(f"{entry['sha256']}  {entry['shard']}\n" for entry in entries)
    samples = Counter()
    for entry in entries:
        samples[entry["split"]] += entry["samples"]
    document = {
        "shards": entries,
        "root_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "image": {"side": side, "format": "png"},
        "labels": len(LABELS),
        "samples": samples,
    }
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def tiny_shards(tmp_path):
    """Writes shards with 6 train, 4 val and 4 test images per label to `tmp_path/data/shards`."""
    return write_shards(tmp_path / "data" / "shards", {"train": 6, "val": 4, "test": 4})


@pytest.fixture(scope="session")
def shard_writer():
    """Returns the functions that write shards and their manifest."""
    return write_shards, write_manifest
