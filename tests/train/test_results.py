"""The table of all runs: means over seeds, order, empty cells, and three output formats."""

import csv
import io
import json
import logging
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personae.errors import MissingInput
from tests.train.documents_fixture import COST, FIT, METRICS, record
from train import results
from train.tree import hierarchy


class Terminal(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def write(tmp_path, model_of):
    """Writes an evaluated run: `write("flat", 0, msr=…, cost=None)`."""

    def make(run, seed, *, cost=COST, root="a" * 64, **metrics):
        folder = tmp_path / "results" / run / str(seed)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(METRICS | metrics), encoding="utf-8")
        model_of("flat", hierarchy.flat(4), root_sha256=root).write(folder / "model.json")
        if cost:
            (folder / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def show(tmp_path):
    """Prints the table: `show(preset, as_csv=…)` returns its text."""

    def printed(preset=None, *, out=None, as_csv=False):
        out = out or io.StringIO()
        results.run(
            preset,
            results_dir=tmp_path / "results",
            experiments_dir=tmp_path / "experiments",
            out=out,
            as_csv=as_csv,
        )
        return out.getvalue()

    return printed


def test_seeds_are_averaged(write, show):
    """The table has mean and standard deviation over seeds, in CSV as plain numbers."""
    write("flat", 1, msr=0.7)
    write("flat", 0, msr=0.5)
    row = next(csv.DictReader(io.StringIO(show(as_csv=True))))

    assert set(results.COLUMNS) == set(row)
    assert ("flat", "0 1", "16") == (row["run"], row["seeds"], row["n_test"])
    assert pytest.approx(0.6) == float(row["msr"])
    assert pytest.approx(0.02**0.5) == float(row["msr_sd"])
    assert (2.5, 250.0) == (float(row["latency_1_ms"]), float(row["latency_256_ms"]))


def test_flat_comes_first_whatever_was_written_first(write, show):
    """Flat is the first row, the others are sorted by name; columns are aligned."""
    for run in ("uppsala_random", "hdcnn", "flat", "uppsala"):
        write(run, 0)
    head, rule, *rows = show().splitlines()
    lines = [head, *rows]
    starts = {line.index("50.0") for line in rows}

    assert set("─") == set(rule)
    assert ["run", "flat", "hdcnn", "uppsala", "uppsala_random"] == [s.split()[0] for s in lines]
    assert 1 == len(starts)
    assert ["458.51", "k", "26.76", "M"] == lines[1].split()[6:10]
    assert ["71", "60", "2.50", "250.00", "512"] == lines[1].split()[-5:]


def test_what_was_not_measured_stays_empty(write, show):
    """Without cost.json, white images or a second seed the cells are empty, not zero."""
    write("flat", 0, cost=None, msr_white=None)
    row = next(csv.DictReader(io.StringIO(show(as_csv=True))))

    empty = {
        "latency_1_ms",
        "latency_256_ms",
        "peak_memory_mib",
        "msr_white",
        "msr_white_sd",
        "msr_sd",
        "msr_macro_sd",
        "top5_sd",
    }
    assert empty == {name for name, text in row.items() if not text}
    assert "None" not in show()


def test_terminal_and_file_get_the_same_columns(write, show):
    """The table is the same on a terminal and in a file, for any terminal width."""
    write("flat", 0)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", show(out=Terminal()))

    assert show() == plain
    assert "250.00" in plain


def test_recorded_preset_is_read(show, tmp_path):
    """A preset's records give the same rows, including old records without cost."""
    folder = tmp_path / "experiments" / "demo"
    folder.mkdir(parents=True)
    for seed, more in ((0, {}), (1, {"cost": COST})):
        content = record(seed=seed)
        del content["cost"]
        (folder / f"flat-{seed}.json").write_text(json.dumps(content | more), encoding="utf-8")
    row = next(csv.DictReader(io.StringIO(show("demo", as_csv=True))))

    assert ("flat", "0 1", 2.5) == (row["run"], row["seeds"], float(row["latency_1_ms"]))
    with pytest.raises(MissingInput, match=r"demo2 holds no records.*presets: demo\."):
        show("demo2")
    (folder / "flat-0.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MissingInput, match=r"is damaged: '\w+' is .*Field required"):
        show("demo")


def test_nothing_is_said_clearly(write, show, tmp_path):
    """No results and invalid JSON give an error with the path and the command to run."""
    with pytest.raises(MissingInput, match=r"There are no results.*Run `dvc repro`"):
        show()
    (write("flat", 0) / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(MissingInput, match=r"metrics\.json is no readable JSON"):
        show()
    (tmp_path / "results" / "flat" / "0").rename(tmp_path / "results" / "flat" / "old")
    with pytest.raises(MissingInput, match="old is not named by a seed"):
        show()


def test_warns_once_of_each_weakness(write, show, caplog, tmp_path):
    """Few updates, images and seeds and a curve that climbs are counted, in results and records."""
    rows = ["network,epoch,lr,train_loss,val_loss,val_accuracy"]
    rows += [f"root,{epoch},0.1,1,1,0.{epoch}" for epoch in (1, 2, 3, 4)]
    for run, trained in (("flat", FIT), ("tree", FIT | {"total_seconds": 2.0}), ("copy", FIT)):
        folder = write(run, 0)
        (folder / "fit.json").write_text(json.dumps(trained), encoding="utf-8")
        (folder / "curves.csv").write_text("\n".join(rows), encoding="utf-8")
        pq.write_table(pa.table({"label": [0] * 12}), folder / "validation.parquet")
        model = json.loads((folder / "model.json").read_text())
        model["params"]["data"] = {"batch_size": 8}
        (folder / "model.json").write_text(json.dumps(model), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        show()
    texts = [entry.message for entry in caplog.records]

    assert 5 == len(texts)
    assert "these runs are the flat network: copy seed 0" in texts[0]
    assert "Too few seeds: 2 of 2 runs" in texts[1]
    assert "2 of 2 networks had fewer than 200 (fewest: flat seed 0, root, 4)" in texts[2]
    assert "3.0 per label" in texts[3]
    assert "in 2 of 2 networks" in texts[4]
    caplog.clear()
    folder = tmp_path / "experiments" / "demo"
    folder.mkdir(parents=True)
    content = record(params={"data": {"batch_size": 8}})
    content["data"] |= {"samples": {"test": 8, "val": 8}}
    (folder / "flat-0.json").write_text(json.dumps(content), encoding="utf-8")
    show("demo")
    assert ["seeds:", "weight", "validation"] == [
        entry.message.split()[2] for entry in caplog.records
    ]


def test_warns_of_what_does_not_compare(write, show, caplog):
    """Runs on different shards and runs without metrics are named in a warning."""
    write("flat", 0)
    write("uppsala", 0, root="b" * 64)
    (write("uppsala", 1) / "metrics.json").unlink()
    with caplog.at_level(logging.WARNING):
        show()

    assert "used different shards" in caplog.text
    assert "trained but not evaluated: uppsala 1" in caplog.text
