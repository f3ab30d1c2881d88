"""
Stage `catalog`: builds one DuckDB file over the tables of every stage.

Loads the Parquet files in order of key, then adds the tables of catalog_derived.sql, the views of
catalog.sql, and the comments that docs/make.py writes from docs/formats.md. The catalog holds nothing that the files do not: it is always built anew, and every other
program opens it read-only.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from curation import catalog_tables, history
from curation.catalog_tables import DECIDING, SOURCES, TAGS, CatalogTable, quoted
from curation.documents import CatalogDocument, CertificateDocument, ManifestDocument
from curation.errors import TamperedData
from curation.params.catalog import Params
from personae import files, tables
from personae.catalog import OFFLINE
from personae.errors import DiskRefused

log = logging.getLogger(__name__)

# The oldest format that all supported versions write; DuckDB 1.2 and later versions read it.
STORAGE_VERSION = "v1.2.0"
# Bytes: what DuckDB needs beyond this goes to the disk. Files that are read, and the values of the tags,
# are not counted in it.
_MEMORY = 1_900_000_000
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


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Builds `catalog/catalog.duckdb`, then `catalog.json` with its sha256.

    The new file replaces the old one when it is whole, so that queries go on meanwhile.

    Raises:
        MissingInput, MissingColumn: A table of an earlier stage is absent or lacks a column.
        BadDocument: The manifest or the certificate has another version or shape.
        DiskRefused: The file cannot be written.
    """
    catalog_tables.check(data_dir)
    manifest = ManifestDocument.read(data_dir / "shards" / "manifest.json")
    certificate = CertificateDocument.read(data_dir / "split" / "certificate.json")
    path = data_dir / "catalog" / "catalog.duckdb"
    files.make_folder(path.parent)
    part = path.with_name(path.name + ".part")
    for leftover in path.parent.glob("*.part*"):
        leftover.unlink()
    spilled = path.parent / "spilled"
    shutil.rmtree(spilled, ignore_errors=True)  # of a run that was killed
    with translated_errors(path), closing(duckdb.connect(config=OFFLINE)) as connection:
        connection.execute(f"SET temp_directory = '{quoted(spilled)}'")
        connection.execute(f"SET memory_limit = '{_most_memory()}B'")
        counts, leaks = build(connection, part, data_dir, manifest, certificate)
    shutil.rmtree(spilled, ignore_errors=True)
    described = CatalogDocument(
        sha256=sha256(part), bytes=part.stat().st_size, root_sha256=manifest.root_sha256
    )
    history.record(data_dir, manifest)
    files.publish(part, path)
    described.write(path.with_suffix(".json"))
    if leaks and certificate.mode == "given":
        log.info("catalog: the given split leaks: `leaks` has %d rows", leaks)
    elif leaks:
        log.warning("catalog: `leaks` has %d rows and should be empty", leaks)
    log.info("catalog: %s", ", ".join(f"{table} {count}" for table, count in counts.items()))


def _most_memory() -> int:
    """Returns `_MEMORY`, or four fifths of the memory of a smaller machine, as DuckDB takes itself."""
    return min(_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4 // 5)


def build(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    data_dir: Path,
    manifest: ManifestDocument,
    certificate: CertificateDocument,
    *,
    rows: int | None = None,
) -> tuple[dict[str, int], int]:
    """
    Makes every table and view in the new file `path`; returns rows per table, and rows of `leaks`.

    `rows` is the largest number of rows of each Parquet file that are loaded; None means all.
    """
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"ATTACH '{quoted(path)}' AS built (STORAGE_VERSION '{STORAGE_VERSION}')")
    connection.execute("USE built")
    for source in SOURCES:
        _load(connection, source, data_dir, rows)
    _load_joined(connection, data_dir, rows)
    _describe_build(connection, data_dir, manifest, certificate)
    derive(connection)
    connection.execute(_script("catalog.sql"))
    connection.execute(_script("catalog_comments.sql"))
    counts = {source.table: _count(connection, source.table) for source in SOURCES}
    leaks = _count(connection, "leaks")
    connection.execute("CHECKPOINT built")
    connection.execute("USE memory")
    connection.execute("DETACH built")
    return counts, leaks


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """
    Turns every error of DuckDB, while the catalog `path` is built, into one of ours.

    Raises:
        DiskRefused: There is no room on the disk or in memory.
        TamperedData: A table of an earlier stage has other values than its stage writes.
        KeyboardInterrupt: DuckDB turns Ctrl-C into an error of its own.
    """
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException) as error:
        raise DiskRefused(
            f"{path} could not be built: {str(error).splitlines()[0]}. Free space in "
            f"{path.parent} or in memory, and run stage 'catalog' again."
        ) from error
    except (duckdb.Error, RuntimeError) as error:
        if isinstance(error, duckdb.InterruptException) or "interrupt" in str(error).lower():
            raise KeyboardInterrupt from error
        if not isinstance(error, duckdb.Error):
            raise
        raise TamperedData(
            f"{path} could not be built: {str(error).splitlines()[0]}. A table of an earlier stage "
            "does not have the values that it should. Run `dvc repro`, or the stage that writes it."
        ) from error


