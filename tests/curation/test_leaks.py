"""Tests the table `leaks` of the catalog: each kind of leak, in as many rows as there are posts."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import catalog
from tests.curation.test_catalog import edit, rows, run


@pytest.mark.parametrize(
    ("kind", "file", "column"),
    [
        ("one_group", "split/split.parquet", "group_id"),
        ("one_file", "measure/measures.parquet", "sha256"),
        ("one_picture", "measure/measures.parquet", "image_sha256"),
        ("linked_near", "duplicates/links.parquet", ""),
    ],
)
def test_leaks_shows_each_kind_of_leak(curated, kind: str, file: str, column: str) -> None:
    """Two posts of one image in two splits appear in `leaks`, for each kind of duplicate."""
    sides = pq.read_table(curated.data_dir / "split" / "split.parquet").to_pylist()
    first = next(row["post_id"] for row in sides if row["split"] == "train")
    second = next(row["post_id"] for row in sides if row["split"] == "test")
    target = curated.data_dir / file
    table = pq.read_table(target)
    if column:
        values = dict(zip(table["post_id"].to_pylist(), table[column].to_pylist(), strict=True))
        values[second] = values[first]
        edit(target, column, pa.array(values.values()))
    else:
        link = {"post_a": first, "post_b": second, "link": "near", "distance": 3}
        planted = pa.Table.from_pylist([*table.to_pylist(), link], schema=table.schema)
        pq.write_table(planted, target)
    leaks = rows(run(curated.data_dir), "SELECT kind, post_a, post_b FROM leaks")

    assert [(kind, {first, second})] == [(row[0], set(row[1:])) for row in leaks]


def test_leaks_of_one_image_grow_with_its_posts() -> None:
    """Each of thousands of posts of one image stands beside the first post of each other split."""
    count = 20_000  # 125 million pairs are of two splits
    start = "CREATE TABLE leaks"
    script = Path(catalog.__file__).with_name("catalog_derived.sql").read_text(encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE splits AS SELECT range AS post_id, range AS group_id, "
            f"['test', 'train', 'val', 'train'][range % 4 + 1] AS split FROM range({count})"
        )
        connection.execute(
            "CREATE TABLE measures AS SELECT post_id, 'one' AS sha256, post_id::VARCHAR AS image_sha256 "
            "FROM splits"
        )
        connection.execute("CREATE TABLE links (post_a BIGINT, post_b BIGINT, link VARCHAR)")
        connection.execute(start + script.partition(start)[2])
        listed = connection.execute("SELECT post_a, split_a, post_b, split_b FROM leaks").fetchall()
    firsts = {"test": 0, "train": 1, "val": 2}
    splits = ("test", "train", "val", "train")
    expected = {
        tuple(sorted([(splits[post % 4], post), (other, first)]))
        for post in range(count)
        for other, first in firsts.items()
        if other != splits[post % 4]
    }

    assert sorted((a, left, b, right) for (left, a), (right, b) in expected) == sorted(listed)
