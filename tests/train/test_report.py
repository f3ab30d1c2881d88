"""The report: what it writes, what its numbers are, and what it refuses."""

import csv
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.train.report_fixture import CLUSTERS, HOSTILE, LABELS, RUNS, arguments, write
from train import report
from train.components import hierarchy, metrics
from train.errors import BadParams, BadShard, MissingInput, MixedResults
from train.page import answer, comparison, funnel, mosaic, published, results, tree
from train.params import section


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two seeds, with their report."""
    made = write(tmp_path_factory.mktemp("report"))
    report.run(**arguments(made))
    return made


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Results without a catalog, reported for the flat run alone over an older report."""
    made = write(tmp_path_factory.mktemp("alone"), seeds=(0,), each=6, catalog=False)
    made.report_dir.mkdir()
    (made.report_dir / "tree-old.svg").write_text("<svg/>")
    report.run(**arguments(made, runs={}))
    return made


@pytest.fixture
def unreported(tmp_path):
    """Results of one seed, without a report yet."""
    return write(tmp_path, seeds=(0,), each=6)


def _page(folder):
    return (folder.report_dir / "index.html").read_text(encoding="utf-8")


def _read(folder):
    given = arguments(folder)
    return results.read(
        data_dir=folder.data_dir,
        results_dir=folder.results_dir,
        runs=given["runs"],
        seeds=folder.seeds,
    )


def _compare(folder):
    found = _read(folder)
    return found, comparison.compare(found, resamples=300, seed=0)


def _say(folder):
    found, compared = _compare(folder)
    return answer.write(compared, images=len(found.white))


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def _parsed(folder):
    parser = _Elements()
    parser.feed(_page(folder))
    return parser


def test_writes_page_table_and_every_figure_with_its_rows(folder):
    """The folder holds the page, the table, and for each SVG the CSV that it was drawn from."""
    names = {path.name for path in folder.report_dir.iterdir()}
    drawn = {name.removesuffix(".svg") for name in names if name.endswith(".svg")}

    assert {"index.html", "comparison.parquet"} <= names
    assert {
        "confusion", "confusion-clusters", "curves-flat", "curves-uppsala", "difference-uppsala",
        "differences", "funnel", "tree-uppsala",
    } == drawn  # fmt: skip
    assert {f"{name}.csv" for name in drawn} == {name for name in names if name.endswith(".csv")}


def test_page_has_every_section_in_order(folder):
    """The sections stand in the order of the questions that a reader has."""
    sections = [attrs["id"] for tag, attrs in _parsed(folder).found if tag == "section"]

    assert [
        "answer", "results", "funnel", "mosaic", "confusion", "difference", "tree",
        "clustering", "curves", "white", "worst", "made",
    ] == sections  # fmt: skip


def test_page_asks_for_nothing(folder):
    """No element refers to anything outside the file, and the policy forbids it."""
    found = _parsed(folder).found
    policy = next(attrs["content"] for _, attrs in found if "http-equiv" in attrs)
    sources = [
        value
        for tag, attrs in found
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "srcset", "data") and tag != "a"
    ]

    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" == policy
    assert [one for one in sources if not one.startswith(("data:", "#"))] == []


def test_hostile_names_stay_text(folder):
    """A tag named like a script, an attribute or an image makes no element and no attribute."""
    parsed = _parsed(folder)
    handlers = [name for _, attrs in parsed.found for name in attrs if name.startswith("on")]

    assert "script" not in {tag for tag, _ in parsed.found}
    assert [] == handlers
    assert set(HOSTILE) <= {text.strip() for text in parsed.text}


def test_identifiers_are_unique(folder):
    """No two elements share an identifier: figures inside one page do not collide."""
    names = [attrs["id"] for _, attrs in _parsed(folder).found if "id" in attrs]

    assert len(set(names)) == len(names)


def test_same_inputs_give_the_same_bytes(folder):
    """A second report of the same results equals the first, byte for byte."""
    before = {path.name: path.read_bytes() for path in folder.report_dir.iterdir()}
    report.run(**arguments(folder))

    assert before == {path.name: path.read_bytes() for path in folder.report_dir.iterdir()}


def test_figures_of_a_run_that_is_gone_go_too(alone):
    """A report holds the figures of its own runs alone."""
    assert not (alone.report_dir / "tree-old.svg").exists()


def test_flat_alone_is_reported(alone):
    """Without a run that has a hierarchy, the page says so and still shows the flat network."""
    assert "Only the flat CNN was trained" in _page(alone)
    assert (alone.report_dir / "confusion.svg").exists()
    assert not (alone.report_dir / "differences.svg").exists()


