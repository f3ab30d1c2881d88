"""
Images that stay in their shards: any row is read and decoded when it is indexed.

samples.parquet, which stage `shards` writes, holds the offset of each image in its shard. So the
order of an epoch is free, nothing is read twice, and a resumed epoch reads only what is left.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personae import tables
from personae.build import shards
from personae.build.documents import IndexedShard, ShardIndex
from personae.build.index import Ints, SplitIndex
from personae.errors import BadShard, MissingInput
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

    paths: tuple[Path, ...]
    shard: Ints
    """Index of each image's shard in `paths`."""
    offset: Ints
    """First byte of each image in its shard."""
    size: Ints
    """Bytes of each image."""
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

        list(self._pool.map(fill, range(len(chosen)), chunksize=8))
        return result

    def at(self, rows: Ints) -> "Streamed":
        """Returns the images at `rows`, unread, in that order."""
        return replace(self, shard=self.shard[rows], offset=self.offset[rows], size=self.size[rows])

    def encoded(self, row: int) -> bytes:
        """Returns the bytes of one image as they lie in the shard; raises `BadShard`."""
        index, size = int(self.shard[row]), int(self.size[row])
        path = self.paths[index]
        try:
            # Opened for each image: a data set may have more shards than a process open files.
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise MissingInput(
                f"{path} is absent or unreadable ({error}), and samples.parquet names it. "
                "Run stage 'shards' again."
            ) from error
        try:
            content = os.pread(file, size, int(self.offset[row]))
        finally:
            os.close(file)
        if len(content) != size:
            raise BadShard(f"{path} ends before image {row}. Run stage 'shards' again.")
        return content

    def __reduce__(self) -> tuple[type["Streamed"], tuple[object, ...]]:
        """Pickles the index without open files and threads."""
        return Streamed, (self.paths, self.shard, self.offset, self.size, self.side)

    def _decoded(self, row: int) -> Pixels:
        source = f"row {row} in {self.paths[int(self.shard[row])]}"
        return shards.decoded(self.encoded(row), side=self.side, source=source)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count())


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
    shards_dir, entries = source.shards_dir, source.entries
    paths = tuple(_sized(shards_dir, entry) for entry in entries)
    path = shards_dir / "samples.parquet"
    _check_count(path, shards_dir, manifest)
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
    _check_ranges(paths, shard[rows], offset, size, source=path)
    return Streamed(paths, shard[rows], offset, size, source.side), {
        "leaf": leaf[rows],
        "post_id": column["post_id"][rows].astype(np.int64),
        "white": column["white_background"][rows].astype(bool),
    }


def _check_count(path: Path, shards_dir: Path, manifest: ShardIndex) -> None:
    """
    Makes sure that samples.parquet has no more rows than the manifest has samples, before it is read.

    A small file of Parquet may claim any number of equal rows. `path_of` compares the samples of
    each shard with its size; the shards of splits that are not trained on may be absent.
    """
    for entry in manifest.shards:
        if (shards_dir / entry.shard).is_file():
            shards.path_of(shards_dir, entry)
    expected = sum(entry.samples for entry in manifest.shards)
    tables.check(path, _COLUMNS.names, stage="shards")
    with tables.translated_errors(path, stage="shards"):
        count = pq.read_metadata(path).num_rows
    if count > expected:
        raise BadShard(
            f"{path} has {count} rows, and the manifest only {expected} samples. "
            "Run stage 'shards' again."
        )


def _sized(shards_dir: Path, entry: IndexedShard) -> Path:
    """Returns the path of a shard that has as many bytes as the manifest says."""
    path = shards.path_of(shards_dir, entry)
    actual = path.stat().st_size
    if entry.bytes is not None and actual != entry.bytes:
        raise BadShard(
            f"{path} has {actual} bytes, and the manifest says {entry.bytes}. "
            "Run stage 'shards' again."
        )
    return path


def _check_ranges(
    paths: Sequence[Path],
    shard: Ints,
    offset: Ints,
    size: Ints,
    *,
    source: Path,
) -> None:
    """Makes sure that every image lies inside its shard."""
    ends = np.array([path.stat().st_size for path in paths])[shard]
    outside = np.flatnonzero((offset < 0) | (size < 0) | (size > ends) | (offset > ends - size))
    if len(outside):
        raise BadShard(
            f"{source} places image {outside[0]} outside of {paths[shard[outside[0]]]}. "
            "Run stage 'shards' again."
        )
