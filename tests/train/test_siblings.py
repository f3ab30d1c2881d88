"""Branches as one grouped computation: equal to the loop, up to date, used where faster."""

import copy

import pytest
import torch

from train import backbone
from train.runtime import checkpoint
from train.tree import hierarchy

COVERS = {
    "disjoint": [[0, 1], [2, 3]],
    "overlapping": [[0, 1, 2], [1, 2, 3], [3]],
    "single labels": [[0, 1], [2], [3, 1], [3]],
}
NETWORKS = {
    "resnet20": backbone.Params(name="resnet20", width=0.25),
    "elu": backbone.Params(name="resnet20", width=0.25, act="elu"),
    "resnet164": backbone.Params(name="resnet164", width=0.25),
    "nin": backbone.Params(name="nin", width=0.05),
    "fast_cnn": backbone.Params(name="fast_cnn", width=0.25),
    "uppsala_cnn": backbone.Params(name="uppsala_cnn", width=0.25, identity_pools="last"),
}
MIXED = {
    "se": backbone.Params(name="resnet20", width=0.25, attention="se"),
    "cbam": backbone.Params(name="resnet20", width=0.25, attention="cbam"),
    "densenet": backbone.Params(name="densenet_bc_100", width=0.25),
}


@pytest.fixture
def built(make_classifier):
    """Builds a classifier whose branches differ in every weight and statistic."""

    def build(network=NETWORKS["resnet20"], *, cover=COVERS["overlapping"], method="hdcnn", **own):
        tree = (
            hierarchy.from_cover(cover, 4)
            if method == "hdcnn"
            else hierarchy.from_clusters(cover, 4)
        )
        classifier = make_classifier(method, tree, network=network, **own).eval()
        torch.manual_seed(0)
        vary(classifier.network)
        return classifier

    return build


