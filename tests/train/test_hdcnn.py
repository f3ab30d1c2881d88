"""HD-CNN: costs, copied and trained weights, degenerate covers, files, refused requests."""

import functools
import math

import numpy as np
import pytest
import torch

from personae.errors import BadParams, MissingInput
from tests.train import covers
from tests.train.covers import NIN, RESNET, TINY, inputs_of, spread
from train import backbone, evaluate
from train.engine import loop
from train.errors import BadCheckpoint, BadHierarchy
from train.evaluation import prediction
from train.methods.hdcnn import classifier as hdcnn
from train.runtime import checkpoint
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")


@pytest.fixture
def built(make_classifier):
    """Builds an untrained classifier over a cover: `built(cover, leaves, …)`."""
    return functools.partial(covers.build, make_classifier)


@pytest.fixture
def start(make_classifier):
    """Builds the tensors of an untrained flat network: `start(network)`."""

    def build(network=RESNET, leaves=4):
        tree = hierarchy.flat(leaves)
        return make_classifier("flat", tree, network=network).network.state_dict()

    return build


def test_paper_network_costs_what_it_must():
    """NiN with 9 components over 389 memberships has the parameters and MACs counted by hand."""
    cover = [sorted({(start + step) % 100 for step in range(43)}) for start in range(0, 99, 11)]
    cover[0], cover[8] = sorted({*cover[0], 50}), sorted({*cover[8], 50})
    network = backbone.Params(name="nin")
    classifier = hdcnn.Classifier(
        hdcnn.Params(),
        hierarchy=hierarchy.from_cover(cover, 100),
        mean=np.zeros(3, np.float32),
        build=lambda outputs: backbone.build(network, outputs=outputs, side=26),
    )
    cost = classifier.cost()
    branches = [macs for node, macs in cost.macs.items() if node != "root"]

    assert (9, 389) == (len(cover), sum(map(len, cover)))
    assert 9_196_585 == cost.params
    assert 1_080_327_168 == cost.macs_max
    assert 1 == classifier.first_own
    assert math.isclose(7.44, cost.macs_max / 145_181_952, abs_tol=0.005)
    assert math.isclose(1.72, 1 + np.mean(branches) / 145_181_952, abs_tol=0.005)


@pytest.mark.parametrize(
    ("name", "shared"), [("resnet20", 4), ("resnet56", 10), ("nin", 1), ("fast_cnn", 2)]
)
def test_a_third_of_the_operations_is_shared(name, shared):
    """By default a ResNet shares its stem and first stage, and NiN shares its first block."""
    macs = backbone.macs_of_blocks(backbone.build(backbone.Params(name=name), outputs=100, side=32))

    assert shared == hdcnn._division(hdcnn.Params(), macs)


@pytest.mark.parametrize("network", [RESNET, NIN], ids=["resnet20", "nin"])
def test_one_set_of_all_labels_is_its_component(built, tiny_data, start, network):
    """With K = 1 and the flat network's last layer, p equals the flat network's probabilities."""
    weights = start(network)
    classifier = built([[0, 1, 2, 3]], network=network, seed=3)
    classifier._copy_flat(weights)
    part = classifier.network.fine["cluster-0"]
    part.head.predictions.weight.data = weights["head.predictions.weight"].clone()
    part.head.predictions.bias.data = weights["head.predictions.bias"].clone()
    whole = backbone.build(network, outputs=4, side=16).eval()
    whole.load_state_dict(weights)
    x = inputs_of(tiny_data())
    with torch.no_grad():
        expected = torch.softmax(whole(classifier.centred(x)), dim=1)
        maps = classifier.network.stem(classifier.centred(x))

        assert torch.equal(
            classifier.network.inside("cluster-0", maps).exp(), classifier.predict_proba(x)
        )
        assert torch.allclose(expected, classifier.predict_proba(x), atol=1e-6)
    assert classifier.network.coarse is None
    assert backbone.count(whole) == classifier.cost().params


def test_labels_apart_are_the_flat_network(built, tiny_data, start):
    """Sets of one label have no component: the coarse component predicts like the flat network."""
    classifier = built([[2], [0], [3], [1]], seed=3)
    classifier._copy_flat(start())
    whole = backbone.build(RESNET, outputs=4, side=16).eval()
    whole.load_state_dict(start())
    x = inputs_of(tiny_data())
    with torch.no_grad():
        expected = torch.softmax(whole(classifier.centred(x)), dim=1)
        assert torch.allclose(expected, classifier.predict_proba(x), atol=1e-6)
        assert torch.equal(expected.argmax(1), classifier.predict_proba(x, mode="full").argmax(1))
    assert not classifier.network.fine
    assert ["root"] == list(classifier.cost().macs)


def test_disjoint_sets_need_no_normalisation(built, tiny_data, start):
    """Without overlap B is the plain sum of the coarse component's probabilities."""
    classifier = built([[0, 3], [1, 2]])
    x = inputs_of(tiny_data())
    with torch.no_grad():
        maps = classifier.network.stem(classifier.centred(x))
        fine = torch.softmax(classifier.network.coarse(maps), dim=1)
        expected = torch.stack([fine[:, [0, 3]].sum(1), fine[:, [1, 2]].sum(1)], dim=1)

        assert torch.allclose(expected, classifier.coarse_proba(x), atol=1e-6)


