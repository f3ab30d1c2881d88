"""The method hiernet: published sizes and costs, modes route and full, transfer, limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # as in the trainer
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import MissingInput
from train import backbone, evaluate
from train.data import augment
from train.engine import loop
from train.errors import BadCheckpoint
from train.evaluation import prediction
from train.runtime import checkpoint
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
RESNET = backbone.Params(name="resnet20", width=0.25)
NETWORKS = {
    "resnet20": RESNET,
    "elu": backbone.Params(name="resnet20", width=0.25, act="elu"),
    "resnet164": backbone.Params(name="resnet164", width=0.125),
    "fast_cnn": backbone.Params(name="fast_cnn", width=0.125),
    "densenet_bc_100": backbone.Params(name="densenet_bc_100", width=0.2),
    "uppsala_cnn": backbone.Params(
        widths=(4, 8, 8, 8, 8), dense=16, batch_norm=True, dropout=0.0, noise=0.0
    ),
}


@pytest.fixture
def start(make_classifier):
    """Builds the tensors of an untrained flat network: `start(network)`."""

    def build(network=RESNET):
        return make_classifier("flat", hierarchy.flat(4), network=network).network.state_dict()

    return build


def of_groups(sizes):
    ends = np.cumsum(sizes)
    groups = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    return hierarchy.from_clusters(groups, int(ends[-1]))


def inputs_of(data):
    return augment.scale(data.train.batch(np.arange(16)))


def say(classifier, groups, labels):
    """Sets the group head and the branches to these probabilities for any image."""
    tree = classifier.network
    for part, row in zip(
        [tree.group_head, *tree.branches.values()], [groups, *labels], strict=True
    ):
        torch.nn.init.zeros_(part.head.predictions.weight)
        part.head.predictions.bias.data = torch.tensor(row).log()


def test_evaluations_of_the_worked_example(make_classifier, tiny_data):
    """For q = (.6, .4) full predicts label 3 and route label 0; the loss is 1.021651."""
    tree = hierarchy.from_clusters([[0, 1, 2], [3, 4]], 5)
    classifier = make_classifier("hiernet", tree, network=RESNET).eval()
    say(classifier, [0.6, 0.4], [[0.5, 0.3, 0.2], [0.9, 0.1]])
    x = inputs_of(tiny_data())[:1]
    with torch.no_grad():
        full = classifier.predict_proba(x, mode="full")
        route = classifier.predict_proba(x)
        loss = F.cross_entropy(classifier.network(x), torch.tensor([3]))

    assert torch.allclose(torch.tensor([[0.30, 0.18, 0.12, 0.36, 0.04]]), full, atol=1e-6)
    assert torch.allclose(torch.tensor([[0.5, 0.3, 0.2, 0.0, 0.0]]), route, atol=1e-6)
    assert (3, 0) == (full.argmax().item(), route.argmax().item())
    assert math.isclose(1.021651, loss.item(), abs_tol=1e-6)


def test_labels_keep_their_order(make_classifier, tiny_data):
    """For groups that mix the labels, every probability is at its own leaf."""
    tree = hierarchy.from_clusters([[4, 1], [3, 0, 2]], 5)
    classifier = make_classifier("hiernet", tree, network=RESNET).eval()
    say(classifier, [0.6, 0.4], [[0.9, 0.1], [0.5, 0.3, 0.2]])
    with torch.no_grad():
        found = classifier.outputs(inputs_of(tiny_data())[:1])

    assert torch.allclose(torch.tensor([[0.2, 0.54, 0.12, 0.08, 0.06]]), found["full"], atol=1e-6)
    assert torch.allclose(torch.tensor([[0, 0.9, 0, 0, 0.1]]), found["default"], atol=1e-6)
    assert "network.order" in classifier.state_dict()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("clusters", [[[0, 3], [1], [2]], [[0, 1], [2, 3]], [[0, 1, 2, 3]]])
def test_route_is_the_chosen_branch_alone(make_classifier, tiny_data, name, clusters):
    """On every backbone full sums to 1, and route is full within the group, divided by q."""
    tree = hierarchy.from_clusters(clusters, 4)
    classifier = make_classifier("hiernet", tree, network=NETWORKS[name]).eval()
    x = inputs_of(tiny_data())
    with torch.no_grad():
        route, full = classifier.predict_proba(x), classifier.predict_proba(x, mode="full")
        coarse, outputs = classifier.coarse_proba(x), classifier.outputs(x)
    parents = torch.from_numpy(hierarchy.parents(clusters))
    inside = parents[None, :] == coarse.argmax(dim=1)[:, None]

    assert torch.allclose(torch.ones(16), full.sum(dim=1), rtol=0, atol=1e-6)
    assert torch.allclose(torch.ones(16), route.sum(dim=1), rtol=0, atol=1e-6)
    assert not route[~inside].any()
    assert torch.allclose(full[inside], (route * coarse.amax(1, keepdim=True))[inside], atol=1e-5)
    assert torch.allclose(outputs["default"], route, atol=1e-5)
    assert torch.allclose(outputs["full"], full, atol=1e-6)


def test_route_executes_one_branch(make_classifier, tiny_data):
    """A branch without images is not executed; others are executed once with their images."""
    classifier = make_classifier("hiernet", of_groups((2, 1, 1)), network=RESNET).eval()
    say(classifier, [0.8, 0.1, 0.1], [[0.5, 0.5]])
    calls = []
    classifier.network.branches["cluster-0"].register_forward_hook(
        lambda _part, given, _output: calls.append(len(given[0]))
    )
    with torch.no_grad():
        classifier.predict_proba(inputs_of(tiny_data()))
        say(classifier, [0.1, 0.8, 0.1], [[0.5, 0.5]])
        classifier.predict_proba(inputs_of(tiny_data()))

    assert [16] == calls


def test_executed_operations_are_the_counted_ones(make_classifier, tiny_data):
    """The operations that torch executes for 16 images equal `cost` and `executed`."""
    classifier = make_classifier("hiernet", of_groups((2,) * 8), network=RESNET).eval()
    x, executed = inputs_of(tiny_data()), {}
    for mode in ("route", "full"):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            classifier.predict_proba(x, mode=mode)
        executed[mode] = counter.get_total_flops() / (2 * len(x))
    with torch.no_grad():
        taken = classifier.outputs(x)["executed"].double().mean(dim=0).tolist()
    cost = classifier.cost()
    shares = dict(zip(cost.macs, taken, strict=True))

    assert math.isclose(cost.macs_expected(shares), executed["route"])
    assert cost.macs_max == executed["full"]
    assert executed["route"] / executed["full"] <= 0.35


def test_sure_group_makes_both_evaluations_one(make_classifier, tiny_data):
    """If q is one-hot, modes route and full give the same rows."""
    classifier = make_classifier("hiernet", of_groups((2, 2)), network=RESNET).eval()
    torch.nn.init.zeros_(classifier.network.group_head.head.predictions.weight)
    classifier.network.group_head.head.predictions.bias.data = torch.tensor([0.0, 60.0])
    x = inputs_of(tiny_data())
    with torch.no_grad():
        route, full = classifier.predict_proba(x), classifier.predict_proba(x, mode="full")

    assert torch.allclose(route, full, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_group_is_the_backbone(make_classifier, tiny_data, start, name):
    """With one group and no added blocks the transferred logits equal the flat network's."""
    network, weights = NETWORKS[name], start(NETWORKS[name])
    tree = hierarchy.from_clusters([[0, 1, 2, 3]], 4)
    classifier = make_classifier("hiernet", tree, network=network, seed=3, group_blocks=0)
    whole = make_classifier("flat", hierarchy.flat(4), network=network).eval()
    classifier._copy_flat(weights)
    branch = classifier.eval().network.branches["cluster-0"]
    branch.head.predictions.load_state_dict(whole.network.head.predictions.state_dict())
    x = inputs_of(tiny_data())
    with torch.no_grad():
        expected = whole.network(x)

        assert torch.equal(expected, branch(classifier.network.stem(x)))
        assert torch.allclose(torch.log_softmax(expected, dim=1), classifier.network(x), atol=1e-6)
        assert torch.allclose(whole.predict_proba(x), classifier.predict_proba(x), atol=1e-6)
    assert whole.cost().params == classifier.cost().params
    assert whole.cost().macs_max == classifier.cost().macs_max


