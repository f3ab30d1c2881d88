"""
The bytes of the images that the browse page shows, by post id.

File name, offset, size and sha256 come from the catalog and are checked before bytes are sent: a
catalog from elsewhere can show no other file.
"""

import base64
from dataclasses import dataclass
from typing import Any

from curation.browse.snapshot import Snapshot
from curation.errors import TamperedData
from curation.spans import SpanReader
from personae import container
from personae.errors import MissingInput

_LARGEST_INLINE = 32 << 10  # bytes; a page of larger images is shown sooner one by one
_LARGEST = 64 << 20  # bytes; `download.max_bytes` is far below
SQUARE_COLUMNS = """
s.shard, s.image_offset, s.image_bytes AS shard_bytes, m.image_tar, m.byte_offset AS tar_offset,
m.image_bytes AS tar_bytes, m.image_sha256 AS square
"""
"""Where the normalised image of a post is stored: `m` stands for measures, `s` for samples."""
_SQUARE = f"""
SELECT {SQUARE_COLUMNS}
FROM catalog.measures AS m LEFT JOIN catalog.samples AS s USING (post_id) WHERE m.post_id = ?
"""  # noqa: S608  # constants of this file
_ORIGINAL = """
SELECT segment, byte_offset, file_bytes, sha256 AS original FROM catalog.images WHERE post_id = ?
"""
_GIF = b"GIF8"


@dataclass(frozen=True, slots=True)
class ServedImage:
    """The bytes of one image, its media type by its first bytes, and its sha256 in hexadecimal."""

    data: bytes
    kind: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Span:
    """Where the catalog says that an image lies: bytes of a file of one stage."""

    stage: str
    name: str | None
    offset: int | None
    size: int | None


def square(snapshot: Snapshot, post_id: int) -> ServedImage:
    """
    Returns the normalised image of a post: from its shard, else from the tar of stage `measure`.

    Raises:
        MissingInput: The post has no normalised image, or its file is absent.
        TamperedData: The bytes are not those that the catalog records.
    """
    row = snapshot.remembered(post_id) or _row(snapshot, _SQUARE, post_id)
    if row is None or row["square"] is None:
        raise MissingInput(f"Post {post_id} has no normalised image.")
    in_shard = _Span("shards", row["shard"], row["image_offset"], row["shard_bytes"])
    in_tar = _Span("measure", row["image_tar"], row["tar_offset"], row["tar_bytes"])
    if in_shard.name is not None:
        try:
            return _read(snapshot, post_id, in_shard, row["square"])
        except (MissingInput, TamperedData):
            if in_tar.name is None:
                raise
    return _read(snapshot, post_id, in_tar, row["square"])


def inline(snapshot: Snapshot, post_id: int) -> str | None:
    """Returns the normalised image as a data URL; None if it is large or cannot be read."""
    try:
        image = square(snapshot, post_id)
    except (MissingInput, TamperedData):
        return None
    if len(image.data) > _LARGEST_INLINE:
        return None
    return f"data:{image.kind};base64,{base64.b64encode(image.data).decode('ascii')}"


def original(snapshot: Snapshot, post_id: int) -> ServedImage:
    """Returns the image of a post as it was downloaded, from its segment; raises as `square` does."""
    row = _row(snapshot, _ORIGINAL, post_id)
    if row is None or row["original"] is None:
        raise MissingInput(f"Post {post_id} has no downloaded image.")
    span = _Span("download", row["segment"], row["byte_offset"], row["file_bytes"])
    return _read(snapshot, post_id, span, row["original"])


def _row(snapshot: Snapshot, sql: str, post_id: int) -> dict[str, Any] | None:
    rows = snapshot.rows(sql, [post_id])
    return rows[0] if rows else None


def _read(snapshot: Snapshot, post_id: int, span: _Span, sha256: str) -> ServedImage:
    name, offset, size = span.name, span.offset, span.size
    if name is None or offset is None or size is None or size > _LARGEST:
        raise TamperedData(f"The catalog records no possible position of the image of {post_id}.")
    reader = SpanReader(
        snapshot.data_dir / span.stage / ("segments" if span.stage == "download" else ""),
        stage=span.stage,
        table="the catalog",
        remedy=f"Run stages '{span.stage}' and 'catalog' again.",
    )
    with reader:
        data = reader.read(post_id, name, offset=offset, size=size, sha256=sha256)
    kind = container.signature(data[: container.SIGNATURE_BYTES])
    if kind is None and data.startswith(_GIF):
        kind = "GIF"
    if kind is None:
        raise TamperedData(f"The file of post {post_id} is of no image type that a browser shows.")
    return ServedImage(data, f"image/{kind.lower()}", sha256)
