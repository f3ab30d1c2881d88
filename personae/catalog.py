"""
The catalog of a build: a DuckDB file that every program opens for reading, and queries of it.

SQL that comes from a user is confined: it cannot open a file, use the network or change a setting.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from personae import stages
from personae.errors import AlreadyRunning, BadQuery, MissingInput

_BATCH_ROWS = 100_000
# DuckDB names the program that holds a file, and its process.
_HOLDER = re.compile(r"Conflicting lock is held in (.+?) \(PID (\d+)\)")
OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """
    Opens a catalog for reading.

    Raises:
        MissingInput: The file is absent, or no catalog.
        AlreadyRunning: Another program has the file open for writing.
    """
    if not path.is_file():
        raise stages.absent(path, "catalog")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=OFFLINE)
    except duckdb.Error as error:
        holder = _HOLDER.search(str(error))
        if holder or "Could not set lock" in str(error):
            program = f"{holder[1]} (process {holder[2]})" if holder else "another program"
            raise AlreadyRunning(
                f"{path} is open for writing in {program}. Close it there, or open it there for "
                "reading only (duckdb -readonly FILE), and run the same command again."
            ) from error
        raise MissingInput(
            f"{path} cannot be opened: {str(error).splitlines()[0]} Stage 'catalog' builds it anew "
            "from the tables: run that stage again."
        ) from error
    connection.execute("SET enable_progress_bar = false")
    # Groups by tag, of at most 2**16 tags, are counted in an array and not in a hash table.
    connection.execute("SET perfect_ht_threshold = 16")
    return connection


@contextmanager
def sandboxed(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[None]:
    """
    Confines the connection for the statement `sql`, which the block executes.

    Raises:
        BadQuery: `sql` is not one statement, or DuckDB refuses what the block executes.
    """
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    try:
        if len(connection.extract_statements(sql)) != 1:
            raise BadQuery("Give one statement at a time: this is none, or several.")
        yield
    except (duckdb.Error, RuntimeError) as error:
        if "interrupt" in str(error).lower():  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from error
        if not isinstance(error, duckdb.Error):
            raise
        raise BadQuery(first_line(error)) from error


def reader(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    """
    Returns the rows of a statement in batches; a second column `post_id` is called `post_id_1`.

    Raises:
        BadQuery: The statement gives no rows. Reading raises it where DuckDB fails later.
    """
    rows = connection.sql(sql)
    if rows is None:
        raise BadQuery("This statement gives no rows.")
    # DuckDB 2 has renamed the method, and warns of the name of DuckDB 1.
    method = "to_arrow_reader" if hasattr(rows, "to_arrow_reader") else "fetch_arrow_reader"
    batches = getattr(rows, method)(_BATCH_ROWS)
    names = unique_names(batches.schema.names)
    fields = [field.with_name(name) for field, name in zip(batches.schema, names, strict=True)]
    renamed = (batch.rename_columns(list(names)) for batch in _read(batches))
    return pa.RecordBatchReader.from_batches(pa.schema(fields), renamed)


def _read(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yields the batches of DuckDB, whose errors Arrow gives as those of a file."""
    while True:
        try:
            batch = batches.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            if "interrupt" in str(error).lower():
                raise KeyboardInterrupt from error
            raise BadQuery(first_line(error)) from error
        yield batch


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names with a number after each that stood before: a, a, b gives a, a_1, b."""
    unique: dict[str, None] = {}
    for name in names:
        candidate, number = name, 0
        while candidate in unique or (number and candidate in names):
            number += 1
            candidate = f"{name}_{number}"
        unique[candidate] = None
    return tuple(unique)


def first_line(error: Exception) -> str:
    """Returns DuckDB's message in one line, without its copy of the SQL."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("LINE ", "^"))]
    return " ".join(kept)