def test_labels_apart_are_decided_by_the_group_head(make_classifier, tiny_data, start):
    """With single-label groups and all blocks in the group head, full equals the flat network."""
    classifier = make_classifier(
        "hiernet", of_groups((1, 1, 1, 1)), network=RESNET, seed=3, split=5, group_blocks=4
    )
    whole = make_classifier("flat", hierarchy.flat(4), network=RESNET).eval()
    classifier._copy_flat(start())
    head = classifier.eval().network.group_head.head
    head.predictions.load_state_dict(whole.network.head.predictions.state_dict())
    x = inputs_of(tiny_data())
    with torch.no_grad():
        expected = whole.predict_proba(x)

        assert not classifier.network.branches
        assert torch.allclose(expected, classifier.predict_proba(x, mode="full"), atol=1e-6)
        assert torch.equal(expected.argmax(1), classifier.predict_proba(x).argmax(1))


@pytest.mark.parametrize("name", ["resnet20", "elu", "fast_cnn", "uppsala_cnn"])
def test_every_block_is_its_copy(make_classifier, make_trainer, tiny_data, start, name):
    """Every block is copied from the flat network's block of the same number."""
    weights = start(NETWORKS[name])
    classifier = make_classifier("hiernet", of_groups((2, 2)), network=NETWORKS[name], seed=7)
    classifier._copy_flat(weights)
    tree, taken = classifier.network, set()
    after_split = [tree.group_head, *tree.branches.values()]
    for blocks, first in [(tree.stem, 0), *((part.blocks, len(tree.stem)) for part in after_split)]:
        for number, block in enumerate(blocks, start=first):
            for key, tensor in block.state_dict().items():
                taken.add(f"blocks.{number}.{key}")
                assert torch.equal(weights[f"blocks.{number}.{key}"], tensor)
    for branch in tree.branches.values():
        for key, tensor in branch.head.state_dict().items():
            if key.startswith("predictions"):
                assert 2 == len(tensor)
            else:
                assert torch.equal(weights[f"head.{key}"], tensor)

    assert {key for key in weights if key.startswith("blocks.")} == taken


