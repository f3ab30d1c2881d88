"""The benchmarks of HD-CNN on tiny data: curves against beta and against codebooks."""

import math

import numpy as np
import pytest
import torch

from benchmarks import averaged, compression, conditional
from train.components import backbone, hierarchy, quantise


@pytest.fixture
def classifier(make_classifier):
    """An untrained classifier over an overlapping cover, whose components differ."""
    tree = hierarchy.from_cover([[0, 1, 2], [1, 2, 3], [3]], 4)
    network = backbone.Params(name="resnet20", width=0.25)
    built = make_classifier("hdcnn", tree, network=network).eval()
    torch.manual_seed(0)
    for name, weight in built.named_parameters():
        if name.endswith("predictions.weight"):
            torch.nn.init.normal_(weight)
    return built


def test_curve_against_beta(classifier, tiny_data):
    """Shares rise with beta up to all components; the curve is that of the classifier itself."""
    pictures = tiny_data().val
    rows = conditional.curve(classifier, pictures)
    shares = [row["share"] for row in rows]
    inputs = torch.from_numpy(pictures.images).permute(0, 3, 1, 2).float() / 255
    conditional.limit(classifier, 1.0)
    with torch.no_grad():
        right = classifier.predict_proba(inputs).argmax(dim=1).numpy() == pictures.labels
        executed = classifier.outputs(inputs)["executed"][:, 1:].double().mean()

    assert sorted(shares) == shares
    assert (None, 1.0, 3.0) == (rows[-1]["beta"], shares[-1], rows[-1]["components"])
    (one,) = (row for row in rows if row["beta"] == 1.0)
    assert math.isclose(np.mean(right), one["accuracy"])
    assert math.isclose(executed.item(), one["share"], abs_tol=1e-6)
    assert rows[-1]["accuracy"] == averaged.accuracy(classifier, pictures)


def test_cheapest_beta_loses_little():
    """The least share within half a point of all components is chosen, whatever its place."""
    rows = [
        {"beta": 0.5, "share": 0.1, "accuracy": 0.60}, {"beta": 1.0, "share": 0.2, "accuracy": 0.698},
        {"beta": 2.0, "share": 0.3, "accuracy": 0.71}, {"beta": None, "share": 1.0, "accuracy": 0.7},
    ]  # fmt: skip

    assert 1.0 == conditional.cheapest(rows)


def test_times_of_one_and_many_pictures(classifier, tiny_data, monkeypatch):
    """Each beta is timed alone and in a batch."""
    monkeypatch.setattr(conditional, "SECONDS", 0.05)
    taken = conditional.timed(classifier, tiny_data().val, 1.0)

    assert [1, 256] == [one["batch"] for one in taken]
    assert all(one["median_ms"] > 0 for one in taken)


def test_curve_against_codebooks(classifier, tiny_data, monkeypatch):
    """Smaller codebooks take fewer bytes; the classifier itself is left as it was."""
    monkeypatch.setattr(compression, "CODEBOOKS", (2, 64))
    monkeypatch.setattr(compression, "FACTOR", 100.0)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    rows = compression.curve(classifier, tiny_data().val)

    assert rows[0]["bytes_after"] < rows[1]["bytes_after"] == rows[1]["bytes_before"]
    assert 0.0 == rows[1]["loss"]
    assert all(torch.equal(before[name], t) for name, t in classifier.state_dict().items())


def test_largest_codebook_of_a_factor(classifier, monkeypatch):
    """One centre more would not reach the factor; one that no codebook reaches has none."""
    fine = classifier.network.fine
    monkeypatch.setattr(compression, "FACTOR", 1.4)
    (found,) = compression.reaching(classifier)
    factors = [quantise.storage(fine, codebook=size, width=2).factor for size in (found, found + 1)]
    monkeypatch.setattr(compression, "FACTOR", 100.0)

    assert factors[0] >= 1.4 > factors[1]
    assert [] == compression.reaching(classifier)
