"""Rows of a table by post id, as columns: Python objects of a million posts would need gigabytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from personae import tables
from personae.decisions import DECISIONS

Ids = npt.NDArray[np.int64]

_KEPT = pa.schema([DECISIONS.field(name) for name in ("post_id", "kept")])
_BATCH = 100_000  # rows read at once


def of_posts(path: Path, columns: Sequence[str], posts: Ids, *, stage: str) -> pa.Table:
    """
    Returns `post_id` and the named columns of a table: one row for each of `posts`, in their order.

    A post that the table lacks has a row of nulls.

    Args:
        path: A table of an earlier stage with one row per post.
        columns: The columns that the caller reads.
        posts: Ids, ascending, each once, `[posts]`.
        stage: The stage that writes the table, named in the messages.

    Raises:
        MissingInput, MissingColumn, BadTable: As `tables.read` does.
    """
    names = ["post_id", *columns]
    pieces = [
        batch.filter(pa.array(are_among(batch.column("post_id").to_numpy(), posts)))
        for batch in tables.batches(path, names, stage=stage, rows=_BATCH)
    ]
    if not any(piece.num_rows for piece in pieces):
        return tables.read(path, names, stage=stage).take(pa.nulls(len(posts), pa.int64()))
    table = pa.Table.from_batches(pieces).select(names)
    ids = table["post_id"].to_numpy()
    if np.array_equal(ids, posts):
        return table
    order = np.argsort(ids, kind="stable")
    rows = order[np.minimum(np.searchsorted(ids, posts, sorter=order), len(ids) - 1)]
    return table.take(pa.array(rows, mask=ids[rows] != posts))


def kept_by(data_dir: Path, stage: str) -> Ids:
    """
    Returns the ids of the posts that a stage kept, ascending.

    Raises:
        MissingInput, MissingColumn, BadTable: As `tables.read_complete` does.
    """
    decided = tables.read_complete(data_dir / stage / "decisions.parquet", _KEPT, stage=stage)
    return distinct(decided.filter(decided["kept"])["post_id"].to_numpy())


def distinct(numbers: Ids) -> Ids:
    """
    Returns the different numbers, ascending.

    `np.unique` does so by a hash table, which leaves the cache of the processor: of 8,000 numbers it
    takes 4 times as long as this, of 8,000,000 some 20 times.
    """
    numbers = np.sort(numbers)
    is_new = np.ones(len(numbers), np.bool_)
    is_new[1:] = numbers[1:] != numbers[:-1]
    return numbers[is_new]


def ordered(table: pa.Table) -> pa.Table:
    """Returns the rows by `post_id`: the table itself where they are, as stages write them."""
    post_ids = table["post_id"].to_numpy()
    return table if (post_ids[1:] >= post_ids[:-1]).all() else table.sort_by("post_id")


def are_among(ids: Ids, posts: Ids) -> npt.NDArray[np.bool_]:
    """Returns which of `ids`, in any order, are among `posts`, ascending."""
    if not len(posts):
        return np.zeros(ids.shape, np.bool_)
    return np.asarray(
        posts[np.minimum(np.searchsorted(posts, ids), len(posts) - 1)] == ids, np.bool_
    )


def by_value(column: pa.ChunkedArray) -> Iterator[tuple[str, Ids]]:
    """Yields each value of a column without nulls, sorted, and its rows, ascending."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    codes = encoded.indices.to_numpy()
    values = encoded.dictionary.to_pylist()
    ends = np.cumsum(np.bincount(codes, minlength=len(values)))
    parts = np.split(np.argsort(codes, kind="stable"), ends[:-1])
    yield from sorted(zip(values, parts, strict=False), key=lambda part: str(part[0]))


def hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Returns a column of 32 bytes a row as four words each, `[rows, 4]`; null gives any bits."""
    array = column.combine_chunks().cast(pa.binary(32))
    words = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 4)
    return words[array.offset : array.offset + len(array)]