def test_fresh_layers_come_from_the_seed(make_classifier, make_trainer, tiny_data, start):
    """Equal seeds give equal new layers for any run name; heads and branches differ."""
    starts = []
    for seed in (1, 2):
        classifier = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, seed=seed)
        classifier._copy_flat(start())
        classifier._draw_last_layers(0)
        starts.append(classifier.state_dict())
    weights = [
        starts[0][f"network.{part}.head.predictions.weight"]
        for part in ("group_head", "branches.cluster-0", "branches.cluster-1")
    ]

    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_everything_trains_together(make_classifier, make_trainer, tiny_data, start):
    """One loss trains shared blocks, group head and both branches; all MACs count."""
    data = tiny_data()
    classifier = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, epochs=2)
    before = {n: t.clone() for n, t in classifier.state_dict().items()}
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start())
    after = classifier.state_dict()
    weights = [name for name, _ in classifier.named_parameters()]
    (network,) = report.networks

    assert not [name for name in weights if torch.equal(before[name], after[name])]
    assert ("root", 2, 64) == (network.network, network.epochs, network.images_seen)
    assert math.isclose(6.0 * 64 * classifier.cost().macs_max, network.train_flops)
    assert classifier.cost().params == network.params


def test_pruned_branches_decide_nothing(make_classifier, make_trainer, tiny_data, start):
    """Branches of one label cost parameters and MACs, and change no probability."""
    data, rows, costs = tiny_data(), [], []
    for prune in (True, False):
        classifier = make_classifier(
            "hiernet", of_groups((2, 1, 1)), network=RESNET, prune_singletons=prune
        )
        trainer = make_trainer(data, params=PARAMS, folder=f"work-{prune}")
        classifier.fit(data, trainer, seed=0, start=start())
        costs.append(classifier.cost())
        with torch.no_grad():
            rows.append(classifier.outputs(inputs_of(data)))
        chosen = rows[-1]["coarse"].argmax(dim=1)
        for place, node in enumerate(costs[-1].macs):
            wanted = chosen == int(node[-1]) if place else torch.ones(16, dtype=torch.bool)
            assert torch.equal(wanted, rows[-1]["executed"][:, place])

    assert all(torch.equal(rows[0][name], rows[1][name]) for name in ("default", "full", "coarse"))
    assert {"root", "cluster-0"} == set(costs[0].macs)
    assert {"root", "cluster-0", "cluster-1", "cluster-2"} == set(costs[1].macs)
    assert costs[0].params < costs[1].params


