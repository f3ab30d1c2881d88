"""Degenerate trees, and bounds that hold for any weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train import backbone
from train.evaluation import metrics
from train.tree import hierarchy

TREES = {
    "pairs": [[0, 2], [1, 3]],
    "single": [[3], [0, 1, 2]],
    "apart": [[2], [0], [3], [1]],
    "deep": [[[3, 1], 0], [2]],
}


@pytest.fixture
def inputs():
    """Returns sixteen random images."""
    return torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def sharpen(classifier, seed):
    """Draws new last layers with large weights, so that outputs differ between images."""
    torch.manual_seed(seed)
    for name, weight in classifier.named_parameters():
        if "predictions" in name:
            torch.nn.init.normal_(weight, std=5.0)
    return classifier.eval()


@pytest.mark.parametrize(
    ("method", "tree"),
    [(method, tree) for method in ("uppsala", "hiernet") for tree in TREES],
)
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=8, deadline=None)
def test_routed_success_stays_below_the_root_for_any_weights(make_classifier, method, tree, seed):
    """Routed MSR <= MICP of the root and <= MSR with oracle routing, per image and per label."""
    graph = hierarchy.from_nested(TREES[tree], 4)
    clusters = hierarchy.clusters(graph)
    parents = hierarchy.parents(clusters)
    classifier = sharpen(make_classifier(method, graph, seed=seed), seed)
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.integers(4, size=20)])
    x = torch.from_numpy(rng.random((24, 3, 16, 16), dtype=np.float32))
    with torch.no_grad():
        rows = {name: value.numpy() for name, value in classifier.outputs(x).items()}
    predicted, routed = rows["default"].argmax(axis=1), rows["coarse"].argmax(axis=1)
    found = metrics.normalise_rows(metrics.confusion_counts(labels, predicted, leaves=4))
    at_root = metrics.confusion_counts(parents[labels], routed, leaves=len(clusters))

    assert (parents[predicted] == routed).all()
    assert metrics.msr(labels, predicted) <= np.trace(at_root) / len(labels)
    assert np.mean(np.diag(found)) <= metrics.micp(found, clusters) + 1e-12
    if tree != "deep":  # below the second level an oracle of clusters may still give a wrong route
        oracle = metrics.oracle_routing(rows["full"], labels, parents)
        assert metrics.msr(labels, predicted) <= oracle


@pytest.mark.parametrize("freeze", ["last_block", "none"])
@pytest.mark.parametrize("mode", ["route", "full"])
def test_shared_trunk_equals_whole_networks(make_classifier, inputs, freeze, mode):
    """Branches with their own copies of the root's blocks give the rows of the shared trunk."""
    graph = hierarchy.from_nested(TREES["deep"], 4)
    shared = sharpen(make_classifier("uppsala", graph, seed=1), 1)
    apart = make_classifier("uppsala", graph, seed=2, freeze=freeze).eval()
    apart.root.load_state_dict(shared.root.state_dict())
    for name, branch in apart.branches.items():
        backbone.copy_parts(shared.root.blocks, branch.blocks)
        branch.head.load_state_dict(shared.branches[name].head.state_dict())
    with torch.no_grad():
        rows = [one.predict_proba(inputs, mode=mode) for one in (shared, apart)]

    assert len(apart.branches["cluster-0"].blocks) == {"last_block": 1, "none": 5}[freeze]
    assert torch.allclose(rows[0], rows[1], atol=1e-5)
    assert rows[0].std(dim=0).max() > 0.01


@pytest.mark.parametrize("freeze", ["conv", "last_block", "none"])
@pytest.mark.parametrize("clusters", [[[2], [0], [3], [1]], [[0, 1, 2, 3]]], ids=["apart", "one"])
def test_tree_without_a_choice_is_its_flat_network(make_classifier, inputs, freeze, clusters):
    """With single-label clusters or one cluster, the tree predicts like the flat network."""
    flat = sharpen(make_classifier("flat", hierarchy.flat(4), seed=1), 1)
    state = flat.network.state_dict()
    tree = make_classifier(
        "uppsala", hierarchy.from_clusters(clusters, 4), seed=2, freeze=freeze
    ).eval()
    if len(clusters) == 1:
        tree.root.blocks.load_state_dict(flat.network.blocks.state_dict())
        branch = tree.branches["cluster-0"]
        backbone.copy_parts(flat.network.blocks, branch.blocks)
        branch.head.load_state_dict(flat.network.head.state_dict())
    else:
        order = [members[0] for members in clusters]
        last = {name: value[order] for name, value in state.items() if "predictions" in name}
        tree.root.load_state_dict(state | last)
    with torch.no_grad():
        expected = flat.predict_proba(inputs)
        full, route = (tree.predict_proba(inputs, mode=mode) for mode in ("full", "route"))

    assert torch.allclose(expected, full, atol=1e-5)
    assert torch.equal(expected.argmax(dim=1), route.argmax(dim=1))
    assert len(set(expected.argmax(dim=1).tolist())) > 1
