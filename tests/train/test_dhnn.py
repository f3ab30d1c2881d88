"""The method dhnn: modes route and full, kinds, orders, costs, losses, degenerate trees."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import BadParams
from tests.train.random_trees import trees
from train import backbone
from train.data import augment
from train.data.images import channel_mean
from train.engine import loop
from train.engine.losses import Counting
from train.errors import BadHierarchy
from train.methods.dhnn import classifier as dhnn
from train.tree import hierarchy, label_path

RESNET = backbone.Params(name="resnet20", width=0.25)
TREES = {
    "pairs": [[0, 2], [1, 3]],
    "uneven": [[[3, 1], 0], [2]],
    "apart": [[2], [0], [3], [1]],
    "single": [[0, 1, 2, 3]],
    "flat": [0, 1, 2, 3],
}
KINDS = list(itertools.product(["rnn", "s2s"], ["root_first", "leaf_first"]))
ALL = pytest.mark.parametrize(("kind", "order"), KINDS)


@pytest.fixture
def sharp(make_classifier):
    """Builds a small classifier with outputs that differ between images."""

    def build(tree, *, network=RESNET, seed=0, **own):
        graph = tree if hasattr(tree, "nodes") else hierarchy.from_nested(tree, 4)
        classifier = make_classifier("dhnn", graph, network=network, seed=seed, hidden=8, **own)
        torch.manual_seed(seed)
        for weight in classifier.network.decoder.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        return classifier.eval()

    return build


def noise(count=24, seed=0):
    """Returns images of one colour each, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(count, 3, 1, 1, generator=generator)
    return 0.8 * colours + 0.2 * torch.rand(count, 3, 16, 16, generator=generator)


