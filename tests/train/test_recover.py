"""The method recover: worked value, limits of a and theta, costs, the choice, overlap."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from tests.train.conftest import FAMILIES, LABELS, SIDE
from train import backbone
from train.data.images import DataModule
from train.engine.losses import Counting, cross_entropy
from train.methods.recover import mixing
from train.methods.recover.routed import ExitAndTail
from train.tree import hierarchy

TREES = {
    "families": hierarchy.from_clusters(FAMILIES, len(LABELS)),
    "a single label": hierarchy.from_clusters([[0, 1, 2], [3]], len(LABELS)),
    "overlap": hierarchy.from_cover([[0, 1, 2], [1, 2, 3]], len(LABELS)),
    "no groups": hierarchy.flat(len(LABELS)),
}
EVERY_TREE = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


@pytest.fixture
def images():
    """Returns nine random images."""
    return torch.rand(9, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def test_worked_example():
    """p0 = (.5, .3, .15, .05), S = {0, 1}, q = (.25, .75), a = .5 give (.35, .45, .15, .05)."""
    exit_ = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    inside = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    members = torch.tensor([[True, True, False, False]])

    result = mixing.mixed(exit_, inside, members, mix=0.5)
    assert torch.allclose(result, torch.tensor([[0.35, 0.45, 0.15, 0.05]]))
    assert torch.allclose(mixing.masses(exit_, members), torch.tensor([[0.8]]))


@given(
    labels=st.integers(2, 8),
    mix=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_mixture_is_a_distribution(labels, mix, seed):
    """For every a the result sums to 1, keeps the mass of S, and keeps the other labels."""
    draw = torch.Generator().manual_seed(seed)
    exit_ = torch.softmax(torch.randn(4, labels, generator=draw, dtype=torch.float64), dim=1)
    members = torch.rand(4, labels, generator=draw) < 0.5
    members[:, 0] = True
    scores = torch.rand(4, labels, generator=draw, dtype=torch.float64) * members + 1e-9 * members
    inside = scores / scores.sum(dim=1, keepdim=True)
    result = mixing.mixed(exit_, inside, members, mix=mix)

    assert torch.allclose(result.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(result[~members], exit_[~members])
    assert torch.allclose((result * members).sum(dim=1), (exit_ * members).sum(dim=1))


@EVERY_TREE
def test_no_weight_or_no_open_tail_is_the_exit(make_classifier, images, tree):
    """With theta 0 the prediction is bit-identical to the exit's; with a = 0 it is equal."""
    closed = make_classifier("recover", tree, exit_at=0.0, mix=0.7).eval()
    exit_ = closed._exit(closed.network.trunk(closed._centred(images)))
    with torch.no_grad():
        outputs = closed.outputs(images)
        assert torch.equal(exit_, closed.predict_proba(images))
        assert torch.equal(exit_, outputs["default"])
        assert 1 == int(outputs["executed"].sum(dim=1).max())
        unmixed = make_classifier("recover", tree, exit_at=2.0, mix=0.0).eval()
        assert torch.allclose(exit_, unmixed.predict_proba(images), atol=1e-7)


def test_one_tail_over_all_labels_is_a_network_with_a_second_head(make_classifier, images):
    """Without groups, with a = 1 and no early exit, the prediction is that of trunk and tail."""
    classifier = make_classifier("recover", TREES["no groups"], exit_at=2.0, mix=1.0).eval()
    with torch.no_grad():
        maps = classifier.network.trunk(classifier._centred(images))
        expected = torch.softmax(classifier.network.tails["all"](maps), dim=1)

        assert torch.allclose(expected, classifier.predict_proba(images), atol=1e-6)
    assert classifier.coarse_proba(images) is None


@EVERY_TREE
@pytest.mark.parametrize("tails", [1, 2])
@pytest.mark.parametrize("theta", [0.3, 2.0])
def test_rows_sum_to_one_and_modes_agree(make_classifier, images, tree, tails, theta):
    """Executing all tails gives the same rows as executing the chosen ones, with early exits."""
    classifier = make_classifier("recover", tree, tails=tails, exit_at=theta, mix=0.6).eval()
    with torch.no_grad():
        outputs = classifier.outputs(images)
        for mode in ("default", "full"):
            predicted = classifier.predict_proba(images, mode=mode)
            assert torch.allclose(predicted.sum(dim=1), torch.ones(9), atol=1e-6)
            assert torch.allclose(predicted, outputs[mode], atol=1e-6)
    passed = outputs["executed"][:, 1:].sum(dim=1)
    exit_ = classifier._exit(classifier.network.trunk(classifier._centred(images)))
    is_open = exit_.max(dim=1).values < theta
    assert (passed[is_open] == min(tails, len(classifier.network.tails))).all()
    assert (passed[~is_open] == 0).all()
    assert torch.equal(outputs["default"][~is_open], exit_[~is_open])


@EVERY_TREE
def test_training_costs_flat_and_the_exit(make_classifier, tree):
    """Trunk and one tail over all labels cost the MACs of flat plus those of the exit."""
    flat, classifier = make_classifier("flat", tree), make_classifier("recover", tree)
    macs = classifier.cost().macs
    exit_ = backbone.macs_of_head(classifier.network.exit)
    whole = flat.cost().macs_max
    tail = max(value for part, value in macs.items() if part != "root")

    assert macs["root"] + tail <= whole + exit_
    assert macs["root"] + tail >= 0.9 * whole
    assert (macs["root"] + tail) / whole <= 1.05


