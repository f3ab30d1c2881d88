"""Tests the Parquet tables between stages: stated columns, complete files, reported damage."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("rows", [0, 3, 1 << 20, (1 << 20) + 5])
def test_rows_in_pieces_give_the_bytes_of_one_table(tmp_path, rows):
    """`write_rows` writes the bytes that `write` writes, with as many rows in each row group."""
    column = pa.array(range(rows), pa.int32())
    text = pa.array(["a", None, "b"]).take(pa.array([row % 3 for row in range(rows)], pa.int32()))
    table = pa.table({"a": column, "b": text}).replace_schema_metadata({"key": "value"})
    tables.write(tmp_path / "one", table)
    pieces = (table.slice(start, 300_000) for start in range(0, rows, 300_000))
    tables.write_rows(tmp_path / "two", table.schema, pieces)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@given(st.data())
def test_rows_with_a_key_are_those_of_a_filter(tmp_path_factory, data):
    """Whatever the order, the row groups and the nulls, `rows_with` returns every row of the key."""
    ids = data.draw(st.lists(st.none() | st.integers(0, 9), max_size=12))
    key = data.draw(st.integers(-1, 10))
    kind = data.draw(st.sampled_from([pa.int64(), pa.int32(), pa.uint8()]))
    path = tmp_path_factory.mktemp("rows") / "t.parquet"
    table = pa.table({"b": pa.array(map(str, ids), pa.string()), "a": pa.array(ids, kind)})
    pq.write_table(table, path, row_group_size=data.draw(st.integers(1, 4)))
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})

    assert [{"a": key, "b": str(key)}] * ids.count(key) == (
        tables.rows_with(path, schema, key, stage="split")
    )


def test_rows_with_a_key_need_its_type(tmp_path):
    """A key column of text is an error that names column, type and stage."""
    pq.write_table(TABLE, tmp_path / "t.parquet")
    with pytest.raises(BadTable, match=r"Column 'b' .* type string, not int64. Run stage 'split'"):
        tables.rows_with(tmp_path / "t.parquet", pa.schema({"b": pa.int64()}), 1, stage="split")


def test_encoded_text_has_one_dictionary(tmp_path):
    """Encoded columns have the same values, and one dictionary in all row groups."""
    names = ["x", "y", None, "z", "x"]
    pq.write_table(pa.table({"a": names, "b": names}), tmp_path / "t.parquet", row_group_size=2)
    table = tables.read(tmp_path / "t.parquet", ["b", "a"], stage="split", encoded=["a"])

    assert [pa.string(), names, names] == (
        [table.schema.field("b").type, table["a"].to_pylist(), table["b"].to_pylist()]
    )
    assert 1 == len({tuple(chunk.dictionary.to_pylist()) for chunk in table["a"].chunks})


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


def test_metadata_of_a_table_are_an_object(tmp_path):
    """What a stage recorded comes back, none where it recorded none; anything else names the stage."""
    path = tmp_path / "t.parquet"
    for text, values in ((None, {}), ('{"side": 48}', {"side": 48})):
        tables.write(path, TABLE.replace_schema_metadata(text and {"params": text}))
        assert values == tables.recorded(path, "params", stage="measure")
    for text in ("", "[48]", "{", "\\xff", "[" * 100_000):
        tables.write(path, TABLE.replace_schema_metadata({"params": text}))
        with pytest.raises(
            BadTable, match=r"'params' of .* no object .* Run stage 'measure' again"
        ):
            tables.recorded(path, "params", stage="measure")
    with pytest.raises(MissingInput, match=r"u\.parquet is absent"):
        tables.recorded(tmp_path / "u.parquet", "params", stage="measure")


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


@pytest.mark.parametrize("read", [tables.read, lambda *a, **k: list(tables.batches(*a, **k))])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "Column 'label' of .* has the type int64, not string. Run stage 'persona'"),
        (["amber", None], "Column 'label' of .* has 1 empty values. Run stage 'persona' again"),
    ],
)
def test_columns_that_stages_join_by_are_checked(tmp_path, read, labels, message):
    """A label of another type, or none, is refused wherever it is read; a reason may be empty."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"post_id": [1, 2], "label": labels, "reason": ["x", None]}), path)

    with pytest.raises(BadTable, match=message):
        read(path, ["post_id", "label"], stage="persona")
    assert read(path, ["post_id", "reason"], stage="persona")


def test_whole_numbers_of_another_width_are_read(tmp_path):
    """Whole numbers in fewer or more bits are read if they fit."""
    path = tmp_path / "t.parquet"
    schema = pa.schema({"a": pa.int8()})
    pq.write_table(pa.table({"a": [5]}), path)
    assert [5] == tables.read_complete(path, schema, stage="split")["a"].to_pylist()

    pq.write_table(pa.table({"a": [300]}), path)
    with pytest.raises(MissingInput, match="300 not in range"):
        tables.read_complete(path, schema, stage="split")
