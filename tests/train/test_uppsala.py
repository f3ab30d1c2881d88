"""The method uppsala: routes, the shared trunk and its cost, limits, frozen weights."""

import math

import numpy as np
import pytest
import torch

from personae.errors import MissingInput
from train import backbone
from train.data import augment
from train.engine import loop
from train.errors import BadCheckpoint, BadHierarchy
from train.methods import flat
from train.methods.uppsala import classifier as uppsala
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")


@pytest.fixture
def start(make_classifier):
    """Returns the tensors of an untrained flat network."""
    return make_classifier("flat", hierarchy.flat(4)).network.state_dict()


def inputs_of(data):
    return augment.scale(data.train.batch(np.arange(16)))


def test_shared_trunk_costs_little():
    """A 6-way root and a 5-way branch at 128 pixels: 729,290,240 MACs, 1.0018 times flat."""
    tree = hierarchy.from_clusters([list(range(c * 5, c * 5 + 5)) for c in range(6)], 30)

    def build(outputs):
        return backbone.build(backbone.Params(), outputs=outputs, side=128)

    mean = np.zeros(3, dtype=np.float32)
    cost = uppsala.Classifier(uppsala.Params(), hierarchy=tree, build=build, mean=mean).cost()
    separate = uppsala.Classifier(
        uppsala.Params(freeze="none"), hierarchy=tree, build=build, mean=mean
    ).cost()
    one = cost.macs["root"] + cost.macs["cluster-0"]
    whole = flat.Classifier(
        flat.Params(), hierarchy=hierarchy.flat(25), build=build, mean=mean
    ).cost()

    assert one == 729_290_240
    assert math.isclose(1.0018, one / whole.macs_max, abs_tol=5e-5)
    assert separate.macs["root"] + separate.macs["cluster-0"] == 1_455_953_408
    assert math.isclose(2.0, 1_455_953_408 / whole.macs_max, abs_tol=5e-5)


def test_shared_trunk_equals_separate_networks(make_classifier, two_level_hierarchy, tiny_data):
    """Separate networks with their own convolutions give the same rows within 1e-5."""
    classifier = make_classifier("uppsala", two_level_hierarchy).eval()
    x = inputs_of(tiny_data())
    with torch.no_grad():
        centred = x - classifier.mean[:, None, None]
        coarse = torch.softmax(classifier.root(centred), dim=1)
        expected = torch.zeros(16, 4)
        for place, members in enumerate(([0, 1], [2, 3])):
            branch = classifier.branches[f"cluster-{place}"]
            inside = torch.softmax(branch(classifier.root.blocks(centred)), dim=1)
            expected[:, members] = coarse[:, [place]] * inside
        full = classifier.predict_proba(x, mode="full")

    assert torch.allclose(expected, full, atol=1e-5)


@pytest.mark.parametrize("freeze", ["conv", "last_block", "none"])
def test_route_is_the_chosen_branch_alone(make_classifier, tiny_data, freeze):
    """In mode route the row is the distribution of the root's branch; `outputs` equals it."""
    tree = hierarchy.from_clusters([[0, 3], [1], [2]], 4)
    classifier = make_classifier("uppsala", tree, freeze=freeze).eval()
    x = inputs_of(tiny_data())
    with torch.no_grad():
        route, full = classifier.predict_proba(x), classifier.predict_proba(x, mode="full")
        coarse, outputs = classifier.coarse_proba(x), classifier.outputs(x)
    groups = torch.tensor([0, 1, 2, 0])
    inside = groups[None, :] == coarse.argmax(dim=1)[:, None]

    assert not route[~inside].any()
    assert torch.allclose(full[:, [1, 2]], coarse[:, [1, 2]], atol=1e-6)
    assert torch.allclose(
        full[inside], (route * coarse.max(dim=1).values[:, None])[inside], atol=1e-5
    )
    assert torch.allclose(outputs["default"], route, atol=1e-6)
    assert torch.allclose(outputs["full"], full, atol=1e-6)


def test_all_labels_apart_is_the_root(make_classifier, tiny_data):
    """Single-label clusters need no branch: the root decides, and route rows are one-hot."""
    tree = hierarchy.from_clusters([[0], [1], [2], [3]], 4)
    classifier = make_classifier("uppsala", tree).eval()
    x = inputs_of(tiny_data())
    with torch.no_grad():
        coarse = classifier.coarse_proba(x)

        assert not classifier.branches
        assert torch.allclose(coarse, classifier.predict_proba(x, mode="full"))
        assert (coarse.argmax(dim=1) == classifier.predict_proba(x).argmax(dim=1)).all()
        assert {1.0} == set(classifier.predict_proba(x).max(dim=1).values.tolist())