@pytest.mark.parametrize("network", [RESNET, NIN], ids=["resnet20", "nin"])
def test_every_part_is_its_copy(built, start, network):
    """Stem and coarse component equal the flat network, fine ones all but the last layer."""
    weights = start(network)
    classifier = built(network=network, seed=7)
    classifier._copy_flat(weights)
    classifier._draw_last_layers(0)
    part = classifier.network
    first, second = part.fine.values()
    taken = {f"blocks.{name}": tensor for name, tensor in part.stem.state_dict().items()}
    taken |= {f"blocks.{n}": t for n, t in part.coarse.blocks.state_dict().items()}
    taken |= {f"head.{n}": t for n, t in part.coarse.head.state_dict().items()}

    assert weights.keys() == taken.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in taken.items())
    for branch in (first, second):
        for name, tensor in branch.blocks.state_dict().items():
            assert torch.equal(weights[f"blocks.{name}"], tensor)
        assert 3 == len(branch.head.predictions.weight)
    assert not torch.equal(first.head.predictions.weight, second.head.predictions.weight)
    assert not torch.equal(first.head.predictions.weight, weights["head.predictions.weight"][:3])


def test_components_train_on_frozen_shared_blocks(built, make_trainer, tiny_data, start):
    """Without joint training the stem and the coarse component keep the flat network's weights."""
    data, weights = tiny_data(), start()
    classifier = built(joint_epochs=0, component_epochs=2)
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=weights)
    names = [network.network for network in report.networks]
    cost = classifier.cost()
    shared = sum(classifier.block_macs[: classifier.first_own])

    for name, tensor in classifier.network.stem.state_dict().items():
        assert torch.equal(weights[f"blocks.{name}"], tensor)
    for name, tensor in classifier.network.coarse.state_dict().items():
        assert torch.equal(weights[name], tensor)
    for name, tensor in classifier.network.fine["cluster-0"].blocks.named_parameters():
        assert not torch.equal(weights[f"blocks.{name}"], tensor), name
    assert ["cluster-0", "cluster-1"] == names
    # three of four labels with eight images each, over two epochs
    for network in report.networks:
        assert (2, 48, 24) == (network.epochs, network.images_seen, network.pictures)
        expected = 48 * (6.0 * cost.macs[network.network] + 2.0 * shared)
        assert math.isclose(expected, network.train_flops)


@pytest.mark.parametrize("network", [RESNET, NIN], ids=["resnet20", "nin"])
def test_components_without_shared_blocks_are_whole(built, make_trainer, tiny_data, network):
    """Every component is a copy of the whole network, which it trains and which is counted."""
    data = tiny_data()
    whole = backbone.build(network, outputs=4, side=16)
    macs = sum(backbone.macs_of_blocks(whole)) + backbone.macs_of_head(whole.head)
    classifier = built(network=network, share=False, joint_epochs=0)
    start = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start)
    cost, three = classifier.cost(), backbone.build(network, outputs=3, side=16)

    assert not list(classifier.network.stem.parameters())
    assert macs == cost.macs["root"]
    assert backbone.count(whole) + 2 * backbone.count(three) == cost.params
    assert [6.0 * 24 * cost.macs[network.network] for network in report.networks] == [
        network.train_flops for network in report.networks
    ]
    with torch.no_grad():
        result = classifier.predict_proba(inputs_of(data))
    assert torch.allclose(torch.ones(len(result)), result.sum(dim=1), atol=1e-5)


def test_everything_is_tuned_together(built, make_trainer, tiny_data, start):
    """Joint training changes all weights, counts all MACs and waits for the slowest component."""
    data = tiny_data()
    classifier = built(joint_lr_scale=1.0)
    report = classifier.fit(data, make_trainer(data, params=PARAMS), seed=0, start=start())
    last, after = report.networks[-1], classifier.state_dict()
    slowest = max(report.networks[:-1], key=lambda network: network.seconds)

    assert all(weight.requires_grad for weight in classifier.parameters())
    for name, tensor in classifier.network.stem.named_parameters():
        assert not torch.equal(start()[f"blocks.{name}"], after[f"network.stem.{name}"]), tensor
    assert ("root", 32) == (last.network, last.images_seen)
    assert math.isclose(6.0 * 32 * classifier.cost().macs_max, last.train_flops)
    assert slowest.network == last.waits_for
    assert report.critical_path_seconds == pytest.approx(slowest.seconds + last.seconds)


def test_consistency_changes_what_is_learnt(built, make_trainer, tiny_data, start):
    """With the consistency term joint training gives other weights; its strength is lambda."""
    data, found = tiny_data(), []
    for strength in (0.0, 50.0):
        classifier = built(consistency=strength, joint_lr_scale=1.0)
        trainer = make_trainer(data, params=PARAMS, folder=f"work-{strength}")
        classifier.fit(data, trainer, seed=0, start=start())
        found.append(classifier.state_dict())
    task = classifier._joint_task(data)

    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert (50.0, [3 / 7, 3 / 7, 1 / 7]) == (task.loss.strength, list(task.loss.targets))


