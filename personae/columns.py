"""
The types of the columns by which the stages join their tables.

A name here has one type in every table, and a column with `nullable=False` a value in every row. The
readers of `personae.tables` check both, because a table may have been edited, or made by another
program. Columns that are not here are checked by the stage that reads them.
"""

from typing import Final

import pyarrow as pa

_FILLED: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "persona": pa.string(),
    "qualifies": pa.bool_(),
    "base": pa.string(),
    "white_background_tag": pa.bool_(),
    "group_id": pa.int64(),
    "post_a": pa.int64(),
    "post_b": pa.int64(),
    "label": pa.string(),
    "leaf": pa.int32(),
    "split": pa.string(),
    "white_background": pa.bool_(),
    "shard": pa.string(),
    "antecedent": pa.string(),
    "consequent": pa.string(),
    "image_width": pa.int32(),
    "image_height": pa.int32(),
    "tags_general": pa.list_(pa.string()),
    "tags_character": pa.list_(pa.string()),
    "tags_copyright": pa.list_(pa.string()),
    "tags_artist": pa.list_(pa.string()),
    "tags_meta": pa.list_(pa.string()),
}
_MAY_BE_EMPTY: dict[str, pa.DataType] = {
    "reason": pa.string(),
    "copyright": pa.string(),
    "error": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "phash": pa.binary(32),
    "border_white": pa.float64(),
    "saturation": pa.float64(),
    "sharpness": pa.float64(),
    "contrast": pa.float64(),
    "rating": pa.string(),
    "source": pa.string(),
    "given_label": pa.string(),
    "given_split": pa.string(),
    "given_group": pa.string(),
}

COLUMNS: Final = pa.schema(
    [
        *(pa.field(name, kind, nullable=False) for name, kind in _FILLED.items()),
        *(pa.field(name, kind) for name, kind in _MAY_BE_EMPTY.items()),
    ]
)
