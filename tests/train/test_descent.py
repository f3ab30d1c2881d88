"""Routing through a tree of networks with fixed logits: products, routes, second attempts."""

import numpy as np
import pytest
import torch

from train.methods.uppsala import descent
from train.tree import hierarchy

TREE = hierarchy.from_clusters([[0, 1], [2, 3], [4]], 5)


def going(logits, *, attempts, tree=TREE):
    """Routes as if every network had been executed for all images."""
    tensors = {node: torch.tensor(rows, dtype=torch.float32) for node, rows in logits.items()}
    root = tensors["root"]
    return descent.route(tree, lambda node, _: tensors[node], images=root, attempts=attempts)


def test_rejected_picture_takes_the_next_likeliest_branch():
    """The root prefers cluster 0, then 1; cluster 0 rejects the first image only."""
    logits = {
        "root": [[2, 1, 0], [2, 1, 0]],
        "cluster-0": [[0, 0, 9], [0, 3, 1]],
        "cluster-1": [[0, 0, -9], [0, 0, 9]],
        "cluster-2": [[0], [0]],
    }
    found, plain = going(logits, attempts=1), going(logits, attempts=0)
    kept = 1 / (1 + np.exp(3))

    assert np.allclose([[0, 0, 0.5, 0.5, 0], [kept, 1 - kept, 0, 0, 0]], found.rows, atol=1e-6)
    assert np.allclose([[0.5, 0.5, 0, 0, 0], [kept, 1 - kept, 0, 0, 0]], plain.rows, atol=1e-6)
    assert {
        "root": [True, True],
        "cluster-0": [True, True],
        "cluster-1": [True, False],
        "cluster-2": [False, False],
    } == {node: taken.tolist() for node, taken in found.executed.items()}
    assert [False, False] == plain.executed["cluster-1"].tolist()


@pytest.mark.parametrize(("attempts", "executed"), [(0, 1), (1, 2), (2, 3), (3, 4), (9, 4)])
def test_first_choice_stands_after_so_many_attempts(attempts, executed):
    """If every cluster rejects, K + 1 of them are executed, and the first one's row is used."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3], [4, 5], [6, 7]], 8)
    rng = np.random.default_rng(0)
    logits = {f"cluster-{place}": [[0.0, 1.0, 9.0]] * 20 for place in range(4)}
    logits["root"] = rng.normal(size=(20, 4)).tolist()
    found = going(logits, attempts=attempts, tree=tree)
    asked = torch.stack([found.executed[f"cluster-{place}"] for place in range(4)])

    assert {executed} == set(asked.sum(dim=0).tolist())
    assert torch.equal(going(logits, attempts=0, tree=tree).rows, found.rows)


def test_label_and_cluster_without_network_take_what_comes():
    """A label below the root and a cluster of one label cannot reject an image."""
    tree = hierarchy.from_nested([[0, 1], [2], 3], 4)
    logits = {
        "root": [[2, 1, 0], [2, 0, 1]],
        "cluster-0": [[0, 0, 9], [0, 0, 9]],
        "cluster-1": [[0], [0]],
    }

    assert [[0, 0, 1, 0], [0, 0, 0, 1]] == going(logits, attempts=1, tree=tree).rows.tolist()


def test_deep_reject_returns_to_its_own_parent():
    """An image rejected two decisions down takes the next branch there, not at the root."""
    tree = hierarchy.from_nested([[[0, 1], [2, 3]], [4, 5]], 6)
    logits = {
        "root": [[1, 0]],
        "cluster-0": [[1, 0, -9]],
        "cluster-1": [[0, 0, -9]],
        "cluster-0-0": [[0, 0, 9]],
        "cluster-0-1": [[9, 0, -9]],
    }
    found = going(logits, attempts=1, tree=tree)
    logits["cluster-0-1"] = [[9, 0, 10]]
    refused = going(logits, attempts=1, tree=tree)

    assert 2 == found.rows.argmax()
    assert not found.executed["cluster-1"].any()
    assert np.allclose([0.5, 0.5, 0, 0, 0, 0], refused.rows[0])


@pytest.mark.parametrize(
    "nested",
    [
        [[0, 1], [2, 3], [4, 5], [6], [7, 8]],
        [[[0, 1], [2, 3]], [[4, 5], [6, 7]], 8],
    ],
)
@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_oracle_never_loses(nested, attempts):
    """If networks reject exactly the wrong images, no prediction gets worse and some improve."""
    tree = hierarchy.from_nested(nested, 9)
    rng = np.random.default_rng(attempts)
    labels = rng.integers(9, size=300)
    logits = {}
    for node in hierarchy.inner(tree):
        rows = rng.normal(size=(300, len(hierarchy.children(tree, node))))
        if node != "root" and tree.nodes[node]["net"]:
            is_own = np.isin(labels, tree.nodes[node]["members"])
            rows = np.column_stack([rows, np.where(is_own, -1e9, 1e9)])
        logits[node] = rows.tolist()
    before, after = (
        (going(logits, attempts=count, tree=tree).rows.argmax(dim=1).numpy() == labels)
        for count in (0, attempts)
    )

    assert not (before & ~after).any()
    assert after.sum() > before.sum()


def test_full_leaves_reject_out():
    """Every leaf has the product along its path, given that no network rejects."""
    logits = {
        "root": torch.log(torch.tensor([[0.5, 0.3, 0.2]])),
        "cluster-0": torch.log(torch.tensor([[0.2, 0.3, 0.5]])),
        "cluster-1": torch.log(torch.tensor([[0.1, 0.3, 0.6]])),
        "cluster-2": torch.zeros(1, 1),
    }

    assert np.allclose([[0.2, 0.3, 0.075, 0.225, 0.2]], descent.full(TREE, logits), atol=1e-6)
