"""
The images that an earlier run of stage `measure` has measured: their rows and bytes are used again.

data/measured.json, outside of the output of the stage, names the program that measured and the sha256
of its table. Rows are used only with the same program, parameters and libraries, and for the same
stored bytes; each normalised image is compared with its sha256.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.params.measure import Params
from curation.spans import SpanReader
from personae import files
from personae.errors import PersonaeError

# Neither changes an image or its measures.
_WITHOUT_EFFECT: Final = {"workers", "pictures_per_tar"}
_OF_IMAGES: Final = ("image_tar", "offset", "image_bytes", "image_sha256", "width", "height")


class MeasuredImage(NamedTuple):
    """One row of measures.parquet without its position, and the normalised image."""

    row: dict[str, Any]
    encoded: bytes


def remember(data_dir: Path, *, code: str) -> None:
    """Records that the program with the digest `code` made the present table of `measure`."""
    path = data_dir / "measured.json"
    record = _record(data_dir, code)
    if _recorded(path) != record:
        files.write_json(path, record)


def earlier(
    data_dir: Path, params: Params, versions: Mapping[str, str], *, code: str, schema: pa.Schema
) -> pa.Table | None:
    """Returns the table of an earlier run, with these columns, whose rows hold for this run, or None."""
    path = data_dir / "measure" / "measures.parquet"
    try:
        described = pq.read_schema(path)
        metadata = described.metadata or {}
        before = Params(**json.loads(metadata[b"personae.params"]))
        is_same = (
            described.equals(schema)
            and _recorded(data_dir / "measured.json") == _record(data_dir, code)
            and before.model_dump(exclude=_WITHOUT_EFFECT)
            == params.model_dump(exclude=_WITHOUT_EFFECT)
            and json.loads(metadata[b"personae.versions"]) == versions
        )
        return pq.read_table(path).sort_by("post_id") if is_same else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # whatever it is, everything is measured


def of_posts(table: pa.Table | None, posts: Sequence[int]) -> pa.Table | None:
    """Returns the rows of some posts; `table` and `posts` are in the order of the post ids."""
    if table is None or not posts:
        return None
    ids = table["post_id"].to_numpy()
    start, end = np.searchsorted(ids, posts[0]), np.searchsorted(ids, posts[-1], side="right")
    rows = np.flatnonzero(np.isin(ids[start:end], posts)) + start
    return table.take(pa.array(rows)).replace_schema_metadata(None)


class EarlierImages:
    """Looks up images of an earlier run; a context that closes its files."""

    def __init__(self, rows: pa.Table | None, measure_dir: Path) -> None:
        self._rows = {row["post_id"]: row for row in rows.to_pylist()} if rows is not None else {}
        self._images = SpanReader(
            measure_dir, stage="measure", table="measures.parquet", remedy="It is measured anew."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._images.__exit__(kind, error, traceback)

    def get(self, post_id: int, sha256: str) -> MeasuredImage | None:
        """
        Returns what an earlier run measured of a post whose stored bytes have the given sha256.

        None if that was another file, could not be decoded, or its normalised image is damaged.
        """
        row = self._rows.get(post_id)
        if row is None or row["sha256"] != sha256 or row["error"] is not None:
            return None
        if any(row[name] is None for name in _OF_IMAGES):
            return None
        try:
            encoded = self._images.read(
                post_id,
                row["image_tar"],
                offset=row["offset"],
                size=row["image_bytes"],
                sha256=row["image_sha256"],
            )
        except PersonaeError:
            return None
        return MeasuredImage(row | {"image_tar": None, "offset": None}, encoded)


def _record(data_dir: Path, code: str) -> dict[str, str]:
    with (data_dir / "measure" / "measures.parquet").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"code": code, "measures_sha256": sha256}


def _recorded(path: Path) -> object:
    """Returns the record of an earlier run, or None."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