def sha256(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(
    connection: duckdb.DuckDBPyConnection, source: CatalogTable, data_dir: Path, rows: int | None
) -> None:
    order = f" ORDER BY {source.order}" if source.order else ""
    select = f"{catalog_tables.rows_of(source, data_dir)}{order}{_limited(rows)}"
    connection.execute(f"CREATE TABLE {source.table} AS {select}")


def derive(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables of catalog_derived.sql from the loaded ones, in the current database."""
    connection.execute(_script("catalog_derived.sql"))


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _load_joined(connection: duckdb.DuckDBPyConnection, data_dir: Path, rows: int | None) -> None:
    """Makes the tables of several files or of lists: stages, decisions, tombstones and post_tags."""
    connection.execute("CREATE TABLE stages (position INTEGER, stage VARCHAR)")
    for position, stage in enumerate(STAGES, start=1):
        connection.execute("INSERT INTO stages VALUES (?, ?)", [position, stage])
    connection.execute(
        f"CREATE TABLE decisions AS {catalog_tables.decisions(data_dir, 'kept')}{_limited(rows)}"
    )
    excluded = f"{catalog_tables.tombstones(data_dir)} ORDER BY post_id, rule{_limited(rows)}"
    connection.execute(f"CREATE TABLE tombstones AS {excluded}")
    # An enum stores a tag as a number: 25 million tags are compared as fast as integers.
    names = " UNION ".join(f"SELECT unnest(tags_{kind}) AS name FROM posts" for kind in TAGS)  # noqa: S608  # constants of catalog_tables.py
    connection.execute(f"CREATE TYPE tag AS ENUM (SELECT name FROM ({names}) ORDER BY name)")  # noqa: S608  # see above
    # The samples come first: a query of the data set skips the blocks of all other posts.
    for number, part in enumerate(catalog_tables.tag_parts("posts", "samples")):
        tagged = f"SELECT * REPLACE (tag::tag AS tag) FROM ({part})"  # noqa: S608  # see above
        into = "INSERT INTO post_tags" if number else "CREATE TABLE post_tags AS"
        connection.execute(f"{into} {tagged}")


def _limited(rows: int | None) -> str:
    return "" if rows is None else f" LIMIT {rows}"


def _describe_build(
    connection: duckdb.DuckDBPyConnection,
    data_dir: Path,
    manifest: ManifestDocument,
    certificate: CertificateDocument,
) -> None:
    """Makes the tables `shards` and `builds` of the manifest and the certificate."""
    connection.execute(
        "CREATE TABLE shards (shard VARCHAR, split VARCHAR, samples BIGINT, bytes BIGINT, "
        "sha256 VARCHAR)"
    )
    for entry in sorted(manifest.shards, key=lambda entry: entry.shard):
        values = [entry.shard, entry.split, entry.samples, entry.bytes, entry.sha256]
        connection.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", values)
    closest = certificate.closest
    build = {
        "root_sha256": manifest.root_sha256,
        "samples": sum(manifest.samples.values()),
        "labels": manifest.labels,
        "image_side": manifest.image.side,
        "image_format": manifest.image.format,
        "duplicate_distance": certificate.distance,
        "closest_pair": json.dumps(closest and closest.model_dump(), sort_keys=True),
        "versions": json.dumps(manifest.versions, sort_keys=True),
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
    """Returns the parameters that each stage recorded with its tables."""
    params: dict[str, Any] = {}
    files = [(source.stage, source.file) for source in SOURCES]
    for stage, file in [*files, *((stage, "decisions.parquet") for stage in DECIDING)]:
        if values := tables.recorded(data_dir / stage / file, "personae.params", stage=stage):
            params[stage] = values
    return params


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # names are constants of this file
    return int(row[0]) if row else 0
