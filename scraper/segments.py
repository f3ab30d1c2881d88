"""
Append-only tar files of the bytes as received.

Takes bytes and returns their location. A segment is a plain USTAR tar (POSIX.1-1988) that any
program reads. A file name is made of the post's id and the type read from the bytes, never of a
tag. An image counts only when it is synced and then recorded; the next start cuts off what a
killed run left behind.
"""

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from personae import files
from personae.errors import DiskRefused

BLOCK = tarfile.BLOCKSIZE
# Two empty blocks end an archive (POSIX.1-1988, ustar).
END_OF_ARCHIVE = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Location:
    """Position of an image in the segments."""

    segment: str
    """File name of the segment, `00000.tar`."""
    offset: int
    """First byte of the image in the segment, not of its tar header."""


def padded_end(offset: int, file_bytes: int) -> int:
    """Returns the offset of the next tar header after an image."""
    return offset + -(-file_bytes // BLOCK) * BLOCK


@contextmanager
def disk_errors_translated(folder: Path) -> Iterator[None]:
    """Turns 'no space left', a quota or a size limit into `DiskRefused`."""
    try:
        yield
    except OSError as error:
        if error.errno not in files.NO_ROOM:
            raise
        raise DiskRefused(
            f"There is no room to write in {folder} ({error.strerror}). Everything recorded before "
            "is kept. Make room, or raise the limit, and run the same command again."
        ) from error


def _open(path: Path) -> BinaryIO:
    files.own(path)
    # Unbuffered: `write` reaches the file at once.
    return path.open("r+b" if path.exists() else "x+b", buffering=0)


class Segments:
    """
    Appends images to numbered tar files, and begins a new one when `segment_bytes` is reached.

    One owner at a time. Nothing is opened before the first `append`.

    Args:
        folder: Folder of the segments; made with the first one.
        segment_bytes: Size at which a segment is full, its end mark included. A larger image
            has a segment of its own.
        at: Called with the name of each write step as it is reached, for tests that kill there.
        open_file: Opens a segment for reading and writing, unbuffered.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        at: Callable[[str], None] = lambda _step: None,
        open_file: Callable[[Path], BinaryIO] = _open,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._at = at
        self._open_file = open_file
        self._number = 0
        self._end = 0
        self._file: BinaryIO | None = None

    def sizes(self) -> dict[str, int]:
        """Returns the size of every segment on disk, in bytes."""
        return {path.name: path.stat().st_size for path in sorted(self._folder.glob("*.tar"))}

    def cut_back(self, ends: Mapping[str, int]) -> int:
        """
        Cuts every segment back to its last recorded image; appending continues after the last one.

        Args:
            ends: Offset after the last recorded image, by segment. A segment without a recorded
                image is removed. A complete end mark stays, so that an intact folder is unchanged.

        Returns:
            Number of bytes cut off.
        """
        cut = 0
        for name, size in self.sizes().items():
            path, end = self._folder / name, ends.get(name, 0)
            if end == 0:
                path.unlink()
                cut += size
            elif size > end and not _ends_well(path, end):
                files.own(path)
                os.truncate(path, end)
                cut += size - end
        last = max(ends, default="00000.tar")
        self._number, self._end = int(last.removesuffix(".tar")), ends.get(last, 0)
        return cut

    def append(self, post_id: int, file_ext: str, payload: bytes) -> Location:
        """
        Appends one image; it counts only after `sync`.

        Raises:
            DiskRefused: There is no room. The torn tail is cut off on the next start.
        """
        assert file_ext.isalnum(), f"a type has no {file_ext!r}"  # noqa: S101  # our own mistake
        info = tarfile.TarInfo(f"{int(post_id)}.{file_ext}")
        info.size, info.mode = len(payload), 0o644
        padding = bytes(-len(payload) % BLOCK)
        needed = BLOCK + len(payload) + len(padding) + len(END_OF_ARCHIVE)
        with disk_errors_translated(self._folder):
            if self._end and self._end + needed > self._segment_bytes:
                self.seal()
                self._number, self._end = self._number + 1, 0
            file = self._file or self._begin()
            offset = self._end + BLOCK
            self._put(file, info.tobuf(tarfile.USTAR_FORMAT), "header")
            self._put(file, payload, "payload")
            self._put(file, padding, "padding")
        self._end = padded_end(offset, len(payload))
        return Location(self._name(), offset)

    def sync(self) -> None:
        """Returns when everything appended is on the disk."""
        if self._file is not None:
            with disk_errors_translated(self._folder):
                os.fsync(self._file.fileno())
            self._at("synced")

    def seal(self) -> None:
        """Writes the end mark of the segment, syncs and closes it."""
        if self._file is not None:
            with disk_errors_translated(self._folder):
                self._put(self._file, END_OF_ARCHIVE, "end mark")
            self.sync()
            self.close()

    def close(self) -> None:
        """Closes the segment as it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> BinaryIO:
        files.make_folder(self._folder)
        file = self._open_file(self._folder / self._name())
        self._file = file
        file.seek(self._end)
        file.truncate()
        # A new file is only there after a crash when its folder is synced as well.
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._at("segment begun")
        return file

    def _put(self, file: BinaryIO, data: bytes, step: str) -> None:
        """Writes all of `data`: an unbuffered file may take a part of it at a time."""
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        self._at(step)

    def _name(self) -> str:
        return f"{self._number:05d}.tar"


def _ends_well(path: Path, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(end)
        return file.read(len(END_OF_ARCHIVE) + 1) == END_OF_ARCHIVE
