"""Labels added to a trained tree: their cluster, kept tensors, training, refusals."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from train import backbone, extend, fit, saved
from train.__main__ import main
from train.classifier import HierarchicalClassifier
from train.data import augment, images
from train.data.images import ImageSet
from train.engine import loop
from train.methods.uppsala import classifier as uppsala
from train.runtime import checkpoint
from train.tree import hierarchy

NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, noise=0.0, init="he"
)
LOOP = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
OLD, LEAVES = ("bea", "cem", "dua"), [1, 2, 3]
CPU = torch.device("cpu")


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


@pytest.fixture
def old(make_classifier, model_of):
    """Builds a tree of three labels, bea alone and cem with dua; the root favours `biased`."""

    def build(biased=None, *, nested=((0,), (1, 2)), **own):
        tree = hierarchy.from_nested([list(group) for group in nested], 3)
        classifier = make_classifier("uppsala", tree, network=NETWORK, **own).eval()
        last = classifier.root.head.predictions
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
            if biased is not None:
                last.bias[biased] = 5.0
        return saved.Saved(classifier, model_of("uppsala", tree, NETWORK, labels=OLD, run="tree"))

    return build


def grown(old, data, **own):
    return extend.grow(old, settings(**own), data, device=CPU, source="old/tree/0")


def test_label_joins_the_likeliest_cluster(old, tiny_data):
    """With a mass of 0.993 `ann` joins the favourite cluster; with 0.5 it gets its own."""
    to_pair, to_single, alone = (grown(old(biased), tiny_data()) for biased in (1, 0, None))

    assert [[1], [2, 3, 0]] == hierarchy.to_nested(to_pair.classifier.hierarchy)
    assert ({"cluster-1"}, set()) == (to_pair.again, to_pair.anew)
    assert "cluster-1" == to_pair.placements["ann"].node
    assert abs(to_pair.placements["ann"].mass - np.exp(5) / (np.exp(5) + 1)) < 1e-6
    assert [[1, 0], [2, 3]] == hierarchy.to_nested(to_single.classifier.hierarchy)
    assert (set(), {"cluster-0"}) == (to_single.again, to_single.anew)
    assert [[1], [2, 3], [0]] == hierarchy.to_nested(alone.classifier.hierarchy)
    assert (set(), set()) == (alone.again, alone.anew)
    assert alone.placements["ann"] == extend.Placement("cluster-2", 0.5)


def test_mass_is_a_mean_over_the_pictures_of_the_label(old, tiny_data):
    """The mass is the mean of the root's rows over the training images of that label."""
    before = old()
    with torch.no_grad():
        before.classifier.root.head.predictions.weight.normal_(generator=torch.manual_seed(1))
    pictures = tiny_data().train
    rows = np.flatnonzero(pictures.labels == 2)
    with torch.no_grad():
        expected = before.classifier.coarse_proba(augment.scale(pictures.batch(rows))).mean(dim=0)

    found = extend.mass(before.classifier, pictures, 2, device=CPU)
    assert np.allclose(expected.numpy(), found, atol=1e-6)


@pytest.mark.parametrize("biased", [0, 1, None])
def test_old_rows_are_kept(old, tiny_data, biased):
    """Before training the extended tree holds every old tensor in the first rows of its own."""
    before = old(biased)
    now = grown(before, tiny_data()).classifier.state_dict()

    for name, tensor in before.classifier.state_dict().items():
        assert torch.equal(tensor, now[name][: len(tensor)] if tensor.ndim else now[name]), name
    drawn = {1: "branches.cluster-1", None: "root"}.get(biased)
    if drawn:
        fresh = now[f"{drawn}.head.predictions.weight"][2:]
        assert (1, 32) == tuple(fresh.shape)
        assert fresh.abs().max() > 0


