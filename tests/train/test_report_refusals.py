"""Refusals of the report: damaged shards, results of different data, missing files."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from personae.errors import BadDocument, BadParams, BadShard, BadTable, MissingInput
from personae.settings import Settings
from tests.train.report_fixture import arguments, read, write
from train import report
from train.errors import MixedResults
from train.page import catalog, funnel


@pytest.fixture
def unreported(tmp_path):
    """Writes results of one seed without a report."""
    return write(tmp_path, seeds=(0,), each=6)


def test_damaged_catalog_is_stated(unreported):
    """If the catalog is not a DuckDB file, the section gives the reason."""
    path = unreported.data_dir / "catalog" / "catalog.duckdb"
    path.write_bytes(b"no database" * 400)

    with catalog.opened(path) as source:
        assert "could not be read" in funnel.read(source).absent_because


@pytest.mark.parametrize("damage", ["short", "noise", "gone", "outside"])
def test_damaged_shard_is_named(unreported, damage):
    """A shard that is short, overwritten, absent or elsewhere gives an error that names it."""
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

    with pytest.raises(BadShard, match=r"[Rr]un stages? .*'shards' again"):
        report.run(**arguments(unreported))


def test_other_images_are_refused(unreported):
    """Runs evaluated on different test images are refused."""
    path = unreported.results_dir / "uppsala" / "0" / "predictions.parquet"
    pq.write_table(pq.read_table(path).slice(5), path)

    with pytest.raises(MixedResults, match="'uppsala' with seed 0"):
        read(unreported)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"root_sha256": "cd" * 32}, "cdcd"), ({"labels": ["ann"]}, "and other labels")],
)
def test_other_shards_are_refused(unreported, change, message):
    """A run trained on other shards, or on other labels, is refused."""
    path = unreported.results_dir / "uppsala" / "0" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(MixedResults, match=message):
        read(unreported)


def test_grouping_of_other_labels_is_refused(unreported):
    """Clusters that lack a label are refused, because they come from other shards."""
    path = unreported.data_dir / "clustering" / "0" / "modularity.json"
    path.write_text(json.dumps({"clusters": [[0, 1, 2]]}))

    with pytest.raises(MixedResults, match="modularity"):
        read(unreported)


@pytest.mark.parametrize("name", ["probabilities", "full", "coarse"])
@pytest.mark.parametrize("damage", ["narrow", "ragged", "nan", "text"])
def test_damaged_probabilities_are_named(unreported, name, damage):
    """Rows that are not one number for each label, or each cluster, give an error with the column."""
    path = unreported.results_dir / "uppsala" / "0" / "predictions.parquet"
    table = pq.read_table(path)
    rows = table[name].to_pylist()
    changed = {
        "narrow": [row[1:] for row in rows],
        "ragged": [rows[0][1:], *rows[1:]],
        "nan": [[float("nan")] * len(row) for row in rows],
        "text": ["x"] * len(rows),
    }[damage]
    pq.write_table(table.set_column(table.column_names.index(name), name, [changed]), path)

    with pytest.raises(BadTable, match=rf"Column '{name}' of .* no \d+ numbers"):
        read(unreported)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "network,epoch\nroot,one\n", "\x00\n\x00"])
def test_damaged_curves_are_named(unreported, text):
    """Learning curves without epochs, columns or numbers give an error that names the file."""
    (unreported.results_dir / "uppsala" / "0" / "curves.csv").write_text(text)

    with pytest.raises(BadTable, match=r"curves\.csv"):
        read(unreported)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clusters", [["", 1]]),
        ("clusters", None),
        ("tree", [["x"], [0, 1]]),
        ("tree", [[True]]),
        ("sweep", [{"gamma": 1}]),
        ("stability", "high"),
    ],
)
def test_damaged_grouping_is_named(unreported, field, value):
    """A field of a grouping that holds something else gives an error that names file and field."""
    path = unreported.data_dir / "clustering" / "0" / "modularity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    with pytest.raises(BadDocument, match=rf"modularity\.json.*{field}"):
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
    """An absent file gives an error with the stage that writes it."""
    (unreported.data_dir.parent / name).unlink()

    with pytest.raises(MissingInput, match=f"'{stage}'"):
        read(unreported)


def test_no_test_images_is_an_error(unreported):
    """Predictions without test images are refused."""
    path = unreported.results_dir / "flat" / "0" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(np.array(table["split"].to_pylist()) == "val"), path)

    with pytest.raises(MissingInput, match="no test images"):
        read(unreported)


def test_unknown_parameter_is_refused(tmp_path):
    """A misspelt parameter of the section is refused, and the error suggests the right one."""
    path = tmp_path / "params.yaml"
    path.write_text("report: {sample: 3}\n")

    with pytest.raises(BadParams, match="Did you mean 'samples'"):
        Settings(path).section("report", report.Params)
