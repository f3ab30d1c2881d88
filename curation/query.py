"""
Queries of the catalog: takes read-only SQL, returns rows, writes a table, CSV, JSON or Parquet.

The predictions in RESULTS/RUN/SEED/ become the temporary table `predictions`, with the columns `run`
and `seed` before their own, and what the runs were trained on becomes `runs`, `build_samples` and
`seen`. After that the connection is locked: SQL cannot open a file, use the
network or change a setting.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation import catalog, catalog_tables, history, predictions
from curation.errors import BadQuery
from curation.values import plain
from personae.errors import MissingInput
from personae.files import whole_file
from personae.text import print_table

_BATCH_ROWS = 100_000
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
        columns = unique_names([column[0] for column in connection.description or ()])
        rows = connection.fetchall() if limit is None else connection.fetchmany(limit + 1)
    kept = rows if limit is None else rows[:limit]
    return QueryResult(columns, tuple(kept), len(kept) < len(rows))


def export(sql: str, path: Path, *, catalog_path: Path, results_dir: Path) -> int:
    """
    Writes the rows of one statement to a Parquet file, whole or not at all; returns their number.

    Memory holds one batch of rows. Raises as `run_query` does.
    """
    with sandboxed(sql, catalog_path=catalog_path, results_dir=results_dir) as connection:
        rows = connection.sql(sql)
        if rows is None:
            raise BadQuery("This statement gives no rows to write.")
        # DuckDB 2 has renamed the method, and warns of the name of DuckDB 1.
        method = "to_arrow_reader" if hasattr(rows, "to_arrow_reader") else "fetch_arrow_reader"
        reader = getattr(rows, method)(_BATCH_ROWS)
        schema = pa.schema(
            [
                field.with_name(name)
                for field, name in zip(
                    reader.schema, unique_names(reader.schema.names), strict=True
                )
            ]
        )
        count = 0
        with whole_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in reader:
                count += batch.num_rows
                writer.write_batch(batch.rename_columns(schema.names))
    return count


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
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            if len(connection.extract_statements(sql)) != 1:
                raise BadQuery("Give one statement at a time: this is none, or several.")
            yield connection
        except (duckdb.Error, RuntimeError) as error:
            if "interrupt" in str(error).lower():  # what DuckDB makes of Ctrl-C
                raise KeyboardInterrupt from error
            if not isinstance(error, duckdb.Error):
                raise
            if "predictions" in sql.lower() and not predictions.files(results_dir):
                raise BadQuery(
                    f"There are no predictions in {results_dir}: stage 'evaluate' writes them. Run "
                    "that stage first, or name another folder with --results."
                ) from error
            raise BadQuery(_first_line(error)) from error


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
            f"The predictions in {results_dir} cannot be read: {_first_line(error)} "
            "Run the stage 'evaluate' again."
        ) from error


def _first_line(error: Exception) -> str:
    """Returns DuckDB's message in one line, without its copy of the SQL."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("LINE ", "^"))]
    return " ".join(kept)


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
