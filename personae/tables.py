"""Parquet tables between stages: readers state their columns, writers leave whole files or none."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from personae import stages
from personae.errors import MissingColumn, MissingInput
from personae.files import whole_file


def read(path: Path, columns: Sequence[str], *, stage: str) -> pa.Table:
    """
    Returns the named columns of a Parquet file.

    Args:
        path: A table of an earlier stage.
        columns: The columns that the caller reads, in the order of the result.
        stage: The stage that writes the table, named in the messages.

    Raises:
        MissingInput: The file is absent or damaged.
        MissingColumn: A column is absent; the message names file, column and stage.
    """
    check(path, columns, stage=stage)
    with translated_errors(path, stage=stage):
        return pq.read_table(path, columns=list(columns))


def batches(
    path: Path, columns: Sequence[str], *, stage: str, rows: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """
    Yields the named columns of a Parquet file in pieces of at most `rows` rows, in file order.

    Memory stays flat however long the file is. Raises as `read` does.
    """
    check(path, columns, stage=stage)
    with pq.ParquetFile(path) as file:
        pieces = file.iter_batches(batch_size=rows, columns=list(columns))
        while True:
            # Only reading is guarded: an error of the caller's own block is not the file's.
            with translated_errors(path, stage=stage):
                batch = next(pieces, None)
            if batch is None:
                return
            yield batch


def check(path: Path, columns: Sequence[str], *, stage: str) -> None:
    """
    Makes sure that a Parquet file has the named columns.

    Raises:
        MissingInput: The file is absent or no Parquet; the message names the stage that writes it.
        MissingColumn: A column is absent; the message names file, column and stage.
    """
    with translated_errors(path, stage=stage):
        present = pq.read_schema(path).names
    absent = [column for column in columns if column not in present]
    if absent:
        raise MissingColumn(
            f"{path} lacks column {', '.join(absent)} (it has {', '.join(present)}). "
            f"Stage '{stage}' writes it: run that stage again with this version."
        )


@contextmanager
def translated_errors(path: Path, *, stage: str) -> Iterator[None]:
    """
    Turns every error of reading the Parquet file `path`, which `stage` writes, into one of ours.

    Raises:
        MissingInput: The file is absent or no readable Parquet.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise stages.absent(path, stage) from error
    except (OSError, pa.ArrowException) as error:
        raise MissingInput(
            f"{path} is no readable Parquet file ({error}). Remove it and run stage '{stage}' again."
        ) from error


def write(path: Path, table: pa.Table) -> None:
    """Writes `table` to `path`, whole or not at all, the same bytes for the same rows."""
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def write_batches(path: Path, schema: pa.Schema, pieces: Iterable[pa.RecordBatch]) -> None:
    """Writes a table piece by piece, whole or not at all; memory holds one piece."""
    with whole_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for piece in pieces:
            writer.write_batch(piece)
