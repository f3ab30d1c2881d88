"""The method merged: published sizes, shared blocks, both losses, alpha, degenerate trees."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as in the trainer
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import BadParams, MissingInput
from train import backbone
from train.data import augment
from train.engine import loop, losses
from train.engine.losses import Counting
from train.engine.trainer import Trainer
from train.errors import BadCheckpoint, BadHierarchy
from train.methods.merged import classifier as merged
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
PLAIN = PARAMS.model_copy(
    update={"label_smoothing": 0.0, "ema": 0.0, "clip": 0.0, "precision": "float32"}
)
RESNET = backbone.Params(name="resnet20", width=0.25)
PLAIN_NET = backbone.Params(widths=(4, 8, 8, 8, 8), dense=16, dropout=0.0, noise=0.0)
NETWORKS = {
    "resnet20": RESNET,
    "resnet164": backbone.Params(name="resnet164", width=0.125),
    "fast_cnn": backbone.Params(name="fast_cnn", width=0.125),
    "densenet_bc_100": backbone.Params(name="densenet_bc_100", width=0.2),
    "uppsala_cnn": backbone.Params(
        widths=(4, 8, 8, 8, 8), dense=16, batch_norm=True, dropout=0.0, noise=0.0
    ),
}
PUBLISHED = {
    "resnet164": [
        (3_432_216, 495_319_040, 24.3),
        (3_349_832, 414_398_464, 20.4),
        (3_023_560, 331_036_672, 16.3),
        (1_731_528, 247_674_880, 12.2),
    ],
    "densenet_bc_100": [
        (1_572_624, 575_893_584, 51.8),
        (1_372_536, 376_754_256, 33.9),
        (1_084_056, 305_072_208, 27.5),
        (806_892, 287_967_312, 25.9),
    ],
}
PICTURES = {"resnet164": 64_000 * 128, "densenet_bc_100": 300 * 50_000}


@pytest.fixture
def start(make_classifier):
    """Builds the tensors of an untrained flat network: `start(network)`."""

    def build(network=RESNET):
        return make_classifier("flat", hierarchy.flat(4), network=network).network.state_dict()

    return build


@pytest.fixture
def fit(make_classifier, make_trainer, tiny_data, two_level_hierarchy):
    """Fits on the drawings: `fit("folder", merge=1)` gives classifier, report and trainer."""

    def build(folder, *, params=PLAIN, data=None, start=None, network=RESNET, **own):
        data = data or tiny_data()
        classifier = make_classifier("merged", two_level_hierarchy, network=network, **own)
        trainer = make_trainer(data, params=params, folder=folder)
        return classifier, classifier.fit(data, trainer, seed=0, start=start), trainer

    return build


def inputs_of(data):
    return augment.scale(data.train.batch(np.arange(16)))


def of_hundred(name, merge):
    groups = [list(range(start, start + 5)) for start in range(0, 100, 5)]
    network = backbone.Params(name=name)
    return merged.Classifier(
        merged.Params(merge=merge),
        hierarchy=hierarchy.from_clusters(groups, 100),
        build=lambda outputs: backbone.build(network, outputs=outputs, side=32),
        mean=np.zeros(3, dtype=np.float32),
    )


def say(classifier, coarse, fine):
    """Sets both heads to these probabilities for any image."""
    network = classifier.network
    for part, row in ((network.coarse, coarse), (network.fine, fine)):
        torch.nn.init.zeros_(part.head.predictions.weight)
        part.head.predictions.bias.data = torch.tensor(row).log()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("merge", range(4))
def test_published_networks_cost_what_they_must(name, merge):
    """Parameters, MACs and training operations of each merge equal those counted by hand."""
    params, macs, peta = PUBLISHED[name][merge]
    cost = of_hundred(name, merge).cost()

    assert (params, macs) == (cost.params, cost.macs_max)
    assert peta == round(6 * cost.macs_max * PICTURES[name] / 1e15, 1)
    assert ["root", "coarse"] == list(cost.macs)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("resnet20", [0, 4, 7, 10]),
        ("resnet110", [0, 19, 37, 55]),
        ("resnet164", [0, 19, 37, 56]),
        ("densenet_bc_100", [0, 18, 35, 52]),
        ("fast_cnn", [0, 2, 3, 4]),
        ("uppsala_cnn", [0, 2, 3, 5]),
    ],
)
def test_stages_end_where_the_map_shrinks(name, shared):
    """A ResNet is cut before the stride, a DenseNet after the transition."""
    network = backbone.build(backbone.Params(name=name), outputs=4, side=32)
    found = [merged._division(merge, len(network.blocks)) for merge in range(4)]

    assert shared == found


@pytest.mark.parametrize("merge", [1, 2])
def test_one_block_is_shared_whole_or_not_at_all(merge):
    """A backbone of one block has no stages to share, and the error names the values to set."""
    with pytest.raises(BadParams, match="merge to 0 or 3"):
        merged._division(merge, 1)
    assert [0, 1] == [merged._division(merge, 1) for merge in (0, 3)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("merge", range(4))
def test_executed_operations_are_the_counted_ones(
    make_classifier, tiny_data, two_level_hierarchy, name, merge
):
    """On every backbone torch executes what `cost` counts, and the shared blocks once."""
    classifier = make_classifier(
        "merged", two_level_hierarchy, network=NETWORKS[name], merge=merge
    ).eval()
    x = inputs_of(tiny_data())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classifier.confidences(x)
    with torch.no_grad():
        rows = classifier.predict_proba(x)

    assert 2 * len(x) * classifier.cost().macs_max == counter.get_total_flops()
    assert torch.allclose(torch.ones(16), rows.sum(dim=1), rtol=0, atol=1e-6)


def test_outputs_of_the_worked_example(make_classifier, tiny_data):
    """Each output has its own alpha: labels 1.5, categories 0.5; full is the product rule."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3], [4, 5]], 6)
    classifier = make_classifier(
        "merged", tree, network=RESNET, alpha_fine=1.5, alpha_coarse=0.5
    ).eval()
    say(classifier, [0.5, 0.3, 0.2], [0.20, 0.10, 0.25, 0.25, 0.15, 0.05])
    x = inputs_of(tiny_data())[:1]
    with torch.no_grad():
        found = classifier.outputs(x)
        alone = [classifier.predict_proba(x, mode=mode) for mode in ("default", "route", "full")]
        coarse = classifier.coarse_proba(x)
    fine = [0.3, 0.15, 0.175, 0.175, 0.15, 0.05]
    product = [1 / 3, 1 / 6, 0.15, 0.15, 0.15, 0.05]

    assert fine == pytest.approx(found["default"][0].tolist(), abs=1e-6)
    assert product == pytest.approx(found["full"][0].tolist(), abs=1e-6)
    assert [0.45, 0.35, 0.2] == pytest.approx(found["coarse"][0].tolist(), abs=1e-6)
    assert torch.equal(found["default"], alone[0])
    assert torch.equal(found["default"], alone[1])
    assert torch.equal(found["full"], alone[2])
    assert torch.equal(found["coarse"], coarse)


