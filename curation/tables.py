"""Parquet in and out: readers state their columns, writers leave whole files or none."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import MissingColumn, MissingInput


def schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    """A schema from names to types, in the given order."""
    return pa.schema(columns)


# What every stage says of every post that it looked at: a kept post has one row with no reason, a
# refused one a row for each rule that it failed, with the two numbers compared.
DECISIONS = schema(
    {
        "post_id": pa.int64(),
        "stage": pa.string(),
        "kept": pa.bool_(),
        "reason": pa.string(),
        "measured": pa.float64(),
        "threshold": pa.float64(),
    }
)


def read(path: Path, columns: Sequence[str], *, stage: str) -> pa.Table:
    """Returns the named columns of a Parquet file; raises as `check` does."""
    check(path, columns, stage=stage)
    return pq.read_table(path, columns=list(columns))


def check(path: Path, columns: Sequence[str], *, stage: str) -> None:
    """
    Makes sure that a Parquet file has the named columns.

    Raises:
        MissingInput: The file is absent or no Parquet; the message names the stage that writes it.
        MissingColumn: A column is absent; the message names file, column and stage.
    """
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


def write(path: Path, table: pa.Table) -> None:
    """Writes `table` to `path`, whole or not at all, the same bytes for the same rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, document: Any) -> None:
    """Writes `document` as JSON with sorted keys, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
