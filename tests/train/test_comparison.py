"""The report's numbers: sums that must add up, trees, controls, costs, the table."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from tests.train.documents_fixture import CALLS, COST
from tests.train.report_fixture import (
    CLUSTERS,
    EXPERIMENTS,
    LABELS,
    TREES,
    compare,
    say,
    write,
)
from train.evaluation import metrics
from train.page import comparison
from train.page.sections import results as section
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


def test_differences_and_shares_add_up(folder):
    """Right, wrong inside and wrong across sum to 1; the difference equals that of the means."""
    _, compared = compare(folder)
    for row in compared.summaries:
        parts = row.msr.mean + row.wrong_inside.mean + row.wrong_across.mean
        assert 1 == pytest.approx(parts)
    main = compared.main

    assert main.msr.mean - compared.flat.msr.mean == pytest.approx(main.difference.mean)
    for seed, index in zip(main.flips, (0, 1), strict=True):
        gained = main.flips[seed].fixed - main.flips[seed].broken
        size = len(main.predictions[seed].correct)
        assert main.msr.values[index] - compared.flat.msr.values[index] == pytest.approx(
            gained / size
        )


def test_full_probabilities_make_a_row_of_their_own(folder):
    """A run that stored mode full is compared in both modes; full costs all its networks."""
    _, compared = compare(folder)
    names = [row.name for row in compared.summaries]

    assert ["flat", "uppsala", "uppsala (full)", "uppsala_random", "uppsala_random (full)"] == names
    assert 5.4e6 == compared.summaries[2].cost.macs


def test_micp_uses_the_reference_and_the_own_clusters(folder):
    """The MICP of the control is computed for the modularity clusters and for its own clusters."""
    _, compared = compare(folder)
    control = compared.control_groups[0].random[0].summary
    trained = control.predictions[0].trained
    counts = metrics.confusion_counts(trained.label, trained.predicted, leaves=len(LABELS))
    shares = metrics.normalise_rows(counts)

    assert metrics.micp(shares, CLUSTERS) == pytest.approx(control.micp.values[0])
    assert control.micp.values[0] != control.micp_own.values[0]


def test_mistakes_are_measured_in_the_given_tree(experiments, small):
    """Severity averages over wrong images, cost over all; both are None without a given tree."""
    loaded, compared = compare(experiments)
    given = hierarchy.from_nested(loaded.given(0).tree, len(loaded.labels))
    height = hierarchy.heights(given)
    flat = compared.flat.predictions[0]
    each = height[flat.trained.label, flat.predicted]

    assert each.mean() == pytest.approx(compared.flat.average_cost.values[0])
    assert each[each > 0].mean() == pytest.approx(compared.flat.severity.values[0])
    assert height.max() > compared.flat.severity.mean > 1
    for row in compared.summaries:
        wrong = 1 - np.array(row.msr.values)
        assert row.average_cost.values == pytest.approx(wrong * row.severity.values)
        assert np.all(np.array(row.msr.values) < row.node_f1.values)
    for path in small.data_dir.glob("clustering/*/given.json"):
        path.unlink()
    alone = compare(small)[1].flat
    measures = (alone.severity, alone.average_cost, alone.node_f1, alone.node_accuracy)
    assert (None, None, None, None) == measures
    assert alone.path_f1.mean > 0


def test_f1_of_nodes_is_in_the_given_tree(experiments):
    """The node F1 of every run uses the paths of one tree; path F1 is the labels' macro F1."""
    loaded, compared = compare(experiments)
    paths = hierarchy.paths(hierarchy.from_nested(loaded.given(0).tree, len(loaded.labels)))
    nodes = {leaf: set(path[1:]) for leaf, path in paths.items()}
    for row in (compared.flat, *compared.hierarchies):
        first = row.predictions[0]
        each = [
            2 * len(nodes[true] & nodes[predicted]) / (len(nodes[true]) + len(nodes[predicted]))
            for true, predicted in zip(first.trained.label, first.predicted, strict=True)
        ]
        macro = sklearn.metrics.f1_score(first.trained.label, first.predicted, average="macro")

        assert np.mean(each) == pytest.approx(row.node_f1.values[0])
        assert macro == pytest.approx(row.path_f1.values[0])