def test_labels_keep_their_order(make_classifier, tiny_data):
    """For categories that mix the labels, every probability is at its own leaf."""
    tree = hierarchy.from_clusters([[4, 1], [3, 0, 2]], 5)
    classifier = make_classifier("merged", tree, network=RESNET).eval()
    say(classifier, [0.6, 0.4], [0.1, 0.2, 0.3, 0.2, 0.2])
    with torch.no_grad():
        full = classifier.predict_proba(inputs_of(tiny_data())[:1], mode="full")

    assert [0.4 / 6, 0.3, 0.2, 0.8 / 6, 0.3] == pytest.approx(full[0].tolist(), abs=1e-6)


def test_unshared_gradients_are_those_of_two_networks(make_classifier, tiny_data, make_trainer):
    """With merge 0 and equal weights each branch gets the gradient of a network trained alone."""
    data, tree = tiny_data(), hierarchy.from_clusters([[0, 3], [1], [2]], 4)
    both = make_classifier("merged", tree, network=RESNET, merge=0).network.train()
    apart = [backbone.build(RESNET, outputs=outputs, side=16).train() for outputs in (4, 3)]
    for branch, network in zip((both.fine, both.coarse), apart, strict=True):
        network.load_state_dict(branch.state_dict())
    x = inputs_of(data)
    labels = torch.from_numpy(data.train.labels[:16])
    parents = torch.from_numpy(hierarchy.parents(hierarchy.clusters(tree)))
    merged.BothLosses(parents, 1.0)(both(x), labels, Counting(None, 0.0, 1.0)).backward()
    for network, targets in zip(apart, (labels, parents[labels]), strict=True):
        F.cross_entropy(network(x), targets, reduction="sum").backward()

    for branch, network in zip((both.fine, both.coarse), apart, strict=True):
        for (name, mine), theirs in zip(
            branch.named_parameters(), network.parameters(), strict=True
        ):
            assert torch.allclose(theirs.grad, mine.grad, rtol=1e-6, atol=1e-6), name
        for mine, theirs in zip(branch.buffers(), network.buffers(), strict=True):
            assert torch.equal(theirs, mine)


