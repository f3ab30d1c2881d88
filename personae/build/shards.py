"""
Reads the shards: their samples, single decoded images.

Reads data/shards/SPLIT-NNNNNN.tar with tarfile and Pillow. Shards are
input from outside: whatever is wrong in them ends in an error that names shard, sample and stage.
"""

import hashlib
import io
import mmap
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from personae import files
from personae.build.documents import IndexedShard
from personae.errors import BadShard, MissingInput
from personae.squares import Pixels

_SUFFIXES = (".png", ".webp", ".jpg")
_FORMATS = ("PNG", "WEBP", "JPEG")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.(png|webp|jpg|cls|json)")
_LEAST_SAMPLE = 6 * tarfile.BLOCKSIZE  # three headers, each with data
_Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# What tarfile raises on damaged headers: sizes that lie, numbers that are none, chains without end.
BAD_TAR = (
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    MemoryError,
    LookupError,
    RecursionError,
)
# What Pillow's decoders raise on damaged images.
_BAD_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@runtime_checkable
class ShardFiles(Protocol):
    """Where the shards of a build lie: in a folder, or in a storage."""

    @property
    def threads(self) -> int | None:
        """Threads that read images at once; None: one for each core."""

    def describe(self, entry: IndexedShard) -> Path | str:
        """Returns what messages call a shard."""

    def is_present(self, entry: IndexedShard) -> bool:
        """Returns whether a shard is there."""

    def size(self, entry: IndexedShard) -> int:
        """Returns the bytes of a shard, which are enough for its samples; raises as `path_of`."""

    def verified(self, entry: IndexedShard) -> Path:
        """Returns the local path of a shard whose SHA-256 is that of the manifest; raises if not."""

    def read(self, entry: IndexedShard, *, offset: int, size: int, sample: int) -> bytes:
        """
        Returns `size` bytes of a shard, fewer where it ends earlier.

        `sample` is the row of samples.parquet that names these bytes.
        """


@dataclass(frozen=True, slots=True)
class LocalShards:
    """The shards in a folder."""

    folder: Path

    @property
    def threads(self) -> None:
        """Returns None: decoding takes most of the time, so one thread for each core."""

    def describe(self, entry: IndexedShard) -> Path:
        """Returns the path of a shard."""
        return self.folder / entry.shard

    def is_present(self, entry: IndexedShard) -> bool:
        """Returns whether the shard is a regular file."""
        return (self.folder / entry.shard).is_file()

    def size(self, entry: IndexedShard) -> int:
        """Returns the bytes of a shard; raises as `path_of`."""
        return path_of(self.folder, entry).stat().st_size

    def verified(self, entry: IndexedShard) -> Path:
        """Returns the path of a shard; raises as the function `verified`."""
        return verified(self.folder, entry)

    def read(self, entry: IndexedShard, *, offset: int, size: int, sample: int) -> bytes:  # noqa: ARG002  # of the protocol
        """Returns bytes of a shard; raises `MissingInput` where it is absent."""
        path = self.folder / entry.shard
        try:
            return files.read_range(path, offset, size)
        except OSError as error:
            raise MissingInput(
                f"{path} is absent or unreadable ({error}), and samples.parquet names it. "
                "Run stage 'shards' again."
            ) from error


class _SampleRecord(BaseModel):
    """What is read of the JSON record of a sample."""

    post_id: _Int64
    white_background: bool


def path_of(shards_dir: Path, entry: IndexedShard) -> Path:
    """
    Returns the path of a shard, which is a regular file.

    Raises:
        BadShard: The manifest counts more samples than the file can hold.
        MissingInput: The file is absent, or no regular file.
    """
    path = shards_dir / entry.shard
    if not path.is_file():
        raise MissingInput(
            f"{path} is absent or no regular file, and the manifest names it. "
            "Run stage 'shards' again."
        )
    check_size(path, entry, path.stat().st_size)
    return path


def check_size(source: Path | str, entry: IndexedShard, size: int) -> None:
    """
    Compares the bytes of a shard with its samples, before memory is taken for them.

    Raises:
        BadShard: The manifest counts more samples than `size` bytes can hold.
    """
    if entry.samples > size // _LEAST_SAMPLE:
        raise BadShard(
            f"{source} has {size} bytes, too few for the {entry.samples} samples that the manifest "
            "says. Run stage 'shards' again."
        )