def test_scratch_needs_no_flat_network(make_classifier, make_trainer, tiny_data, start):
    """Without transfer the branches start different; with transfer `start` is required."""
    data = tiny_data()
    scratch = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, transfer=False)
    first, second = (
        branch.blocks[0].conv1.weight.clone() for branch in scratch.network.branches.values()
    )
    trainer = make_trainer(data, params=PARAMS)

    assert not torch.equal(first, second)
    report = scratch.fit(data, trainer, seed=0)
    assert 1 == len(report.networks)
    assert (False, True) == (report.needs_flat("given"), report.needs_flat("modularity"))
    classifier = make_classifier("hiernet", of_groups((2, 2)), network=RESNET)
    with pytest.raises(MissingInput, match="stage 'flat'"):
        classifier.fit(data, trainer, seed=0)
    larger = start(backbone.Params(name="resnet32", width=0.25))
    with pytest.raises(BadCheckpoint, match="flat network"):
        classifier._copy_flat(larger)


def test_figures_of_both_evaluations(make_classifier, make_trainer, tiny_data, start):
    """metrics.json has route, full, router and oracle; route <= router and route <= oracle."""
    data = tiny_data()
    classifier = make_classifier("hiernet", of_groups((2, 1, 1)), network=RESNET)
    classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start())
    found = prediction.predict(classifier, data.val, device=torch.device("cpu"))
    figures = evaluate.measure(classifier, found, data.val)
    with torch.no_grad():
        rows = classifier.outputs(augment.scale(data.val.batch(np.arange(32))))
    labels = torch.from_numpy(data.val.labels)
    parents = torch.tensor([0, 0, 1, 2])
    inside = parents[None, :] == parents[labels][:, None]
    given = torch.where(inside, rows["full"], -1.0).argmax(dim=1)
    expected = {
        "route_msr": rows["default"].argmax(dim=1) == labels,
        "msr_full": rows["full"].argmax(dim=1) == labels,
        "router_accuracy": rows["coarse"].argmax(dim=1) == parents[labels],
        "oracle_msr": given == labels,
    }

    assert figures["msr"] == figures["route_msr"]
    for name, right in expected.items():
        assert math.isclose(right.float().mean().item(), figures[name], abs_tol=1e-6), name
    assert figures["route_msr"] <= min(figures["router_accuracy"], figures["oracle_msr"])
    assert figures["macs_expected"] < figures["macs_max"]


def test_route_is_the_backbone_and_a_choice(make_classifier):
    """Without added blocks a route costs the backbone's MACs, with two smaller last layers."""
    whole = make_classifier("flat", hierarchy.flat(4), network=RESNET).cost()
    cost = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, group_blocks=0).cost()
    last = 2 * 8 + 2 * 16 - 4 * 16  # maps have 8 channels at the split and 16 at the end

    assert whole.macs_max + last == cost.macs["root"] + cost.macs["cluster-0"]


def test_state_is_whole(make_classifier, tiny_data, tmp_path):
    """A second classifier loads the state with its permutation and gives equal rows."""
    first = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, seed=1).eval()
    second = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, seed=2).eval()
    checkpoint.save(tmp_path / "state.safetensors", first.state_dict(), {})
    checkpoint.fill(second, checkpoint.load(tmp_path / "state.safetensors")[0], source="here")
    x = inputs_of(tiny_data())
    with torch.no_grad():
        assert torch.equal(first.predict_proba(x), second.predict_proba(x))
