"""Tests tables that were edited or made by another program: every column a stage joins by is checked."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.__main__ import main

CASES = [
    ("filters", "measure/measures", "post_id"),
    ("filters", "measure/measures", "width"),
    ("filters", "measure/measures", "saturation"),
    ("duplicates", "filters/decisions", "kept"),
    ("duplicates", "measure/measures", "phash"),
    ("persona", "duplicates/decisions", "post_id"),
    ("persona", "decide/kept", "persona"),
    ("persona", "decide/kept", "base"),
    ("split", "persona/labels", "label"),
    ("split", "persona/labels", "leaf"),
    ("split", "duplicates/groups", "group_id"),
    ("split", "duplicates/links", "post_a"),
    ("split", "decide/kept", "white_background_tag"),
    ("shards", "split/split", "label"),
    ("shards", "split/split", "split"),
    ("shards", "persona/classes", "leaf"),
    ("shards", "persona/classes", "base"),
    ("catalog", "listing/posts", "tags_general"),
    ("catalog", "filters/decisions", "kept"),
]
MAY_BE_EMPTY = ("width", "saturation", "phash")
BY_TYPE_ALONE = ("catalog",)  # which copies rows by SQL


@pytest.mark.parametrize("damage", ["type", "empty"])
def test_foreign_columns_are_named(curated, capsys, damage):
    """A column of another type, or an empty label, is an error with file, column and stage."""
    data = curated.data_dir
    wrong = []
    for stage, name, column in CASES:
        if damage == "empty" and (column in MAY_BE_EMPTY or stage in BY_TYPE_ALONE):
            continue
        path = data / f"{name}.parquet"
        content = path.read_bytes()
        table = pq.read_table(path)
        kind = table.schema.field(column).type
        if damage == "type":
            kind = pa.float64() if pa.types.is_string(kind) else pa.string()
        values = pa.nulls(len(table), kind)
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)
        code = main([stage, "--data", str(data)])
        error = capsys.readouterr().err.splitlines()[-1]
        path.write_bytes(content)
        if code != 5 or f"Column '{column}' of {path} has " not in error or "again." not in error:
            wrong.append((stage, name, column, code, error))

    assert [] == wrong
