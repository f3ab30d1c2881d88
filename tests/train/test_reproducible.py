"""Reproducibility: one seed gives one result, nothing is unpickled, networks learn."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from train import backbone
from train.data import augment
from train.data.images import DataModule, ImageSet, channel_mean
from train.engine import loop
from train.runtime import seeds
from train.tree import hierarchy

SOURCES = sorted(Path(train.__file__).parent.rglob("*.py"))


def test_nothing_is_unpickled():
    """No file of the package uses torch.load, pickle or numpy's pickles, which can run code."""
    forbidden = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                forbidden += [(path.name, n) for n in names if n in ("pickle", "dill", "joblib")]
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "torch.load",
                "torch.save",
            ):
                forbidden.append((path.name, ast.unparse(node)))
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                forbidden.append((path.name, "allow_pickle"))

    assert len(SOURCES) > 30
    assert forbidden == []


def test_training_is_deterministic_by_rule():
    """`prepare` switches torch to deterministic algorithms."""
    torch.use_deterministic_algorithms(mode=False)
    device = loop.prepare(loop.Params(threads=1, device="cpu"))

    assert torch.are_deterministic_algorithms_enabled()
    assert torch.device("cpu") == device


def hard_data(count=64, *, side=16):
    """Returns random images with random labels, which can only be memorised."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % 4
    held = ImageSet(images, labels, np.arange(count), np.zeros(count, bool))
    return DataModule(tuple("abcd"), side, "0" * 64, held, held)


@pytest.mark.parametrize(
    ("name", "precision", "width", "epochs"),
    [
        ("uppsala_cnn", "float32", 0.125, 40),
        ("fast_cnn", "bfloat16", 0.25, 12),
        ("resnet20", "float32", 0.5, 20),
    ],
)
def test_64_pictures_are_learnt_by_heart(
    make_trainer, make_classifier, *, name, precision, width, epochs
):
    """Every backbone reaches 100 % accuracy on 64 random images by memorising them."""
    data = hard_data()
    own = {"batch_norm": True, "dropout": 0, "noise": 0} if name == "uppsala_cnn" else {}
    network = backbone.Params(name=name, width=width, init="he", **own)
    params = loop.Params(
        epochs=epochs,
        lr=0.05,
        threads=1,
        device="cpu",
        label_smoothing=0,
        weight_decay=0,
        ema=0.5,
        clip=0,
        precision=precision,
    )
    mean = channel_mean(data.train.images)
    model = make_classifier("flat", hierarchy.flat(4), network=network, mean=mean)
    trainer = make_trainer(data, params=params)
    model.fit(data, trainer, seed=0)
    model.eval()
    with torch.no_grad():
        rows = model.predict_proba(augment.scale(data.train.batch(np.arange(64))))

    assert (rows.argmax(dim=1).numpy() == data.train.labels).all()


@pytest.mark.parametrize("storage", ["memory", "parts"])
def test_two_fits_are_bit_equal(make_trainer, make_classifier, storage):
    """The same seed on the same machine gives the same bits, for whole and partial batches."""
    data, found = hard_data(), []
    accumulate = 2 if storage == "parts" else 1
    for place in range(2):
        torch.manual_seed(place)  # the earlier random state must not matter
        model = make_classifier("flat", hierarchy.flat(4))
        params = loop.Params(
            epochs=2, threads=1, device="cpu", precision="bfloat16", accumulate=accumulate
        )
        model.fit(data, make_trainer(data, params=params, folder=f"w{place}"), seed=3)
        found.append(model.state_dict())
    seeds.seed(0)

    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
