"""
Images that stay in their shards: any row is read and decoded when it is asked for.

`samples.parquet`, which stage `shards` writes, tells where each image begins; so the order of an
epoch is free, nothing is read twice, and a resumed epoch asks for just what is left.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from personae import tables
from personae.errors import MissingInput
from train.data import shards
from train.errors import BadShard

_COLUMNS = (
    "post_id",
    "split",
    "leaf",
    "white_background",
    "shard",
    "image_offset",
    "image_bytes",
)


@dataclass(frozen=True)
class Streamed:
    """Encoded images on the disk, indexed as an array of decoded ones: `streamed[rows]`."""

    paths: tuple[Path, ...]
    shard: Int[np.ndarray, " picture"]
    """Place of each image's shard in `paths`."""
    offset: Int[np.ndarray, " picture"]
    """First byte of each image in its shard."""
    size: Int[np.ndarray, " picture"]
    """Bytes of each image."""
    side: int

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.offset)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, height, width, channels."""
        return len(self), self.side, self.side, 3

    def __getitem__(
        self, rows: Int[np.ndarray, " batch"] | slice
    ) -> UInt8[np.ndarray, "batch height width 3"]:
        """Returns the decoded images at `rows`, in that order; raises `BadShard`."""
        wanted = np.arange(len(self))[rows].tolist()
        result = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)

        def fill(place: int) -> None:
            result[place] = self._decoded(wanted[place])

        list(self._pool.map(fill, range(len(wanted)), chunksize=8))
        return result

    def encoded(self, row: int) -> bytes:
        """Returns the bytes of one image as they lie in the shard."""
        place = int(self.shard[row])
        wanted = int(self.size[row])
        content = os.pread(self._files[place], wanted, int(self.offset[row]))
        if len(content) != wanted:
            raise BadShard(
                f"{self.paths[place]} ends before image {row}. Run stage 'shards' again."
            )
        return content

    def __reduce__(self) -> tuple[type["Streamed"], tuple[object, ...]]:
        """Travels to another process without open files and threads."""
        return Streamed, (self.paths, self.shard, self.offset, self.size, self.side)

    def _decoded(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        source = f"row {row} in {self.paths[int(self.shard[row])]}"
        return shards.decoded(self.encoded(row), side=self.side, source=source)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count())

    @cached_property
    def _files(self) -> list[int]:
        try:
            return [os.open(path, os.O_RDONLY) for path in self.paths]
        except OSError as error:
            raise MissingInput(
                f"{error.filename} is absent or unreadable ({error}), and samples.parquet names "
                "it. Run stage 'shards' again."
            ) from error


def open_rows(
    shards_dir: Path, entries: Sequence[dict[str, object]], *, side: int
) -> tuple[Streamed, dict[str, np.ndarray]]:
    """
    Returns the images of some shards, unread, and their columns `leaf`, `post_id`, `white`.

    Sizes are compared with the manifest; the sha256 of every byte is not, for that would read all
    of them at every start: `python -m curation verify` does.

    Raises:
        MissingInput: A shard or samples.parquet is absent.
        BadShard: A shard has another size than the manifest says, or the tables disagree.
    """
    names = [str(entry["shard"]) for entry in entries]
    for name, entry in zip(names, entries, strict=True):
        _check_size(shards_dir, name, entry.get("bytes"))
    table = tables.read(shards_dir / "samples.parquet", _COLUMNS, stage="shards")
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in _COLUMNS}
    place_of = {name: place for place, name in enumerate(names)}
    place = np.array([place_of.get(str(name), -1) for name in column["shard"]])
    rows = np.flatnonzero(place >= 0)
    # In the order of the shards, as a reader that goes through them would meet the images.
    rows = rows[np.lexsort((column["image_offset"][rows], place[rows]))]
    wanted = sum(int(str(entry["samples"])) for entry in entries)
    if len(rows) != wanted:
        raise BadShard(
            f"{shards_dir / 'samples.parquet'} names {len(rows)} images of these shards, and the "
            f"manifest {wanted}. Run stage 'shards' again."
        )
    streamed = Streamed(
        paths=tuple(shards_dir / name for name in names),
        shard=place[rows],
        offset=column["image_offset"][rows],
        size=column["image_bytes"][rows],
        side=side,
    )
    return streamed, {
        "leaf": column["leaf"][rows].astype(np.int64),
        "post_id": column["post_id"][rows].astype(np.int64),
        "white": column["white_background"][rows].astype(bool),
    }


def _check_size(shards_dir: Path, name: str, expected: object) -> None:
    path = shards_dir / name
    if Path(name).name != name:
        raise BadShard(f"The manifest names the shard '{name}', which leads out of {shards_dir}.")
    try:
        found = path.stat().st_size
    except OSError as error:
        raise MissingInput(
            f"{path} is absent or unreadable ({error}), and the manifest names it. "
            "Run stage 'shards' again."
        ) from error
    if expected is not None and found != expected:
        raise BadShard(
            f"{path} has {found} bytes, and the manifest says {expected}. Run stage 'shards' again."
        )
