"""Parquet tables between stages: readers state their columns, writers leave whole files or none."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from personae import stages
from personae.columns import COLUMNS
from personae.errors import BadTable, MissingColumn, MissingInput
from personae.files import check_regular, whole_file

_GROUP_ROWS = 1 << 20  # rows of a row group: the default of pyarrow, which `write` takes


def read(
    path: Path, columns: Sequence[str], *, stage: str, encoded: Sequence[str] = ()
) -> pa.Table:
    """
    Returns the named columns of a Parquet file.

    Args:
        path: A table of an earlier stage.
        columns: The columns that the caller reads, in the order of the result. Those of
            `personae.columns` are checked.
        stage: The stage that writes the table, named in the messages.
        encoded: Columns of text that are returned as dictionary arrays, each with one dictionary: a
            row of them takes 4 bytes of memory.

    Raises:
        MissingInput: The file is absent or damaged.
        MissingColumn: A column is absent; the message names file, column and stage.
        BadTable: A column of `personae.columns` has another type, or an empty value where it has none.
    """
    check(path, columns, stage=stage)
    table = _read(path, columns, stage=stage, encoded=encoded)
    _check_filled(table, _known(columns), path, stage=stage)
    return table


def batches(
    path: Path, columns: Sequence[str], *, stage: str, rows: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """
    Yields the named columns of a Parquet file in pieces of at most `rows` rows, in file order.

    Memory stays flat however long the file is. Raises as `read` does.
    """
    check(path, columns, stage=stage)
    known = _known(columns)
    with pq.ParquetFile(path) as file:
        pieces = file.iter_batches(batch_size=rows, columns=list(columns))
        while True:
            # Only reading is guarded: an error of the caller's own block is not the file's.
            with translated_errors(path, stage=stage):
                batch = next(pieces, None)
            if batch is None:
                return
            _check_filled(batch, known, path, stage=stage)
            yield batch


def check(path: Path, columns: Sequence[str], *, stage: str) -> None:
    """
    Makes sure that a Parquet file has the named columns, those of `personae.columns` by their type.

    Raises:
        MissingInput: The file is absent or no Parquet; the message names the stage that writes it.
        MissingColumn: A column is absent; the message names file, column and stage.
        BadTable: A column of `personae.columns` has another type.
    """
    present = _schema(path, columns, stage=stage)
    _check_types(present, _known(columns), path, stage=stage)


def read_complete(path: Path, schema: pa.Schema, *, stage: str, nullable: bool = False) -> pa.Table:
    """
    Returns the columns of `schema` in a Parquet file that may have been made by anyone.

    Args:
        path: A table of an earlier stage.
        schema: Names and types of the columns; whole numbers may be stored in another width.
        stage: The stage that writes the table, named in the messages.
        nullable: Whether values may be null.

    Raises:
        MissingInput, MissingColumn: As `read` does.
        BadTable: A column has another type, or a null where none may be.
    """
    check_types(path, schema, stage=stage)
    table = _read(path, schema.names, stage=stage)
    with translated_errors(path, stage=stage):
        table = table.cast(schema)  # an integer may be stored in more bits, and must fit
    if not nullable:
        filled = pa.schema([field.with_nullable(False) for field in schema])
        _check_filled(table, filled, path, stage=stage)
    return table


def rows_with(path: Path, schema: pa.Schema, key: int, *, stage: str) -> list[dict[str, Any]]:
    """
    Returns the rows whose value of the first column of `schema`, a whole number, is `key`.

    Only row groups are read whose statistics admit the key, which is one where a table is ordered by
    this column. Columns may be stored as for `read_complete`, and values may be null.

    Raises:
        MissingInput, MissingColumn, BadTable: As `read_complete` does.
    """
    import pyarrow.compute as pc  # slow to import, and the only use here

    check_types(path, schema, stage=stage)
    name = schema.names[0]
    with translated_errors(path, stage=stage), pq.ParquetFile(path) as file:
        groups = [
            group
            for group in range(file.num_row_groups)
            if _may_have(file.metadata.row_group(group), name, key)
        ]
        # The text of a million rows would take most of the time.
        table = file.read_row_groups(groups, columns=[name])
        is_row = pc.fill_null(pc.equal(table[name].cast(pa.int64()), key), fill_value=False)
        if not pc.any(is_row).as_py():
            return []
        table = file.read_row_groups(groups, columns=schema.names).filter(is_row)
        rows: list[dict[str, Any]] = table.select(schema.names).cast(schema).to_pylist()
    return rows


def _may_have(group: Any, name: str, key: int) -> bool:
    """Returns whether a row group may have the whole number `key` in a column, by its statistics."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == name and column.is_stats_set:
            low, high = column.statistics.min, column.statistics.max
            if isinstance(low, int) and isinstance(high, int):
                return low <= key <= high
    return True