@torch.no_grad()
def vary(network):
    """Changes every tensor and keeps the logits small, so that every change is visible."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand_like(tensor)).add_(0.01)
    maps = network.stem(pictures(8))
    for part in network.modules():
        if isinstance(part, backbone.Branch):
            part.head.predictions.weight.div_(part(maps).std())


def pictures(count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 16, 16, generator=generator)


@torch.no_grad()
def looped(classifier, x):
    """Returns the rows of mode full without the grouped computation."""
    most = classifier.network.siblings.most_images
    classifier.network.siblings.most_images = 0
    rows = classifier.predict_proba(x, mode="full")
    classifier.network.siblings.most_images = most
    return rows


@torch.no_grad()
def grouped(classifier, x):
    """Returns the rows of mode full, and checks that the grouped computation runs."""
    network = classifier.network
    maps = network.stem(x)

    assert network.siblings.at_once(maps)
    return classifier.predict_proba(x, mode="full")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("cover", COVERS.values(), ids=COVERS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_grouped_equals_the_loop(built, network, cover, count, share):
    """The grouped computation equals the loop over components, for any cover and batch."""
    classifier, x = built(network, cover=cover, share=share), pictures(count)
    classifier.network.siblings.most_images = 3
    expected = looped(classifier, x)

    assert torch.allclose(expected, grouped(classifier, x), atol=1e-5)
    assert torch.allclose(
        expected, grouped(classifier, x.contiguous(memory_format=torch.channels_last)), atol=1e-5
    )
    with torch.no_grad():
        assert torch.allclose(expected, classifier.outputs(x)["full"], atol=1e-5)


def test_branches_of_a_tree_are_grouped(built):
    """The grouped branches of HierNet equal the loop too."""
    classifier, x = built(cover=COVERS["disjoint"], method="hiernet"), pictures()

    assert torch.allclose(looped(classifier, x), grouped(classifier, x), atol=1e-5)


@pytest.mark.parametrize("beta", [1e-9, 1.0, 2.0, None])
def test_chosen_components_alone_equal_the_loop(built, beta):
    """Conditional execution gives the same rows before and after a grouped computation."""
    classifier, x = built(beta=beta), pictures(1)
    classifier.network.siblings.most_images = 0
    with torch.no_grad():
        expected = classifier.predict_proba(x)
    classifier.network.siblings.most_images = 1
    grouped(classifier, x)
    with torch.no_grad():
        assert torch.allclose(expected, classifier.predict_proba(x), atol=1e-5)


def changed_in_place(classifier):
    with torch.no_grad():
        classifier.network.fine["cluster-1"].blocks[0].conv1.weight.add_(0.5)


def changed_data(classifier):
    classifier.network.fine["cluster-1"].blocks[0].conv1.weight.data.add_(0.5)


def changed_statistics(classifier):
    classifier.network.fine["cluster-1"].blocks[0].norm1.running_mean.add_(0.5)


def stepped(classifier):
    weights = list(classifier.network.fine.parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    torch.optim.SGD(weights, lr=0.1, fused=True).step()


def replaced(classifier):
    layer = classifier.network.fine["cluster-1"].blocks[0].conv1
    layer.weight.data = layer.weight.data + 0.5


def loaded(classifier):
    state = classifier.state_dict()
    classifier.load_state_dict({name: 0.7 * tensor for name, tensor in state.items()})


def filled(classifier):
    state = {name: 0.7 * tensor for name, tensor in classifier.state_dict().items()}
    checkpoint.fill(classifier, state, source="here")


def moved(classifier):
    classifier.to(memory_format=torch.channels_last)
    changed_in_place(classifier)


def moved_there_and_back(classifier):
    classifier.double()
    changed_in_place(classifier)
    classifier.float()


def quantised(classifier):
    classifier.compress(codebook=2, width=2)


CHANGES = [
    changed_in_place,
    changed_data,
    changed_statistics,
    stepped,
    replaced,
    loaded,
    filled,
    moved,
    moved_there_and_back,
    quantised,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_weights_are_never_out_of_date(built, change):
    """Any change of a weight after grouping changes the grouped computation."""
    classifier, x = built(backbone.Params(name="resnet20", width=0.5)), pictures()
    before = grouped(classifier, x)
    change(classifier)
    after = grouped(classifier, x)

    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(looped(classifier, x), after, atol=1e-5)


def test_copies_go_their_own_way(built):
    """A copy of a grouped network has its own weights, and the original keeps its weights."""
    classifier, x = built(), pictures()
    before = grouped(classifier, x)
    other = copy.deepcopy(classifier)
    changed_in_place(other)

    assert torch.allclose(looped(other, x), grouped(other, x), atol=1e-5)
    assert not torch.allclose(before, grouped(other, x), atol=1e-4)
    assert torch.equal(before, grouped(classifier, x))


def test_grouping_is_not_seen_from_outside(built, tmp_path):
    """State, checkpoint and parameters equal those of a network that was never grouped."""
    fresh, classifier = built(), built()
    grouped(classifier, pictures())
    state = classifier.state_dict()
    checkpoint.save(tmp_path / "state.safetensors", state, {})
    saved, _ = checkpoint.load(tmp_path / "state.safetensors")

    assert list(fresh.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in fresh.state_dict().items())
    assert all(torch.equal(tensor, saved[name]) for name, tensor in fresh.state_dict().items())
    assert [n for n, _ in fresh.named_parameters()] == [n for n, _ in classifier.named_parameters()]
    assert backbone.count(fresh) == classifier.cost().params


def test_gradients_are_those_of_the_loop(built):
    """With gradients the loop runs, and an earlier grouped computation does not change them."""
    fresh, classifier, x = built(), built(), pictures(2)
    with torch.inference_mode():
        classifier.predict_proba(x, mode="full")
    expected, found = [], []
    for one, kept in ((fresh, expected), (classifier, found)):
        one.train()
        assert not one.network.siblings.at_once(one.network.stem(x))
        one.network(x)[0].logsumexp(dim=1).sum().backward()
        one.network(x)[0][:, 0].sum().backward()
        kept += [weight.grad for weight in one.parameters()]

    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in found)


def test_loop_runs_where_it_is_faster(built):
    """Larger batches, one branch, training mode and recorded gradients use the loop."""
    network = built().network
    alone = built(cover=[[0, 1, 2], [3]]).network
    maps = network.stem(pictures(2)).detach()

    assert not network.siblings.at_once(maps[:1])
    with torch.no_grad():
        assert network.siblings.at_once(maps[:1])
        assert not network.siblings.at_once(maps)
        assert not alone.siblings.at_once(maps[:1])
        network.train()
        assert not network.siblings.at_once(maps[:1])


@pytest.mark.parametrize("network", MIXED.values(), ids=MIXED)
def test_layers_that_mix_channels_run_in_the_loop(built, network):
    """Attention and dense blocks are not grouped, and their rows sum to 1."""
    classifier = built(network)
    with torch.no_grad():
        maps = classifier.network.stem(pictures())

        assert not classifier.network.siblings.at_once(maps)
        assert torch.allclose(
            torch.ones(1), classifier.predict_proba(pictures()).sum(dim=1), rtol=0, atol=1e-6
        )
