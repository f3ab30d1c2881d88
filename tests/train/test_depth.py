"""Clusters that `uppsala` divides by their own confusions: training, kept weights, resuming."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from personae.errors import BadParams
from tests.train.confusions import blocks
from train import backbone, fit, saved
from train.data import augment
from train.data.images import Params as Data
from train.data.images import open_data
from train.engine import loop
from train.engine.trainer import Trainer
from train.evaluation import prediction
from train.grouping import document
from train.methods.uppsala import classifier as uppsala
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")


@pytest.fixture
def halves(monkeypatch):
    """Makes every subnetwork confuse labels only within each half of its labels."""

    def planted(self, node, data):
        labels = len(hierarchy.children(self.hierarchy, node))
        return blocks([labels // 2, labels - labels // 2])

    monkeypatch.setattr(uppsala.Classifier, "_confusions", planted)


FOUR, EIGHT = [[0, 1, 2, 3]], [list(range(8))]


def test_clusters_are_divided_until_the_path_is_long_enough(
    make_classifier, noise, make_trainer, halves
):
    """Each division trains two networks: one over the labels, one over the predicted groups."""
    data, tree = noise(8), hierarchy.from_clusters(EIGHT, 8)
    start = make_classifier("flat", hierarchy.flat(8)).network.state_dict()
    found, reports = {}, {}
    for depth in (2, 3, 9):
        classifier = make_classifier("uppsala", tree, depth=depth)
        trainer = make_trainer(data, params=PARAMS, folder=f"work-{depth}")
        reports[depth] = classifier.fit(data, trainer, seed=0, start=start)
        found[depth] = hierarchy.to_nested(classifier.hierarchy)
        hierarchy.validate(classifier.hierarchy, 8)
    waits = {network.network: network.waits_for for network in reports[3].networks}

    assert [[[0, 1, 2, 3], [4, 5, 6, 7]]] == found[2]
    assert [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]] == found[3] == found[9]
    assert {
        "cluster-0": None,
        "cluster-0-clusters": "cluster-0",
        "cluster-0-0": "cluster-0-clusters",
        "cluster-0-1": "cluster-0-clusters",
        "cluster-0-0-clusters": "cluster-0-0",
        "cluster-0-1-clusters": "cluster-0-1",
        "cluster-0-0-0": "cluster-0-0-clusters",
        "cluster-0-0-1": "cluster-0-0-clusters",
        "cluster-0-1-0": "cluster-0-1-clusters",
        "cluster-0-1-1": "cluster-0-1-clusters",
    } == waits
    seconds = {network.network: network.seconds for network in reports[3].networks}
    chain = ["cluster-0", "cluster-0-clusters"]
    longest = max(
        sum(seconds[f"cluster-0-{place}{end}"] for end in ("", "-clusters", f"-{last}"))
        for place in (0, 1)
        for last in (0, 1)
    )
    assert math.isclose(
        sum(seconds[name] for name in chain) + longest, reports[3].critical_path_seconds
    )
    assert EIGHT == hierarchy.clusters(tree)
    assert 10 == len(tree)


def test_tree_that_is_deeper_than_the_limit_is_refused(make_classifier, make_trainer, tiny_data):
    """A depth of two joins no levels of a tree with three networks on a path."""
    tree = hierarchy.from_nested([[[0, 1], 2], [3]], 4)
    start = make_classifier("flat", hierarchy.flat(4)).network.state_dict()
    data = tiny_data()
    deep = make_classifier("uppsala", tree, depth=2)

    with pytest.raises(BadParams, match="depth is 2, and the grouping has 3 networks on a path"):
        deep.fit(data, make_trainer(data), seed=0, start=start)


def test_network_over_found_clusters_starts_from_the_one_over_labels(
    fitted_tree, halves, monkeypatch
):
    """Its dense layers equal those of the network over labels; its last layer is new."""
    begun = {}
    trained = Trainer.fit

    def watched(self, network, task, *, seed):
        begun[task.name, "before"] = {n: t.clone() for n, t in network.state_dict().items()}
        report = trained(self, network, task, seed=seed)
        begun[task.name, "after"] = {n: t.clone() for n, t in network.state_dict().items()}
        return report

    monkeypatch.setattr(Trainer, "fit", watched)
    fitted_tree(FOUR, depth=2)

    for child, parent in (
        ("cluster-0-clusters", "cluster-0"),
        ("cluster-0-0", "cluster-0-clusters"),
        ("cluster-0-1", "cluster-0-clusters"),
    ):
        before, after = begun[child, "before"], begun[parent, "after"]
        assert all(torch.equal(before[n], after[n]) for n in before if "predictions" not in n)
        assert tuple(before["branch.head.predictions.weight"].shape) == (2, 32)
        assert not torch.equal(
            before["branch.head.predictions.weight"], after["branch.head.predictions.weight"][:2]
        )


@pytest.mark.parametrize(
    ("clusters", "counts"),
    [
        pytest.param([[0, 1, 2, 3]], np.eye(4, dtype=int), id="perfect"),
        pytest.param([[0, 1, 2, 3]], np.ones((4, 4), dtype=int), id="all-alike"),
        pytest.param([[0, 1, 2], [3]], [[1, 3, 0], [3, 1, 0], [0, 0, 1]], id="three-labels"),
        pytest.param([[0, 1], [2, 3]], [[1, 3], [3, 1]], id="two-labels"),
    ],
)
def test_clusters_without_groups_stay(fitted_tree, monkeypatch, clusters, counts):
    """If the sweep allows no partition, the tree and all weights equal those without depth."""
    monkeypatch.setattr(uppsala.Classifier, "_confusions", lambda *_: np.array(counts))
    found = [fitted_tree(clusters, depth=depth, folder=f"work-{depth}")[0] for depth in (None, 5)]

    assert clusters == hierarchy.to_nested(found[1].hierarchy)
    first, second = (classifier.state_dict() for classifier in found)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_confusions_are_of_the_validation_pictures(make_classifier, tiny_data):
    """Rows are the labels of a cluster in output order; `reject` is not a prediction."""
    data = tiny_data()
    tree = hierarchy.from_clusters([[0, 2, 3], [1]], 4)
    classifier = make_classifier("uppsala", tree, rollback=1).eval()
    with torch.no_grad():
        classifier.branches["cluster-0"].head.predictions.bias[3] = 1e9
        rows = classifier.outputs(augment.scale(data.val.batch(np.arange(32))))["full"]
    expected = np.zeros((3, 3), dtype=int)
    for label, row in zip(data.val.labels, rows, strict=True):
        if label != 1:
            expected[[0, 2, 3].index(label), row[[0, 2, 3]].argmax()] += 1

    assert expected.tolist() == classifier._confusions("cluster-0", data).tolist()


@pytest.mark.parametrize("killed_at", ["cluster-0-clusters", "cluster-0-0"])
def test_killed_while_it_grows(fitted_tree, halves, monkeypatch, killed_at):
    """A run killed between two networks and restarted in its folder gives the same classifier."""
    trained = Trainer.fit

    def killing(self, network, task, *, seed):
        if task.name == killed_at:
            raise KeyboardInterrupt
        return trained(self, network, task, seed=seed)

    def again(folder):
        return fitted_tree(FOUR, depth=2, rollback=1, folder=folder)[0].state_dict()

    whole = again("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", killing)
        with pytest.raises(KeyboardInterrupt):
            again("killed")
    resumed, repeated = again("killed"), again("killed")

    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(torch.equal(whole[name], repeated[name]) for name in whole)


def test_run_that_grew_is_loaded_as_it_was(tiny_shards, tmp_path, halves):
    """model.json has the tree after the fit; the loaded run has the predictions of the fit."""
    labels = ["ann", "bea", "cem", "dua"]
    found = {"clusters": [[0, 1, 2, 3]], "labels": labels}
    document.write(tmp_path / "data" / "clustering" / "0", {"one": found}, {})
    chosen = uppsala.Params(depth=2, rollback=1, root_init="scratch", freeze="none")
    settings = fit.RunSettings(
        "uppsala",
        "one",
        chosen,
        Data(batch_size=16),
        augment.Params(),
        backbone.Params(widths=(4, 4, 4, 4, 4), dense=8),
        PARAMS,
    )
    folder = fit.run(
        settings,
        name="deep",
        seed=0,
        data_dir=tmp_path / "data",
        results_dir=tmp_path / "results",
        work_dir=tmp_path / "work",
    )
    classifier = saved.load(folder).classifier
    shards = open_data(tmp_path / "data" / "shards", tmp_path / "work" / "cache")
    said = prediction.predict(classifier, shards.val, device=torch.device("cpu"))
    rows = pq.read_table(folder / "validation.parquet")["probabilities"].to_pylist()
    order = np.argsort(shards.val.post_ids)

    assert [[[0, 1], [2, 3]]] == hierarchy.to_nested(classifier.hierarchy)
    assert np.array_equal(np.array(rows, dtype=np.float32), said.probabilities[order])
    took = json.loads((folder / "fit.json").read_text())
    assert ["cluster-0", "cluster-0-clusters", "cluster-0-0", "cluster-0-1"] == [
        row["network"] for row in took["networks"]
    ]
    assert said.executed == took["cost"]["shares"]


def test_trained_on_validation_pictures_tells_no_confusions(fitted_tree, tiny_data):
    """Training with train_on_val is refused, because the confusions would be of training images."""
    data = tiny_data()
    with pytest.raises(BadParams, match="train_on_val"):
        fitted_tree(FOUR, depth=2, data=replace(data, val=data.train))