def test_node_accuracy_is_level_by_level_in_the_given_tree(experiments):
    """Labels of one family agree on its levels; an early leaf counts on all levels below."""
    loaded, compared = compare(experiments)
    families = (  # of labels 0 to 11, written out from TREES["given"]: first and second level
        (0, "ab"),
        (0, "cd"),
        (1, "ef"),
        (0, "ab"),
        (0, "cd"),
        (0, "5"),
        (1, "6"),
        (1, "ef"),
        (1, "8"),
        (1, "9"),
        (2, "10"),
        (2, "11"),
    )
    right = []
    for seed, predictions in compared.main.predictions.items():
        each = [
            np.mean([*(a == b for a, b in zip(families[i], families[j], strict=True)), i == j])
            for i, j in zip(predictions.trained.label, predictions.predicted, strict=True)
        ]
        right.append(np.mean(each))
        assert loaded.given(seed).tree == TREES["given"]

    assert compared.main.node_accuracy.values == pytest.approx(right)
    assert compared.main.msr.mean < compared.main.node_accuracy.mean < 1
    measures = {row["measure"] for row in comparison.table(loaded, compared).to_pylist()}
    assert {"node_f1", "node_accuracy"} <= measures


def test_consistency_is_of_the_label_with_the_own_likeliest_cluster(experiments):
    """Label and cluster always agree in mode route, often in mode full; None without a tree."""
    _, compared = compare(experiments)
    control = compared.control_groups[0].random[0].summary
    whole = compared.full(control)
    own = hierarchy.parents(TREES["random"])
    trained = whole.predictions[0].trained
    agree = own[trained.full.argmax(axis=1)] == trained.coarse.argmax(axis=1)

    assert (1, 1, 1) == control.consistency.values
    assert 0.5 < np.mean(agree) < 1
    assert np.mean(agree) == pytest.approx(whole.consistency.values[0])
    assert compared.flat.consistency is None


def test_table_has_its_schema_and_order(folder):
    """The table is sorted by run, mode, measure, label and seed, and each key is unique."""
    table = comparison.table(*compare(folder))
    keys = [
        tuple((row[name] is not None, row[name]) for name in comparison.KEY)
        for row in table.to_pylist()
    ]

    assert comparison.SCHEMA.names == table.schema.names
    assert sorted(keys) == keys
    assert len(set(keys)) == len(keys)


def test_table_holds_what_the_predictions_say(folder):
    """The MSR in the table equals that of the predictions, per seed, per label and overall."""
    rows = comparison.table(*compare(folder)).to_pylist()
    predictions = pq.read_table(folder.results_dir / "uppsala" / "1" / "predictions.parquet")
    kept = [row for row in predictions.to_pylist() if row["split"] == "test"]
    expected = np.mean([row["label"] == row["predicted"] for row in kept])
    chosen = [
        row
        for row in rows
        if (row["run"], row["mode"], row["measure"]) == ("uppsala", "default", "msr")
    ]

    assert [expected] == [row["value"] for row in chosen if row["seed"] == 1]
    assert set(LABELS) == {row["label"] for row in chosen if row["label"] is not None}
    assert 30 * len(LABELS) == chosen[0]["count"]


def test_costs_count_the_flat_network(experiments):
    """Costs include the flat network: 20 + 19 + 18 + 17 s and 20 s, 10^12 FLOPs per second."""
    _, compared = compare(experiments)
    cost = compared.main.cost

    assert (74.0, 20.0) == (cost.seconds_total.mean, cost.seconds_clustering.mean)
    assert 94e12 == pytest.approx(cost.flops.mean)
    assert 20e12 == pytest.approx(compared.flat.cost.flops.mean)
    assert "training takes 4.70 times the operations and 4.70 times the seconds" in " ".join(
        say(experiments).methods[0].sentences
    )


