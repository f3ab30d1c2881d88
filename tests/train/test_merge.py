"""Two trees under a new root: predictions of a perfect root, training, refusals."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from train import backbone, fit, merge, saved
from train.__main__ import main
from train.classifier import HierarchicalClassifier
from train.data import augment, images
from train.engine import loop
from train.methods import fusion
from train.methods.uppsala import classifier as uppsala
from train.runtime import checkpoint, seeds
from train.tree import hierarchy

NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, noise=0.0, init="he"
)
LOOP = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
LEAVES = ([0, 2, 4, 6], [7, 1, 5, 3])


def network(outputs):
    return backbone.build(NETWORK, outputs=outputs, side=16)


@pytest.fixture
def fused(make_classifier):
    """Builds two untrained trees of four labels with alternating leaves, and their fusion."""

    def build(**own):
        first = make_classifier("uppsala", hierarchy.from_clusters([[0, 1], [2, 3]], 4), **own)
        second = make_classifier(
            "uppsala", hierarchy.from_nested([[[0, 1], 2], 3], 4), seed=1, mean=(0.1, 0.2, 0.5)
        )
        mean = np.zeros(3, dtype=np.float32)
        return fusion.Classifier([first, second], leaves=LEAVES, build=network, mean=mean).eval()

    return build


def decided(classifier, place):
    """Makes the root certain of one tree."""
    last = classifier.root.head.predictions
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([99.0, -99.0] if place == 0 else [-99.0, 99.0]))
    return classifier


def inputs_of(data, rows=16):
    return augment.scale(data.train.batch(np.arange(rows)))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("mode", ["default", "route", "full"])
def test_perfect_root_gives_the_old_trees(fused, tiny_data, place, mode):
    """If the root is certain of one tree, the rows equal that tree's rows at its leaves."""
    classifier, x = decided(fused(), place), inputs_of(tiny_data())
    with torch.no_grad():
        rows = classifier.predict_proba(x, mode=mode)
        expected = classifier.parts[place].predict_proba(x, mode=mode)

    assert torch.allclose(expected, rows[:, LEAVES[place]], atol=1e-6)
    assert not rows[:, LEAVES[1 - place]].any()


def test_one_pass_agrees_with_the_route(fused, tiny_data):
    """`outputs` equals modes route and full, and only the chosen part is executed."""
    classifier, x = fused(), inputs_of(tiny_data())
    with torch.no_grad():
        classifier.root.head.predictions.bias.copy_(-classifier.root(x).median(dim=0).values)
        found = classifier.outputs(x)
        parts = [part.outputs(x) for part in classifier.parts]
        route = classifier.predict_proba(x)
    chosen = found["coarse"].argmax(dim=1)

    assert {0, 1} == set(chosen.tolist())
    assert torch.allclose(route, found["default"], atol=1e-6)
    assert torch.allclose(torch.ones(16), found["full"].sum(dim=1), rtol=0, atol=1e-6)
    for place, own in enumerate(LEAVES):
        expected = found["coarse"][:, [place]] * parts[place]["full"]
        assert torch.allclose(expected, found["full"][:, own], atol=1e-6)
    executed = [(chosen == p)[:, None] & parts[p]["executed"] for p in (0, 1)]
    assert torch.equal(torch.cat(executed, dim=1), found["executed"][:, 1:])
    assert found["executed"][:, 0].all()


def test_cost_names_every_part_once(fused):
    """Parts have the node names of the fused tree, in the order of `executed`; none is shared."""
    classifier = fused()
    cost, old = classifier.cost(), [part.cost() for part in classifier.parts]

    assert list(cost.macs) == [
        "root",
        "cluster-0",
        "cluster-0-0",
        "cluster-0-1",
        "cluster-1",
        "cluster-1-0",
        "cluster-1-0-0",
    ]
    assert set(cost.macs) <= set(classifier.hierarchy)
    assert cost.macs_max - cost.macs["root"] == old[0].macs_max + old[1].macs_max
    assert cost.params == backbone.count(classifier.root) + old[0].params + old[1].params
    assert isinstance(classifier, HierarchicalClassifier)


def settings(**own):
    return fit.RunSettings(
        method="uppsala",
        grouping=None,
        own=uppsala.Params(**own),
        data=images.Params(batch_size=16),
        augment=augment.Params(),
        backbone=NETWORK,
        loop=LOOP,
    )


