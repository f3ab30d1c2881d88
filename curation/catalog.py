"""
Stage `catalog`: one DuckDB file over the tables of every stage.

The tables are loaded from Parquet by SQL, in order of key; catalog.sql adds the views that answer the
common questions. It stores no second truth: it is built aside, renamed when whole, and opened
read-only by everyone else. A column named after a word of SQL is renamed: `offset` is `byte_offset`.
"""

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from curation.decisions import DECISIONS
from personae import tables
from personae.errors import DiskRefused, MissingInput

log = logging.getLogger(__name__)

# The oldest format that all supported versions write: DuckDB 1.2 and everything after it read it.
STORAGE_VERSION = "v1.2.0"
STAGES = (
    "listing",
    "decide",
    "download",
    "measure",
    "filters",
    "duplicates",
    "persona",
    "split",
    "shards",
)
DECIDING = ("decide", "download", "filters", "duplicates", "persona", "split")
_TAGS = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
_OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Params(BaseModel):
    """Section `catalog`: nothing to choose so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Source:
    """One Parquet file and the table that it becomes."""

    table: str
    stage: str
    file: str
    columns: tuple[str, ...]
    order: str | None
    """None where the file is written in the order of post ids, which loading keeps."""


def _source(table: str, path: str, columns: str, order: str | None = None) -> Source:
    stage, file = path.split("/")
    return Source(table, stage, file, tuple(columns.split()), order)


SOURCES = (
    _source(
        "posts",
        "listing/posts.parquet",
        "post_id created_at_utc updated_at_utc md5 pixel_hash rating image_width image_height "
        "file_ext file_bytes duration_seconds parent_id has_children is_pending is_flagged "
        "is_deleted is_banned score uploader_id source tags_general tags_character tags_copyright "
        "tags_artist tags_meta given_label given_split given_group",
    ),
    _source("tags", "listing/tags.parquet", "name category post_count", "name"),
    _source(
        "implications",
        "listing/implications.parquet",
        "antecedent consequent",
        "antecedent, consequent",
    ),
    _source("aliases", "listing/aliases.parquet", "antecedent consequent", "antecedent"),
    _source(
        "kept",
        "decide/kept.parquet",
        "post_id persona base base_source copyright white_background_tag",
    ),
    _source(
        "personae",
        "decide/personae.parquet",
        "persona base copyright listed kept qualifies",
        "persona",
    ),
    _source(
        "images",
        "download/images.parquet",
        "post_id segment offset file_bytes sha256 md5 variant file_ext width height",
    ),
    _source(
        "measures",
        "measure/measures.parquet",
        "post_id error detail file_format mode width height sha256 phash phash_quality border_white "
        "saturation sharpness contrast image_tar offset image_bytes image_sha256",
    ),
    _source(
        "groups",
        "duplicates/groups.parquet",
        "post_id group_id representative link distance",
    ),
    _source(
        "links", "duplicates/links.parquet", "post_a post_b link distance", "post_a, post_b, link"
    ),
    _source(
        "labels", "persona/classes.parquet", "label leaf base copyright available samples", "leaf"
    ),
    _source("splits", "split/split.parquet", "post_id label leaf group_id split white_background"),
    _source(
        "samples",
        "shards/samples.parquet",
        "post_id split label leaf white_background shard offset sample_bytes image_offset image_bytes",
    ),
)


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Builds `catalog/catalog.duckdb`.

    Raises:
        MissingInput, MissingColumn: A table of an earlier stage is absent or lacks a column.
        DiskRefused: The file cannot be written.
    """
    _check(data_dir)
    manifest = _json(data_dir / "shards" / "manifest.json", stage="shards")
    certificate = _json(data_dir / "split" / "certificate.json", stage="split")
    path = data_dir / "catalog" / "catalog.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for leftover in path.parent.glob("*.part*"):
        leftover.unlink()
    try:
        with closing(duckdb.connect(config=_OFFLINE)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_progress_bar = false")
            connection.execute(
                f"ATTACH '{quoted(part)}' AS catalog (STORAGE_VERSION '{STORAGE_VERSION}')"
            )
            connection.execute("USE catalog")
            for source in SOURCES:
                _load(connection, source, data_dir)
            _derive(connection, data_dir)
            _build(connection, data_dir, manifest, certificate)
            connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
            counts = {source.table: _count(connection, source.table) for source in SOURCES}
            leaks = _count(connection, "leaks")
            connection.execute("CHECKPOINT catalog")
            connection.execute("USE memory")
            connection.execute("DETACH catalog")
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise DiskRefused(
            f"{path} could not be built: {str(error).splitlines()[0]}. Free space in "
            f"{path.parent} or in memory, and run stage 'catalog' again."
        ) from error
    part.replace(path)
    if leaks and certificate.get("mode") == "given":
        log.info("catalog: the given split leaks: the view `leaks` has %d rows", leaks)
    elif leaks:
        log.warning("catalog: the view `leaks` has %d rows and should be empty", leaks)
    log.info("catalog: %s", ", ".join(f"{table} {count}" for table, count in counts.items()))


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """
    Opens a catalog for reading.

    Raises:
        MissingInput: The file is absent, or no catalog.
    """
    if not path.is_file():
        raise MissingInput(f"{path} is absent: stage 'catalog' writes it. Run that stage first.")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_OFFLINE)
    except duckdb.Error as error:
        raise MissingInput(
            f"{path} cannot be opened: {str(error).splitlines()[0]}. Remove it and run stage "
            "'catalog' again."
        ) from error
    connection.execute("SET enable_progress_bar = false")
    return connection