def test_summed_loss_trains_the_labels_as_alone(fit):
    """With merge 0 the label branch is the same for joint and for separate training."""
    together, one, _ = fit("together", merge=0)
    separate, two, _ = fit("separate", merge=0, separate=True)
    other = separate.network.fine.state_dict()

    for name, tensor in together.network.fine.state_dict().items():
        assert torch.allclose(tensor, other[name], atol=1e-5), name
    assert ["root"] == [network.network for network in one.networks]
    assert ["root", "coarse"] == [network.network for network in two.networks]
    assert math.isclose(
        sum(network.train_flops for network in one.networks),
        sum(network.train_flops for network in two.networks),
    )


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_loss_of_the_categories_counts_as_asked(strength):
    """The category loss is its weight times the cross-entropy, with the label's class weight."""
    generator = torch.Generator().manual_seed(0)
    logits, of_labels = (torch.randn(5, many, generator=generator) for many in (2, 4))
    parents, targets = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 3, 1, 2, 2])
    loss = merged.BothLosses(parents, strength)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    each = F.cross_entropy(
        logits, torch.tensor([0, 1, 0, 1, 1]), reduction="none", label_smoothing=0.1
    )
    even, weighted = (
        loss((of_labels, logits), targets, counting)
        - losses.cross_entropy(of_labels, targets, counting)
        for counting in (Counting(None, 0.1, 1.0), Counting(weights, 0.1, 1.0))
    )

    assert math.isclose(strength * each.sum(), even, rel_tol=1e-5)
    assert math.isclose(
        strength * (each * torch.tensor([1.0, 3.0, 2.0, 0.5, 0.5])).sum(), weighted, rel_tol=1e-5
    )


@pytest.mark.parametrize("accumulate", [1, 3])
def test_both_losses_are_what_the_trainer_sums_up(fit, make_classifier, tiny_data, accumulate):
    """At a rate near zero the epoch's loss is CE of the labels + w · CE of the categories."""
    data = tiny_data()
    still = PLAIN.model_copy(update={"lr": 1e-12, "accumulate": accumulate, "weight_decay": 0.0})
    classifier, _, trainer = fit(
        f"w{accumulate}", params=still, data=data, network=PLAIN_NET, coarse_weight=3.0
    )
    fresh = make_classifier("merged", classifier.hierarchy, network=PLAIN_NET, coarse_weight=3.0)
    x, labels = augment.scale(data.train.batch(np.arange(32))), data.train.labels
    with torch.no_grad():
        fine, coarse = fresh.network.eval()(x - trainer.mean[:, None, None])
    targets = torch.from_numpy(labels)
    wanted = F.cross_entropy(fine, targets) + 3 * F.cross_entropy(coarse, fresh.parents[targets])

    assert math.isclose(wanted, trainer.curves[0]["train_loss"], rel_tol=1e-4)


@pytest.mark.parametrize("stop", [False, True])
def test_stopped_gradient_leaves_the_shared_blocks_to_the_labels(
    make_classifier, tiny_data, two_level_hierarchy, stop
):
    """With stop_gradient the category loss reaches its own branch only, not the shared blocks."""
    classifier = make_classifier(
        "merged", two_level_hierarchy, network=RESNET, merge=3, stop_gradient=stop
    )
    _, coarse = classifier.network(inputs_of(tiny_data()))
    coarse.square().sum().backward()
    shared = [weight.grad for weight in classifier.network.stem.parameters()]

    assert stop == all(grad is None for grad in shared)
    assert all(weight.grad is not None for weight in classifier.network.coarse.parameters())


@pytest.mark.parametrize("merge", range(4))
def test_everything_trains_together(fit, merge):
    """One sum of losses trains the shared blocks and both branches; all MACs count."""
    classifier, report, _ = fit("work", merge=merge, epochs=2)
    fresh, _, _ = fit("fresh", merge=merge, epochs=1)
    before, after = fresh.state_dict(), classifier.state_dict()
    weights = [name for name, _ in classifier.named_parameters()]
    (network,) = report.networks

    assert not [name for name in weights if torch.equal(before[name], after[name])]
    assert ("root", 2, 64) == (network.network, network.epochs, network.images_seen)
    assert math.isclose(6.0 * 64 * classifier.cost().macs_max, network.train_flops)
    assert classifier.cost().params == network.params


