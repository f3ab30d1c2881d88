"""The numbers of the report: sums that must add up, trees, controls, costs, the table."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from tests.train.report_fixture import (
    CLUSTERS,
    EXPERIMENTS,
    LABELS,
    TREES,
    compare,
    say,
    write,
)
from train.evaluation import metrics, statistics
from train.page import comparison, controls, results, summary, tree
from train.page.sections.tree import micp_table
from train.tree import hierarchy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two seeds."""
    return write(tmp_path_factory.mktemp("comparison"), catalog=False)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Results of three seeds: three hierarchies, random groups, four controls of equal cost."""
    root = tmp_path_factory.mktemp("experiments")
    return write(root, seeds=(0, 1, 2), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture
def small(tmp_path):
    """Results of one seed on few images."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


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
        size = len(main.predictions[seed].correct)
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
    control = compared.control_groups[0].random[0].summary
    trained = control.predictions[0].trained
    counts = metrics.confusion_counts(trained.label, trained.predicted, leaves=len(LABELS))
    shares = metrics.normalise_rows(counts)

    assert metrics.micp(shares, CLUSTERS) == pytest.approx(control.micp.values[0])
    assert control.micp.values[0] != control.micp_own.values[0]


def test_mistakes_are_measured_in_the_tree_that_the_data_tells(experiments, small):
    """Severity counts wrong images alone, cost all of them; without such a tree there is neither."""
    found, compared = compare(experiments)
    told = hierarchy.from_nested(found.given(0).tree, len(found.labels))
    height = hierarchy.heights(told)
    one = compared.flat.predictions[0]
    each = height[one.trained.label, one.predicted]

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
    told = (alone.severity, alone.average_cost, alone.node_f1, alone.node_accuracy)
    assert (None, None, None, None) == told
    assert alone.path_f1.mean > 0


def test_f1_of_nodes_is_in_the_tree_that_the_data_tells(experiments):
    """Every run's node F1 is that of its paths in one tree; path F1 is the labels' macro F1."""
    found, compared = compare(experiments)
    paths = hierarchy.paths(hierarchy.from_nested(found.given(0).tree, len(found.labels)))
    nodes = {leaf: set(path[1:]) for leaf, path in paths.items()}
    for row in (compared.flat, *compared.hierarchies):
        one = row.predictions[0]
        each = [
            2 * len(nodes[true] & nodes[said]) / (len(nodes[true]) + len(nodes[said]))
            for true, said in zip(one.trained.label, one.predicted, strict=True)
        ]
        macro = sklearn.metrics.f1_score(one.trained.label, one.predicted, average="macro")

        assert np.mean(each) == pytest.approx(row.node_f1.values[0])
        assert macro == pytest.approx(row.path_f1.values[0])


def test_node_accuracy_is_level_by_level_in_the_told_tree(experiments):
    """Two labels of one family agree above it; a leaf that ends early stands on each level below."""
    found, compared = compare(experiments)
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
    for seed, one in compared.main.predictions.items():
        each = [
            np.mean([*(a == b for a, b in zip(families[i], families[j], strict=True)), i == j])
            for i, j in zip(one.trained.label, one.predicted, strict=True)
        ]
        right.append(np.mean(each))
        assert found.given(seed).tree == TREES["given"]

    assert compared.main.node_accuracy.values == pytest.approx(right)
    assert compared.main.msr.mean < compared.main.node_accuracy.mean < 1
    measures = {row["measure"] for row in comparison.table(found, compared).to_pylist()}
    assert {"node_f1", "node_accuracy"} <= measures


def test_consistency_is_of_the_label_with_the_own_likeliest_cluster(experiments):
    """By route a label always lies in the cluster chosen; in full often; without a tree it is none."""
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


def test_tree_shows_what_each_network_gets_right(folder):
    """A subnetwork's success is that on its own labels' images; the root's is its routing."""
    found, compared = compare(folder)
    root = tree.build(compared.main, compared.flat, found.labels, seed=0)
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
    """In a tree of any depth: between success and one, and above chance where groups are found."""
    found, compared = compare(experiments)
    row = next(one for one in compared.hierarchies if one.run.name == "uppsala_deep")
    root = tree.build(row, compared.flat, found.labels, seed=0)
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
    """Without mode full a subnetwork is measured on the images that reached it."""
    found, compared = compare(small)
    main = compared.main
    trained = results.TrainedRun(
        **{
            name: getattr(main.predictions[0].trained, name)
            for name in results.TrainedRun.__slots__
        }
        | {"full": None}
    )
    row = summary.replace(
        main, predictions={0: summary.SeedPredictions(trained=trained, predicted=trained.predicted)}
    )
    root = tree.build(row, compared.flat, found.labels, seed=0)
    arrived = np.isin(trained.label, CLUSTERS[0]) & np.isin(trained.predicted, CLUSTERS[0])

    assert int(arrived.sum()) == root.children[0].images
    assert np.mean(trained.correct[arrived]) == pytest.approx(root.children[0].accuracy)


