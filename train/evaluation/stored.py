"""
Reads stored predictions, which anyone may have edited: types, lengths and numbers are checked.

The tables are those that `prediction.table` builds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from personae import tables
from personae.errors import BadTable

_TYPES = {
    "post_id": pa.int64(),
    "split": pa.string(),
    "white_background": pa.bool_(),
    "label": pa.int32(),
    "predicted": pa.int32(),
}


def read(path: Path, facts: Sequence[str], probabilities: Sequence[str], *, stage: str) -> pa.Table:
    """
    Returns columns of a table of predictions.

    Args:
        path: The table.
        facts: Columns with one value for each image.
        probabilities: Columns with a list of numbers for each image, for `matrix`.
        stage: The stage that writes the table, named in messages.

    Raises:
        MissingInput, MissingColumn: The file is absent or damaged, or lacks a column.
        BadTable: A fact has another type or is absent for an image.
    """
    schema = pa.schema([(name, _TYPES[name]) for name in facts])
    table = tables.read_complete(path, schema, stage=stage)
    lists = tables.read(path, probabilities, stage=stage)
    for name in probabilities:
        table = table.append_column(name, lists[name])
    return table


def matrix(
    table: pa.Table, name: str, *, columns: int, path: Path, stage: str
) -> Float[np.ndarray, "image column"] | None:
    """
    Returns a column of `read` as a matrix; None where the column is absent or has no values.

    Raises:
        BadTable: A row is no list of `columns` numbers.
    """
    if name not in table.column_names or table[name].null_count:
        return None
    values = table[name].combine_chunks()
    is_whole = pa.types.is_list(values.type) and pa.types.is_floating(values.type.value_type)
    if is_whole:
        is_whole = pc.all(pc.equal(pc.list_value_length(values), columns)).as_py() is not False
    if is_whole:
        numbers = pc.list_flatten(values).to_numpy(zero_copy_only=False).astype(np.float64)
        if np.isfinite(numbers).all():
            return np.asarray(numbers.reshape(-1, columns))
    raise BadTable(
        f"Column '{name}' of {path} has rows that are no {columns} numbers. Run stage '{stage}' again."
    )
