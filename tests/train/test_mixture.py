"""HD-CNN's average: worked values, conditional execution by beta, equal paths, executed MACs."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as in the trainer
from torch.utils.flop_counter import FlopCounterMode

from tests.train import covers
from tests.train.covers import COVER, NIN, RESNET, TINY, inputs_of, spread

FINE = [0.30, 0.20, 0.15, 0.20, 0.10, 0.05]
ANSWERS = [[0.5, 0.3, 0.2], [0.3, 0.6, 0.1]]
FULL = [0.282609, 0.169565, 0.230435, 0.234783, 0.039130, 0.043478]
TWO = [0.295455, 0.177273, 0.240909, 0.245455, 0.040909, 0.0]


@pytest.fixture
def built(make_classifier):
    """Builds an untrained classifier over a cover: `built(cover, leaves, …)`."""
    return functools.partial(covers.build, make_classifier)


def say(classifier, fine, answers):
    """Sets the coarse and the fine components to these probabilities for any image."""
    parts = [classifier.network.coarse, *classifier.network.fine.values()]
    for part, row in zip(parts, [fine, *answers], strict=True):
        torch.nn.init.zeros_(part.head.predictions.weight)
        part.head.predictions.bias.data = torch.tensor(row).log()


def test_worked_average(built, tiny_data):
    """b, B, p, its argmax and the loss of label 3 equal the worked example."""
    classifier = built(COVER, 6)
    say(classifier, FINE, ANSWERS)
    x = inputs_of(tiny_data())[:2]
    with torch.no_grad():
        coarse, full = classifier.coarse_proba(x), classifier.predict_proba(x, mode="full")
        loss = F.cross_entropy(classifier.network(x)[0], torch.tensor([3, 3]))

    assert torch.allclose(torch.tensor([0.565217, 0.391304, 0.043478]), coarse, atol=1e-6)
    assert torch.allclose(torch.tensor(FULL), full, atol=1e-6)
    assert (0, 0) == tuple(full.argmax(dim=1).tolist())
    assert math.isclose(1.449095, loss.item(), abs_tol=1e-6)


@pytest.mark.parametrize(
    ("beta", "expected", "components"),
    [
        (1, TWO, [True, True]),
        (2, TWO, [True, True]),
        (3, TWO, [True, True]),
        (6, TWO, [True, True]),
        (7, TWO, [True, True]),
        (7.666, TWO, [True, True]),
        (7.667, FULL, [True, True]),
        (8, FULL, [True, True]),
        (1e9, FULL, [True, True]),
        (None, FULL, [True, True]),
        (0.6, [0.5, 0.3, 0.2, 0, 0, 0], [True, False]),
        (0.1, [0.5, 0.3, 0.2, 0, 0, 0], [True, False]),
    ],
)
def test_worked_conditional_execution(built, tiny_data, beta, expected, components):
    """Each beta executes the components of table 6.5, and the largest if none qualifies."""
    classifier = built(COVER, 6, beta=beta)
    say(classifier, FINE, ANSWERS)
    x = inputs_of(tiny_data())[:1]
    with torch.no_grad():
        found = classifier.outputs(x)

        assert torch.allclose(torch.tensor([expected]), classifier.predict_proba(x), atol=1e-6)
    assert torch.allclose(torch.tensor([expected]), found["default"], atol=1e-6)
    assert [[True, *components]] == found["executed"].tolist()
    assert torch.allclose(torch.tensor([FULL]), found["full"], atol=1e-6)


@pytest.mark.parametrize("network", [RESNET, NIN], ids=["resnet20", "nin"])
@pytest.mark.parametrize("cover", [TINY, ((0, 3), (1, 2)), ((0, 1, 2, 3), (0, 1, 2, 3))])
def test_training_and_prediction_say_the_same(built, tiny_data, cover, network):
    """The log probabilities in training equal those of `full`, and rows sum to 1."""
    classifier = built(cover, network=network, seed=4)
    x = inputs_of(tiny_data())
    with torch.no_grad():
        logarithms, coarse = classifier.network(classifier.centred(x))
        found = classifier.outputs(x)

    assert torch.allclose(logarithms.exp(), found["full"], atol=1e-6)
    assert torch.allclose(coarse, found["coarse"], atol=1e-6)
    for name in ("default", "full", "coarse"):
        assert torch.allclose(torch.ones(16), found[name].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(torch.ones(16), logarithms.exp().sum(dim=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("beta", [0.3, 1.0, 1.4, 3.0])
def test_gathered_pictures_equal_the_loop(built, tiny_data, beta):
    """Executing each component once on its images gives the same rows as image by image."""
    classifier = spread(built(beta=beta))
    x = inputs_of(tiny_data())
    with torch.no_grad():
        together = classifier.predict_proba(x)
        coarse = classifier.coarse_proba(x)
        maps = classifier.network.stem(classifier.centred(x))
        found = classifier.outputs(x)["default"]
        for row in range(16):
            enough = (coarse[row] >= 1 / (beta * 3)).nonzero().flatten().tolist()
            chosen = enough or [int(coarse[row].argmax())]
            expected = torch.zeros(4)
            for place in chosen:
                inside = classifier.network.inside(f"cluster-{place}", maps[row : row + 1]).exp()
                expected[list(TINY[place])] += coarse[row, place] * inside[0]
            expected /= coarse[row, chosen].sum()

            assert torch.allclose(expected, together[row], atol=1e-6)
    assert torch.allclose(together, found, atol=1e-6)
    assert torch.equal(together, classifier.predict_proba(x, mode="route"))


def test_limits_of_beta(built, tiny_data):
    """An unlimited beta equals `full` bit by bit; the tightest executes the best component only."""
    classifier = spread(built(beta=1e9))
    x = inputs_of(tiny_data())
    with torch.no_grad():
        full = classifier.predict_proba(x, mode="full")
        assert torch.equal(full, classifier.predict_proba(x))
        assert classifier.outputs(x)["executed"].all()
        classifier.params = classifier.params.model_copy(update={"beta": None})
        assert torch.equal(full, classifier.predict_proba(x))
        classifier.params = classifier.params.model_copy(update={"beta": 1e-9})
        best = classifier.coarse_proba(x).argmax(dim=1)
        maps = classifier.network.stem(classifier.centred(x))
        alone = classifier.predict_proba(x)
        for row in range(16):
            inside = classifier.network.inside(f"cluster-{best[row]}", maps[row : row + 1])
            expected = torch.zeros(4)
            expected[list(TINY[best[row]])] = inside.exp()[0]
            assert torch.allclose(expected, alone[row], atol=1e-6)


def test_sets_of_every_label_count_alike(built, tiny_data):
    """If every set has all labels, the components are averaged with equal weights."""
    classifier = spread(built([[0, 1, 2, 3]] * 3))
    with torch.no_grad():
        coarse = classifier.coarse_proba(inputs_of(tiny_data()))

    assert torch.allclose(torch.full((16, 3), 1 / 3), coarse, rtol=0, atol=1e-6)


def test_executed_operations_are_those_measured(built, tiny_data):
    """The operations that torch counts equal `cost` and `executed`, and fall with beta."""
    cover = [[leaf, (leaf + 1) % 8, (leaf + 2) % 8] for leaf in range(8)]
    classifier, x = spread(built(cover, 8), std=0.3), inputs_of(tiny_data())
    expected, cost = [], classifier.cost()
    for beta in (0.1, 1.0, 1.5, 4.0, 1e9):
        classifier.params = classifier.params.model_copy(update={"beta": beta})
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            classifier.predict_proba(x)
        with torch.no_grad():
            taken = classifier.outputs(x)["executed"].double().mean(dim=0).tolist()
        expected.append(cost.macs_expected(dict(zip(cost.macs, taken, strict=True))))
        assert math.isclose(expected[-1], counter.get_total_flops() / (2 * len(x)))

    assert sorted(expected) == expected
    assert expected[0] < expected[-1]
    assert cost.macs_max == expected[-1]
