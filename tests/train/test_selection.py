"""Training on a selection equals training on shards of its samples alone, to the bit."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personae import selection
from personae.build.index import read_index
from personae.errors import BadParams, BadShard, MissingInput
from tests.train.selection_fixture import alone, samples_of, select
from tests.train.test_feed import write_index
from tests.train.test_main import PARAMS
from train.__main__ import main
from train.data import images
from train.data.images import open_data, open_split
from train.runtime import checkpoint


def keep(row) -> bool:
    """Leaves out label `bea` and a quarter of the others: leaves 2 and 3 become 1 and 2."""
    return row["leaf"] != 1 and row["post_id"] % 4 > 0


@pytest.fixture
def project(tiny_shards, tmp_path, monkeypatch):
    """Writes params.yaml, a selection, and `alone/shards` of its samples, to a working folder."""
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    write_index(tiny_shards)
    write_index(alone(tiny_shards, tmp_path / "alone" / "shards", keep))
    return tmp_path


def weights(project, results, run="flat"):
    return checkpoint.load(project / results / run / "0" / "weights.safetensors")[0]


def is_equal(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_training_is_that_of_shards_of_the_samples_alone(project, tiny_shards):
    """Weights, predictions and figures are equal: a flat network, a tree on it, both storages."""
    reference = select(tiny_shards, project / "chosen.parquet", keep)
    for storage in ("cache", "stream"):
        for chosen in (["--data", "alone"], ["--selection", reference]):
            name = f"{storage}-{len(chosen[1])}"
            folders = ["--results", name, *(chosen if chosen[0] == "--data" else [])]
            options = ["--storage", storage, "--epochs", "1"]
            assert 0 == main(["flat", *options, *chosen, "--results", name])
            assert 0 == main(["evaluate", "flat", *folders])
    theirs, ours = f"cache-{len('alone')}", f"cache-{len(reference)}"
    streamed = [name.replace("cache", "stream") for name in (theirs, ours)]

    for results in (ours, *streamed):
        assert is_equal(weights(project, theirs), weights(project, results))
        for file in ("predictions.parquet", "validation.parquet"):
            assert pq.read_table(project / theirs / "flat" / "0" / file).equals(
                pq.read_table(project / results / "flat" / "0" / file)
            )
    described = json.loads((project / ours / "flat" / "0" / "model.json").read_text())
    assert ["ann", "cem", "dua"] == described["labels"]
    assert reference == described["params"]["data"]["selection"]
    assert described["root_sha256"].startswith(reference.partition("@")[2])


def test_tree_grows_from_the_flat_network_of_the_selection(project, tiny_shards, capsys):
    """`clustering`, `fit` and `evaluate` work on a selection; a flat network of other data does not."""
    reference = select(tiny_shards, project / "chosen.parquet", lambda row: row["post_id"] % 4 > 0)
    (project / "params.yaml").write_text(
        PARAMS.replace("batch_size: 16", f"batch_size: 16, selection: '{reference}'")
    )
    for command in (
        ["flat", "--epochs", "1"],
        ["clustering"],
        ["fit", "tree"],
        ["evaluate", "tree"],
    ):
        assert 0 == main(command), command
    assert 0 == main(["evaluate", "flat"])
    assert 0 == main(["record", "mine"])
    recorded = json.loads((project / "experiments" / "mine" / "tree-0.json").read_text())["data"]
    chosen = [row for row in samples_of(tiny_shards) if row["post_id"] % 4]
    (project / "params.yaml").write_text(PARAMS)
    capsys.readouterr()

    assert 4 == recorded["labels"]
    assert len(chosen) == sum(recorded["samples"].values())
    assert 5 == main(["fit", "tree"])
    assert "was trained on the shards" in capsys.readouterr().err


@pytest.mark.parametrize("storage", ["cache", "stream"])
def test_killed_training_on_a_selection_resumes(project, tiny_shards, storage):
    """SIGKILL after two epochs and a second start give the weights of an unbroken run."""
    reference = select(tiny_shards, project / "chosen.parquet", keep)
    options = ["flat", "--epochs", "25", "--storage", storage]
    command = [sys.executable, "-m", "train", *options, "--selection", reference]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            written = list((project / "work").glob("train/*/root.safetensors"))
            if written and checkpoint.load(written[0])[1]["epoch"] >= 2:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    was_unfinished = not (project / "results").exists()
    assert 0 == main([*options, "--selection", reference])
    assert 0 == main([*options, "--data", "alone", "--work", "other", "--results", "unbroken"])

    assert was_unfinished
    assert is_equal(weights(project, "results"), weights(project, "unbroken"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.sets(st.integers(1, 56)).map(lambda left_out: set(range(57)) - left_out))
def test_any_selection_has_the_rows_of_the_full_build(tiny_shards, tmp_path, posts):
    """For any set of posts, both storages give the rows of the full build, or one clear error."""
    write_index(tiny_shards)
    reference = select(tiny_shards, tmp_path / "any.parquet", lambda row: row["post_id"] in posts)
    full = open_split(tiny_shards, tmp_path / "cache", "train")
    chosen = [row for row in samples_of(tiny_shards) if row["post_id"] in posts]
    known = sorted({row["leaf"] for row in chosen})
    has_all = {(row["leaf"], row["split"]) for row in chosen} >= {
        (leaf, split) for leaf in known for split in selection.SPLITS
    }
    rows = np.flatnonzero(np.isin(full.post_ids, list(posts)))

    for storage in ("cache", "stream"):
        params = images.Params(storage=storage, selection=reference)
        if not chosen or not has_all:
            with pytest.raises(BadParams, match=r"selects no sample|samples of every split"):
                open_data(tiny_shards, tmp_path / "cache", params=params)
            continue
        data = open_data(tiny_shards, tmp_path / "cache", params=params)
        assert (full.post_ids[rows] == data.train.post_ids).all()
        assert (full.images[rows] == data.train.images[:]).all()
        assert [known.index(leaf) for leaf in full.labels[rows]] == data.train.labels.tolist()
        assert len(known) == len(data.labels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda reference, path: str(path), "without the hash of the selection"),
        (lambda reference, path: f"{path}@{'0' * 16}", "holds another selection than 0000"),
        (lambda reference, path: f"{path}@12", "is absent"),
        (lambda reference, path: f"no.parquet@{'0' * 16}", r"no\.parquet is absent"),
    ],
)
def test_reference_names_file_and_hash(tiny_shards, tmp_path, spoil, message):
    """A reference without the hash of the file, or with another, is an error with the right value."""
    path = tmp_path / "chosen.parquet"
    reference = select(tiny_shards, path, keep)

    with pytest.raises((BadParams, MissingInput), match=message) as caught:
        read_index(tiny_shards, spoil(reference, path))
    assert isinstance(caught.value, MissingInput) or reference in str(caught.value)


def test_selection_of_another_build_is_refused(tiny_shards, shard_writer, tmp_path):
    """Another root hash is named, with the query to run again."""
    other = shard_writer[0](tmp_path / "other", {"train": 6, "val": 4, "test": 4}, seed=1)
    reference = select(tiny_shards, tmp_path / "chosen.parquet", keep)

    with pytest.raises(BadParams, match=r"was made from the shards .*\n  SELECT …$"):
        open_data(other, tmp_path / "cache", params=images.Params(selection=reference))


def test_label_without_test_images_is_refused_before_training(tiny_shards, tmp_path):
    """Training opens no test shard, and still names a label that lacks test images."""
    reference = select(
        tiny_shards,
        tmp_path / "chosen.parquet",
        lambda row: row["leaf"] != 2 or row["split"] != "test",
    )

    with pytest.raises(BadParams, match=r"'cem' \(10 samples, none in test\)"):
        open_data(tiny_shards, tmp_path / "cache", params=images.Params(selection=reference))


def edited(rows, **values):
    return [row | (values if number == 0 else {}) for number, row in enumerate(rows)]


CRAFTED = {
    "unknown shard": lambda rows: edited(rows, shard="../x.tar"),
    "other split": lambda rows: edited(rows, split="val"),
    "other label": lambda rows: edited(rows, label="zed"),
    "negative leaf": lambda rows: edited(rows, leaf=-1),
    "leaf without label": lambda rows: edited(rows, leaf=99),
    "other order": lambda rows: rows[::-1],
    "twice": lambda rows: [rows[0], *rows[:-1]],
    "other post": lambda rows: edited(rows, post_id=2**62),
    "wrong leaf": lambda rows: edited(
        rows, leaf=3 - rows[0]["leaf"], label=("ann", "bea", "cem", "dua")[3 - rows[0]["leaf"]]
    ),
}


@pytest.mark.parametrize("storage", ["cache", "stream"])
@pytest.mark.parametrize("way", CRAFTED)
def test_crafted_selection_is_refused(tiny_shards, tmp_path, way, storage):
    """A selection that disagrees with the shards is a named error, and nothing stays in the cache."""
    write_index(tiny_shards)
    path = tmp_path / "chosen.parquet"
    select(tiny_shards, path, lambda row: True)
    sound = selection.read(path, most=99)
    rows = CRAFTED[way](sound.samples.to_pylist())
    table = pa.Table.from_pylist(rows, schema=selection.SCHEMA)
    crafted = selection.SampleSelection(table, sound.origin)
    selection.write(path, crafted)
    params = images.Params(storage=storage, selection=crafted.reference(path))

    with pytest.raises((BadShard, MissingInput), match=r"[Ww]rite the selection again"):
        open_data(tiny_shards, tmp_path / "cache", params=params)
    assert not list((tmp_path / "cache").glob("train-*"))


def test_unset_selection_is_left_out_of_descriptions():
    """model.json of a run on all samples has the bytes of older versions."""
    assert "selection" not in images.Params().model_dump(mode="json")
    assert "a@b" == images.Params(selection="a@b").model_dump()["selection"]