@pytest.mark.parametrize("root_init", ["flat", "scratch"])
def test_only_the_root_learns(make_classifier, make_trainer, model_of, tiny_data, root_init):
    """The root learns the tree of each image for any leaf order; the trees do not change."""
    pictures = tiny_data(16, leaves=(2, 0, 3, 1))  # the families are {2, 0} and {3, 1}
    names = (["cem", "ann"], ["dua", "bea"])
    tree = hierarchy.from_clusters([[0, 1]], 2)
    first, second = (
        saved.Saved(
            make_classifier("uppsala", tree, seed=seed),
            model_of("uppsala", tree, labels=names[seed]),
        )
        for seed in (0, 1)
    )
    long = LOOP.model_copy(update={"epochs": 15, "ema": 0.5, "label_smoothing": 0.0, "lr": 0.1})
    chosen = settings(root_init=root_init)
    mean = np.array([0.3, 0.2, 0.3], dtype=np.float32)
    seeds.seed(0, "both", "weights")
    classifier = merge.fuse(first, second, chosen, pictures, mean=mean)
    was = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    trainer = make_trainer(pictures, params=long)
    report = merge.learn(classifier, first, chosen, pictures, trainer, seed=0)
    now = classifier.state_dict()
    with torch.no_grad():
        sides = classifier.coarse_proba(inputs_of(pictures, 64)).argmax(dim=1).numpy()

    assert [[2, 0], [3, 1]] == classifier.leaves
    assert (sides == np.array([0, 1, 0, 1])[pictures.train.labels]).mean() > 0.9
    assert all(torch.equal(was[n], now[n]) for n in was if not n.startswith("root."))
    assert not torch.equal(was["root.head.fc21.weight"], now["root.head.fc21.weight"])
    (network_report,) = report.networks
    assert ("root", 15 * 64) == (network_report.network, network_report.images_seen)
    assert math.isclose(
        6.0 * classifier.cost().macs["root"] * network_report.images_seen,
        network_report.train_flops,
    )


def test_larger_tree_gets_no_more_pictures(make_trainer, make_classifier, tiny_data):
    """With three labels against one, an epoch has equally many images of both trees."""
    pictures = tiny_data(8)
    first = make_classifier("uppsala", hierarchy.from_clusters([[0, 1], [2]], 3))
    second = make_classifier("flat", hierarchy.flat(2))
    second.hierarchy = hierarchy.from_clusters([[0]], 1)
    classifier = fusion.Classifier(
        [first, second],
        leaves=[(0, 1, 3), (2,)],
        build=network,
        mean=np.zeros(3, dtype=np.float32),
    )
    report = classifier.fit(pictures, make_trainer(pictures, params=LOOP), seed=0)

    assert (16, 32) == (report.networks[0].images_seen, report.networks[0].pictures)


