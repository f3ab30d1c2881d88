"""Training signals beside the label: values by hand, limits, resumption, predictions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # the name in torch's documentation
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from personae.errors import BadParams
from tests.train.conftest import BACKBONE, FAMILIES, LABELS, LOOP, SIDE
from train import backbone
from train.engine import signals
from train.engine.losses import Counting, cross_entropy
from train.engine.signals import (
    Curriculum,
    HierarchicalCrossEntropy,
    OnlineTargets,
    TreeSmoothing,
    WithCoarseHead,
)
from train.methods import flat
from train.tree import hierarchy
from train.tree.hierarchy import Clusters

GROUPS = torch.tensor([0, 0, 1, 1])
LOGITS = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
TARGET = torch.tensor([0])
SIGNALS = {
    "tree": {"smoothing": "tree"},
    "online": {"smoothing": "online"},
    "curriculum": {"curriculum": 0.4},
    "hierarchical": {"hierarchical_decay": 0.5},
    "coarse head": {"coarse_weight": 0.5},
}
WITH_SIGNAL = pytest.mark.parametrize("own", SIGNALS.values(), ids=SIGNALS)


def counting(smoothing: float = 0.0, progress: float = 0.0, weights=None) -> Counting:
    return Counting(weights, smoothing, 1.0, progress)


def test_rows_of_the_worked_example():
    """Half of the mass stays in the group: its labels have the row (.375, .375, .125, .125)."""
    rows = signals.tree_rows(GROUPS, share=0.5)

    assert [0.375, 0.375, 0.125, 0.125] == rows[0].tolist()
    assert [0.125, 0.125, 0.375, 0.375] == rows[3].tolist()


@given(
    groups=st.lists(st.integers(0, 3), min_size=2, max_size=9),
    share=st.floats(0, 1),
    smoothing=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_rows_sum_to_one_and_no_share_is_uniform(groups, share, smoothing, seed):
    """Every row is a distribution; share 0 gives the loss of uniform label smoothing."""
    labels, draw = len(groups), torch.Generator().manual_seed(seed)
    rows = signals.tree_rows(torch.tensor(groups), share=share)
    logits = torch.randn(5, labels, generator=draw)
    targets = torch.randint(labels, (5,), generator=draw)
    weights = torch.rand(labels, generator=draw) + 0.1
    uniform = TreeSmoothing(signals.tree_rows(torch.tensor(groups), share=0.0))

    assert torch.allclose(rows.sum(dim=1), torch.ones(labels))
    for class_weights in (None, weights):
        expected = F.cross_entropy(
            logits, targets, weight=class_weights, reduction="sum", label_smoothing=smoothing
        )
        loss = uniform(logits, targets, counting(smoothing, weights=class_weights))
        assert torch.allclose(expected, loss, rtol=1e-4)


def test_tree_smoothing_by_hand():
    """Label 0, epsilon .2, row (.375, .375, .125, .125): target (.875, .075, .025, .025)."""
    loss = TreeSmoothing(signals.tree_rows(GROUPS, share=0.5))(LOGITS, TARGET, counting(0.2))
    probabilities = (0.4, 0.3, 0.2, 0.1)
    expected = -sum(
        share * math.log(p)
        for share, p in zip((0.875, 0.075, 0.025, 0.025), probabilities, strict=True)
    )

    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_curriculum_learns_groups_then_labels():
    """Before `until` the loss is -log(.4 + .3), and from then on it is -log .4."""
    loss = Curriculum(GROUPS, until=0.25)

    assert loss(LOGITS, TARGET, counting(progress=0.2)).item() == pytest.approx(-math.log(0.7))
    assert loss(LOGITS, TARGET, counting(progress=0.25)).item() == pytest.approx(-math.log(0.4))


def test_hierarchical_cross_entropy_of_the_worked_example():
    """Conditionals .5 in the group and .8 of the group give 0.828491 with a decay of .5."""
    logits = torch.log(torch.tensor([[0.4, 0.4, 0.1, 0.1]]))
    loss = HierarchicalCrossEntropy(GROUPS, decay=0.5)

    assert math.isclose(0.828491, loss(logits, TARGET, counting()).item(), abs_tol=1e-6)
    plain = HierarchicalCrossEntropy(GROUPS, decay=0.0)(LOGITS, TARGET, counting())
    assert plain.item() == pytest.approx(-math.log(0.4), rel=1e-6)


def test_class_weights_count_in_the_losses_of_groups():
    """The group loss uses the class weight of the image's label."""
    weights = torch.tensor([2.0, 1.0, 1.0, 1.0])
    coarse = torch.log(torch.tensor([[0.7, 0.3]]))
    loss = signals.CoarseHeadLoss(GROUPS, weight=0.5)
    early = Curriculum(GROUPS, until=0.5)(LOGITS, TARGET, counting(weights=weights))
    levels = HierarchicalCrossEntropy(GROUPS, decay=0.0)(LOGITS, TARGET, counting(weights=weights))

    assert levels.item() == pytest.approx(-2 * math.log(0.4), rel=1e-6)
    assert early.item() == pytest.approx(-2 * math.log(0.7), rel=1e-6)
    assert loss((LOGITS, coarse), TARGET, counting(weights=weights)).item() == pytest.approx(
        -2 * math.log(0.4) - 0.5 * 2 * math.log(0.7), rel=1e-6
    )
    nothing = signals.CoarseHeadLoss(GROUPS, weight=0.0)
    assert nothing((LOGITS, coarse), TARGET, counting(0.1)).item() == pytest.approx(
        cross_entropy(LOGITS, TARGET, counting(0.1)).item()
    )


