"""
Questions to the catalog: read-only SQL in, rows out, as a table, CSV or JSON.

Predictions that `train` left in RESULTS/RUN/SEED/ are joined as the temporary table `predictions`,
with the columns `run` and `seed` before their own. After that the connection is locked: no file, no
network, no setting.
"""

import csv
import datetime as dt
import decimal
import json
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import duckdb

from curation import catalog
from curation.errors import BadQuery
from personae.errors import MissingInput

_WIDEST = 60  # characters of a cell; longer ones are cut, and whole in CSV and JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool
    """Whether there are more rows than were asked for."""


def ask(sql: str, *, catalog_path: Path, results_dir: Path, limit: int | None = None) -> Answer:
    """
    Answers one statement.

    Raises:
        MissingInput: The catalog is absent, or predictions beside it cannot be read.
        BadQuery: The SQL is wrong, or wants more than reading.
    """
    with closing(catalog.connect(catalog_path)) as connection:
        if "predictions" in sql.lower():
            _join_predictions(connection, results_dir)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            if len(connection.extract_statements(sql)) != 1:
                raise BadQuery("Ask one statement at a time: this is none, or several.")
            connection.execute(sql)
            columns = tuple(column[0] for column in connection.description or ())
            rows = connection.fetchall() if limit is None else connection.fetchmany(limit + 1)
        except duckdb.Error as error:
            if "predictions" in sql.lower() and not _predictions(results_dir):
                raise BadQuery(
                    f"There are no predictions in {results_dir}: stage 'evaluate' writes them. Run "
                    "it first, or name another folder with --results."
                ) from error
            raise BadQuery(_first_line(error)) from error
    kept = rows if limit is None else rows[:limit]
    return Answer(columns, tuple(kept), len(kept) < len(rows))


def write_table(answer: Answer, file: TextIO) -> None:
    """Writes aligned columns: numbers to the right, long cells cut."""
    cells = [[_shown(value) for value in row] for row in answer.rows]
    widths = [
        max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(answer.columns)
    ]
    is_number = [
        any(
            isinstance(row[at], int | float) and not isinstance(row[at], bool)
            for row in answer.rows
        )
        for at in range(len(answer.columns))
    ]
    for row in [list(answer.columns), ["─" * width for width in widths], *cells]:
        line = "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        )
        file.write(line.rstrip() + "\n")


def write_csv(answer: Answer, file: TextIO) -> None:
    """Writes a header and one line per row; nothing is empty, lists are JSON."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        plain = [_plain(value) for value in row]
        writer.writerow(
            json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
            for value in plain
        )


def write_json(answer: Answer, file: TextIO) -> None:
    """Writes a list of objects, one line each."""
    file.write("[")
    for number, row in enumerate(answer.rows):
        entry = dict(zip(answer.columns, map(_plain, row), strict=True))
        file.write("\n" if number == 0 else ",\n")
        file.write(json.dumps(entry, ensure_ascii=False))
    file.write("\n]\n" if answer.rows else "]\n")


def _join_predictions(connection: duckdb.DuckDBPyConnection, results_dir: Path) -> None:
    parts = [
        f"SELECT '{run}' AS run, {seed} AS seed, * FROM read_parquet('{catalog.pattern(path)}')"  # noqa: S608  # quoted; the query itself is the reader's own SQL
        for run, seed, path in _predictions(results_dir)
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


def _predictions(results_dir: Path) -> list[tuple[str, int, Path]]:
    """Run, seed and path of every RUN/SEED/predictions.parquet, in the order of names."""
    return [
        (path.parent.parent.name.replace("'", "''"), int(path.parent.name), path)
        for path in sorted(results_dir.glob("*/*/predictions.parquet"))
        if path.parent.name.isdecimal()
    ]


def _first_line(error: Exception) -> str:
    """What DuckDB says, without the image of the place, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("LINE ", "^"))]
    return " ".join(said)


def _shown(value: Any) -> str:
    """One cell, in printable characters: tags come from strangers."""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list | tuple):
        text = " ".join(map(_shown, value))
    elif isinstance(value, bytes):
        text = value.hex()
    else:
        text = "" if value is None else str(value)
    text = "".join(sign if sign.isprintable() else "·" for sign in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _plain(value: Any) -> Any:
    """A value that JSON knows."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | str | None) else str(value)