@pytest.mark.parametrize("freeze", ["conv", "last_block", "none"])
@pytest.mark.parametrize("biased", [0, 1, None])
def test_all_other_tensors_stay(old, tiny_data, make_trainer, freeze, biased):
    """Only root and joined cluster train; shared blocks and other subnetworks stay identical."""
    trained = None if biased is None else f"cluster-{biased}"
    pictures, before = tiny_data(), old(biased, freeze=freeze)
    was = {name: tensor.clone() for name, tensor in before.classifier.state_dict().items()}
    tree = grown(before, pictures, freeze=freeze)
    report = tree.classifier.refit(
        pictures, make_trainer(pictures, params=LOOP), seed=0, again=tree.again, anew=tree.anew
    )
    now = tree.classifier.state_dict()
    shared = tuple(f"root.blocks.{block}." for block in range(tree.classifier.first_own))
    untouched = [
        name
        for name in was
        if name == "mean"
        or name.startswith(shared)
        or (name.startswith("branches.") and name.split(".")[1] != trained)
    ]

    assert ["root", trained][: 1 + (trained is not None)] == [r.network for r in report.networks]
    assert {"conv": 5, "last_block": 4, "none": 0}[freeze] == tree.classifier.first_own
    assert any(name.startswith("branches.cluster-1") for name in untouched) == (biased != 1)
    assert all(torch.equal(was[name], now[name]) for name in untouched)
    for name in ("root.head.fc21.weight", f"branches.{trained}.head.fc21.weight"):
        assert name not in was or not torch.equal(was[name], now[name])
    if freeze == "none":
        assert not torch.equal(was["root.blocks.0.B1C1.weight"], now["root.blocks.0.B1C1.weight"])


def test_old_labels_answer_from_their_new_places(old, tiny_data, make_trainer):
    """`ann` sorts first: cem and dua keep their odds in the untouched cluster, one index later."""
    pictures, before = tiny_data(), old(0)
    x = augment.scale(pictures.val.batch(np.arange(32)))
    with torch.no_grad():
        was = before.classifier.outputs(x)
    odds = was["full"][:, [1, 2]] / was["coarse"][:, [1]]
    tree = grown(before, pictures)
    tree.classifier.refit(
        pictures, make_trainer(pictures, params=LOOP), seed=0, again=tree.again, anew=tree.anew
    )
    with torch.no_grad():
        now = tree.classifier.outputs(x)

    assert torch.allclose(odds, now["full"][:, [2, 3]] / now["coarse"][:, [1]], atol=1e-5)
    assert torch.allclose(torch.ones(32), now["full"].sum(dim=1), rtol=0, atol=1e-6)


def test_new_label_is_learnt(make_classifier, make_trainer, model_of, tiny_data):
    """A trained tree of three labels predicts all four after it is extended by `ann`."""
    everything = tiny_data(12)
    three = replace(
        everything,
        labels=OLD,
        train=_without_ann(everything.train),
        val=_without_ann(everything.val),
    )
    long = LOOP.model_copy(update={"epochs": 25, "ema": 0.5, "label_smoothing": 0.0, "lr": 0.1})
    tree = hierarchy.from_clusters([[0], [1, 2]], 3)
    before = make_classifier("uppsala", tree, root_init="scratch")
    before.fit(three, make_trainer(three, params=long, folder="old"), seed=0)
    found = grown(
        saved.Saved(before, model_of("uppsala", tree, labels=OLD)),
        everything,
        root_init="scratch",
    )
    found.classifier.refit(
        everything,
        make_trainer(everything, params=long),
        seed=0,
        again=found.again,
        anew=found.anew,
    )
    with torch.no_grad():
        rows = found.classifier.predict_proba(augment.scale(everything.train.batch(np.arange(48))))

    assert "cluster-0" == found.placements["ann"].node  # the cluster of ann's family
    assert (rows.argmax(dim=1).numpy() == everything.train.labels).all()
    assert isinstance(found.classifier, HierarchicalClassifier)


def _without_ann(pictures):
    kept = np.flatnonzero(pictures.labels != 0)
    return ImageSet(
        pictures.images[kept],
        pictures.labels[kept] - 1,
        pictures.post_ids[kept],
        pictures.white[kept],
    )


