"""Tests `select`: the samples of a query, in the order of the build, as an index to read from."""

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation import query
from curation.__main__ import main
from personae import selection
from personae.catalog import connect
from personae.errors import BadParams, MissingInput
from train.data.images import open_split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def select(curated, capsys, tmp_path: Path):
    """Runs `select` on the small catalog; returns exit code, output, error text and the path."""

    def run(sql: str) -> tuple[int, str, str, Path]:
        path = tmp_path / "chosen.parquet"
        folders = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
        code = main(["select", sql, "-o", str(path), *folders])
        captured = capsys.readouterr()
        return code, captured.out, captured.err, path

    return run


def test_selection_has_the_rows_of_the_build_in_its_order(select, curated) -> None:
    """The rows are those of samples.parquet, in shard order whatever the query's order is."""
    sql = "SELECT post_id FROM dataset WHERE post_id % 3 > 0 ORDER BY random()"
    code, out, _, path = select(sql)
    shards = curated.data_dir / "shards"
    build = pq.read_table(shards / "samples.parquet").sort_by(
        [("shard", "ascending"), ("offset", "ascending")]
    )
    expected = [row for row in build.to_pylist() if row["post_id"] % 3]
    root = json.loads((shards / "manifest.json").read_text())["root_sha256"]
    selected = selection.read(path, most=build.num_rows)

    assert 0 == code
    assert expected == selected.samples.to_pylist()
    assert (root, sql) == (selected.origin.root_sha256, selected.origin.query)
    assert f"{path}: {len(expected)} samples of 4 labels (train " in out
    assert f"data.selection: {path}@{selected.sha256[:16]}\n" in out


def test_selection_is_a_set(select) -> None:
    """Repeated posts, NULL and posts that are no samples change neither the rows nor the hash."""
    _, plain, _, path = select("SELECT post_id FROM dataset")
    first = path.read_bytes()
    _, other, _, _ = select(
        "SELECT post_id FROM posts UNION ALL SELECT post_id FROM samples UNION ALL SELECT NULL -- x"
    )

    assert plain == other
    assert first != path.read_bytes()  # the query stands in the file


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT label FROM dataset", "The columns of the query are label, and not `post_id` once"),
        ("SELECT * FROM samples JOIN splits ON true", "not `post_id` once"),
        ("SELECT label AS post_id FROM dataset", "has the type VARCHAR, not BIGINT"),
        ("SELECT post_id FROM dataset WHERE false", "selects no sample"),
        ("SELECT post_id FROM posts WHERE post_id = 5001", "selects no sample"),
        (
            "SELECT post_id FROM dataset WHERE label <> 'amber' OR split = 'train'",
            "lacks samples of a split for 'amber' (",
        ),
        ("SELECT nosuch FROM dataset", '"nosuch" not found'),
        ("SELECT post_id FROM dataset; SELECT 1", "one statement at a time"),
        ("DELETE FROM samples", "read-only"),
        ("CREATE TEMP TABLE x AS SELECT 1", "columns of the query"),
        ("SELECT column0 AS post_id FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT post_id FROM '/etc/passwd'", "/etc/passwd"),
        ("COPY samples TO '/tmp/never.csv'", "Permission Error"),
        ("SET enable_external_access = true", "enable_external_access"),
    ],
)
def test_refused_query_writes_nothing(select, sql: str, message: str) -> None:
    """SQL that is wrong, opens a file, or gives no samples to train on is one line and exit 2."""
    code, out, err, path = select(sql)

    assert 2 == code
    assert "" == out
    assert message in err
    assert 1 == sum(line.startswith("error: ") for line in err.splitlines())
    assert not list(path.parent.glob("chosen*"))


def test_trainer_reads_the_images_of_the_selection(select, curated, tmp_path: Path) -> None:
    """Cached and streamed, the trainer gets the chosen rows of the full build, in its order."""
    _, out, _, _ = select("SELECT post_id FROM dataset WHERE label <> 'amber' AND post_id % 5 > 0")
    shards, reference = curated.data_dir / "shards", out.splitlines()[1].split(": ")[1]
    full = open_split(shards, tmp_path / "cache", "train", storage="cache")
    labels = json.loads((shards / "classes.json").read_text())["labels"]
    amber = labels.index("amber")
    keep = np.flatnonzero((full.post_ids % 5 > 0) & (full.labels != amber))

    assert 0 < len(keep) < len(full)
    for storage in ("cache", "stream"):
        chosen = open_split(
            shards, tmp_path / "cache", "train", storage=storage, selection=reference
        )
        assert (full.post_ids[keep] == chosen.post_ids).all()
        assert (full.images[:][keep] == chosen.images[:]).all()
        assert (full.white[keep] == chosen.white).all()
        leaves = full.labels[keep]
        assert (leaves - (leaves > amber) == chosen.labels).all()