@ALL
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("width", [1, 2])
def test_modes_agree_with_outputs(sharp, kind, order, tree, width):
    """`outputs` equals each mode; mode route holds only labels of kept paths, renormalised."""
    classifier, x = sharp(TREES[tree], kind=kind, order=order, beam=width), noise()
    with torch.no_grad():
        route, default = (classifier.predict_proba(x, mode=m) for m in ("route", "default"))
        full, rows = classifier.predict_proba(x, mode="full"), classifier.outputs(x)
        classifier.params = classifier.params.model_copy(update={"beam": 1})
        greedy = classifier.predict_proba(x)
        classifier.params = classifier.params.model_copy(update={"beam": None})
        every = classifier.predict_proba(x)
    inside = torch.where(route > 0, full, torch.zeros(()))

    assert torch.equal(greedy, route)
    assert torch.equal(full, every)
    assert torch.allclose(default, rows["default"], atol=1e-5)
    assert torch.allclose(full, rows["full"], atol=1e-5)
    assert torch.allclose(torch.ones(24), full.sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(torch.ones(24), rows["coarse"].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(inside / inside.sum(dim=1, keepdim=True), route, atol=1e-4)
    assert (24, len(classifier.cost().macs)) == tuple(rows["executed"].shape)


@ALL
def test_wide_beam_is_full(sharp, kind, order):
    """If the beam keeps every path, both modes give the same rows."""
    classifier = sharp(TREES["uneven"], kind=kind, order=order, beam=4)
    with torch.no_grad():
        rows = classifier.outputs(noise())

    assert torch.allclose(rows["full"], rows["default"], atol=1e-6)
    assert rows["executed"].all()


@pytest.mark.parametrize("kind", ["rnn", "s2s"])
def test_greedy_answer_lies_in_the_likeliest_cluster(sharp, kind):
    """Width 1 takes the first step's cluster, so its accuracy is at most that of the first step."""
    classifier, x = sharp(TREES["pairs"], kind=kind, beam=1), noise(60)
    with torch.no_grad():
        first, second = classifier.coarse_proba(x).log().unbind(dim=1)
        # Shift the bias so that both clusters get equally many images.
        classifier.network.decoder.predictions.bias[1] += (first - second).median() + 1e-3
        rows = classifier.outputs(x)
        coarse = classifier.coarse_proba(x)
    clusters = torch.from_numpy(classifier.parents)[rows["default"].argmax(dim=1)]

    assert torch.equal(rows["coarse"].argmax(dim=1), clusters)
    assert torch.allclose(rows["coarse"], coarse)
    assert 2 == len(set(clusters.tolist()))


@given(tree=trees(most=6), kinds=st.sampled_from(KINDS), width=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_any_tree_gives_probabilities(sharp, tree, kinds, width):
    """For any tree, every decoded path ends at a label, and rows sum to 1."""
    classifier = sharp(tree, kind=kinds[0], order=kinds[1], beam=width)
    with torch.no_grad():
        rows = classifier.outputs(noise(4))
        route = classifier.predict_proba(noise(4))

    assert torch.allclose(torch.ones(4), rows["full"].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(torch.ones(4), rows["default"].sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(rows["default"], route, atol=1e-5)
    assert route.shape[1] == len(tree.nodes[hierarchy.ROOT]["members"])
    if width == 1 and kinds[1] == "root_first" and len(classifier.network.decoder.levels) > 1:
        # The first step alone decides about a cluster of one label too.
        clusters = torch.from_numpy(classifier.parents)[route.argmax(dim=1)]
        assert torch.equal(rows["coarse"].argmax(dim=1), clusters)


@pytest.mark.parametrize(
    ("order", "sets"), [("root_first", [[1], [2]]), ("leaf_first", [[2], [1]])]
)
def test_deepest_maps_are_the_leafs(sharp, order, sets):
    """`alt` feeds the deepest stage to the leaf's step, at any position in the path."""
    assert sets == sharp(TREES["pairs"], order=order).network.sets


def test_coarse_of_paths_from_the_leaf_is_a_sum(sharp):
    """In order leaf_first a cluster's probability is the sum over its labels."""
    classifier = sharp(TREES["pairs"], order="leaf_first")
    with torch.no_grad():
        rows = classifier.outputs(noise())

    expected = torch.stack([rows["full"][:, [0, 2]].sum(1), rows["full"][:, [1, 3]].sum(1)], dim=1)
    assert torch.allclose(expected, rows["coarse"], atol=1e-6)


@pytest.mark.parametrize("residual", [True, False])
def test_tree_of_one_level_is_a_flat_classifier(sharp, residual):
    """With T = 1 the RNN head is a softmax over the labels in every mode."""
    classifier, x = sharp(TREES["flat"], residual=residual), noise()
    with torch.no_grad():
        logits = classifier.network(classifier.centred(x), torch.zeros(24, dtype=torch.long))
        rows = classifier.outputs(x)

    assert (24, 1, 4) == tuple(logits.shape)
    assert torch.allclose(logits[:, 0].softmax(dim=1), rows["full"], atol=1e-5)
    assert torch.allclose(rows["full"], rows["default"], atol=1e-6)


@pytest.mark.parametrize("tree", ["single", "apart"])
def test_tree_without_a_choice_reduces_to_a_flat_answer(sharp, tree):
    """With one cluster, or clusters of one label, modes route and full predict the same label."""
    classifier, x = sharp(TREES[tree]), noise()
    with torch.no_grad():
        logits = classifier.network(classifier.centred(x), torch.zeros(24, dtype=torch.long))
        rows = classifier.outputs(x)
    places = [classifier.paths.nodes.index(f"label-{leaf}") for leaf in range(4)]
    steps = logits.log_softmax(dim=2)
    scores = steps[:, 1, places]
    if tree == "apart":
        scores = scores + steps[:, 0, [own[0] for own in classifier.paths.sequences]]

    assert torch.equal(scores.argmax(dim=1), rows["full"].argmax(dim=1))
    assert torch.equal(rows["full"].argmax(dim=1), rows["default"].argmax(dim=1))


@pytest.mark.parametrize("conversion", ["pool", "linear", "conv"])
@pytest.mark.parametrize(
    ("kind", "layers"), [("rnn", "last"), ("rnn", "all"), ("s2s", "alt"), ("s2s", "all")]
)
def test_counted_operations_are_the_executed_ones(sharp, kind, layers, conversion):
    """The operations that torch executes equal `cost` and `executed` in modes route and full."""
    classifier = sharp(TREES["uneven"], kind=kind, layers=layers, conversion=conversion, beam=1)
    x, executed, averaged = noise(8), {}, 0
    for mode in ("route", "full"):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            classifier.predict_proba(x, mode=mode)
        executed[mode] = counter.get_total_flops() / (2 * len(x))
    for part in classifier.network.conversions.values():  # the averages of a pool cost nothing
        channels, height, width = part.shape
        entering = 16 if conversion == "conv" else channels
        averaged += 0 if conversion == "linear" else entering * 4 * width * (height + 4)
    with torch.no_grad():
        taken = classifier.outputs(x)["executed"].double().mean(dim=0).tolist()
    cost = classifier.cost()

    shares = dict(zip(cost.macs, taken, strict=True))
    assert math.isclose(cost.macs_expected(shares), executed["route"] - averaged)
    assert cost.macs_max == executed["full"] - averaged


def test_published_setting_on_cifar():
    """resnet20 with 20 groups of 5: p = 256, 120 nodes, stages 32 x 16 x 16 and 64 x 8 x 8."""
    groups = [list(range(first, first + 5)) for first in range(0, 100, 5)]
    classifier = dhnn.Classifier(
        dhnn.Params(),
        hierarchy=hierarchy.from_clusters(groups, 100),
        build=lambda outputs: backbone.build(
            backbone.Params(name="resnet20"), outputs=outputs, side=32
        ),
        mean=np.zeros(3, dtype=np.float32),
    )
    network = classifier.network
    rnn = backbone.count(network.decoder.down, network.decoder.up)
    blocks, macs = 278_324 - 6_500, 40_818_944 - 6_400  # without the head
    arc, last = 512 * 256, 256 * 120

    assert [3, 6, 9] == network.taps
    assert [(32, 16, 16), (64, 8, 8)] == [part.shape for part in network.conversions.values()]
    assert 1_052_672 == rnn
    assert blocks + 16 * 96 + rnn + arc + 256 + last + 120 == classifier.cost().params
    step = 2 * 1024 * 512 + arc + last
    assert {"root": macs + 256 * 96 + 2 * step} == classifier.cost().macs


@pytest.mark.parametrize("kind", ["rnn", "s2s"])
@pytest.mark.parametrize(
    "own", [{}, {"layers": "all"}, {"conversion": "linear"}, {"conversion": "conv", "cell": "gru"}]
)
def test_gradient_reaches_every_tensor(make_classifier, kind, own):
    """Every tensor gets a gradient, for each kind, conversion, cell and set of layers."""
    tree = hierarchy.from_nested(TREES["uneven"], 4)
    network = make_classifier("dhnn", tree, network=RESNET, kind=kind, hidden=8, **own).network
    labels = torch.arange(24) % 4
    network.losses(network(noise(), labels), labels, Counting(None, 0.1, 1.0)).backward()

    assert [n for n, w in network.named_parameters() if not w.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("own", "weights"),
    [({}, (0.5, 0.5)), ({"step_weights": (0.3, 0.7)}, (0.3, 0.7)), ({"kind": "s2s"}, (1 / 3,) * 3)],
)
def test_steps_weigh_the_same_unless_asked(make_classifier, own, weights):
    """Each step, the end included, has w_t = 1 / T; own weights need one number per step."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    network = make_classifier("dhnn", tree, network=RESNET, hidden=8, **own).network

    assert weights == pytest.approx(network.weights.tolist())
    with pytest.raises(BadParams, match=r"1 numbers.*2 steps"):
        make_classifier("dhnn", tree, network=RESNET, step_weights=(1.0,))


def test_overlapping_groups_are_refused(make_classifier):
    """A label in two groups is refused, because it has more than one path."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    tree.add_edge("cluster-1", "label-0", order=2)
    with pytest.raises(BadHierarchy, match="one path"):
        make_classifier("dhnn", tree)


@pytest.mark.parametrize("own", [{"teacher_forcing": 0.5}, {"order": "leaf_first"}])
def test_training_lowers_the_loss_of_ended_paths(make_classifier, make_trainer, tiny_data, own):
    """CNN-S2S on an uneven tree lowers the validation loss in three weighted epochs."""
    data, tree = tiny_data(8), hierarchy.from_nested(TREES["uneven"], 4)
    classifier = make_classifier(
        "dhnn",
        tree,
        network=RESNET,
        hidden=16,
        kind="s2s",
        balance="weights",
        mean=channel_mean(data.train.images),
        **own,
    )
    params = loop.Params(epochs=3, lr=0.05, threads=1, device="cpu", ema=0.0)
    trainer = make_trainer(data, params=params)
    report = classifier.fit(data, trainer, seed=0)
    losses = [row["val_loss"] for row in trainer.curves]
    x = augment.scale(data.val.batch(np.arange(32)))
    with torch.no_grad():
        rows = classifier.predict_proba(x, mode="full")[range(32), data.val.labels]

    assert losses[-1] < losses[0]
    assert math.isclose(-rows.log().mean().item(), losses[-1], rel_tol=1e-4)
    # In training an image takes one path of at most four steps, unlike a prediction.
    assert report.networks[0].train_flops < 6 * 96 * classifier.cost().macs_max


def test_every_decision_has_its_part_in_the_cost(sharp):
    """CNN-S2S has a cost entry for the root and for each node with several labels below it."""
    classifier = sharp(TREES["uneven"], kind="s2s")
    step = classifier.network.decoder.decoder.macs + 8 * classifier.paths.outputs

    assert ["root", "cluster-0", "cluster-0-0"] == list(classifier.cost().macs)
    assert [2 * step, 3 * step] == list(classifier.cost().macs.values())[1:]
    assert label_path.NOTHING == classifier.network.targets[2, 3]
