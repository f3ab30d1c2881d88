"""The method hiernet on trees of several levels: products of groups of groups, routes, costs, weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as in the trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import BadParams
from tests.train.random_trees import trees
from train import backbone
from train.backbone import Branch
from train.engine import loop
from train.methods.hiernet import splits
from train.params.hiernet import Params
from train.tree import hierarchy

RESNET = backbone.Params(name="resnet20", width=0.25)
DEEP = [[[0, 3], [1]], [2, 4]]
"""Labels 0 and 3 are a group within the group of 0, 3 and 1; label 1 stands beside it."""


def say(classifier, probabilities):
    """Sets each part's head to the given probabilities, by node, for any image."""
    for node, _, part in classifier._parts():
        head = part if isinstance(part, Branch) else part.group_head
        torch.nn.init.zeros_(head.head.predictions.weight)
        head.head.predictions.bias.data = torch.tensor(probabilities[node]).log()


def test_product_of_three_levels(make_classifier):
    """Q = (.6, .4), then (.7, .3) in the first group, then (.9, .1): each label is a product of all."""
    classifier = make_classifier("hiernet", hierarchy.from_nested(DEEP, 5), network=RESNET).eval()
    say(
        classifier,
        {
            "root": [0.6, 0.4],
            "cluster-0": [0.7, 0.3],
            "cluster-1": [0.5, 0.5],
            "cluster-0-0": [0.9, 0.1],
        },
    )
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        outputs = classifier.outputs(x)
        loss = F.cross_entropy(classifier.network(x), torch.tensor([3, 3]))

    # Labels 0 and 3: .6 · .7 · (.9, .1); label 1: .6 · .3; labels 2 and 4: .4 · .5.
    full, route = [0.378, 0.18, 0.2, 0.042, 0.2], [0.9, 0.0, 0.0, 0.1, 0.0]
    assert full == pytest.approx(outputs["full"][0].tolist(), abs=1e-6)
    assert route == pytest.approx(outputs["default"][0].tolist(), abs=1e-6)
    assert [0.6, 0.4] == pytest.approx(outputs["coarse"][0].tolist(), abs=1e-6)
    assert ["root", "cluster-0", "cluster-1", "cluster-0-0"] == list(classifier.cost().macs)
    assert [True, True, False, True] == outputs["executed"][0].tolist()
    assert math.isclose(-math.log(0.042), loss.item(), abs_tol=1e-5)


@given(trees(), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_any_tree_gives_probabilities(make_classifier, graph, seed):
    """Modes sum to one and agree with `outputs`; torch executes what `cost` and `executed` count."""
    classifier = make_classifier("hiernet", graph, network=RESNET, seed=seed).eval()
    x = torch.from_numpy(np.random.default_rng(seed).random((5, 3, 16, 16), dtype=np.float32))
    classifier.network.siblings.most_images = 0  # torch counts a grouped computation as more
    with torch.no_grad(), FlopCounterMode(display=False) as every:
        full = classifier.predict_proba(x, mode="full")
    with torch.no_grad(), FlopCounterMode(display=False) as routed:
        route = classifier.predict_proba(x)
    with torch.no_grad():
        outputs = classifier.outputs(x)
    macs = torch.tensor(list(classifier.cost().macs.values()))

    for rows in (full, route):
        assert torch.allclose(torch.ones(5), rows.sum(dim=1), atol=1e-5)
    assert torch.allclose(full, outputs["full"], atol=1e-5)
    assert torch.allclose(route, outputs["default"], atol=1e-5)
    assert 2 * 5 * classifier.cost().macs_max == every.get_total_flops()
    assert 2 * int((outputs["executed"] * macs).sum()) == routed.get_total_flops()


def test_each_path_is_the_backbone(make_classifier):
    """After the transfer the blocks from the root to a branch are those of the flat network, in order."""
    flat = make_classifier("flat", hierarchy.flat(5), network=RESNET)
    classifier = make_classifier("hiernet", hierarchy.from_nested(DEEP, 5), network=RESNET)
    classifier._copy_flat(flat.network.state_dict())
    tree = classifier.network
    inner = tree.branches["cluster-0"]
    path = {**tree.stem.state_dict(), **inner.stem.state_dict()}
    path |= inner.branches["cluster-0-0"].blocks.state_dict()
    expected = flat.network.blocks.state_dict()

    assert list(expected) == list(path)
    assert all(torch.equal(expected[name], path[name]) for name in expected)
    assert [6, 8] == classifier.ends
    assert {"6", "7"} == set(inner.stem._modules)
    assert {"8", "9"} == set(inner.group_head.blocks._modules)


def test_deep_tree_is_trained(make_classifier, make_trainer, tiny_data):
    """One training changes every tensor of every level, and lowers the loss."""
    data = tiny_data()
    classifier = make_classifier(
        "hiernet", hierarchy.from_nested([[[0, 1], 2], 3], 4), network=RESNET, transfer=False
    )
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    trainer = make_trainer(data, params=loop.Params(epochs=4, lr=0.05, threads=1, device="cpu"))
    classifier.fit(data, trainer, seed=0)
    same = [
        name
        for name, tensor in classifier.state_dict().items()
        if tensor.is_floating_point() and torch.equal(before[name], tensor) and name != "mean"
    ]

    assert same == []
    assert trainer.curves[-1]["train_loss"] < trainer.curves[0]["train_loss"]


@pytest.mark.parametrize(
    ("given", "levels", "ends"),
    [(None, 1, [6]), (None, 3, [6, 8, 9]), ((7,), 2, [6, 8]), ((7, 9), 3, [6, 8, 10])],
)
def test_split_of_each_level(given, levels, ends):
    """Each level shares half of what is left, or as many blocks as are given."""
    network = backbone.build(RESNET, outputs=2, side=16)

    assert ends == splits.shared(Params(deeper_splits=given), network, levels=levels)


@pytest.mark.parametrize("given", [(), (4,), (12,)])
def test_splits_must_grow_and_fit(given):
    """Too few numbers, a falling one, and one beyond the blocks are refused with what is needed."""
    network = backbone.build(RESNET, outputs=2, side=16)
    with pytest.raises(BadParams, match=r"needs 1 numbers .* \(5\) up to the 9 blocks"):
        splits.shared(Params(deeper_splits=given), network, levels=2)
