"""The report: what it writes, what its numbers are, and what it refuses."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from personae.errors import BadParams, MissingInput
from personae.settings import Settings
from tests.train.report_fixture import (
    EXPERIMENTS,
    HOSTILE,
    LABELS,
    RUNS,
    arguments,
    compare,
    read,
    write,
)
from train import report
from train.errors import BadShard, MixedResults
from train.page import comparison, figures, funnel, mosaic, page, summary
from train.page.formatting import spread
from train.page.sections import clustering
from train.page.sections.results import costs


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
    table = pq.read_schema(folder.report_dir / "comparison.parquet")
    drawn = {name.removesuffix(".svg") for name in names if name.endswith(".svg")}

    assert "index.html" in names
    assert comparison.SCHEMA.names == table.names
    assert {
        "confusion",
        "confusion-clusters",
        "cost",
        "curves-flat",
        "curves-uppsala",
        "difference-uppsala",
        "differences",
        "funnel",
        "tree-uppsala",
    } == drawn
    assert {f"{name}.csv" for name in drawn} == {name for name in names if name.endswith(".csv")}


def test_page_has_every_section_in_order(folder):
    """The sections stand in the order of the questions that a reader has."""
    sections = [attrs["id"] for tag, attrs in _parsed(folder).found if tag == "section"]

    assert [
        "answer",
        "results",
        "controls",
        "published",
        "funnel",
        "mosaic",
        "confusion",
        "difference",
        "tree",
        "clustering",
        "curves",
        "white",
        "worst",
        "made",
    ] == sections


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


def test_routing_is_shown_where_it_was_measured(folder, alone):
    """Routers have a table with what an oracle would reach; the flat run has none."""
    assert "accuracy with perfect routing" in _page(folder)
    assert "62.5 ± 0.0" in _page(folder)
    assert "accuracy with perfect routing" not in _page(alone)


def test_f1_and_consistency_stand_in_the_tables(folder):
    """The page has the columns, with the values of the comparison and their deviation."""
    _, compared = compare(folder)
    row, text = compared.full(compared.main), _parsed(folder).text
    values = (row.consistency, row.node_f1, row.path_f1)

    assert {f"{name},\u00a0%" for name in ("path consistency", "node F1", "path F1")} <= set(text)
    assert {spread(value) for value in values} <= set(text)


def test_time_of_an_image_stands_with_the_costs(folder):
    """The last two columns of the cost table: 2.5 and 0.25 ms of flat, none of what was not timed."""
    _, compared = compare(folder)
    table = costs(compared)
    times = {row[0]: row[-2:] for row in table.rows}

    assert ("an image alone,\u00a0ms", "an image in batches of 256,\u00a0ms") == table.head[-2:]
    assert {
        "flat": ("2.5", "0.25"),
        "uppsala": ("4.38", "0.5"),
        "uppsala (full)": ("", ""),
        "uppsala_random": ("", ""),
        "uppsala_random (full)": ("", ""),
    } == times


def test_mosaic_shows_the_bytes_of_the_shard(folder):
    """A tile holds the shard's image of its post, and says who named it rightly."""
    found, compared = compare(folder)
    flat, main = compared.flat.predictions[0], compared.main.predictions[0]
    rows = mosaic.choose(flat, leaves=len(LABELS), each=3, seed=0)
    lines = mosaic.read(rows, flat, main, shards_dir=folder.data_dir / "shards")
    tile = lines[2][0]
    row = int(np.flatnonzero(flat.trained.post_id == tile.post_id)[0])
    expected = {
        (True, True): "both",
        (False, True): "hierarchy",
        (True, False): "flat",
        (False, False): "neither",
    }[bool(flat.correct[row]), bool(main.correct[row])]

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


def test_other_images_are_refused(unreported):
    """Runs evaluated on different test images are not compared."""
    path = unreported.results_dir / "uppsala" / "0" / "predictions.parquet"
    pq.write_table(pq.read_table(path).slice(5), path)

    with pytest.raises(MixedResults, match="'uppsala' with seed 0"):
        read(unreported)