PARAMS = """
seeds: [0]
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 1, threads: 1, device: cpu}
evaluate: {latency_seconds: 0.1}
runs:
  tree: {method: uppsala, grouping: given}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shard_writer):
    """Trains a flat network and a tree of three labels in old/; writes shards of four labels."""
    folder, write_shards = tmp_path_factory.mktemp("extend"), shard_writer[0]
    counts = {"train": 6, "val": 4, "test": 4}
    write_shards(folder / "before" / "shards", counts, labels=OLD, leaves=range(3))
    write_shards(folder / "data" / "shards", counts, labels=("abe", *OLD))
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    given = folder / "before" / "clustering" / "0" / "given.json"
    given.parent.mkdir(parents=True)
    given.write_text(json.dumps({"labels": OLD, "clusters": [[0], [1, 2]]}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (["flat"], ["fit", "tree"]):
            assert 0 == main([*command, "--data", "before", "--results", "old"])
    return folder


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """Copies the trained folder and changes to it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_writes_a_run_like_any_other(project, capsys):
    """After `extend`, `evaluate` and `predict` work, and untouched tensors equal the old file's."""
    Image.new("RGB", (20, 30), "red").save(project / "mine.png")
    assert 0 == main(["extend", "old/tree/0", "grown", "--epochs", "2"])
    assert 0 == main(["evaluate", "grown"])
    capsys.readouterr()
    assert 0 == main(["predict", "grown", "mine.png"])
    line = json.loads(capsys.readouterr().out)
    folder = project / "results" / "grown" / "0"
    facts = json.loads((folder / "model.json").read_text())
    was, now = (
        checkpoint.load(one / "weights.safetensors")[0]
        for one in (project / "old" / "tree" / "0", folder)
    )
    joined = facts["extends"]["placed"]["abe"][0]
    rest = [n for n in was if n.startswith(("root.blocks", "branches"))]
    rest = [n for n in rest if not n.startswith(f"branches.{joined}.")]

    assert line["label"] in facts["labels"]
    assert ["abe", *OLD] == facts["labels"]
    assert ("tree", 0) == (facts["extends"]["run"], facts["extends"]["seed"])
    assert len(rest) > 10
    assert all(torch.equal(was[name], now[name]) for name in rest)
    assert 16 == json.loads((folder / "metrics.json").read_text())["n_test"]
    assert not list((project / "work" / "train").iterdir())


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["absent/tree/0", "grown"], 5, "stage 'fit' writes it"),
        (["old/flat/0", "grown"], 2, "a run of method 'flat', and only trees of 'uppsala'"),
        (["old/tree/0", "grown", "--dense", "16"], 2, "backbone.dense 32, and it is 16 now"),
        (["old/tree/0", "grown", "--freeze", "none"], 2, "with uppsala.freeze 'conv'"),
        (
            [
                "old/tree/0",
                "grown",
                "--flip",
                "none",
                "--crop",
                "8",
                "--rotation",
                "0",
                "--zoom",
                "1",
                "--shift",
                "0",
            ],
            2,
            "augment.crop None, and it is 8 now",
        ),
        (["old/tree/0", "grown", "--rollback", "1"], 2, "A tree with rollback cannot be extended"),
        (["old/tree/0", "grown", "--root-init", "scratch"], 2, "with uppsala.root_init 'flat'"),
        (["old/tree/0", "grown", "--depth", "3"], 2, "keeps its clusters whole"),
        (["old/tree/0", "grown", "--data", "before"], 5, "there is no label to add"),
        (["old/tree/0", "tree"], 2, "'tree' cannot be a new run"),
        (["old/tree/0", "a/b"], 2, "'a/b' cannot be a new run"),
        (["old/tree/0", "flat"], 2, "other commands write flat, tree"),
    ],
)
def test_what_does_not_fit_is_one_line(project, capsys, command, code, message):
    """A wrong folder, network, name or data set gives a one-line error, and nothing is written."""
    capsys.readouterr()

    assert code == main(["extend", *command])
    assert message in capsys.readouterr().err
    assert not (project / "results").exists()


def test_shards_must_hold_every_old_label_at_the_same_side(project, capsys, shard_writer):
    """Missing labels and another side are refused; a run cannot extend into its own folder."""
    write_shards, _ = shard_writer
    counts = {"train": 6, "val": 4, "test": 4}
    write_shards(project / "fewer" / "shards", counts, labels=("abe", *OLD[1:]), leaves=range(3))
    write_shards(project / "larger" / "shards", counts, labels=("abe", *OLD), side=32)

    assert 5 == main(["extend", "old/tree/0", "grown", "--data", "fewer"])
    assert "The shards lack 1 of the 3 labels of old/tree/0: bea." in capsys.readouterr().err
    assert 5 == main(["extend", "old/tree/0", "grown", "--data", "larger"])
    assert "images of 16 pixels, and the shards hold images of 32" in capsys.readouterr().err
    (project / "old" / "tree").rename(project / "old" / "first")
    assert 2 == main(["extend", "old/first/0", "first", "--results", "old"])
    assert "cannot be read and written at once" in capsys.readouterr().err
