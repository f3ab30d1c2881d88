"""The numbers of the report: sums that must add up, trees, and what the first words say."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.train.report_fixture import CLUSTERS, LABELS, compare, write
from train.components import hierarchy, metrics
from train.page import answer, comparison, results, tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two seeds."""
    return write(tmp_path_factory.mktemp("comparison"), catalog=False)


@pytest.fixture
def small(tmp_path):
    """Results of one seed on few pictures."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


def _say(folder):
    found, compared = compare(folder)
    return answer.write(compared, images=len(found.white))


def test_differences_and_shares_add_up(folder):
    """Right, wrong inside and wrong across make one; the difference is that of the means."""
    _, compared = compare(folder)
    for row in compared.summaries:
        parts = row.msr.mean + row.wrong_inside.mean + row.wrong_across.mean
        assert 1 == pytest.approx(parts)
    main = compared.main

    assert main.msr.mean - compared.flat.msr.mean == pytest.approx(main.difference.mean)
    for seed, place in zip(main.flips, (0, 1), strict=True):
        gained = main.flips[seed].fixed - main.flips[seed].broken
        size = len(main.answers[seed].correct)
        assert main.msr.values[place] - compared.flat.msr.values[place] == pytest.approx(
            gained / size
        )


def test_full_probabilities_make_a_row_of_their_own(folder):
    """A run that stored mode full is compared in both modes, at the cost of all its networks."""
    _, compared = compare(folder)
    names = [row.name for row in compared.summaries]

    assert ["flat", "uppsala", "uppsala (full)", "uppsala_random", "uppsala_random (full)"] == names
    assert 5.4e6 == compared.summaries[2].cost.macs


def test_micp_uses_the_reference_and_the_own_clusters(folder):
    """The control's MICP is taken once against the modularity clusters, once against its own."""
    _, compared = compare(folder)
    control = compared.control
    trained = control.answers[0].trained
    counts = metrics.confusion_counts(trained.label, trained.predicted, leaves=len(LABELS))
    shares = metrics.normalise_rows(counts)

    assert metrics.micp(shares, CLUSTERS) == pytest.approx(control.micp.values[0])
    assert control.micp.values[0] != control.micp_own.values[0]


def test_tree_shows_what_each_network_gets_right(folder):
    """A subnetwork's success is that on its own labels' pictures; the root's is its routing."""
    found, compared = compare(folder)
    root = tree.build(compared.main, compared.flat, found.labels, seed=0)
    trained = compared.main.answers[0].trained
    cluster = hierarchy.parents(CLUSTERS)
    first = np.isin(trained.label, CLUSTERS[0])
    inside = metrics.oracle_routing(trained.full[first], trained.label[first], cluster)
    routed = np.mean(trained.coarse.argmax(axis=1) == cluster[trained.label])

    assert routed == pytest.approx(root.success)
    assert inside == pytest.approx(root.children[0].success)
    assert LABELS[10] == root.children[3].name
    assert root.children[3].is_label


def test_tree_without_full_probabilities_counts_what_arrived(small):
    """Without mode full a subnetwork is measured on the pictures that reached it."""
    found, compared = compare(small)
    main = compared.main
    trained = results.Trained(
        **{name: getattr(main.answers[0].trained, name) for name in results.Trained.__slots__}
        | {"full": None}
    )
    summary = comparison.replace(
        main, answers={0: comparison.Answers(trained=trained, predicted=trained.predicted)}
    )
    root = tree.build(summary, compared.flat, found.labels, seed=0)
    arrived = np.isin(trained.label, CLUSTERS[0]) & np.isin(trained.predicted, CLUSTERS[0])

    assert int(arrived.sum()) == root.children[0].images
    assert np.mean(trained.correct[arrived]) == pytest.approx(root.children[0].success)


@pytest.mark.parametrize(
    ("gain", "random_gain", "expected"),
    [
        (0.8, 0.0, "Yes"),
        (-0.9, 0.0, "No"),
        (1.2, 2.6, "Yes, but random groups do as well"),
    ],
)
def test_verdict_follows_the_numbers(tmp_path, gain, random_gain, expected):
    """The first words say what the intervals say, the control's among them."""
    folder = write(tmp_path, seeds=(0,), gain=gain, random_gain=random_gain, catalog=False)

    assert expected == _say(folder).verdict


def test_verdict_without_a_measurable_difference(small):
    """Where the interval holds zero, nothing is claimed."""
    shutil.rmtree(small.results_dir / "uppsala")
    shutil.copytree(small.results_dir / "flat", small.results_dir / "uppsala")
    said = _say(small)

    assert "Not measurably" == said.verdict
    assert "within chance" in said.sentence


def test_one_seed_is_called_one_seed(small, folder):
    """A report of one seed says so and gives the paired interval; one of two says it is few."""
    alone, two = _say(small), _say(folder)

    assert "one seed" in alone.sentence
    assert "95\u00a0% interval" in alone.sentence
    assert "one seed" not in two.sentence
    assert "Fewer than 3" in dict(two.facts)["How sure is this?"]


def test_table_has_its_schema_and_order(folder):
    """The table is sorted by run, mode, measure, label, seed, and each of these is unique."""
    table = comparison.table(*compare(folder))
    keys = [
        tuple((row[name] is not None, row[name]) for name in table.column_names[:5])
        for row in table.to_pylist()
    ]

    assert comparison.SCHEMA.names == table.schema.names
    assert sorted(keys) == keys
    assert len(set(keys)) == len(keys)


def test_table_holds_what_the_predictions_say(folder):
    """MSR is that of the predictions, per seed, per label and overall."""
    rows = comparison.table(*compare(folder)).to_pylist()
    predictions = pq.read_table(folder.results_dir / "uppsala" / "1" / "predictions.parquet")
    kept = [row for row in predictions.to_pylist() if row["split"] == "test"]
    expected = np.mean([row["label"] == row["predicted"] for row in kept])
    chosen = [
        row for row in rows
        if (row["run"], row["mode"], row["measure"]) == ("uppsala", "default", "msr")
    ]  # fmt: skip

    assert [expected] == [row["value"] for row in chosen if row["seed"] == 1]
    assert set(LABELS) == {row["label"] for row in chosen if row["label"] is not None}
    assert 30 * len(LABELS) == chosen[0]["count"]