def test_table_has_its_schema_and_order(folder):
    """The table is sorted by run, mode, measure, label, seed, and each of these is unique."""
    table = comparison.table(*compare(folder))
    keys = [
        tuple((row[name] is not None, row[name]) for name in comparison.KEY)
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
        row
        for row in rows
        if (row["run"], row["mode"], row["measure"]) == ("uppsala", "default", "msr")
    ]

    assert [expected] == [row["value"] for row in chosen if row["seed"] == 1]
    assert set(LABELS) == {row["label"] for row in chosen if row["label"] is not None}
    assert 30 * len(LABELS) == chosen[0]["count"]


def test_controls_stand_with_their_hierarchy(experiments):
    """Random groups of its sizes and what is like it; HierNet has none and no control_group."""
    _, compared = compare(experiments)
    control_group = compared.control_group(compared.main)
    names = [one.summary.run.name for one in control_group.controls]
    deep = next(one for one in compared.control_groups if one.run.name == "uppsala_deep")

    assert [
        "uppsala_random",
        "uppsala_random_1",
        "uppsala_train_flops",
        "uppsala_macs",
        "uppsala_params",
        "uppsala_ensemble",
    ] == names
    assert ["uppsala", "uppsala_deep"] == [one.run.name for one in compared.control_groups]
    assert all(one.is_same_shape for one in control_group.controls)
    assert [False, False] == [one.is_same_shape for one in deep.controls]
    assert ["uppsala", "hiernet"] == [row.name for row in compared.leading]


def test_control_differences_are_those_of_the_predictions(experiments):
    """A difference is that of the means; the flips of a seed make it up; p is Holm's over all."""
    _, compared = compare(experiments)
    control_group = compared.control_groups[0]
    raw = [flip.p_value for one in control_group.controls for flip in one.flips.values()]
    corrected = [p for one in control_group.controls for p in one.p_values.values()]

    for one in control_group.controls:
        rival = one.summary
        assert control_group.run.msr.mean - rival.msr.mean == pytest.approx(one.difference.mean)
        for place, flip in enumerate(one.flips.values()):
            gained = control_group.run.msr.values[place] - rival.msr.values[place]
            assert (flip.fixed - flip.broken) / (10 * len(LABELS)) == pytest.approx(gained)
    assert statistics.holm(raw) == corrected
    assert 18 == len(corrected)
    pooled = np.mean([one.difference.mean for one in control_group.random])
    assert pooled == pytest.approx(control_group.against_random.mean)


def test_full_is_compared_with_full_where_the_control_has_it(experiments):
    """Random groups are compared in full too, flat controls as they predict."""
    _, compared = compare(experiments)
    control_group = compared.control_groups[0]
    random, macs = control_group.controls[0], control_group.controls[3]
    whole = compared.full(random.summary)

    assert control_group.full.msr.mean - whole.msr.mean == pytest.approx(
        random.difference_full.mean
    )
    assert control_group.full.msr.mean - macs.summary.msr.mean == pytest.approx(
        macs.difference_full.mean
    )


@pytest.mark.parametrize(
    ("wanted", "reached", "ratio", "is_equal"),
    [
        (100, 105, 1.05, True),
        (100, 105.1, 1.051, False),
        (200, 190, 0.95, True),
        (4, 3, 0.75, False),
    ],
)
def test_equal_is_within_five_per_cent(wanted, reached, ratio, is_equal):
    """A cost 5 % away is equal, one further away is not."""
    match = controls.CostMatch(wanted, reached)

    assert ratio == pytest.approx(match.ratio)
    assert is_equal is match.is_equal


def test_old_record_without_match_is_kept(experiments):
    """A control whose record does not say how equal it is has a row, and the answer says so."""
    _, compared = compare(experiments)
    found = {one.summary.run.name: one.match for one in compared.control_groups[0].controls}

    assert found["uppsala_params"] is None
    assert 1.1 == pytest.approx(found["uppsala_ensemble"].ratio)
    text = " ".join(say(experiments).methods[0].sentences)
    assert "whether its cost is equal was not recorded" in text
    assert "its cost is 1.10 times, not equal" in text


