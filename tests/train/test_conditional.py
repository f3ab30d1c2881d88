"""The HD-CNN benchmarks on tiny data: curves against beta and against codebooks."""

import copy
import math

import numpy as np
import pytest
import torch

from benchmarks import compression, conditional
from benchmarks.shared import hdcnn_runs
from train import backbone
from train.methods.hdcnn import quantise
from train.tree import hierarchy


@pytest.fixture
def make(make_classifier):
    """Builds an untrained classifier over an overlapping cover, with components that differ."""

    def build(width):
        tree = hierarchy.from_cover([[0, 1, 2], [1, 2, 3], [3]], 4)
        network = backbone.Params(name="resnet20", width=width)
        built = make_classifier("hdcnn", tree, network=network).eval()
        torch.manual_seed(0)
        for name, weight in built.named_parameters():
            if name.endswith("predictions.weight"):
                torch.nn.init.normal_(weight)
        return built

    return build


@pytest.fixture
def classifier(make):
    """Builds a classifier too narrow for factor 4: two centres reach 3.4."""
    return make(0.25)


@pytest.fixture
def wide(make):
    """Builds a classifier with factor 4.06 for three centres and 3.53 for four centres."""
    return make(0.5)


@pytest.fixture
def runs_of(tiny_data):
    """Returns classifiers as trained seeds 3, 4, …: `runs_of(first, second)`."""

    def build(*classifiers):
        both = tiny_data()
        return [
            hdcnn_runs.HdcnnRun(seed, classifier, both.val, both.train)
            for seed, classifier in enumerate(classifiers, start=3)
        ]

    return build


def test_curve_against_beta(classifier, tiny_data):
    """Shares rise with beta up to all components; the values equal those of the classifier."""
    pictures = tiny_data().val
    rows = conditional.curve(classifier, pictures)
    shares = [row["share"] for row in rows]
    inputs = torch.from_numpy(pictures.images).permute(0, 3, 1, 2).float() / 255
    conditional.limit(classifier, 1.0)
    with torch.no_grad():
        right = classifier.predict_proba(inputs).argmax(dim=1).numpy() == pictures.labels
        executed = classifier.outputs(inputs)["executed"][:, 1:].double().mean()
        components = classifier.outputs(inputs)["executed"][:, 1:].double().sum(dim=1).mean()

    assert sorted(shares) == shares
    assert (None, 1.0, 2.0) == (rows[-1]["beta"], shares[-1], rows[-1]["components"])
    (one,) = (row for row in rows if row["beta"] == 1.0)
    assert math.isclose(np.mean(right), one["accuracy"])
    assert math.isclose(executed.item(), one["share"], abs_tol=1e-6)
    assert math.isclose(components.item(), one["components"])
    assert rows[-1]["accuracy"] == hdcnn_runs.accuracy(classifier, pictures)


def test_cheapest_beta_loses_little():
    """The smallest share within half a point of all components is chosen, at any position."""
    rows = [
        {"beta": 0.5, "share": 0.1, "accuracy": 0.60},
        {"beta": 1.0, "share": 0.2, "accuracy": 0.698},
        {"beta": 2.0, "share": 0.3, "accuracy": 0.71},
        {"beta": None, "share": 1.0, "accuracy": 0.7},
    ]

    assert 1.0 == conditional.cheapest(rows)


def test_times_of_one_and_many_pictures(classifier, tiny_data):
    """Each beta is timed with batch 1 and with batch 256."""
    taken = conditional.timed(classifier, tiny_data().val, 1.0, seconds=0.05)

    assert [1, 256] == [one["batch"] for one in taken]
    assert all(one["median_ms"] > 0 for one in taken)