def test_one_cluster_is_its_branch(make_classifier, make_trainer, tiny_data, start):
    """With one cluster no root is trained; route and full equal the subnetwork's rows."""
    data, tree = tiny_data(), hierarchy.from_clusters([[0, 1, 2, 3]], 4)
    classifier = make_classifier("uppsala", tree)
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)
    x = inputs_of(data)
    with torch.no_grad():
        maps = classifier.root.blocks(x - classifier.mean[:, None, None])
        own = torch.softmax(classifier.branches["cluster-0"](maps), dim=1)

        assert ["cluster-0"] == [network.network for network in report.networks]
        assert torch.allclose(own, classifier.predict_proba(x), atol=1e-6)
        assert torch.allclose(own, classifier.predict_proba(x, mode="full"), atol=1e-6)
    scratch = make_classifier("uppsala", tree, root_init="scratch")
    with pytest.raises(BadHierarchy, match="One cluster"):
        scratch.fit(data, make_trainer(data, params=PARAMS), seed=0)


def test_routed_success_stays_below_the_root(make_classifier, make_trainer, tiny_data, start):
    """Routed accuracy <= the root's accuracy, and <= the accuracy with oracle routing."""
    data = tiny_data()
    classifier = make_classifier("uppsala", hierarchy.from_clusters([[0, 2], [1, 3]], 4))
    classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)
    with torch.no_grad():
        rows = classifier.outputs(augment.scale(data.val.batch(np.arange(32))))
    labels = torch.from_numpy(data.val.labels)
    parents = torch.tensor([0, 1, 0, 1])
    routed = (rows["default"].argmax(dim=1) == labels).float().mean()
    inside = parents[None, :] == parents[labels][:, None]
    oracle = (torch.where(inside, rows["full"], -1.0).argmax(dim=1) == labels).float().mean()

    assert routed <= (rows["coarse"].argmax(dim=1) == parents[labels]).float().mean()
    assert routed <= oracle


def test_subnetworks_leave_the_root_alone(make_classifier, make_trainer, tiny_data, start):
    """Training the subnetworks keeps the root bit-identical, and the trunk stays shared."""
    data, tree = tiny_data(), hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    roots = []
    for epochs in (1, 2):
        classifier = make_classifier("uppsala", tree, root_epochs=2, subnetwork_epochs=epochs)
        trainer = make_trainer(data, params=PARAMS, folder=f"w{epochs}")
        report = classifier.fit(data, trainer, seed=0, start=start)
        roots.append(classifier.root.state_dict())

    assert all(torch.equal(roots[0][name], roots[1][name]) for name in roots[0])
    assert [2, 2, 2] == [network.epochs for network in report.networks]
    assert [None, "root", "root"] == [network.waits_for for network in report.networks]
    seconds = [network.seconds for network in report.networks]
    assert math.isclose(seconds[0] + max(seconds[1:]), report.critical_path_seconds)


@pytest.mark.parametrize("freeze", ["last_block", "none"])
def test_unfrozen_blocks_learn(make_classifier, make_trainer, tiny_data, start, freeze):
    """A branch's own blocks differ from the root's after training; shared ones are not copied."""
    data, tree = tiny_data(), hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    classifier = make_classifier("uppsala", tree, freeze=freeze)
    classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)
    own = classifier.branches["cluster-0"].blocks
    shared = 4 if freeze == "last_block" else 0

    assert len(own) == 5 - shared
    assert not torch.equal(own[-1].B5C1.weight, classifier.root.blocks[4].B5C1.weight)