def verified(shards_dir: Path, entry: IndexedShard) -> Path:
    """
    Returns the path of a shard whose SHA-256 is that of the manifest.

    Raises:
        MissingInput: The shard is absent or unreadable.
        BadShard: The file is too small for its samples, or the SHA-256 differs.
    """
    path = path_of(shards_dir, entry)
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingInput(
            f"{path} is unreadable ({error}), and the manifest names it. Run stage 'shards' again."
        ) from error
    if actual != entry.sha256:
        raise BadShard(
            f"{path} has sha256 {actual[:12]}…, and the manifest says {entry.sha256[:12]}…: it "
            "was changed or damaged after it was written. Run stage 'shards' again."
        )
    return path


def samples(path: Path) -> Iterator[dict[str, Any]]:
    """
    Yields the samples of a shard: `key`, and the bytes of each member by its suffix.

    Raises:
        BadShard: The tar is damaged, holds something else than regular files with plain names, or
            a sample or a member of it twice.
    """
    sample: dict[str, Any] = {}
    keys = set()
    for name, content in _members(path):
        key, dot, suffix = name.partition(".")
        if sample and sample["key"] != key:
            yield sample
            sample = {}
        if dot + suffix in sample or (not sample and key in keys):
            raise BadShard(f"{path} holds '{name}' twice. Run stage 'shards' again.")
        keys.add(key)
        sample |= {"key": key, dot + suffix: content}
    if sample:
        yield sample


def image(sample: dict[str, Any], *, side: int, path: Path) -> Pixels:
    """
    Returns the decoded image of a sample, RGB, `[side, side, 3]`.

    Raises:
        BadShard: The sample has no image, or one that is damaged or of another size.
    """
    content = next((sample[suffix] for suffix in _SUFFIXES if suffix in sample), None)
    if content is None:
        raise BadShard(
            f"Sample {sample['key']} of {path} has no image ({', '.join(_SUFFIXES)}). "
            "Run stage 'shards' again."
        )
    return decoded(content, side=side, source=f"sample {sample['key']} in {path}")


def decoded(content: bytes, *, side: int, source: str) -> Pixels:
    """
    Returns the RGB pixels `[side, side, 3]` of an encoded image; `source` names it in errors.

    Raises:
        BadShard: The image is damaged, or of another size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            size, mode = opened.size, opened.mode
            # Checked before decoding, so that a header with a giant size costs no memory. Only what
            # `measure` writes is read: any other mode would need a decoder of its own.
            pixels = np.asarray(opened) if size == (side, side) and mode == "RGB" else None
    except _BAD_IMAGE as error:
        raise BadShard(
            f"The image of {source} cannot be decoded ({error}). "
            "Run stages 'measure' and 'shards' again."
        ) from error
    if pixels is None:
        raise BadShard(
            f"The image of {source} is {size[0]}×{size[1]} pixels, and the manifest says "
            f"{side}×{side}; of mode {mode}, where RGB is stored. Run stages 'measure' and 'shards' again."
        )
    return pixels


def annotation(sample: dict[str, Any], path: Path) -> tuple[int, int, bool]:
    """
    Returns leaf, post id, and whether the background is white.

    Raises:
        BadShard: The label or the record of the sample is absent or of another shape.
    """
    try:
        record = _SampleRecord.model_validate_json(sample[".json"], strict=True)
        leaf = TypeAdapter(_Int64).validate_python(int(sample[".cls"]))
    except (KeyError, ValueError) as error:
        reason = repr(error)
        if isinstance(error, ValidationError):
            problem = error.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
        raise BadShard(
            f"Sample {sample['key']} of {path} lacks a readable label or record ({reason}). "
            "Run stage 'shards' again."
        ) from error
    return leaf, record.post_id, record.white_background


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each member of a tar."""
    try:
        # A header may claim any size. Reading from a map never takes more than the file has.
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            tarfile.open(fileobj=mapped, mode="r:") as archive,
        ):
            for member in archive:
                if not member.isreg() or member.issparse():
                    raise tarfile.ReadError(f"member '{member.name}' is no regular file")
                if not _PLAIN_NAME.fullmatch(member.name):
                    raise tarfile.ReadError(f"{member.name!r:.200} is no name of a member")
                reader = archive.extractfile(member)
                yield member.name, reader.read() if reader else b""
    except BAD_TAR as error:
        raise BadShard(
            f"{path} is no readable tar ({type(error).__name__}: {error}). "
            "Run stage 'shards' again."
        ) from error