def test_beta_of_validation_is_judged_on_test(classifier, runs_of):
    """Share and loss are those of the test images at the beta chosen on validation images."""
    betas = (0.5, 1.0, 1.2, 50.0)
    (run,) = runs_of(classifier)
    beta = conditional.cheapest(conditional.curve(classifier, run.val, betas=betas))
    rows = conditional.curve(classifier, run.test, betas=betas)
    (judged,) = (row for row in rows if row["beta"] == beta)
    found = conditional.judged([conditional.measure(run, betas=betas, seconds=0.02)])
    (one,) = found.details["seeds"]

    assert (3, 3, 2, beta) == tuple(one[key] for key in ("seed", "sets", "components", "beta"))
    assert judged["share"] == one["share"] == found.value
    assert [rows[-1]["accuracy"] - judged["accuracy"]] == found.details["losses"] == [one["loss"]]
    assert rows == [{k: v for k, v in row.items() if k != "latency"} for row in one["curve"]]
    assert [[1, 256]] * 5 == [[some["batch"] for some in row["latency"]] for row in one["curve"]]
    assert not found.ok  # eight components are required, and this classifier has two


@pytest.mark.parametrize(
    ("share", "loss", "components", "met"),
    [
        (0.40, 0.005, 8, True),
        (0.41, 0.005, 8, False),
        (0.40, 0.006, 8, False),
        (0.40, 0.005, 7, False),
    ],
)
def test_bar_of_conditional_execution(share, loss, components, met):
    """The bar uses the median share and loss over seeds, and the fewest components of any seed."""
    medium = {"share": share, "loss": loss, "components": 9}
    seeds = [
        medium,
        medium | {"share": 0.9, "loss": -0.1},
        medium | {"share": 0.1, "loss": 0.2, "components": components},
    ]
    found = conditional.judged(seeds)

    assert (share, met, [share, 0.9, 0.1]) == (found.value, found.ok, found.runs)


def test_curve_against_codebooks(classifier, tiny_data):
    """Smaller codebooks take fewer bytes, and the classifier does not change."""
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    rows = compression.curve(classifier, tiny_data().val, codebooks=(2, 64), factor=100.0)

    assert rows[0]["bytes_after"] < rows[1]["bytes_after"] == rows[1]["bytes_before"]
    assert 0.0 == rows[1]["loss"]
    assert all(torch.equal(before[name], t) for name, t in classifier.state_dict().items())


def test_largest_codebook_of_a_factor(classifier):
    """One more centre misses the factor; a factor that no codebook reaches gives no codebook."""
    fine = classifier.network.fine
    (found,) = compression.reaching(classifier, factor=1.4)
    factors = [quantise.storage(fine, codebook=size, width=2).factor for size in (found, found + 1)]

    assert factors[0] >= 1.4 > factors[1]
    assert [] == compression.reaching(classifier, factor=100.0)


def test_codebook_of_a_factor_of_four(wide, runs_of):
    """Two of three codebooks reach a factor of 4; the larger is chosen, with its test loss."""
    (run,) = runs_of(wide)
    right = hdcnn_runs.accuracy(wide, run.test)
    found = compression.judged([compression.measure(run, codebooks=(2, 4))])
    (one,) = found.details["seeds"]
    smaller = copy.deepcopy(wide)
    smaller.compress(codebook=3, width=compression.WIDTH)

    assert ([2, 3, 4], 3) == ([row["codebook"] for row in one["curve"]], one["seed"])
    assert [True, True, False] == [row["factor"] >= 4 for row in one["curve"]]
    assert ([3], True) == (found.details["codebooks"], found.ok)
    assert right - hdcnn_runs.accuracy(smaller, run.test) == found.value
    assert [found.value] == found.runs


def test_no_codebook_of_a_factor_of_four(classifier, wide, runs_of):
    """A seed that no codebook shrinks by four misses the bar; the other seed's loss is reported."""
    seeds = [compression.measure(run, codebooks=(2,)) for run in runs_of(classifier, wide)]
    alone, both = compression.judged(seeds[:1]), compression.judged(seeds)

    assert (False, [], []) == (alone.ok, alone.runs, alone.details["codebooks"])
    assert math.isnan(alone.value)
    assert (None, 4) == (both.details["seeds"][0]["chosen"], both.details["seeds"][1]["seed"])
    assert (False, [3], 1) == (both.ok, both.details["codebooks"], len(both.runs))