def test_tuning_resumes_where_it_stopped(built, make_trainer, tiny_data, start):
    """Joint training interrupted after its first epoch and resumed gives the same weights."""
    data, found = tiny_data(), []
    params = PARAMS.model_copy(update={"epochs": 2})
    for folder in ("unbroken", "broken"):
        classifier = built()
        trainer = make_trainer(data, params=params, folder=folder)
        if folder == "broken":
            run_epoch, runs = trainer_job().run_epoch, []

            def interrupted(job, run_epoch=run_epoch, runs=runs):
                if job.task.name == "root" and runs.append(1) is None and len(runs) == 2:
                    raise KeyboardInterrupt
                run_epoch(job)

            weights = start()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainer_job(), "run_epoch", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    classifier.fit(data, trainer, seed=0, start=weights)
            classifier = built()
        classifier.fit(data, trainer, seed=0, start=start())
        found.append(classifier.state_dict())

    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def trainer_job():
    from train.engine import trainer

    return trainer._Job


def test_figures_of_a_cover(built, tiny_data, make_trainer):
    """The router is right if the label is in the chosen set; a cover has no oracle."""
    data = tiny_data()
    classifier = spread(built(beta=1.0))
    found = prediction.predict(classifier, data.val, device=torch.device("cpu"))
    figures = evaluate.measure(classifier, found, data.val)
    right = [
        label in TINY[chosen]
        for label, chosen in zip(data.val.labels, found.coarse.argmax(axis=1), strict=True)
    ]
    disjoint = spread(built([[0, 1], [2, 3]]))
    other = evaluate.measure(
        disjoint, prediction.predict(disjoint, data.val, device=torch.device("cpu")), data.val
    )

    assert math.isclose(np.mean(right), figures["router_accuracy"])
    assert figures["oracle_msr"] is None
    assert other["oracle_msr"] >= other["msr_full"]
    assert figures["macs_expected"] < figures["macs_max"]
    assert ["root", "cluster-0", "cluster-1"] == list(found.executed)


def test_state_is_whole(built, tiny_data, tmp_path):
    """A classifier built from the hierarchy's JSON loads the state and gives equal rows."""
    first = built(seed=1)
    tree = hierarchy.from_json(hierarchy.to_json(first.hierarchy))
    second = built(hierarchy.clusters(tree), seed=2)
    checkpoint.save(tmp_path / "state.safetensors", first.state_dict(), {})
    checkpoint.fill(second, checkpoint.load(tmp_path / "state.safetensors")[0], source="here")
    x = inputs_of(tiny_data())
    with torch.no_grad():
        assert torch.equal(first.predict_proba(x), second.predict_proba(x))


def test_compression_keeps_the_rest(built, tiny_data):
    """Compression changes only the fine components, makes them smaller and keeps rows close."""
    classifier = built(network=backbone.Params(name="resnet20", width=0.5), seed=2)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    x = inputs_of(tiny_data())
    with torch.no_grad():
        rows = classifier.predict_proba(x)
        storage = classifier.compress(codebook=8, width=2)
        after = classifier.predict_proba(x)
    changed = {
        n for n, tensor in classifier.state_dict().items() if not torch.equal(before[n], tensor)
    }

    assert changed
    assert all(name.startswith("network.fine.") for name in changed)
    assert not any("predictions" in name or "norm" in name for name in changed)
    assert storage.bytes_before == 4 * backbone.count(classifier.network.fine)
    assert 1.2 < storage.factor < 4
    assert torch.allclose(rows, after, atol=0.2)


def test_impossible_requests_are_refused(built, make_classifier, make_trainer, tiny_data, start):
    """Impossible splits, trees, accumulation and flat networks give an error."""
    data = tiny_data()
    with pytest.raises(BadParams, match=r"hdcnn\.split 10 is more than the 9 blocks"):
        built(split=10)
    parts = make_trainer(data, params=PARAMS.model_copy(update={"accumulate": 2}))
    with pytest.raises(BadParams, match=r"loop\.accumulate is 2"):
        built().fit(data, parts, seed=0, start=start())
    with pytest.raises(MissingInput, match="stage 'flat'"):
        built().fit(data, make_trainer(data), seed=0)
    with pytest.raises(BadCheckpoint, match="flat network"):
        built()._copy_flat(start(NIN))
    with pytest.raises(BadHierarchy, match="4 levels"):
        make_classifier("hdcnn", hierarchy.from_nested([[[0, 1], 2], 3], 4), network=RESNET)
    with pytest.raises(BadHierarchy, match="two labels"):
        make_classifier("hdcnn", hierarchy.flat(1), network=RESNET)
    with pytest.raises(BadParams, match=r"hdcnn\.share is false"):
        built(split=1, share=False)
    with pytest.raises(BadParams, match="one block"):
        hdcnn._division(hdcnn.Params(), [5])
