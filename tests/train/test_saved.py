"""Tests a trained run on disk: no flipped bit of weights or description passes unnoticed."""

import random

import pytest

from personae.errors import PersonaeError
from train import backbone, saved
from train.tree import hierarchy

NETWORK = backbone.Params(width=0.125)


@pytest.fixture
def folder(tmp_path, make_classifier, model_of):
    """Returns the folder of an untrained run with a tree."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    classifier = make_classifier("uppsala", tree, network=NETWORK)
    saved.save(tmp_path / "run" / "0", classifier, model_of("uppsala", tree, NETWORK))
    return tmp_path / "run" / "0"


def flipped(content, number):
    data = bytearray(content)
    data[random.Random(number).randrange(len(data))] ^= 1 << number % 8
    return bytes(data)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_flipped_bits_are_refused(folder, name):
    """Each of 40 flipped bits gives a named error, or, in white space, the same description."""
    path = folder / name
    content, facts = path.read_bytes(), saved.load(folder).model.facts()
    passed = []
    for number in range(40):
        path.write_bytes(flipped(content, number))
        try:
            assert facts == saved.load(folder).model.facts()
            passed.append(number)
        except PersonaeError as error:
            assert str(error)  # noqa: PT017  # most flips raise, some change nothing

    assert len(passed) < (1 if name == "weights.safetensors" else 20)


def test_cut_and_zeroed_weights_are_refused(folder):
    """Weights that are shorter, or partly zero, are refused."""
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    for damaged in (
        b"",
        content[:100],
        content[:-1],
        content[:-4000] + bytes(4000),
        content + b"x",
    ):
        path.write_bytes(damaged)
        with pytest.raises(PersonaeError, match="another SHA-256"):
            saved.load(folder)


def test_new_weights_remove_the_figures_of_the_old_ones(folder):
    """A second training leaves no figures of the first, even if it is killed before its own."""
    for name in ("fit.json", "curves.csv", "validation.parquet"):
        (folder / name).write_text("of the first training")
    for name in ("predictions.parquet", "metrics.json", "cost.json"):
        (folder / name).write_text("of its evaluation")
    (folder / "note.txt").write_text("of a person")
    first = saved.load(folder)
    saved.save(folder, first.classifier, first.model)

    assert ["model.json", "note.txt", "weights.safetensors"] == sorted(
        path.name for path in folder.iterdir()
    )
