"""The tree of a run: the accuracy of each network and label, and the MICP of its groups."""

import numpy as np
import pytest

from tests.train.report_fixture import CLUSTERS, EXPERIMENTS, LABELS, compare, write
from train.evaluation import metrics
from train.page import results, summary, tree
from train.page.sections.tree import micp_table
from train.tree import hierarchy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of two seeds."""
    return write(tmp_path_factory.mktemp("comparison"), catalog=False)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Writes results of three seeds: three hierarchies, random groups, four matched controls."""
    root = tmp_path_factory.mktemp("experiments")
    return write(root, seeds=(0, 1, 2), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture
def small(tmp_path):
    """Writes results of one seed on few images."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


def test_tree_shows_what_each_network_gets_right(folder):
    """A subnetwork's accuracy uses the images of its own labels; the root's is its routing."""
    loaded, compared = compare(folder)
    root = tree.build(compared.main, compared.flat, loaded.labels, seed=0)
    trained = compared.main.predictions[0].trained
    cluster = hierarchy.parents(CLUSTERS)
    first = np.isin(trained.label, CLUSTERS[0])
    inside = metrics.oracle_routing(trained.full[first], trained.label[first], cluster)
    routed = np.mean(trained.coarse.argmax(axis=1) == cluster[trained.label])

    assert routed == pytest.approx(root.accuracy)
    assert inside == pytest.approx(root.children[0].accuracy)
    assert LABELS[10] == root.children[3].name
    assert root.children[3].is_label


def test_networks_know_the_micp_of_their_groups(experiments):
    """At any depth MICP lies between accuracy and 1, and above chance for clusters."""
    loaded, compared = compare(experiments)
    row = next(row for row in compared.hierarchies if row.run.name == "uppsala_deep")
    root = tree.build(row, compared.flat, loaded.labels, seed=0)
    trained = row.predictions[0].trained
    groups = [[0, 1, 3, 4, 5], [2, 6, 7, 8, 9], [10, 11]]
    counts = metrics.confusion_counts(trained.label, trained.full.argmax(axis=1), leaves=12)
    confusion = metrics.normalise_rows(counts)
    first = root.children[0]

    assert metrics.micp(confusion, groups) == pytest.approx(root.micp)
    assert metrics.micp_random(confusion, [5, 5, 2]) == pytest.approx(root.micp_random)
    assert first.micp_random < first.micp <= 1
    leaves_alone = first.children[0]
    assert leaves_alone.micp == pytest.approx(leaves_alone.micp_random)
    assert "cluster-0-0" in [row[0] for row in micp_table(root, name="uppsala_deep").rows]


def test_tree_without_full_probabilities_counts_what_arrived(small):
    """Without mode full a subnetwork is measured on the images routed to it."""
    loaded, compared = compare(small)
    main = compared.main
    trained = results.TrainedRun(
        **{
            name: getattr(main.predictions[0].trained, name)
            for name in results.TrainedRun.__slots__
        }
        | {"full": None}
    )
    alone = summary.SeedPredictions(trained, trained.predicted, trained.probabilities)
    row = summary.replace(main, predictions={0: alone})
    root = tree.build(row, compared.flat, loaded.labels, seed=0)
    arrived = np.isin(trained.label, CLUSTERS[0]) & np.isin(trained.predicted, CLUSTERS[0])

    assert int(arrived.sum()) == root.children[0].images
    assert np.mean(trained.correct[arrived]) == pytest.approx(root.children[0].accuracy)


def test_tree_of_any_depth_shows_each_network(experiments):
    """A network below a cluster is measured on the images of its own labels, for any routing."""
    loaded, compared = compare(experiments)
    deep = next(row for row in compared.summaries if row.name == "uppsala_deep")
    root = tree.build(deep, compared.flat, loaded.labels, seed=0)
    inner = root.children[0].children[0]
    trained = deep.predictions[0].trained
    own = np.isin(trained.label, (0, 3))
    chosen = np.array([0, 3])[trained.full[own][:, [0, 3]].argmax(axis=1)]

    assert ("cluster-0-0", 20) == (inner.name, inner.images)
    assert np.mean(chosen == trained.label[own]) == pytest.approx(inner.accuracy)
    assert {LABELS[0], LABELS[3]} == {child.name for child in inner.children}