def test_time_of_an_image_is_the_mean_of_the_seeds_that_were_timed(folder, small):
    """Medians are averaged: 2 and 3 ms (batch 1), 51.2 and 76.8 ms (batch 256); others are None."""
    costs = {row.name: row.cost for row in compare(folder)[1].summaries}
    path = small.results_dir / "uppsala" / "0" / "cost.json"
    timed = {"batch": 1, "median_ms": 4.0, **CALLS}
    path.write_text(json.dumps({**COST, "latency": [timed]}))
    alone = compare(small)[1].main.cost
    path.unlink()
    untimed = compare(small)[1].main.cost

    def medians(cost):
        return tuple(time and time.median for time in (cost.alone, cost.in_batch))

    assert (2.5, 0.25) == pytest.approx(medians(costs["flat"]))
    assert (4.375, 0.5) == pytest.approx(medians(costs["uppsala"]))
    assert (6.0, 400) == (costs["flat"].alone.p95, costs["flat"].alone.calls)
    for name in ("uppsala (full)", "uppsala_random"):
        assert (None, None) == medians(costs[name])
        assert costs[name].timed is None
    assert (4.0, None) == medians(alone)
    assert (None, None) == medians(untimed)


@pytest.mark.parametrize(
    ("load", "threads", "mark"),
    [(1.2, 1, ""), (2.9, 1, "\u2021"), (None, 1, "\u00a7"), (1.2, 8, "\u2020")],
)
def test_times_that_cannot_be_compared_are_marked(small, load, threads, mark):
    """Another machine than that of flat, other work on its cores and an unknown load are marked."""
    for run in ("flat", "uppsala"):
        path = small.results_dir / run / "0" / "cost.json"
        own = {"load": load, "threads": threads} if run == "uppsala" else {"load": 1.0}
        path.write_text(json.dumps(COST | own))
    rows = {row[0]: row for row in section.costs(compare(small)[1]).rows}

    assert "2.5 (300; 2)" == rows["flat"][-2]
    assert f"2.5{mark} (300; 2)" == rows["uppsala"][-2]
    assert f"0.977{mark} (1.17; 2)" == rows["uppsala"][-1]


def test_runs_that_were_not_trained_are_left_out(experiments, tmp_path):
    """A missing run is left out, a missing seed keeps the others; both are listed as absent."""
    shutil.copytree(experiments.data_dir, tmp_path / "data")
    shutil.copytree(experiments.results_dir, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "hiernet")
    shutil.rmtree(tmp_path / "results" / "uppsala_macs" / "2")
    folder = replace(experiments, data_dir=tmp_path / "data", results_dir=tmp_path / "results")
    loaded, compared = compare(folder)
    control = compared.control_groups[0].controls[3]
    ours = np.mean(compared.main.msr.values[:2]) - np.mean(control.summary.msr.values)

    assert "hiernet" not in [run.name for run in loaded.runs]
    assert ("uppsala_macs (seed 2)", "hiernet") == loaded.absent
    assert [0, 1] == [*control.flips]
    assert ours == pytest.approx(control.difference.mean)
    assert comparison.table(loaded, compared).num_rows > 0


def test_table_names_what_a_difference_is_against(experiments):
    """Each difference has one row against flat and one row against each control."""
    loaded, compared = compare(experiments)
    rows = [
        row
        for row in comparison.table(loaded, compared).to_pylist()
        if (row["run"], row["mode"], row["measure"]) == ("uppsala", "default", "difference")
    ]
    names = {control.summary.run.name for control in compared.control_groups[0].controls}

    assert {"flat", *names} == {row["against"] for row in rows}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