PARAMS = """
seeds: [0]
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 1, threads: 1, device: cpu}
evaluate: {latency_seconds: 0.1}
runs:
  tree: {method: uppsala, grouping: given}
"""
NAMES = {"a": ("ann", "cem"), "b": ("bea", "dua")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shard_writer):
    """Trains trees of two labels in a/ and b/, and writes shards of all four labels."""
    folder, write_shards = tmp_path_factory.mktemp("merge"), shard_writer[0]
    counts = {"train": 6, "val": 4, "test": 4}
    write_shards(folder / "data" / "shards", counts)
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, labels in NAMES.items():
            write_shards(folder / f"data-{name}" / "shards", counts, labels=labels, leaves=range(2))
            given = folder / f"data-{name}" / "clustering" / "0" / "given.json"
            given.parent.mkdir(parents=True)
            clusters = [[0, 1]] if name == "a" else [[0], [1]]
            given.write_text(json.dumps({"labels": labels, "clusters": clusters}))
            for command in (["flat"], ["fit", "tree"]):
                places = ["--data", f"data-{name}", "--results", name]
                assert 0 == main([*command, *places])
    return folder


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """Copies the trained folder and changes to it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_writes_a_run_like_any_other(project, capsys):
    """After `merge`, `evaluate` and `predict` work; both loaded trees are unchanged."""
    Image.new("RGB", (20, 30), "red").save(project / "mine.png")
    assert 0 == main(["merge", "a/tree/0", "b/tree/0", "both"])
    assert 0 == main(["evaluate", "both"])
    capsys.readouterr()
    assert 0 == main(["predict", "both", "mine.png"])
    line = json.loads(capsys.readouterr().out)
    folder = project / "results" / "both" / "0"
    run = saved.load(folder)
    cost = json.loads((folder / "cost.json").read_text())
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    assert ("fusion", ("ann", "bea", "cem", "dua")) == (run.model.method, run.model.labels)
    assert ["root", "cluster-0" if line["label"] in NAMES["a"] else "cluster-1"] == [
        entry["node"] for entry in line["path"][:2]
    ]
    assert 16 == json.loads((folder / "metrics.json").read_text())["n_test"]
    assert dict(run.classifier.cost().macs) == cost["macs"]
    assert math.isclose(1.0, cost["shares"]["cluster-0"] + cost["shares"]["cluster-1"])
    for place, name in enumerate(NAMES):
        tensors, _ = checkpoint.load(project / name / "tree" / "0" / "weights.safetensors")
        part = run.classifier.parts[place]
        assert all(torch.equal(tensors[n], tensor) for n, tensor in part.state_dict().items())
        with torch.no_grad():
            expected = saved.load(project / name / "tree" / "0").classifier.predict_proba(x)
            found = decided(run.classifier, place).predict_proba(x)
        assert torch.allclose(expected, found[:, [place, place + 2]], atol=1e-6)


def test_same_seed_same_bits(project):
    """The same command twice gives the same weights."""
    for results in ("one", "two"):
        main(["merge", "a/tree/0", "b/tree/0", "both", "--results", results, "--work", results])
    ends = [
        checkpoint.load(project / results / "both" / "0" / "weights.safetensors")[0]
        for results in ("one", "two")
    ]

    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["a/tree/0", "a/tree/0", "both"], 5, "a/tree/0 and a/tree/0 have ann, cem in common"),
        (
            ["a/tree/0", "b/flat/0", "both"],
            2,
            "a run of method 'flat', and only trees of 'uppsala'",
        ),
        (["a/tree/0", "c/tree/0", "both"], 5, "stage 'fit' writes it"),
        (["a/tree/0", "b/tree/0", "both", "--data", "data-a"], 5, "not in both: bea, dua"),
        (["a/tree/0", "b/tree/0", "both", "--dense", "16"], 2, "backbone.dense 32, and it is 16"),
        (["a/tree/0", "b/tree/0", "both", "--depth", "3"], 2, "Set uppsala.depth: null."),
        (["a/tree/0", "b/tree/0", "both", "--rollback", "1"], 2, "Set uppsala.rollback: 0."),
        (["a/tree/0", "b/tree/0", "both", "--freeze", "none"], 2, "with uppsala.freeze 'conv'"),
        (["a/tree/0", "b/tree/0", "tree"], 2, "'tree' cannot be a new run"),
    ],
)
def test_what_does_not_fit_is_one_line(project, capsys, command, code, message):
    """A wrong folder, network, name or data set gives a one-line error, and nothing is written."""
    capsys.readouterr()

    assert code == main(["merge", *command])
    assert message in capsys.readouterr().err
    assert not (project / "results").exists()


def test_epochs_of_subnetworks_are_no_option(capsys):
    """Merging trains a root alone, so that `--subnetwork-epochs` would do nothing."""
    with pytest.raises(SystemExit) as caught:
        main(["merge", "a/tree/0", "b/tree/0", "both", "--subnetwork-epochs", "4"])

    assert 2 == caught.value.code
    assert "unrecognized arguments: --subnetwork-epochs 4" in capsys.readouterr().err


def test_damaged_description_is_said(project, capsys):
    """A fused run without `parts` in model.json gives an error with the remedy."""
    assert 0 == main(["merge", "a/tree/0", "b/tree/0", "both"])
    path = project / "results" / "both" / "0" / "model.json"
    facts = json.loads(path.read_text())
    del facts["parts"]
    path.write_text(json.dumps(facts))
    capsys.readouterr()

    assert 5 == main(["evaluate", "both"])
    assert "describes no model of this version" in capsys.readouterr().err
