"""
Checks of the catalog: its file against catalog.json, its rows against the tables that they are of.

The file is read only if it has the sha256 that catalog.json records. A catalog from elsewhere may
agree with its own catalog.json, so the definitions of tables and views are compared with those that
stage `catalog` makes before a view is queried.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from curation import catalog, catalog_tables
from curation.documents import CatalogDocument, CertificateDocument, ManifestDocument
from personae import stages
from personae.catalog import OFFLINE, connect
from personae.errors import AlreadyRunning, PersonaeError

_AGAIN = "Run stage 'catalog' again."
# Every object that a database may hold. The values of the enum `tag` depend on the rows.
_DEFINITIONS = """
    SELECT 'view ' || view_name AS name, concat_ws(' ', sql, comment) FROM duckdb_views()
    WHERE database_name = '{database}' AND NOT internal
    UNION ALL
    SELECT 'table ' || table_name, string_agg(
        concat_ws(' ', column_name, CASE WHEN data_type LIKE 'ENUM%' THEN 'ENUM' ELSE data_type END,
                  is_nullable, column_default, comment), ', ' ORDER BY column_index)
    FROM duckdb_columns() WHERE database_name = '{database}' AND NOT internal
    GROUP BY table_name
    UNION ALL
    SELECT 'table ' || table_name, comment FROM duckdb_tables()
    WHERE database_name = '{database}' AND NOT internal
    UNION ALL
    SELECT 'macro ' || function_name, macro_definition FROM duckdb_functions()
    WHERE database_name = '{database}' AND NOT internal
    UNION ALL
    SELECT 'index ' || index_name, sql FROM duckdb_indexes() WHERE database_name = '{database}'
"""


def problems(data_dir: Path, manifest: ManifestDocument) -> Iterator[str]:
    """
    Yields a sentence for each promise of the catalog that does not hold.

    Raises:
        AlreadyRunning: Another program has the catalog open for writing.
    """
    path = data_dir / "catalog" / "catalog.duckdb"
    try:
        wrong = _file(path, manifest)
        if wrong:
            yield wrong
            return
        catalog_tables.check(data_dir)
        certificate = CertificateDocument.read(data_dir / "split" / "certificate.json")
        connect(path).close()  # names who has it open for writing
        with (
            TemporaryDirectory() as folder,
            closing(duckdb.connect(config=OFFLINE)) as connection,
        ):
            # A view's SQL is compared after a file has kept it: DuckDB words it anew then.
            empty = Path(folder) / "empty.duckdb"
            catalog.build(connection, empty, data_dir, manifest, certificate, rows=0)
            connection.execute(f"ATTACH '{catalog_tables.quoted(empty)}' AS expected (READ_ONLY)")
            connection.execute(f"ATTACH '{catalog_tables.quoted(path)}' AS catalog (READ_ONLY)")
            changed = list(_definitions(connection))
            yield from changed
            if not changed:
                yield from _rows(connection, data_dir)
                yield from _leaks(connection)
    except AlreadyRunning:
        raise
    except PersonaeError as error:
        yield str(error)
    except (duckdb.Error, RuntimeError) as error:
        if "interrupt" in str(error).lower():
            raise KeyboardInterrupt from error
        yield f"The catalog cannot be read: {str(error).splitlines()[0]}. {_AGAIN}"


def _file(path: Path, manifest: ManifestDocument) -> str | None:
    """Compares the file with catalog.json, and catalog.json with the manifest."""
    if not path.is_file():
        raise stages.absent(path, "catalog")
    described = CatalogDocument.read(path.with_suffix(".json"))
    if described.root_sha256 != manifest.root_sha256:
        return f"The catalog is of another build than the shards. {_AGAIN}"
    actual = catalog.sha256(path)
    if actual != described.sha256:
        return f"{path.name} has the sha256 {actual}, not {described.sha256}. {_AGAIN}"
    return None


def _definitions(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Compares tables, columns, views and macros with those that stage `catalog` makes."""
    actual, expected = (
        set(connection.execute(_DEFINITIONS.format(database=name)).fetchall())
        for name in ("catalog", "expected")
    )
    for name in sorted({name for name, _ in actual ^ expected}):
        yield f"The {name} of the catalog is not as stage 'catalog' makes it. {_AGAIN}"


def _rows(connection: duckdb.DuckDBPyConnection, data_dir: Path) -> Iterator[str]:
    """
    Compares every table with what it was made from.

    All rows of both are read, which also checks DuckDB's own checksums of their blocks, and compared
    by number and sum of hashes, in whatever order they are.
    """
    expected = {
        source.table: catalog_tables.rows_of(source, data_dir) for source in catalog_tables.SOURCES
    }
    expected["decisions"] = catalog_tables.decisions(data_dir, "catalog.kept")
    expected["tombstones"] = catalog_tables.tombstones(data_dir)
    expected["post_tags"] = catalog_tables.tagged("catalog.posts", "catalog.samples")
    expected |= _derived(connection)
    for table in ("stages", "shards", "builds"):
        expected[table] = f"SELECT * FROM expected.{table}"  # noqa: S608  # names are constants of this file
    origins = {source.table: (source.stage, source.file) for source in catalog_tables.SOURCES}
    origins["tombstones"] = ("filters", "tombstones.parquet")
    for table, rows in expected.items():
        name, remedy = f"The source of table '{table}'", _AGAIN
        if table in origins:
            stage, file = origins[table]
            name, remedy = f"{stage}/{file}", f"Run stage '{stage}' again, then stage 'catalog'."
        actual = "SELECT *" + " REPLACE (tag::VARCHAR AS tag)" * (table == "post_tags")
        try:
            before = _sum(connection, rows)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            yield f"{name} cannot be read ({str(error).splitlines()[0]}). {remedy}"
            continue
        if before != _sum(connection, f"{actual} FROM catalog.{table}"):
            yield (
                f"{name} differs from table '{table}' of the catalog: one of the two was changed. "
                f"{remedy}"
            )


def _sum(connection: duckdb.DuckDBPyConnection, rows: str) -> Any:
    query = f"SELECT count(*), sum(hash(rows)) FROM ({rows}) AS rows"  # noqa: S608  # constants; the paths are quoted
    return connection.execute(query).fetchone()


def _derived(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Makes the derived tables in memory from the loaded tables of the catalog; returns their rows."""
    tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = '{}'"
    names = [name for (name,) in connection.execute(tables.format("catalog")).fetchall()]
    for name in set(names) - set(catalog_tables.DERIVED):
        connection.execute(f"CREATE VIEW memory.{name} AS FROM catalog.{name}")
    catalog.derive(connection)
    return {name: f"SELECT * FROM memory.{name}" for name in catalog_tables.DERIVED}  # noqa: S608  # names are constants


def _leaks(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    mode = connection.execute("SELECT params ->> '$.split.mode' FROM expected.builds").fetchone()
    if mode == ("given",):  # a given split promises nothing; `leaks` only reports on it
        return
    query = "SELECT kind, post_a, split_a, post_b, split_b FROM catalog.leaks"
    for kind, post_a, split_a, post_b, split_b in connection.execute(query).fetchall():
        yield f"Leak ({kind}): post {post_a} in {split_a}, post {post_b} in {split_b}."