def check_types(path: Path, schema: pa.Schema, *, stage: str) -> None:
    """
    Makes sure that a Parquet file has the columns of `schema`; whole numbers may have another width.

    Raises:
        MissingInput, MissingColumn: As `check` does.
        BadTable: A column has another type.
    """
    _check_types(_schema(path, schema.names, stage=stage), schema, path, stage=stage)


def recorded(path: Path, name: str, *, stage: str) -> dict[str, Any]:
    """
    Returns the values that `stage` wrote as JSON into the metadata of a table; none if it wrote none.

    Args:
        path: A table of an earlier stage.
        name: Key of the metadata, such as `personae.params`.
        stage: The stage that writes the table, named in the messages.

    Raises:
        MissingInput: The file is absent or no readable Parquet.
        BadTable: The metadata hold something else than an object of JSON.
    """
    with translated_errors(path, stage=stage):
        text = (pq.read_schema(path).metadata or {}).get(name.encode(), b"{}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BadTable(
            f"The metadata '{name}' of {path} are no object of JSON. Run stage '{stage}' again."
        )
    return values


def _schema(path: Path, columns: Sequence[str], *, stage: str) -> pa.Schema:
    """Returns the schema of a Parquet file, which has the named columns."""
    with translated_errors(path, stage=stage):
        present = pq.read_schema(path)
    absent = [column for column in columns if column not in present.names]
    if absent:
        raise MissingColumn(
            f"{path} lacks column {', '.join(absent)} (it has {', '.join(present.names)}). "
            f"Stage '{stage}' writes it: run that stage again with this version."
        )
    return present


def _known(columns: Sequence[str]) -> pa.Schema:
    """Returns the named columns that `personae.columns` knows."""
    return pa.schema([COLUMNS.field(name) for name in columns if name in COLUMNS.names])


def _read(
    path: Path, columns: Sequence[str], *, stage: str, encoded: Sequence[str] = ()
) -> pa.Table:
    with translated_errors(path, stage=stage):
        table = pq.read_table(path, columns=list(columns), read_dictionary=list(encoded))
        return table.unify_dictionaries() if encoded else table


def _check_types(present: pa.Schema, schema: pa.Schema, path: Path, *, stage: str) -> None:
    for field in schema:
        index = present.get_field_index(field.name)  # -1 where two columns have the name
        actual = present.field(index).type if index >= 0 else pa.null()
        if actual != field.type and not (
            pa.types.is_integer(field.type) and pa.types.is_integer(actual)
        ):
            raise BadTable(
                f"Column '{field.name}' of {path} has the type {actual}, not {field.type}. "
                f"Run stage '{stage}' again."
            )


def _check_filled(
    rows: pa.Table | pa.RecordBatch, schema: pa.Schema, path: Path, *, stage: str
) -> None:
    for field in schema:
        empty = 0 if field.nullable else rows.column(field.name).null_count
        if empty:
            raise BadTable(
                f"Column '{field.name}' of {path} has {empty} empty values. Run stage '{stage}' again."
            )


@contextmanager
def translated_errors(path: Path, *, stage: str) -> Iterator[None]:
    """
    Turns every error of reading the Parquet file `path`, which `stage` writes, into one of ours.

    Raises:
        MissingInput: The file is absent or no readable Parquet.
    """
    try:
        check_regular(path)
        yield
    except FileNotFoundError as error:
        raise stages.absent(path, stage) from error
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        # pyarrow raises ValueError and KeyError for damaged metadata, such as text that is no UTF-8.
        raise MissingInput(
            f"{path} is no readable Parquet file ({error}). Stage '{stage}' writes it: "
            f"run stage '{stage}' again."
        ) from error


def write(path: Path, table: pa.Table) -> None:
    """Writes `table` to `path`, whole or not at all, the same bytes for the same rows."""
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def write_rows(path: Path, schema: pa.Schema, pieces: Iterable[pa.Table]) -> None:
    """
    Writes the rows of `pieces`, whole or not at all, as `write` writes one table of all of them.

    Memory holds the rows of one row group, 2**20, and one piece.
    """
    with writer(path, schema) as table:
        held = [schema.empty_table()]  # without any rows, `write` makes one empty row group
        missing = _GROUP_ROWS
        for piece in pieces:
            start = 0
            while start < piece.num_rows:
                part = piece.slice(start, missing)
                held.append(part)
                start += part.num_rows
                missing -= part.num_rows
                if not missing:
                    table.write_table(pa.concat_tables(held).combine_chunks())
                    held, missing = [], _GROUP_ROWS
        if held:
            table.write_table(pa.concat_tables(held).combine_chunks())


def write_batches(path: Path, schema: pa.Schema, pieces: Iterable[pa.RecordBatch]) -> None:
    """Writes a table piece by piece, whole or not at all; memory holds one piece."""
    with writer(path, schema) as table:
        for piece in pieces:
            table.write_batch(piece)


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[Any]:
    """Opens a table (`pq.ParquetWriter`), which appears whole at the end of the block, or never."""
    with whole_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as table:
        yield table