def documented(name: str) -> str:
    """Returns the example of docs/selections.md that begins with a comment."""
    text = (ROOT / "docs" / "selections.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}"))


def test_offsets_give_the_bytes_of_every_sample_and_image(curated, monkeypatch) -> None:
    """The documented example reads every sample and image with open, seek and read."""
    sql = (
        "SELECT post_id, shard, byte_offset, sample_bytes, image_offset, image_bytes FROM samples "
        "ORDER BY post_id"
    )
    rows = query.run_query(
        sql,
        catalog_path=curated.data_dir / "catalog" / "catalog.duckdb",
        results_dir=curated.data_dir,
    ).rows
    names: dict = {}
    exec(documented("Reads"), names)
    monkeypatch.chdir(curated.data_dir.parent)
    curated.data_dir.rename("data")
    stored: dict[str, bytes] = {}
    for path in Path("data/shards").glob("*.tar"):
        stored |= members(path)

    assert len(rows) > 30
    for post_id, shard, offset, size, image_offset, image_bytes in rows:
        sample = names["read"](shard, offset, size)
        assert stored[f"{post_id}.png"] == names["read"](shard, image_offset, image_bytes)
        assert [f"{post_id}.{kind}" for kind in ("png", "cls", "json")] == [*parts(sample)]
        assert parts(sample) == {
            name: stored[name] for name in parts(sample)
        }  # whole members, and nothing else


def members(path: Path) -> dict[str, bytes]:
    """Returns every member of a tar by name."""
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def parts(sample: bytes) -> dict[str, bytes]:
    """Returns the members in the bytes of one sample."""
    with tarfile.open(fileobj=io.BytesIO(sample + bytes(1024))) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def test_samples_of_the_catalog_are_those_of_the_table(curated) -> None:
    """The catalog's offsets are those of samples.parquet, under the name `byte_offset`."""
    table = pq.read_table(curated.data_dir / "shards" / "samples.parquet")
    with connect(curated.data_dir / "catalog" / "catalog.duckdb") as connection:
        rows = connection.execute(
            "SELECT post_id, shard, byte_offset, sample_bytes, image_offset, image_bytes "
            "FROM dataset ORDER BY post_id"
        ).fetchall()
    columns = ("post_id", "shard", "offset", "sample_bytes", "image_offset", "image_bytes")

    assert [tuple(row[name] for name in columns) for row in table.to_pylist()] == rows


def damage(path: Path, way: str) -> None:
    """Makes a file that is no selection."""
    table = pq.read_table(path)
    tables = {
        "no metadata": table.replace_schema_metadata(None),
        "other metadata": table.replace_schema_metadata({"personae.selection": "{}"}),
        "no column": table.drop_columns(["shard"]),
        "other type": table.set_column(0, "post_id", pa.array(["x"] * len(table))),
        "empty value": table.set_column(0, "post_id", pa.nulls(len(table), pa.int64())),
        "more rows": pa.concat_tables([table] * 99),
    }
    if way in tables:
        pq.write_table(tables[way], path)
    elif way == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif way == "absent":
        path.unlink()
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "way",
    [
        "no metadata",
        "other metadata",
        "no column",
        "other type",
        "empty value",
        "more rows",
        "cut",
        "absent",
        "folder",
    ],
)
def test_file_that_is_no_selection_is_named(select, way: str) -> None:
    """A damaged or foreign file is an error that names it and the command that writes it."""
    _, _, _, path = select("SELECT post_id FROM dataset")
    damage(path, way)

    with pytest.raises(MissingInput, match=rf"{path} is (absent|no )") as caught:
        selection.read(path, most=100)
    assert "python -m curation select" in str(caught.value)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(selection.SPLITS)), min_size=0, max_size=30
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_counts_are_those_of_a_slow_count(rows) -> None:
    """Labels are counted by split in the order of leaves, and a label without a split is refused."""
    table = pa.Table.from_pylist(
        [
            dict.fromkeys(selection.SCHEMA.names)
            | {"post_id": number, "leaf": leaf, "label": f"l{leaf}", "split": split}
            for number, (leaf, split) in enumerate(rows)
        ],
        schema=selection.SCHEMA,
    )
    origin = selection.SelectionOrigin(root_sha256="0" * 64, query="")
    chosen = selection.SampleSelection(table, origin)
    leaves = sorted({leaf for leaf, _ in rows})
    expected = {
        f"l{leaf}": {split: rows.count((leaf, split)) for split in selection.SPLITS}
        for leaf in leaves
    }

    if expected and all(all(counts.values()) for counts in expected.values()):
        assert [*expected.items()] == [*chosen.counts().items()]
    else:
        with pytest.raises(BadParams):
            chosen.counts()
