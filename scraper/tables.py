"""Parquet in and out: readers state their columns, writers leave whole files or none."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scraper.errors import MissingColumn, MissingInput


def read(path: Path, columns: Sequence[str], *, stage: str) -> pa.Table:
    """
    Returns the named columns of a Parquet file.

    Raises:
        MissingInput: The file is absent or no Parquet; the message names the stage that writes it.
        MissingColumn: A column is absent; the message names file, column and stage.
    """
    _check(path, columns, stage)
    return pq.read_table(path, columns=list(columns))


def batches(
    path: Path, columns: Sequence[str], *, stage: str, rows: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """
    Yields the named columns of a Parquet file in pieces of at most `rows` rows, in file order.

    Memory stays flat however long the file is. Raises as `read` does.
    """
    _check(path, columns, stage)
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=rows, columns=list(columns))


def write(path: Path, table: pa.Table) -> None:
    """Writes `table` to `path`, whole or not at all, the same bytes for the same rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _check(path: Path, columns: Sequence[str], stage: str) -> None:
    try:
        present = pq.read_schema(path).names
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path} is absent: stage '{stage}' writes it. Run that stage first."
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise MissingInput(
            f"{path} is no readable Parquet file ({error}). Remove it and run stage '{stage}' again."
        ) from error
    absent = [column for column in columns if column not in present]
    if absent:
        raise MissingColumn(
            f"{path} lacks column {', '.join(absent)} (it has {', '.join(present)}). "
            f"Stage '{stage}' writes it: run that stage again with this version."
        )