@pytest.mark.parametrize("merge", range(4))
@pytest.mark.parametrize("name", ["resnet20", "fast_cnn", "uppsala_cnn"])
def test_every_block_is_its_copy(make_classifier, start, two_level_hierarchy, name, merge):
    """The label branch equals the flat network, the category branch all but the last layer."""
    weights, network = start(NETWORKS[name]), NETWORKS[name]
    classifier = make_classifier(
        "merged", two_level_hierarchy, network=network, seed=7, merge=merge
    )
    classifier._copy_flat(weights, seed=0)
    tree = classifier.network
    fine = {**_named("blocks", tree.stem), **_named("", tree.fine)}
    coarse = {**_named("blocks", tree.stem), **_named("", tree.coarse)}

    assert weights.keys() == fine.keys() == coarse.keys()
    assert all(torch.equal(weights[key], fine[key]) for key in weights)
    for key in weights:
        if "predictions" in key:
            assert 2 == len(coarse[key])
        else:
            assert torch.equal(weights[key], coarse[key])


def _named(prefix, module):
    state = module.state_dict()
    return {f"{prefix}.{key}" if prefix else key: tensor for key, tensor in state.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_one_category_is_the_flat_network(make_classifier, tiny_data, start, name):
    """One category has no branch: rows and costs equal those of the flat network."""
    network, weights = NETWORKS[name], start(NETWORKS[name])
    tree = hierarchy.from_clusters([[0, 1, 2, 3]], 4)
    classifier = make_classifier("merged", tree, network=network, seed=3).eval()
    whole = make_classifier("flat", hierarchy.flat(4), network=network).eval()
    classifier._copy_flat(weights, seed=0)
    x = inputs_of(tiny_data())
    with torch.no_grad():
        expected, found = whole.predict_proba(x), classifier.outputs(x)

    assert torch.allclose(expected, found["default"], atol=1e-6)
    assert torch.allclose(expected, found["full"], atol=1e-6)
    assert torch.allclose(torch.ones(16, 1), found["coarse"], atol=1e-6)
    assert whole.cost().params == classifier.cost().params
    assert whole.cost().macs_max == classifier.cost().macs_max


def test_a_category_a_label_is_the_mean_of_two_networks(make_classifier, tiny_data):
    """With one category per label and equal branches, the rows equal the flat network's."""
    tree = hierarchy.from_clusters([[0], [1], [2], [3]], 4)
    classifier = make_classifier("merged", tree, network=RESNET, merge=0).eval()
    classifier.network.coarse.load_state_dict(classifier.network.fine.state_dict())
    x = inputs_of(tiny_data())
    with torch.no_grad():
        found, said = classifier.outputs(x), classifier.confidences(x)[1]

    assert torch.allclose(said, found["default"], atol=1e-6)
    assert torch.allclose(said, found["coarse"], atol=1e-6)
    assert torch.equal(said.argmax(dim=1), found["default"].argmax(dim=1))


def test_impossible_wishes_are_told(make_classifier, make_trainer, tiny_data, start):
    """Deep trees, separate shared stages and missing or foreign flat networks give an error."""
    pairs, data = hierarchy.from_clusters([[0, 1], [2, 3]], 4), tiny_data()
    trainer = make_trainer(data, params=PARAMS)
    assert isinstance(trainer, Trainer)
    with pytest.raises(BadHierarchy, match="4 levels"):
        make_classifier("merged", hierarchy.from_nested([[[0, 1], 2], [3]], 4), network=RESNET)
    with pytest.raises(BadParams, match=r"merged\.merge 1"):
        make_classifier("merged", pairs, network=RESNET, separate=True, merge=1)
    with pytest.raises(BadParams, match="no block is shared"):
        make_classifier("merged", pairs, network=RESNET, stop_gradient=True, merge=0)
    apart = {"separate": True, "merge": 0}
    with pytest.raises(BadParams, match="trains each branch on its own"):
        make_classifier("merged", pairs, network=RESNET, coarse_weight=0.5, **apart)
    classifier = make_classifier("merged", pairs, network=RESNET, transfer=True)
    with pytest.raises(MissingInput, match=r"merged\.transfer: false"):
        classifier.fit(data, trainer, seed=0)
    with pytest.raises(BadCheckpoint, match="the flat network"):
        classifier.fit(data, trainer, seed=0, start=start(NETWORKS["fast_cnn"]))