def test_ablation_has_its_own_controls_alone(small):
    """A run of other settings is not compared with random groups of the usual ones."""
    for run, freeze in (("uppsala", "none"), ("uppsala_random", "conv")):
        path = small.results_dir / run / "0" / "model.json"
        model = json.loads(path.read_text())
        model["params"]["uppsala"] = {"freeze": freeze}
        path.write_text(json.dumps(model))
    _, compared = compare(small)

    assert () == compared.control_groups
    assert "not compared with random groups" in " ".join(say(small).methods[0].sentences)


def test_costs_count_the_flat_network(experiments):
    """Five networks and the flat one: 20 + 19 + 18 + 17 and 20 seconds, 10^12 operations each."""
    _, compared = compare(experiments)
    cost = compared.main.cost

    assert (74.0, 20.0) == (cost.seconds_total.mean, cost.seconds_clustering.mean)
    assert 94e12 == pytest.approx(cost.flops.mean)
    assert 20e12 == pytest.approx(compared.flat.cost.flops.mean)
    assert "training takes 4.70 times the operations and 4.70 times the seconds" in " ".join(
        say(experiments).methods[0].sentences
    )


def test_time_of_a_picture_is_the_mean_of_the_seeds_that_were_timed(folder, small):
    """Medians of 2 and 3 ms alone, 51.2 and 76.8 ms for 256; nothing of mode full and of others."""
    costs = {row.name: row.cost for row in compare(folder)[1].summaries}
    path = small.results_dir / "uppsala" / "0" / "cost.json"
    path.write_text(json.dumps({"latency": [{"batch": 1, "median_ms": 4.0}]}))
    alone = compare(small)[1].main.cost
    path.unlink()
    untimed = compare(small)[1].main.cost

    assert (2.5, 0.25) == pytest.approx((costs["flat"].ms_alone, costs["flat"].ms_in_batch))
    assert (4.375, 0.5) == pytest.approx((costs["uppsala"].ms_alone, costs["uppsala"].ms_in_batch))
    for name in ("uppsala (full)", "uppsala_random"):
        assert (None, None) == (costs[name].ms_alone, costs[name].ms_in_batch)
    assert (4.0, None) == (alone.ms_alone, alone.ms_in_batch)
    assert (None, None) == (untimed.ms_alone, untimed.ms_in_batch)


def test_runs_that_were_not_trained_are_left_out(experiments, tmp_path):
    """A missing run is absent, a missing seed leaves the others; both are named."""
    shutil.copytree(experiments.data_dir, tmp_path / "data")
    shutil.copytree(experiments.results_dir, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "hiernet")
    shutil.rmtree(tmp_path / "results" / "uppsala_macs" / "2")
    folder = replace(experiments, data_dir=tmp_path / "data", results_dir=tmp_path / "results")
    found, compared = compare(folder)
    control = compared.control_groups[0].controls[3]
    ours = np.mean(compared.main.msr.values[:2]) - np.mean(control.summary.msr.values)

    assert "hiernet" not in [run.name for run in found.runs]
    assert ("uppsala_macs (seed 2)", "hiernet") == found.absent
    assert [0, 1] == [*control.flips]
    assert ours == pytest.approx(control.difference.mean)
    assert comparison.table(found, compared).num_rows > 0


def test_table_names_what_a_difference_is_against(experiments):
    """Differences and their flips stand once against flat and once against each control."""
    found, compared = compare(experiments)
    rows = [
        row
        for row in comparison.table(found, compared).to_pylist()
        if (row["run"], row["mode"], row["measure"]) == ("uppsala", "default", "difference")
    ]
    names = {one.summary.run.name for one in compared.control_groups[0].controls}

    assert {"flat", *names} == {row["against"] for row in rows}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)


def test_tree_of_any_depth_shows_each_network(experiments):
    """A network below a cluster is measured on its own labels' images, whatever led to them."""
    found, compared = compare(experiments)
    deep = next(row for row in compared.summaries if row.name == "uppsala_deep")
    root = tree.build(deep, compared.flat, found.labels, seed=0)
    inner = root.children[0].children[0]
    trained = deep.predictions[0].trained
    own = np.isin(trained.label, (0, 3))
    chosen = np.array([0, 3])[trained.full[own][:, [0, 3]].argmax(axis=1)]

    assert ("cluster-0-0", 20) == (inner.name, inner.images)
    assert np.mean(chosen == trained.label[own]) == pytest.approx(inner.accuracy)
    assert {LABELS[0], LABELS[3]} == {child.name for child in inner.children}
