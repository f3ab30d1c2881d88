"""Tests the rows of a table by post id."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import rows
from personae import tables


@pytest.mark.parametrize(
    ("stored", "posts"),
    [([2, 5, 9], [2, 5, 9]), ([9, 2, 5], [2, 5]), ([5, 9], [2, 9, 11]), ([], [2, 5]), ([2], [])],
)
def test_rows_have_the_order_of_the_posts(tmp_path: Path, stored, posts) -> None:
    """Each post has its row, in any order of the table; a post that is absent has nulls."""
    columns = {"post_id": pa.array(stored, pa.int64()), "text": [f"post {post}" for post in stored]}
    schema = pa.schema({"post_id": pa.int64(), "text": pa.string()})
    tables.write(tmp_path / "table.parquet", pa.table(columns, schema=schema))
    ids = np.array(posts, np.int64)
    table = rows.of_posts(tmp_path / "table.parquet", ["text"], ids, stage="listing")

    assert [post if post in stored else None for post in posts] == table["post_id"].to_pylist()
    assert [f"post {post}" if post in stored else None for post in posts] == (
        table["text"].to_pylist()
    )


def test_rows_that_are_ordered_are_not_copied() -> None:
    """A table in the order of its posts comes back as it is, another is sorted."""
    table = pa.table({"post_id": [1, 2, 5], "text": ["a", "b", "c"]})

    assert rows.ordered(table) is table
    assert table.equals(rows.ordered(table.take([2, 0, 1])).combine_chunks())
    assert 0 == rows.ordered(table.slice(0, 0)).num_rows


@given(st.lists(st.integers(0, 9)))
def test_distinct_numbers_are_those_of_a_set(numbers) -> None:
    """Each number is there once, ascending; an empty array stays empty."""
    assert sorted(set(numbers)) == rows.distinct(np.array(numbers, np.int64)).tolist()


def test_rows_by_value_are_sorted() -> None:
    """Values come in their order, with ascending rows; an empty column has none."""
    column = pa.chunked_array([["b", "a"], ["b", "c"]])

    assert [("a", [1]), ("b", [0, 2]), ("c", [3])] == [
        (value, of_value.tolist()) for value, of_value in rows.by_value(column)
    ]
    assert [] == list(rows.by_value(pa.chunked_array([], pa.string())))


def test_hashes_are_the_bytes_of_their_rows() -> None:
    """Hashes of several chunks and of a slice keep their order."""
    values = [bytes([number] * 32) for number in range(7)]
    column = pa.chunked_array(
        [pa.array(values[:3], pa.binary(32)), pa.array(values[3:], pa.binary(32))]
    )

    assert b"".join(values) == rows.hashes(column).tobytes()
    assert b"".join(values[2:5]) == rows.hashes(column.slice(2, 3)).tobytes()
    assert b"".join(values[4:6]) == rows.hashes(column.slice(4, 2)).tobytes()
