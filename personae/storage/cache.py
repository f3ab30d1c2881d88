"""
A folder of files from elsewhere, bounded in bytes: the least recently used file goes first.

A file is there whole or not at all. Processes may share the folder; a killed one leaves no file that
another takes for whole, and its unfinished file is removed when room is made.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from personae import files
from personae.errors import BadParams

_PART: Final = ".part"
_WAIT_SECONDS: Final = 0.05


class FileCache:
    """
    The files below one folder.

    Args:
        folder: Is made when absent.
        most_bytes: Bound on the bytes of all files, unfinished ones included.
        clock: Time in nanoseconds; the times of two calls differ.
    """

    def __init__(
        self, folder: Path, most_bytes: int, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.folder, self.most_bytes, self._clock = folder, most_bytes, clock

    def get(self, name: str) -> Path | None:
        """Returns the path of a file, which is then the most recently used; None if it is absent."""
        path, now = self.folder / name, self._clock()
        try:
            os.utime(path, ns=(now, now))
        except FileNotFoundError:
            return None
        return path

    def fetch(
        self, name: str, size: int, fill: Callable[[Path], None], *, unused_since: int | None = None
    ) -> Path | None:
        """
        Returns the path of a file, and fetches the file where it is absent.

        Args:
            name: Path below the folder.
            size: Its bytes.
            fill: Writes the file to a path, and raises if it has not got the right bytes.
            unused_since: Only files that were not used since then make room; None: all may.

        Returns None if there is no room, and `unused_since` is given. Otherwise waits for files that
        others are fetching.

        Raises:
            BadParams: The file alone is larger than the bound.
        """
        if size > self.most_bytes and unused_since is None:
            raise BadParams(
                f"{name} has {size} bytes, and the cache in {self.folder} may hold "
                f"{self.most_bytes}. Allow more (cache_bytes)."
            )
        path = self.folder / name
        part = path.with_name(path.name + _PART)
        files.make_folder(part.parent)
        with _held(part) as handle:
            if present := self.get(name):  # another thread or process was first
                part.unlink(missing_ok=True)
                return present
            try:
                while not self._has_room(size, handle, unused_since):
                    if unused_since is not None:
                        part.unlink()
                        return None
                    time.sleep(_WAIT_SECONDS)  # until others have fetched what takes the room
                fill(part)
                files.publish(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return self.get(name) or path

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def _has_room(self, size: int, handle: int, unused_since: int | None) -> bool:
        """
        Removes files until `size` more bytes fit, the least recently used first, and reserves them.

        Nothing is removed in vain.
        """
        with _held(self.folder):
            os.ftruncate(handle, 0)  # what a killed process left of it
            used, entries = 0, []
            for path in self.folder.rglob("*"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    if not path.is_file() or (path.suffix == _PART and _was_abandoned(path)):
                        continue
                    used += status.st_size
                    if path.suffix != _PART:
                        entries.append((status.st_mtime_ns, path, status.st_size))
            entries = [
                entry
                for entry in sorted(entries)
                if unused_since is None or entry[0] < unused_since
            ]
            if used - sum(entry[2] for entry in entries) + size > self.most_bytes:
                return False
            for _, path, bytes_freed in entries:
                if used + size <= self.most_bytes:
                    break
                path.unlink(missing_ok=True)
                used -= bytes_freed
            os.ftruncate(handle, size)  # others count an unfinished file with its final size
            return True


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """Holds a folder, or an unfinished file that is made when absent; waits for whoever holds it."""
    while True:
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        handle = os.open(path, flags, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Returns whether a file still has its name: whoever held it may have renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _was_abandoned(part: Path) -> bool:
    """Removes an unfinished file that nobody holds, and returns whether it did."""
    handle = os.open(part, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        part.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)
