"""Tests the check of a data set: a sound one passes, and each manual change is reported."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import catalog, documents, shards, verify
from curation.__main__ import main
from curation.documents import ShardEntry


def test_verify_passes_a_sound_data_set(curated, capsys) -> None:
    """A sound data set gives exit code 0 and one sentence."""
    assert 0 == main(["verify", "--data", str(curated.data_dir)])
    assert "Every hash, every offset and every promise holds" in capsys.readouterr().out


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _edit_manifest(folder: Path, *keys: Any, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _swap_column(folder: Path, column: str) -> None:
    path = folder / "samples.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    values = table[column].to_pylist()
    turned = pa.array([*values[1:], values[0]], table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), turned), path)


def _sql(folder: Path, statement: str) -> None:
    with duckdb.connect(str(folder.parent / "catalog" / "catalog.duckdb")) as connection:
        connection.execute(statement)


TAMPERING = {
    "a bit of an image": lambda folder: _flip(folder / "train-000000.tar", 600),
    "a bit of a header": lambda folder: _flip(folder / "test-000000.tar", 3),
    "a bit of the padding": lambda folder: _flip(folder / "val-000000.tar", -1),
    "a shard cut short": lambda folder: os.truncate(folder / "train-000000.tar", 5000),
    "a shard grown": lambda folder: (folder / "train-000000.tar").write_bytes(
        (folder / "train-000000.tar").read_bytes() + b"more"
    ),
    "a shard removed": lambda folder: (folder / "train-000001.tar").unlink(),
    "a shard added": lambda folder: shutil.copy(
        folder / "train-000000.tar", folder / "train-000009.tar"
    ),
    "two shards exchanged": lambda folder: (
        (folder / "train-000000.tar").rename(folder / "x"),
        (folder / "test-000000.tar").rename(folder / "train-000000.tar"),
        (folder / "x").rename(folder / "test-000000.tar"),
    ),
    "a torn part left": lambda folder: (folder / "train-000000.tar.part").write_bytes(b""),
    "classes reordered": lambda folder: (folder / "classes.json").write_text(
        (folder / "classes.json").read_text().replace('"amber"', '"zebra"')
    ),
    "classes no JSON": lambda folder: (folder / "classes.json").write_text("{"),
    "classes removed": lambda folder: (folder / "classes.json").unlink(),
    "samples no Parquet": lambda folder: (folder / "samples.parquet").write_bytes(b"PAR1"),
    "samples removed": lambda folder: (folder / "samples.parquet").unlink(),
    "labels of samples moved": lambda folder: _swap_column(folder, "label"),
    "offsets of samples moved": lambda folder: _swap_column(folder, "offset"),
    "splits of samples moved": lambda folder: _swap_column(folder, "split"),
    "sizes of samples moved": lambda folder: _swap_column(folder, "image_bytes"),
    "white of samples moved": lambda folder: _swap_column(folder, "white_background"),
    "manifest removed": lambda folder: (folder / "manifest.json").unlink(),
    "manifest no JSON": lambda folder: (folder / "manifest.json").write_text("[]"),
    "root hash": lambda folder: _edit_manifest(folder, "root_sha256", value="0" * 64),
    "hash of a shard": lambda folder: _edit_manifest(folder, "shards", 0, "sha256", value="0" * 64),
    "samples of a shard": lambda folder: _edit_manifest(folder, "shards", 0, "samples", value=1),
    "bytes of a shard": lambda folder: _edit_manifest(folder, "shards", 0, "bytes", value=1),
    "count of a split": lambda folder: _edit_manifest(folder, "samples", "test", value=0),
    "count of labels": lambda folder: _edit_manifest(folder, "labels", value=3),
    "format": lambda folder: _edit_manifest(folder, "image", "format", value="webp"),
    "versions": lambda folder: _edit_manifest(folder, "versions", "pillow", value="0.1"),
    "split of a shard": lambda folder: _edit_manifest(folder, "shards", 0, "split", value="val"),
    "side of the images": lambda folder: _edit_manifest(folder, "image", "side", value=64),
    "version of the manifest": lambda folder: _edit_manifest(folder, "version", value=2),
    "a file elsewhere": lambda folder: _edit_manifest(folder, "files", "../x", value="0" * 64),
    "a bit of a segment": lambda folder: _flip(
        folder.parent / "download" / "segments" / "00000.tar", 600
    ),
    "a segment removed": lambda folder: (
        folder.parent / "download" / "segments" / "00000.tar"
    ).unlink(),
    "a bit of a normalised image": lambda folder: _flip(
        folder.parent / "measure" / "images-00000.tar", 600
    ),
    "a label in the catalog": lambda folder: _sql(folder, "UPDATE samples SET label = 'zebra'"),
    "a post removed from the catalog": lambda folder: _sql(
        folder, "DELETE FROM posts WHERE post_id = 1000"
    ),
    "a split in the catalog": lambda folder: _sql(folder, "UPDATE splits SET split = 'train'"),
    "a decision in the catalog": lambda folder: _sql(folder, "UPDATE decisions SET kept = true"),
    "a view that reads files": lambda folder: _sql(
        folder,
        "DROP TABLE leaks; CREATE VIEW leaks AS SELECT content AS kind, 1 AS post_a, 'a' AS split_a, "
        "2 AS post_b, 'b' AS split_b FROM read_text('/etc/hostname')",
    ),
    "catalog of another build": lambda folder: shards.run(
        shards.Params(seed=5), data_dir=folder.parent, work_dir=folder
    ),
    "catalog removed": lambda folder: (folder.parent / "catalog" / "catalog.duckdb").unlink(),
    "catalog damaged": lambda folder: (folder.parent / "catalog" / "catalog.duckdb").write_bytes(
        b"\0" * 8192
    ),
}


@pytest.mark.parametrize("change", TAMPERING)
def test_verify_notices_tampering(curated, change: str, capsys) -> None:
    """Each manual change is reported in plain words, with exit code 5."""
    TAMPERING[change](curated.data_dir / "shards")
    code = main(["verify", "--data", str(curated.data_dir)])
    captured = capsys.readouterr()

    assert 5 == code
    assert "Traceback" not in captured.err
    assert Path("/etc/hostname").read_text().strip() not in captured.out
    assert (
        "do not hold" in captured.err
        or "Run that stage" in captured.err
        or "run stage" in captured.err
    )


@pytest.mark.parametrize("length", [1, 8])
def test_verify_names_the_damaged_table(curated, length: int) -> None:
    """A table whose values have changed, or cannot be read, is named with its stage, not the catalog."""
    path = curated.data_dir / "measure" / "measures.parquet"
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = (column for column in columns if column.path_in_schema == "sharpness")
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[start : start + length] = bytes(255 - value for value in data[start : start + length])
    path.write_bytes(data)
    (problem,) = verify.problems(curated.data_dir)

    assert problem.startswith("measure/measures.parquet ")
    assert problem.endswith("Run stage 'measure' again, then stage 'catalog'.")


def test_verify_accepts_the_leaks_of_a_given_split(curated) -> None:
    """A leak is a problem in a drawn split; in a given split it is only reported."""
    path = curated.data_dir / "split" / "split.parquet"
    table = pq.read_table(path)
    group = pa.array([1] * table.num_rows, table.schema.field("group_id").type)
    leaking = table.set_column(table.schema.get_field_index("group_id"), "group_id", group)
    problems = {}
    for mode in ("hash", "given"):
        metadata = {"personae.params": json.dumps({"mode": mode})}
        pq.write_table(leaking.replace_schema_metadata(metadata), path)
        catalog.run(catalog.Params(), data_dir=curated.data_dir, work_dir=curated.data_dir)
        problems[mode] = list(verify.problems(curated.data_dir))

    assert any("Leak (one_group)" in problem for problem in problems["hash"])
    assert [] == problems["given"]


def test_verify_finds_a_sample_that_agrees_with_the_hashes(curated) -> None:
    """A changed label is detected even if all hashes match the changed shard."""
    folder = curated.data_dir / "shards"
    path = folder / "train-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"label":"amber"', b'"label":"ambex"', 1))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["shards"] if entry["shard"] == path.name)
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    entries = [ShardEntry(**entry) for entry in manifest["shards"]]
    manifest["root_sha256"] = documents.root_sha256(entries)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    problems = list(verify.problems(curated.data_dir))

    assert any("its .json disagrees" in problem for problem in problems)