def test_other_shards_are_refused(unreported):
    """A run trained on other shards than those at hand is not reported."""
    path = unreported.results_dir / "uppsala" / "0" / "model.json"
    model = json.loads(path.read_text())
    path.write_text(json.dumps({**model, "root_sha256": "cd" * 32}))

    with pytest.raises(MixedResults, match="cdcd"):
        read(unreported)


def test_grouping_of_other_labels_is_refused(unreported):
    """Clusters that lack a label were made from other shards."""
    path = unreported.data_dir / "clustering" / "0" / "modularity.json"
    path.write_text(json.dumps({"clusters": [[0, 1, 2]]}))

    with pytest.raises(MixedResults, match="modularity"):
        read(unreported)


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
        read(unreported)


def test_no_test_images_is_an_error(unreported):
    """Predictions without test images compare nothing."""
    path = unreported.results_dir / "flat" / "0" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(np.array(table["split"].to_pylist()) == "val"), path)

    with pytest.raises(MissingInput, match="no test images"):
        read(unreported)


def test_csv_of_the_confusion_equals_the_predictions(folder):
    """The share in the CSV is the share in the predictions, under the labels of the data set."""
    with (folder.report_dir / "confusion.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            (row["true_label"], row["predicted_label"]): row["value"]
            for row in csv.DictReader(file)
        }
    found, compared = compare(folder)
    shares = summary.shares(compared.flat.predictions, len(found.labels))

    assert shares[0, 4] == pytest.approx(float(rows[HOSTILE[0], LABELS[4]]))
    assert shares[0, 3] == pytest.approx(float(rows[HOSTILE[0], f"'{HOSTILE[3]}"]))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=cmd|' /C calc'!A1", "'=cmd|' /C calc'!A1"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'\t=1+1"),
        ("\r=1+1", "'\r=1+1"),
        ("persona = 4", "persona = 4"),
        ("", ""),
        (-0.25, "-0.25"),
        (None, ""),
    ],
)
def test_csv_disarms_text_that_a_spreadsheet_would_calculate(cell, expected):
    """A text cell that starts a formula gets an apostrophe before it; a number stays a number."""
    drawing = figures.Drawing("d", "", "<svg/>", ("cell", "next"), [(cell, 1)])
    rows = [*csv.reader(io.StringIO(report._csv(drawing), newline=""))]

    assert [["cell", "next"], [expected, "1"]] == rows


def test_no_csv_of_the_report_holds_a_formula(folder):
    """No cell of any CSV starts a formula, although a label does; a negative number may."""
    cells = [
        cell
        for path in folder.report_dir.glob("*.csv")
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        for cell in row
    ]

    assert f"'{HOSTILE[3]}" in cells
    assert [] == [cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d)", cell)]


def test_long_tables_are_folded(folder):
    """What McNemar says of each seed and what each network took open on demand."""
    summaries = re.findall(r"<summary>([^<]*)</summary>", _page(folder))

    assert "Images fixed and broken against flat, by seed" in summaries
    assert "Every network (9)" in summaries


def test_page_without_controls_has_no_such_section(alone):
    """Nothing is said of controls where none ran."""
    assert 'id="controls"' not in _page(alone)
    assert 'id="published"' in _page(alone)


def test_clusters_of_a_deep_tree_are_listed_in_brackets(tmp_path):
    """A cluster of clusters shows its levels; a figure orders labels as the tree does."""
    made = write(tmp_path, seeds=(0,), each=6, catalog=False, runs=EXPERIMENTS)
    found = read(made)
    body = page.render(clustering.section(found))
    own = found.groupings["given", 0]

    assert f"({LABELS[4]}, a&#34;onload=x), {LABELS[5]}" in body
    assert (0, 3, 4, 1, 5) == own.ordered[0]


def test_unknown_parameter_is_refused(tmp_path):
    """A misspelt parameter of the section names the right one."""
    path = tmp_path / "params.yaml"
    path.write_text("report: {sample: 3}\n")

    with pytest.raises(BadParams, match="Did you mean 'samples'"):
        Settings(path).section("report", report.Params)


def test_runs_are_named_by_the_caller(folder):
    """The first run is flat; the others keep the order and the names given."""
    assert ("flat", *RUNS) == tuple(run.name for run in read(folder).runs)