def _check(data_dir: Path) -> None:
    for source in SOURCES:
        tables.check(data_dir / source.stage / source.file, source.columns, stage=source.stage)
    for stage in DECIDING:
        path = data_dir / stage / "decisions.parquet"
        tables.check(path, DECISIONS.names, stage=stage)


def _load(connection: duckdb.DuckDBPyConnection, source: Source, data_dir: Path) -> None:
    columns = ", ".join(map(_column, source.columns))
    path = pattern(data_dir / source.stage / source.file)
    connection.execute(
        f"CREATE TABLE {source.table} AS SELECT {columns} FROM read_parquet('{path}') "  # noqa: S608  # names are constants of this file, the path is quoted
        + (f"ORDER BY {source.order}" if source.order else "")
    )


def _derive(connection: duckdb.DuckDBPyConnection, data_dir: Path) -> None:
    """Tables made of several files or of lists: stages, decisions and post_tags."""
    connection.execute("CREATE TABLE stages (position INTEGER, stage VARCHAR)")
    for position, stage in enumerate(STAGES, start=1):
        connection.execute("INSERT INTO stages VALUES (?, ?)", [position, stage])
    columns = ", ".join(DECISIONS.names)
    paths = [pattern(data_dir / stage / "decisions.parquet") for stage in DECIDING]
    union = " UNION ALL ".join(f"SELECT {columns} FROM read_parquet('{path}')" for path in paths)  # noqa: S608  # see _load
    connection.execute(f"CREATE TABLE decisions AS {union}")
    # A tag is stored as a number: twenty-five million of them are compared at the cost of integers.
    names = " UNION ".join(f"SELECT unnest(tags_{kind}) AS name FROM posts" for kind in _TAGS)  # noqa: S608  # constants of this file
    connection.execute(f"CREATE TYPE tag AS ENUM (SELECT name FROM ({names}) ORDER BY name)")  # noqa: S608  # see above
    union = " UNION ALL ".join(
        f"SELECT post_id, unnest(tags_{kind})::tag AS tag, {number}::TINYINT AS category FROM posts"  # noqa: S608  # see above
        for kind, number in _TAGS.items()
    )
    connection.execute(f"CREATE TABLE post_tags AS {union}")


def _build(
    connection: duckdb.DuckDBPyConnection,
    data_dir: Path,
    manifest: dict[str, Any],
    certificate: dict[str, Any],
) -> None:
    """Tables `shards` and `builds`: what the manifest and the certificate say."""
    connection.execute(
        "CREATE TABLE shards (shard VARCHAR, split VARCHAR, samples BIGINT, bytes BIGINT, "
        "sha256 VARCHAR)"
    )
    for entry in sorted(manifest["shards"], key=lambda entry: str(entry["shard"])):
        values = [entry[name] for name in ("shard", "split", "samples", "bytes", "sha256")]
        connection.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", values)
    build = {
        "root_sha256": manifest["root_sha256"],
        "samples": sum(manifest["samples"].values()),
        "labels": manifest["labels"],
        "image_side": manifest["image"]["side"],
        "image_format": manifest["image"]["format"],
        "duplicate_distance": certificate["distance"],
        "closest_pair": json.dumps(certificate["closest"], sort_keys=True),
        "versions": json.dumps(manifest["versions"], sort_keys=True),
        "params": json.dumps(_params(data_dir), sort_keys=True),
    }
    connection.execute(
        "CREATE TABLE builds (root_sha256 VARCHAR, samples BIGINT, labels BIGINT, "
        "image_side INTEGER, image_format VARCHAR, duplicate_distance INTEGER, closest_pair VARCHAR, "
        "versions VARCHAR, params VARCHAR)"
    )
    connection.execute(
        "INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", list(build.values())
    )


def _params(data_dir: Path) -> dict[str, Any]:
    """The parameters that each stage recorded with its tables."""
    found: dict[str, Any] = {}
    files = [(source.stage, source.file) for source in SOURCES]
    for stage, file in [*files, *((stage, "decisions.parquet") for stage in DECIDING)]:
        metadata = pq.read_schema(data_dir / stage / file).metadata or {}
        if b"personae.params" in metadata:
            found[stage] = json.loads(metadata[b"personae.params"])
    return found


def _json(path: Path, *, stage: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path} is absent: stage '{stage}' writes it last. Run that stage again."
        ) from error
    except ValueError as error:
        raise MissingInput(f"{path} is no JSON ({error}). Run stage '{stage}' again.") from error
    return document


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # names are constants of this file
    return int(row[0]) if row else 0


def _column(name: str) -> str:
    if name == "offset":
        return '"offset" AS byte_offset'
    return f"{name}::TIMESTAMP AS {name}" if name.endswith("_at_utc") else name


def pattern(path: Path) -> str:
    """A path for `read_parquet`, which takes patterns: brackets and stars stand for themselves."""
    text = "".join(f"[{sign}]" if sign in "[]*?" else sign for sign in str(path))
    return text.replace("'", "''")


def quoted(path: Path) -> str:
    """A path inside a literal of SQL."""
    return str(path).replace("'", "''")