def test_second_head_is_shown_in_training_only():
    """In evaluation the output is bit-identical to that of the network without the head."""
    network = backbone.build(BACKBONE, outputs=4, side=SIDE)
    with_head = WithCoarseHead(network, after=3, groups=2)
    images = torch.rand(5, 3, SIDE, SIDE)
    logits, coarse = with_head.train()(images)

    assert (5, 4) == tuple(logits.shape)
    assert (5, 2) == tuple(coarse.shape)
    assert torch.equal(with_head.eval()(images), network(images))
    assert with_head.macs == backbone.channels_after(network, 3) * 2


def test_coarse_head_reads_the_vectors_of_a_single_block():
    """Some networks of a library are one block, which ends in a vector of each image."""
    block = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    head = nn.Sequential(nn.Linear(12, 4))
    network = backbone.Network(nn.Sequential(block), head, side=SIDE)
    logits, coarse = WithCoarseHead(network, after=1, groups=2).train()(
        torch.zeros(5, 3, SIDE, SIDE)
    )

    assert ((5, 4), (5, 2)) == (tuple(logits.shape), tuple(coarse.shape))


def test_online_targets_are_means_of_right_predictions():
    """After an epoch row y is the mean over the correctly predicted images of y."""

    class Given(torch.nn.Module):
        def forward(self, x):
            return torch.log(x.flatten(1))

    probabilities = torch.tensor(
        [[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]
    )[:, :, None, None]  # as images of one pixel
    targets = torch.tensor([0, 0, 1, 2])
    learner = OnlineTargets(Given(), labels=3, epoch_images=4).train()
    _, first = learner(probabilities[:2], targets[:2])
    _, second = learner(probabilities[2:], targets[2:])
    _, third = learner(probabilities[:3], targets[:3])

    assert torch.allclose(torch.cat([first, second]), torch.full((4, 3), 1 / 3))
    assert torch.allclose(third[0], torch.tensor([0.7, 0.2, 0.1]))
    assert torch.allclose(third[2], torch.full((3,), 1 / 3))  # no correct prediction
    assert 3 == int(learner.seen)
    expected = torch.log(probabilities.flatten(1))
    assert torch.equal(learner.eval()(probabilities, targets), expected)


def test_online_loss_by_hand():
    """The loss is half the cross-entropy of the label and half that of its soft target."""
    soft = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    loss = signals.online_smoothing((LOGITS, soft), TARGET, counting(0.1))
    expected = -(math.log(0.4) + 0.5 * (math.log(0.4) + math.log(0.3))) / 2

    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([[0, 1], [1, 2, 3]], "several groups"),
        ([[0], [1], [2], [3]], "no groups"),
        ([[0, 1, 2, 3]], "no groups"),
    ],
)
def test_groups_are_a_partition(clusters: Clusters, message):
    """Overlapping groups and trees without groups are refused."""
    with pytest.raises(ValueError, match=message):
        signals.groups_of(clusters, 4)