def test_loss_by_hand():
    """The loss is the cross-entropy of the exit plus that of the tail, equally smoothed."""
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    target, weights = torch.tensor([1]), torch.tensor([1.0, 2.0, 1.0, 1.0])
    of_label, of_all = torch.tensor([-0.5]), torch.tensor([-0.8])
    for class_weights, factor in ((None, 1.0), (weights, 2.0)):
        counting = Counting(class_weights, 0.1, 1.0)
        loss = ExitAndTail()((logits, of_label, of_all), target, counting)
        expected = cross_entropy(logits, target, counting) + factor * (0.9 * 0.5 + 0.1 * 0.8)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@EVERY_TREE
def test_every_image_with_a_tail_goes_to_a_tail_with_its_label(make_classifier, images, tree):
    """By label or by routing, each image goes to a tail that has its label."""
    for routed in (0.0, 1.0):
        network = make_classifier("recover", tree, routed=routed).network.train()
        targets = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0])
        own = network._assigned(torch.randn(9, 4), targets)
        has_tail = network.members.T[targets].any(dim=1)
        assert network.members[own[has_tail], targets[has_tail]].all()
        assert (own[~has_tail] == -1).all()
        logits, of_label, of_all = network(images, targets)
        assert (of_label[has_tail] < 0).all()
        assert (of_label[~has_tail] == 0).all()
        assert (of_all[~has_tail] == 0).all()
        (logits.sum() + of_label.sum() + of_all.sum()).backward()
        assert all(part.grad is not None for part in network.parameters())


def test_choice_is_the_most_accurate_then_the_cheapest():
    """Tails are used if they correct an image, and not used if they correct none."""
    exit_ = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1])
    mended = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    with_tails = [exit_, exit_, mended, mended, mended]

    assert (0.5, 0.6) == mixing.choose(exit_, with_tails, labels)
    assert (0.0, 0.0) == mixing.choose(exit_, [exit_] * 5, labels)
    # A given value is kept, and the other is the best beside it.
    assert (0.0, 0.0) == mixing.choose(exit_, [exit_], labels, mixes=(0.0,))
    assert (0.5, 0.99) == mixing.choose(exit_, with_tails, labels, exits=(0.99,))


@given(
    labels=st.integers(3, 7), sets=st.integers(1, 4), mix=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_every_tail_together_is_a_distribution(labels, sets, mix, seed):
    """With every tail executed rows sum to one, also where sets overlap or leave labels out."""
    draw = torch.Generator().manual_seed(seed)
    exit_ = torch.softmax(torch.randn(3, labels, generator=draw, dtype=torch.float64), dim=1)
    members = torch.rand(sets, labels, generator=draw) < 0.5
    members[:, 0] = True
    scores = torch.rand(3, sets, labels, generator=draw, dtype=torch.float64) + 0.01
    spread = scores * members / (scores * members).sum(dim=2, keepdim=True)
    result = mixing.every(exit_, spread, members, mix=mix)
    outside = ~members.any(dim=0)

    assert torch.allclose(result.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(result[:, outside], exit_[:, outside])
    one = mixing.every(exit_, spread[:, :1], members[:1], mix=mix)
    alone = mixing.mixed(exit_, spread[:, 0], members[:1].expand(3, -1), mix=mix)
    assert torch.allclose(one, alone)


def test_certain_exit_outside_of_all_sets_keeps_its_prediction():
    """Where the exit leaves the sets no mass, the tails have none to divide."""
    exit_, members = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[True, True, False]])
    spread = torch.tensor([[[0.5, 0.5, 0.0]]])

    assert torch.equal(exit_, mixing.every(exit_, spread, members, mix=0.5))


def test_a_lone_image_trains_its_tail(make_classifier):
    """A tail with one image of a batch is computed, and its parameters get a gradient."""
    network = make_classifier("recover", TREES["families"], routed=0.0).network.train()
    images, targets = torch.rand(3, 3, SIDE, SIDE), torch.tensor([0, 1, 2])
    _, of_label, of_all = network(images, targets)
    (of_label.sum() + of_all.sum()).backward()

    assert (of_label < 0).all()
    assert all(part.grad.abs().sum() > 0 for part in network.tails.parameters() if part.dim() > 1)


def test_is_trained_with_its_rule_chosen_on_validation(tiny_data, make_trainer, make_classifier):
    """After training the rule is one of the candidates, and a given value is kept."""
    data = tiny_data(4)
    for own in ({}, {"mix": 0.3}, {"exit_at": 0.42}):
        trainer = make_trainer(data, folder=str(own))
        trainer.params = trainer.params.model_copy(update={"epochs": 2})
        classifier = make_classifier("recover", TREES["families"], **own)
        report = classifier.fit(data, trainer, seed=0)
        mix, theta = (round(value, 4) for value in classifier.rule.tolist())
        assert mix == own.get("mix", mix)
        assert theta == own.get("exit_at", theta)
        assert "mix" in own or mix in mixing.MIXES
        assert "exit_at" in own or theta in mixing.EXITS
        assert not report.needs_flat("given")
        assert report.needs_flat("modularity")


def test_bad_usage_is_named(tiny_data, make_trainer, make_classifier):
    """Choosing on training images and a trunk that leaves no blocks are refused."""
    data = tiny_data(4)
    same = DataModule(data.labels, data.side, data.root_sha256, data.val, data.val)
    classifier = make_classifier("recover", TREES["families"])
    with pytest.raises(BadParams, match="recover chooses mix and exit_at"):
        classifier.fit(same, make_trainer(same), seed=0)
    with pytest.raises(BadParams, match="leaves no block for the tails"):
        make_classifier("recover", TREES["families"], trunk=99)
