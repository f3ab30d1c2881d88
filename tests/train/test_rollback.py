"""Subnetworks of `uppsala` with a reject output: their training, and the next branch."""

import numpy as np
import pytest
import torch

from train.data import augment
from train.tree import hierarchy

WIDE = [[[0, 1], [2, 3]], [[4, 5], 6], [7]]


def without_reject(classifier, plain):
    """Copies the weights of `classifier` to `plain`, except those of the reject outputs."""
    state = classifier.state_dict()
    for name, tensor in plain.state_dict().items():
        state[name] = state[name][: len(tensor)] if tensor.ndim else state[name]
    plain.load_state_dict(state)
    return plain.eval()


def test_reject_that_never_fires_changes_nothing(make_classifier, noise):
    """With reject biases of -1e9 all outputs equal those of the same weights without rollback."""
    data, tree = noise(8), hierarchy.from_nested(WIDE, 8)
    classifier = make_classifier("uppsala", tree, rollback=3).eval()
    plain = without_reject(classifier, make_classifier("uppsala", tree))
    x = augment.scale(data.train.batch(np.arange(32)))
    with torch.no_grad():
        for node, branch in classifier.branches.items():
            branch.head.predictions.bias[len(hierarchy.children(plain.hierarchy, node)) :] = -1e9
        rows, wanted = classifier.outputs(x), plain.outputs(x)
        routed = classifier.predict_proba(x)

    assert {
        "cluster-0": 3,
        "cluster-0-0": 3,
        "cluster-0-1": 3,
        "cluster-1": 3,
        "cluster-1-0": 3,
    } == {node: len(branch.head.predictions.bias) for node, branch in classifier.branches.items()}
    assert torch.equal(wanted["executed"], rows["executed"])
    assert all(torch.allclose(wanted[name], rows[name], atol=1e-6) for name in wanted)
    assert torch.allclose(wanted["default"], routed, atol=1e-6)


@pytest.mark.parametrize("rollback", [1, 2])
def test_both_passes_roll_back_alike(make_classifier, noise, rollback):
    """`outputs` equals mode route, rows sum to 1, and each network gets the `executed` images."""
    data, tree = noise(8), hierarchy.from_nested(WIDE, 8)
    classifier = make_classifier("uppsala", tree, rollback=rollback).eval()
    x, seen = augment.scale(data.train.batch(np.arange(32))), {}
    for node, branch in classifier.branches.items():
        branch.register_forward_hook(
            lambda _, inputs, __, node=node: seen.setdefault(node, []).append(len(inputs[0]))
        )
    with torch.no_grad():
        for branch in classifier.branches.values():
            branch.head.predictions.weight.mul_(20)
        rows = classifier.outputs(x)
        seen.clear()
        routed = classifier.predict_proba(x)
    executed = dict(zip(classifier.cost().macs, rows["executed"].sum(dim=0).tolist(), strict=True))
    plain = without_reject(classifier, make_classifier("uppsala", tree))
    with torch.no_grad():
        usual = plain.outputs(x)

    assert torch.allclose(rows["default"], routed, atol=1e-6)
    assert torch.allclose(torch.ones(32), rows["default"].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(torch.ones(32), rows["full"].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(usual["full"], rows["full"], atol=1e-6)
    assert {node: sum(calls) for node, calls in seen.items()} == {
        node: count for node, count in executed.items() if node != "root" and count
    }
    assert not torch.equal(usual["executed"], rows["executed"])
    assert not torch.allclose(usual["default"], rows["default"])


@pytest.mark.parametrize(("balance", "epoch"), [("resample", 24), ("weights", 32), ("none", 32)])
def test_reject_learns_the_pictures_of_other_clusters(fitted_tree, balance, epoch):
    """The images of other clusters form one more class of each network, balanced as the rest."""
    classifier, report = fitted_tree([[0, 2], [1, 3]], rollback=1, balance=balance)

    assert [0, 2, 1, 2] == classifier._outputs("cluster-0").tolist()
    assert [32, epoch, epoch] == [network.images_seen for network in report.networks]
    assert [32, 32, 32] == [network.pictures for network in report.networks]
    single, _ = fitted_tree([[0, 1, 2, 3]], rollback=1, balance=balance, folder="single")
    assert (4, 32) == tuple(single.branches["cluster-0"].head.predictions.weight.shape)
