"""Tests the Parquet tables between stages: stated columns, complete files, reported damage."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personae import tables
from personae.errors import BadTable, MissingColumn, MissingInput

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})


def test_named_columns_come_back(tmp_path):
    """A reader gets the stated columns in the stated order."""
    tables.write(tmp_path / "t.parquet", TABLE)

    assert ["b", "a"] == tables.read(tmp_path / "t.parquet", ["b", "a"], stage="split").column_names
    assert TABLE.equals(tables.read(tmp_path / "t.parquet", ["a", "b"], stage="split"))


def test_equal_rows_give_equal_bytes(tmp_path):
    """Equal rows give equal bytes."""
    for name in ("one", "two"):
        tables.write(tmp_path / name, TABLE)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_pieces_are_written_and_read_in_order(tmp_path):
    """A table written in pieces is read in pieces, in the same order."""
    path = tmp_path / "t.parquet"
    tables.write_batches(path, TABLE.schema, TABLE.to_batches(max_chunksize=2))
    pieces = list(tables.batches(path, ["a"], stage="split", rows=1))

    assert [1, 2, 3] == [value for piece in pieces for value in piece["a"].to_pylist()]
    assert [path] == list(tmp_path.iterdir())


def test_absent_file_and_column_name_the_stage(tmp_path):
    """For an absent file or column, the message gives file, column and their stage."""
    path = tmp_path / "t.parquet"
    with pytest.raises(MissingInput, match=r"t\.parquet is absent: stage 'split' writes it"):
        tables.read(path, ["a"], stage="split")
    tables.write(path, TABLE)
    with pytest.raises(MissingColumn, match=r"lacks column c \(it has a, b\)\. Stage 'split'"):
        tables.read(path, ["a", "c"], stage="split")


@pytest.mark.parametrize("damage", ["no parquet", "torn", "page"])
def test_damaged_file_is_named(tmp_path, damage):
    """A file with other content, a torn file and a damaged page are missing input."""
    path = tmp_path / "t.parquet"
    many = pa.table({"a": list(range(50_000))})
    pq.write_table(many, path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    if damage == "no parquet":
        content = bytearray(b"nothing")
    elif damage == "torn":
        content = content[:100]
    else:
        content[40:400] = bytes(360)
    path.write_bytes(content)

    with pytest.raises(MissingInput, match=r"no readable Parquet file .* run stage 'split' again"):
        tables.read(path, ["a"], stage="split")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"a": ["1"], "b": ["x"]}), "Column 'a' .* has the type string, not int64"),
        (pa.table({"a": [1.5], "b": ["x"]}), "Column 'a' .* has the type double, not int64"),
        (pa.table({"a": [1, None], "b": ["x", "y"]}), "Column 'a' .* has 1 empty values"),
        (pa.table([[1], [2], ["x"]], names=["a", "a", "b"]), "Column 'a' .* has the type null"),
    ],
)
def test_column_of_another_type_is_named(tmp_path, table, message):
    """A column of another type, with empty values, or twice in the file is refused by name."""
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)

    with pytest.raises(BadTable, match=message):
        tables.read_complete(path, TABLE.schema, stage="split")


def test_whole_numbers_of_another_width_are_read(tmp_path):
    """Whole numbers in fewer or more bits are read if they fit."""
    path = tmp_path / "t.parquet"
    schema = pa.schema({"a": pa.int8()})
    pq.write_table(pa.table({"a": [5]}), path)
    assert [5] == tables.read_complete(path, schema, stage="split")["a"].to_pylist()

    pq.write_table(pa.table({"a": [300]}), path)
    with pytest.raises(MissingInput, match="300 not in range"):
        tables.read_complete(path, schema, stage="split")
