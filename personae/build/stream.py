"""
Images that stay in their shards: any row is read and decoded when it is indexed.

samples.parquet, which stage `shards` writes, holds the offset of each image in its shard. So the
order of an epoch is free, nothing is read twice, and a resumed epoch reads only what is left.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from personae import tables
from personae.build import shards
from personae.build.documents import IndexedShard, ShardIndex
from personae.build.index import Ints, SplitIndex
from personae.build.shards import ShardFiles
from personae.errors import BadShard
from personae.squares import Pixels

_COLUMNS = pa.schema(
    {
        "post_id": pa.int64(),
        "leaf": pa.int32(),
        "white_background": pa.bool_(),
        "shard": pa.string(),
        "image_offset": pa.int64(),
        "image_bytes": pa.int64(),
    }
)


@dataclass(frozen=True)
class Streamed:
    """Encoded images on disk, indexed like an array of decoded images: `streamed[rows]`."""

    files: ShardFiles
    entries: tuple[IndexedShard, ...]
    shard: Ints
    """Index of each image's shard in `entries`."""
    offset: Ints
    """First byte of each image in its shard."""
    size: Ints
    """Bytes of each image."""
    sample: Ints
    """Row of each image in samples.parquet."""
    side: int
    """Height and width in pixels."""

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.offset)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, height, width, channels."""
        return len(self), self.side, self.side, 3

    def __getitem__(self, rows: Ints | slice) -> Pixels:
        """Returns the decoded images at `rows`, `[row, height, width, 3]`; raises `BadShard`."""
        chosen = np.arange(len(self))[rows].tolist()
        result = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)

        def fill(index: int) -> None:
            result[index] = self._decoded(chosen[index])

        at_once = max(1, min(8, len(chosen) // (2 * self._threads)))
        list(self._pool.map(fill, range(len(chosen)), chunksize=at_once))
        return result

    def at(self, rows: Ints) -> "Streamed":
        """Returns the images at `rows`, unread, in that order."""
        names = ("shard", "offset", "size", "sample")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def encoded(self, row: int) -> bytes:
        """Returns the bytes of one image as they lie in the shard; raises `BadShard`."""
        entry, size = self.entries[int(self.shard[row])], int(self.size[row])
        content = self.files.read(
            entry, offset=int(self.offset[row]), size=size, sample=int(self.sample[row])
        )
        if len(content) != size:
            raise BadShard(
                f"{self.files.describe(entry)} ends before image {row}. Run stage 'shards' again."
            )
        return content

    def __reduce__(self) -> tuple[type["Streamed"], tuple[object, ...]]:
        """Pickles the index without open files and threads."""
        columns = (self.shard, self.offset, self.size, self.sample)
        return Streamed, (self.files, self.entries, *columns, self.side)

    def _decoded(self, row: int) -> Pixels:
        source = f"row {row} in {self.files.describe(self.entries[int(self.shard[row])])}"
        return shards.decoded(self.encoded(row), side=self.side, source=source)

    @property
    def _threads(self) -> int:
        return self.files.threads or os.cpu_count() or 1

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads)


def open_rows(source: SplitIndex, manifest: ShardIndex) -> tuple[Streamed, dict[str, np.ndarray]]:
    """
    Returns the images of `source`, unread, and their columns `leaf`, `post_id`, `white`.

    File sizes are compared with the manifest. SHA-256 is not: it would read every byte at every
    start. `python -m curation verify` compares it.

    Raises:
        MissingInput: A shard or samples.parquet is absent.
        BadShard: A shard has another size than the manifest says, or samples.parquet disagrees
            with the manifest or with the selection.
        BadTable: A column of samples.parquet has another type, or empty values.
    """
    entries = source.entries
    sizes = np.array([_checked_size(source.files, entry) for entry in entries], dtype=np.int64)
    path = source.shards_dir / "samples.parquet"
    _check_count(path, source.files, manifest)
    table = tables.read_complete(path, _COLUMNS, stage="shards")
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in _COLUMNS.names}
    index_of = {entry.shard: index for index, entry in enumerate(entries)}
    shard = np.array([index_of.get(str(name), -1) for name in column["shard"]], dtype=np.int64)
    rows = np.flatnonzero(shard >= 0)
    # In the order in which a reader of whole shards meets the images.
    rows = rows[np.lexsort((column["image_offset"][rows], shard[rows]))]
    expected = sum(entry.samples for entry in entries)
    if len(rows) != expected:
        raise BadShard(
            f"{path} names {len(rows)} images of these shards, and the "
            f"manifest {expected}. Run stage 'shards' again."
        )
    leaf = column["leaf"].astype(np.int64)
    if source.chosen is not None:
        rows = rows[source.chosen.rows(column["post_id"][rows], leaf[rows], source=path)]
        leaf[rows] = source.chosen.leaves
    offset, size = column["image_offset"][rows], column["image_bytes"][rows]
    outside = np.flatnonzero(_is_outside(sizes[shard[rows]], offset, size))
    if len(outside):
        raise BadShard(
            f"{path} places image {outside[0]} outside of "
            f"{source.files.describe(entries[shard[rows][outside[0]]])}. Run stage 'shards' again."
        )
    return Streamed(source.files, entries, shard[rows], offset, size, rows, source.side), {
        "leaf": leaf[rows],
        "post_id": column["post_id"][rows].astype(np.int64),
        "white": column["white_background"][rows].astype(bool),
    }


def _check_count(path: Path, shard_files: ShardFiles, manifest: ShardIndex) -> None:
    """
    Makes sure that samples.parquet has no more rows than the manifest has samples, before it is read.

    A small file of Parquet may claim any number of equal rows. `size` compares the samples of
    each shard with its bytes; the shards of splits that are not trained on may be absent.
    """
    for entry in manifest.shards:
        if shard_files.is_present(entry):
            shard_files.size(entry)
    expected = sum(entry.samples for entry in manifest.shards)
    tables.check(path, _COLUMNS.names, stage="shards")
    with tables.translated_errors(path, stage="shards"):
        count = pq.read_metadata(path).num_rows
    if count > expected:
        raise BadShard(
            f"{path} has {count} rows, and the manifest only {expected} samples. "
            "Run stage 'shards' again."
        )


def _checked_size(shard_files: ShardFiles, entry: IndexedShard) -> int:
    """Returns the bytes of a shard, which are as many as the manifest says."""
    actual = shard_files.size(entry)
    if entry.bytes is not None and actual != entry.bytes:
        raise BadShard(
            f"{shard_files.describe(entry)} has {actual} bytes, and the manifest says "
            f"{entry.bytes}. Run stage 'shards' again."
        )
    return actual


def _is_outside(shard_bytes: Ints, offset: Ints, size: Ints) -> npt.NDArray[np.bool_]:
    """Returns which images do not lie inside their shard."""
    return (offset < 0) | (size < 0) | (size > shard_bytes) | (offset > shard_bytes - size)