def test_root_starts_from_the_flat_network(make_classifier, make_trainer, tiny_data, start):
    """Convolutions and dense layers are the flat network's, and the last layer is new."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    classifier = make_classifier("uppsala", tree, seed=5)
    classifier._copy_flat(start, seed=0)
    state = classifier.root.state_dict()
    taken = [name for name in start if not name.startswith("head.predictions")]

    assert all(torch.equal(start[name], state[name]) for name in taken)
    assert (2, 32) == tuple(state["head.predictions.weight"].shape)
    with pytest.raises(MissingInput, match="stage 'flat'"):
        classifier.fit(tiny_data(), make_trainer(tiny_data(), params=PARAMS), seed=0)
    other = dict(start) | {"head.fc21.weight": torch.zeros(3, 3)}
    with pytest.raises(BadCheckpoint, match="fc21"):
        classifier._copy_flat(other, seed=0)


def test_scratch_needs_no_flat_network(make_classifier, make_trainer, tiny_data):
    """A root from scratch trains without a flat network."""
    classifier = make_classifier(
        "uppsala", hierarchy.from_clusters([[0, 1], [2, 3]], 4), root_init="scratch"
    )
    data = tiny_data()
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0)

    assert 3 == len(report.networks)
    assert (False, True) == (report.needs_flat("given"), report.needs_flat("modularity"))


@pytest.mark.parametrize("balance", ["resample", "fixed", "weights", "none"])
def test_root_is_balanced_by_cluster(make_classifier, make_trainer, tiny_data, start, balance):
    """Clusters of three labels and one: equal images of both, or all images with weights."""
    pictures = 16 if balance in ("resample", "fixed") else 32
    data, tree = tiny_data(), hierarchy.from_clusters([[0, 1, 2], [3]], 4)
    classifier = make_classifier("uppsala", tree, balance=balance)
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)

    assert pictures == report.networks[0].images_seen
    assert ["root", "cluster-0"] == [network.network for network in report.networks]


DEEP = [[[0, 1], 2], 3]


def test_deep_trees_follow_every_decision(make_classifier, tiny_data):
    """In a tree with three levels rows sum to 1; route follows one path, full multiplies all."""
    classifier = make_classifier("uppsala", hierarchy.from_nested(DEEP, 4)).eval()
    x = inputs_of(tiny_data())
    maps = classifier.root.blocks(x - classifier.mean[:, None, None])
    with torch.no_grad():
        top = classifier.coarse_proba(x)
        middle = torch.softmax(classifier.branches["cluster-0"](maps), dim=1)
        inner = torch.softmax(classifier.branches["cluster-0-0"](maps), dim=1)
        route, full = classifier.predict_proba(x), classifier.predict_proba(x, mode="full")
        outputs = classifier.outputs(x)
    expected = torch.cat(
        [top[:, :1] * middle[:, :1] * inner, top[:, :1] * middle[:, 1:], top[:, 1:]], dim=1
    )

    assert torch.allclose(expected, full, atol=1e-6)
    assert torch.allclose(torch.ones(16), route.sum(dim=1), atol=1e-6)
    for row, probabilities in enumerate(route):
        if top[row].argmax() == 1:
            wanted = [0.0, 0.0, 0.0, 1.0]
        elif middle[row].argmax() == 1:
            wanted = [0.0, 0.0, 1.0, 0.0]
        else:
            wanted = [*inner[row].tolist(), 0.0, 0.0]
        assert np.allclose(wanted, probabilities.tolist(), atol=1e-6)
    assert torch.allclose(outputs["default"], route, atol=1e-6)
    assert torch.allclose(outputs["full"], full, atol=1e-6)
    to_middle, to_inner = top.argmax(dim=1) == 0, middle.argmax(dim=1) == 0
    executed = [torch.ones(16, dtype=torch.bool), to_middle, to_middle & to_inner]
    assert torch.equal(torch.stack(executed, dim=1), outputs["executed"])
    assert ["root", "cluster-0", "cluster-0-0"] == list(classifier.cost().macs)


def test_deep_trees_train_level_by_level(make_classifier, make_trainer, tiny_data, start):
    """Each network starts from its parent, and the critical path is the longest chain."""
    data = tiny_data()
    classifier = make_classifier("uppsala", hierarchy.from_nested(DEEP, 4), freeze="last_block")
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)
    waits = {network.network: network.waits_for for network in report.networks}

    assert {"root": None, "cluster-0": "root", "cluster-0-0": "cluster-0"} == waits
    assert math.isclose(report.total_seconds, report.critical_path_seconds)
    assert [32, 24, 16] == [network.pictures for network in report.networks]


def test_labels_with_two_parents_are_refused(make_classifier):
    """Overlapping clusters are refused, because a label would have two paths."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    tree.add_edge("cluster-1", "label-0", order=2)

    with pytest.raises(BadHierarchy, match="two parents"):
        make_classifier("uppsala", tree)
