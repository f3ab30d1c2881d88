"""Columns of the tables that several stages share: `posts.parquet` and `decisions.parquet`."""

from collections.abc import Iterable

import pyarrow as pa

_TIME = pa.timestamp("ms", tz="UTC")
_TAGS = pa.list_(pa.string())
_VARIANT_COLUMNS: dict[str, pa.DataType] = {
    "type": pa.string(),
    "url": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "file_ext": pa.string(),
}

_POST_COLUMNS: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "created_at_utc": _TIME,
    "updated_at_utc": _TIME,
    "md5": pa.string(),
    "pixel_hash": pa.string(),
    "rating": pa.string(),
    "image_width": pa.int32(),
    "image_height": pa.int32(),
    "file_ext": pa.string(),
    "file_bytes": pa.int64(),
    "duration_seconds": pa.float64(),
    "parent_id": pa.int64(),
    "has_children": pa.bool_(),
    "is_pending": pa.bool_(),
    "is_flagged": pa.bool_(),
    "is_deleted": pa.bool_(),
    "is_banned": pa.bool_(),
    "score": pa.int32(),
    "uploader_id": pa.int64(),
    "source": pa.string(),
    "tags_general": _TAGS,
    "tags_character": _TAGS,
    "tags_copyright": _TAGS,
    "tags_artist": _TAGS,
    "tags_meta": _TAGS,
    "variants": pa.list_(pa.struct(_VARIANT_COLUMNS.items())),
    "given_label": pa.string(),
    "given_split": pa.string(),
    "given_group": pa.string(),
    "licence": pa.string(),
}

POSTS_SCHEMA = pa.schema(_POST_COLUMNS)
_TAG_COLUMNS: dict[str, pa.DataType] = {
    "name": pa.string(),
    "category": pa.int8(),
    "post_count": pa.int64(),
}
_PAIR_COLUMNS: dict[str, pa.DataType] = {"antecedent": pa.string(), "consequent": pa.string()}
TAGS_SCHEMA = pa.schema(_TAG_COLUMNS)
PAIRS_SCHEMA = pa.schema(_PAIR_COLUMNS)


def posts_columns(names: Iterable[str]) -> pa.Schema:
    """Returns the named columns of `posts.parquet`, whose types a reader checks."""
    return pa.schema([POSTS_SCHEMA.field(name) for name in names])