@WITH_SIGNAL
def test_training_resumes_to_the_same_weights(
    own, tiny_data, make_trainer, make_classifier, tmp_path
):
    """With any signal, stopped and resumed training ends with the same weights."""
    data, tree = tiny_data(4), hierarchy.from_clusters(FAMILIES, len(LABELS))
    params = LOOP.model_copy(update={"epochs": 4, "label_smoothing": 0.1})

    def train(folder, *, readings=None):
        trainer = make_trainer(data, params=params)
        trainer.work_dir = tmp_path / folder
        if readings is not None:
            trainer.clock = iter(range(readings)).__next__  # the clock ends within an epoch
        classifier = make_classifier("flat", tree, **own)
        classifier.fit(data, trainer, seed=3)
        return classifier.state_dict()

    whole = train("whole")
    with pytest.raises((StopIteration, RuntimeError)):  # RuntimeError from inside the feed
        train("stopped", readings=14)
    assert (tmp_path / "stopped" / "root.safetensors").exists()
    resumed = train("stopped")

    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@WITH_SIGNAL
def test_a_signal_changes_the_weights_and_nothing_else(
    own, tiny_data, make_trainer, make_classifier
):
    """The trained classifier has the tensors and the cost of flat, and other weights."""
    data, tree = tiny_data(4), hierarchy.from_clusters(FAMILIES, len(LABELS))
    plain, taught = make_classifier("flat", tree), make_classifier("flat", tree, **own)
    start = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    params = LOOP.model_copy(update={"epochs": 2, "label_smoothing": 0.1})
    for number, classifier in enumerate((plain, taught)):
        trainer = make_trainer(data, params=params)
        trainer.work_dir = trainer.work_dir / str(number)
        classifier.fit(data, trainer, seed=0)
    images = torch.rand(3, 3, SIDE, SIDE)

    assert plain.cost() == taught.cost()
    assert list(start) == list(taught.state_dict())
    assert not torch.equal(
        plain.state_dict()["network.head.predictions.weight"],
        taught.state_dict()["network.head.predictions.weight"],
    )
    assert np.allclose(taught.predict_proba(images).sum(dim=1).detach(), 1, atol=1e-6)


def test_signals_exclude_each_other_and_need_groups(tiny_data, make_trainer, make_classifier):
    """Two signals together, or a signal that needs groups without groups, are refused."""
    with pytest.raises(ValueError, match="exclude each other"):
        flat.Params(smoothing="tree", curriculum=0.2)
    classifier = make_classifier("flat", hierarchy.flat(len(LABELS)), curriculum=0.2)
    data = tiny_data(4)
    with pytest.raises(BadParams, match="no groups of labels in the tree"):
        classifier.fit(data, make_trainer(data), seed=0)


def test_signals_without_effect_are_refused(tiny_data, make_trainer, make_classifier):
    """Nothing to smooth, early stopping during the curriculum, and a head above all blocks."""
    data, tree = tiny_data(4), hierarchy.from_clusters(FAMILIES, len(LABELS))
    report = LOOP.model_copy(update={"recipe": "report"})
    for own, params, message in (
        ({"smoothing": "tree"}, report, "that is 0 in this recipe"),
        ({"curriculum": 0.2}, report, "would stop early"),
        ({"coarse_weight": 1.0, "coarse_after": 99}, LOOP, "coarse_after is 99"),
    ):
        with pytest.raises(BadParams, match=message):
            make_classifier("flat", tree, **own).fit(
                data, make_trainer(data, params=params), seed=0
            )


def test_flat_training_is_not_paid_twice(tiny_data, make_trainer, make_classifier):
    """With given groups the flat network is not part of the cost; with found groups it is."""
    data, tree = tiny_data(4), hierarchy.from_clusters(FAMILIES, len(LABELS))
    params = LOOP.model_copy(update={"epochs": 1})
    report = make_classifier("flat", tree, curriculum=0.5).fit(
        data, make_trainer(data, params=params), seed=0
    )

    assert not report.needs_flat(None)
    assert not report.needs_flat("given")
    assert report.needs_flat("modularity")