def test_missing_catalog_is_said(alone):
    """A machine that only trains has no catalog: the section says so, and the page stands."""
    assert "The catalog was not at hand" in _page(alone)
    assert "catalog.duckdb is absent" in _page(alone)


def test_damaged_catalog_is_said(unreported):
    """A catalog that is no DuckDB file leaves its reason in the section."""
    path = unreported.data_dir / "catalog" / "catalog.duckdb"
    path.write_bytes(b"no database" * 400)

    assert "could not be read" in funnel.read(path).absent_because


def test_funnel_counts_what_each_stage_refused(folder):
    """A stage refused what the one before kept and it did not; reasons keep their own counts."""
    steps = funnel.read(folder.data_dir / "catalog" / "catalog.duckdb").steps

    assert ("decide", 8000, 2000) == (steps[0].stage, steps[0].kept, steps[0].refused)
    assert ("comic", 900) == steps[0].reasons[0]
    assert ("persona", 5760) == (steps[4].stage, steps[4].refused)


def test_table_holds_what_the_predictions_say(folder):
    """MSR in comparison.parquet is that of the predictions, per seed, per label and overall."""
    rows = pq.read_table(folder.report_dir / "comparison.parquet").to_pylist()
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


def test_table_has_its_schema_and_order(folder):
    """The table is sorted by run, mode, measure, label, seed, and each of these is unique."""
    table = pq.read_table(folder.report_dir / "comparison.parquet")
    keys = [
        tuple((row[name] is not None, row[name]) for name in table.column_names[:5])
        for row in table.to_pylist()
    ]

    assert comparison.SCHEMA.names == table.schema.names
    assert sorted(keys) == keys
    assert len(set(keys)) == len(keys)


def test_differences_and_shares_add_up(folder):
    """Right, wrong inside and wrong across make one; the difference is that of the means."""
    _, compared = _compare(folder)
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
    _, compared = _compare(folder)
    names = [row.name for row in compared.summaries]

    assert ["flat", "uppsala", "uppsala (full)", "uppsala_random", "uppsala_random (full)"] == names
    assert 5.4e6 == compared.summaries[2].cost.macs


def test_micp_uses_the_reference_and_the_own_clusters(folder):
    """The control's MICP is taken once against the modularity clusters, once against its own."""
    _, compared = _compare(folder)
    control = compared.control
    trained = control.answers[0].trained
    counts = metrics.confusion_counts(trained.label, trained.predicted, leaves=len(LABELS))
    shares = metrics.normalise_rows(counts)

    assert metrics.micp(shares, CLUSTERS) == pytest.approx(control.micp.values[0])
    assert control.micp.values[0] != control.micp_own.values[0]


def test_tree_shows_what_each_network_gets_right(folder):
    """A subnetwork's success is that on its own labels' pictures; the root's is its routing."""
    found, compared = _compare(folder)
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


def test_tree_without_full_probabilities_counts_what_arrived(unreported):
    """Without mode full a subnetwork is measured on the pictures that reached it."""
    found, compared = _compare(unreported)
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


def test_verdict_without_a_measurable_difference(unreported):
    """Where the interval holds zero, nothing is claimed."""
    shutil.rmtree(unreported.results_dir / "uppsala")
    shutil.copytree(unreported.results_dir / "flat", unreported.results_dir / "uppsala")
    said = _say(unreported)

    assert "Not measurably" == said.verdict
    assert "within chance" in said.sentence


def test_one_seed_is_called_one_seed(unreported, folder):
    """A report of one seed says so and gives the paired interval; one of two says it is few."""
    alone, two = _say(unreported), _say(folder)

    assert "one seed" in alone.sentence
    assert "95\u00a0% interval" in alone.sentence
    assert "one seed" not in two.sentence
    assert "Fewer than 3" in dict(two.facts)["How sure is this?"]


def test_mosaic_shows_the_bytes_of_the_shard(folder):
    """A tile holds the shard's picture of its post, and says who named it rightly."""
    found, compared = _compare(folder)
    flat, main = compared.flat.answers[0], compared.main.answers[0]
    rows = mosaic.choose(flat, leaves=len(LABELS), each=3, seed=0)
    lines = mosaic.read(rows, flat, main, shards_dir=folder.data_dir / "shards")
    tile = lines[2][0]
    row = int(np.flatnonzero(flat.trained.post_id == tile.post_id)[0])
    expected = {
        (True, True): "both", (False, True): "hierarchy", (True, False): "flat",
        (False, False): "nobody",
    }[bool(flat.correct[row]), bool(main.correct[row])]  # fmt: skip

    assert [3] * len(LABELS) == [len(line) for line in lines]
    assert (2, "image/png", expected) == (tile.label, tile.media_type, tile.outcome)
    assert found.labels[tile.label] == HOSTILE[2]


