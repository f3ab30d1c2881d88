"""
Queries of the catalog: takes read-only SQL, returns rows, writes a table, CSV, JSON or Parquet.

The predictions in RESULTS/RUN/SEED/ become the temporary table `predictions`, with the columns `run`
and `seed` before their own, and what the runs were trained on becomes `runs`, `build_samples` and
`seen`. After that the connection is locked: SQL cannot open a file, use the
network or change a setting.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation import catalog_tables, history, predictions
from curation.values import plain
from personae import catalog
from personae.errors import BadQuery, MissingInput
from personae.files import whole_file
from personae.text import print_table

_WIDEST = 60  # characters of a cell in a table; CSV and JSON carry the whole value


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of one query."""

    columns: tuple[str, ...]
    """Names, each once: a second `post_id` is `post_id_1`."""
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool
    """Whether the query has more rows than the limit."""


def run_query(
    sql: str, *, catalog_path: Path, results_dir: Path, limit: int | None = None
) -> QueryResult:
    """
    Runs one statement and returns its rows.

    Raises:
        MissingInput: The catalog is absent, or predictions beside it cannot be read.
        BadQuery: The SQL is wrong, or it does more than read.
    """
    with sandboxed(sql, catalog_path=catalog_path, results_dir=results_dir) as connection:
        connection.execute(sql)
        columns = catalog.unique_names([column[0] for column in connection.description or ()])
        rows = connection.fetchall() if limit is None else connection.fetchmany(limit + 1)
    kept = rows if limit is None else rows[:limit]
    return QueryResult(columns, tuple(kept), len(kept) < len(rows))


def export(sql: str, path: Path, *, catalog_path: Path, results_dir: Path) -> int:
    """
    Writes the rows of one statement to a Parquet file, whole or not at all; returns their number.

    Memory holds one batch of rows. Raises as `run_query` does.
    """
    with sandboxed(sql, catalog_path=catalog_path, results_dir=results_dir) as connection:
        reader = catalog.reader(connection, sql)
        count = 0
        with whole_file(path) as file, _parquet(file, reader.schema) as writer:
            for batch in reader:
                count += batch.num_rows
                writer.write_batch(batch)
    return count


def _parquet(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """Opens a Parquet file; raises `BadQuery` for types that Parquet does not have."""
    try:
        return pq.ParquetWriter(file, schema, compression="zstd")
    except pa.ArrowNotImplementedError as error:
        types = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise BadQuery(
            f"Parquet cannot store a column of this query ({error}). Cast it, such as an INTERVAL to "
            f"VARCHAR or to a number. The columns: {types}."
        ) from error


def write_table(result: QueryResult, file: TextIO) -> None:
    """Writes aligned columns: numbers to the right, long cells cut, colours on a terminal alone."""
    numbers = {
        index
        for index in range(len(result.columns))
        if any(_is_number(row[index]) for row in result.rows)
    }
    cells = [[_cell(value) for value in row] for row in result.rows]
    print_table(file, [_cell(name) for name in result.columns], cells, numbers=numbers)


def write_csv(result: QueryResult, file: TextIO) -> None:
    """Writes a header and one line per row; NULL is an empty field, lists are JSON."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows:
        values = [plain(value) for value in row]
        writer.writerow(
            json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
            for value in values
        )


def write_json(result: QueryResult, file: TextIO) -> None:
    """Writes a list of objects, one line each; other signs than ASCII are escaped unless in UTF-8."""
    is_ascii = "utf" not in (getattr(file, "encoding", None) or "utf-8").lower()
    file.write("[")
    for number, row in enumerate(result.rows):
        entry = dict(zip(result.columns, map(plain, row), strict=True))
        file.write("\n" if number == 0 else ",\n")
        file.write(json.dumps(entry, ensure_ascii=is_ascii))
    file.write("\n]\n" if result.rows else "]\n")


@contextmanager
def sandboxed(
    sql: str, *, catalog_path: Path, results_dir: Path
) -> Iterator[duckdb.DuckDBPyConnection]:
    """
    Gives a connection for one statement, whose SQL can open no file; DuckDB's errors become ours.

    Raises as `run_query` does.
    """
    with closing(catalog.connect(catalog_path)) as connection:
        if "predictions" in sql.lower():
            _join_predictions(connection, results_dir)
        if history.NAMES.search(sql):
            history.join(connection, catalog_path, results_dir)
        try:
            with catalog.sandboxed(connection, sql):
                yield connection
        except BadQuery as error:
            is_refused = isinstance(error.__cause__, duckdb.Error)
            if is_refused and "predictions" in sql.lower() and not predictions.files(results_dir):
                raise BadQuery(
                    f"There are no predictions in {results_dir}: stage 'evaluate' writes them. Run "
                    "that stage first, or name another folder with --results."
                ) from error
            raise


def _join_predictions(connection: duckdb.DuckDBPyConnection, results_dir: Path) -> None:
    parts = [
        f"SELECT '{catalog_tables.quoted(Path(run))}' AS run, {seed} AS seed, * FROM read_parquet('{catalog_tables.pattern(path)}')"  # noqa: S608  # quoted; the query itself is the reader's own SQL
        for run, seed, path in predictions.files(results_dir)
    ]
    if not parts:
        return
    try:
        connection.execute("CREATE TEMP TABLE predictions AS " + " UNION ALL BY NAME ".join(parts))
    except duckdb.Error as error:
        raise MissingInput(
            f"The predictions in {results_dir} cannot be read: {catalog.first_line(error)} "
            "Run the stage 'evaluate' again."
        ) from error


def _cell(value: Any) -> str:
    """Returns the text of a cell in printable characters: tags come from the internet."""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list | tuple):
        text = " ".join(map(_cell, value))
    elif isinstance(value, bytes):
        text = value.hex()
    else:
        text = "" if value is None else str(value)
    text = "".join(sign if sign.isprintable() else "·" for sign in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