@pytest.mark.parametrize("damage", ["short", "noise", "gone", "outside"])
def test_damaged_shard_is_named(unreported, damage):
    """A shard that is short, overwritten, absent or elsewhere is an error that names it."""
    shard = unreported.data_dir / "shards" / "test-000000.tar"
    if damage == "short":
        shard.write_bytes(shard.read_bytes()[:600])
    elif damage == "noise":
        shard.write_bytes(b"\x01" * shard.stat().st_size)
    elif damage == "gone":
        shard.unlink()
    else:
        shard.rename(unreported.data_dir / "test-000000.tar")
        path = unreported.data_dir / "shards" / "samples.parquet"
        table = pq.read_table(path)
        table = table.set_column(1, "shard", [["../test-000000.tar"] * len(table)])
        pq.write_table(table, path)

    with pytest.raises(BadShard, match="run stage 'shards' again"):
        report.run(**arguments(unreported))


def test_other_pictures_are_refused(unreported):
    """Runs evaluated on different test pictures are not compared."""
    path = unreported.results_dir / "uppsala" / "0" / "predictions.parquet"
    pq.write_table(pq.read_table(path).slice(5), path)

    with pytest.raises(MixedResults, match="'uppsala' with seed 0"):
        _read(unreported)


def test_other_shards_are_refused(unreported):
    """A run trained on other shards than those at hand is not reported."""
    path = unreported.results_dir / "uppsala" / "0" / "model.json"
    model = json.loads(path.read_text())
    path.write_text(json.dumps({**model, "root_sha256": "cd" * 32}))

    with pytest.raises(MixedResults, match="cdcd"):
        _read(unreported)


def test_grouping_of_other_labels_is_refused(unreported):
    """Clusters that lack a label were made from other shards."""
    path = unreported.data_dir / "clustering" / "0" / "modularity.json"
    path.write_text(json.dumps({"clusters": [[0, 1, 2]]}))

    with pytest.raises(MixedResults, match="modularity"):
        _read(unreported)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("results/flat/0/predictions.parquet", "evaluate"),
        ("results/uppsala/0/metrics.json", "evaluate"),
        ("results/uppsala/0/fit.json", "fit"),
        ("results/uppsala/0/curves.csv", "fit"),
        ("data/clustering/0/random.json", "clustering"),
        ("data/shards/manifest.json", "shards"),
    ],
)
def test_missing_input_names_its_stage(unreported, name, stage):
    """A file that is absent is an error that names the stage which writes it."""
    (unreported.data_dir.parent / name).unlink()

    with pytest.raises(MissingInput, match=f"'{stage}'"):
        _read(unreported)


def test_no_test_pictures_is_an_error(unreported):
    """Predictions without test pictures compare nothing."""
    path = unreported.results_dir / "flat" / "0" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(np.array(table["split"].to_pylist()) == "val"), path)

    with pytest.raises(MissingInput, match="no test pictures"):
        _read(unreported)


def test_csv_of_the_confusion_equals_the_predictions(folder):
    """The share in the CSV is the share in the predictions, the hostile label unchanged."""
    with (folder.report_dir / "confusion.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            (row["true_label"], row["predicted_label"]): row["value"]
            for row in csv.DictReader(file)
        }
    found, compared = _compare(folder)
    shares = comparison.shares(compared.flat.answers, len(found.labels))

    assert shares[0, 3] == pytest.approx(float(rows[HOSTILE[0], LABELS[3]]))


def test_published_figures_are_consistent():
    """The speed-ups that the methods derive from the report's Table 2 follow from ours."""
    ups = [
        (round(row.flat / row.total, 3), round(row.flat / row.parallel, 3))
        for row in published.SECONDS
    ]

    assert [(1.495, 2.143), (1.039, 2.661), (1.129, 1.884)] == ups
    assert (65.3, 66.0) == (published.SUCCESS[0].msr, published.SUCCESS[1].msr)


def test_unknown_parameter_is_refused(tmp_path):
    """A misspelt parameter of the section names the right one."""
    path = tmp_path / "params.yaml"
    path.write_text("report: {sample: 3}\n")

    with pytest.raises(BadParams, match="Did you mean 'samples'"):
        section(path, "report", report.Params)


def test_runs_are_named_by_the_caller(folder):
    """The first run is flat; the others keep the order and the names given."""
    assert ("flat", *RUNS) == tuple(run.name for run in _read(folder).runs)
