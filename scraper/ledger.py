"""
The record of what is stored and what was refused: one SQLite file (WAL) with one writer.

A row is written only after the bytes that it names are on the disk, so what the ledger says is
there. Keys are site, post and file (checksum and variant): a file that the board replaced is
another file, and two sites never mix.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from scraper.errors import AlreadyRunning, DamagedLedger, DiskFull

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS images (
    site TEXT NOT NULL,
    post_id INTEGER NOT NULL,
    file_key TEXT NOT NULL,
    segment TEXT NOT NULL,
    byte_offset INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    file_ext TEXT NOT NULL,
    PRIMARY KEY (site, post_id, file_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    site TEXT NOT NULL,
    post_id INTEGER NOT NULL,
    file_key TEXT NOT NULL,
    reason TEXT NOT NULL,
    measured REAL,
    threshold REAL,
    PRIMARY KEY (site, post_id, file_key)
) WITHOUT ROWID;
"""
# Beyond a quota or a limit on file size, SQLite reports a failed write instead of a full disk.
_NO_ROOM = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"}
# Where the next tar header begins after a picture (blocks of 512 bytes).
_END = "byte_offset + (file_bytes + 511) / 512 * 512"


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture whose bytes are on the disk."""

    post_id: int
    file_key: str
    segment: str
    offset: int
    file_bytes: int
    sha256: str
    file_ext: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A picture that will not be asked for again."""

    post_id: int
    file_key: str
    reason: str
    measured: float | None = None
    threshold: float | None = None


Key = tuple[int, str]
"""Post and file."""


class Ledger:
    """
    The ledger of one site in `folder`, held by this process alone until it is closed.

    Args:
        folder: Holds `ledger.sqlite`; made when absent.
        site: Name of the site whose rows are meant.
        at: Called with the name of each write step as it is reached, for tests that kill there.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DamagedLedger: The file is no ledger of this version.
        DiskFull: There is no room.
    """

    def __init__(
        self, folder: Path, site: str, *, at: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._site = site
        self._at = at
        self._path = folder / "ledger.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            with self._translated():
                # The writer works in threads, one after the other.
                self._rows = sqlite3.connect(
                    self._path, isolation_level=None, check_same_thread=False
                )
                self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and gives the folder free."""
        if hasattr(self, "_rows"):
            self._rows.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def record(self, stored: Iterable[Stored], refused: Iterable[Refused]) -> None:
        """
        Records pictures in one transaction: all of them or none.

        Raises:
            DiskFull: There is no room; nothing of this call is recorded.
        """
        with self._translated():
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                self._rows.executemany(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [(self._site, *astuple(row)) for row in stored],
                )
                self._rows.executemany(
                    "INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?)",
                    [(self._site, *astuple(row)) for row in refused],
                )
                self._at("recorded")
                self._rows.execute("COMMIT")
            except BaseException:
                if self._rows.in_transaction:
                    self._rows.execute("ROLLBACK")
                raise
        self._at("committed")

    def stored(self, first: int, last: int) -> dict[Key, Stored]:
        """The stored pictures of the posts from `first` to `last`."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, segment, byte_offset, file_bytes, sha256, file_ext "
                "FROM images WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): Stored(*row) for row in rows}

    def refused(self, first: int, last: int) -> dict[Key, Refused]:
        """The refused pictures of the posts from `first` to `last`."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, reason, measured, threshold "
                "FROM refusals WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): Refused(*row) for row in rows}

    def forget_refused(self) -> int:
        """Forgets what was refused, so that it is asked for again; returns how many."""
        with self._translated():
            return self._rows.execute("DELETE FROM refusals WHERE site = ?", (self._site,)).rowcount

    def forget_lost(self, sizes: Mapping[str, int]) -> int:
        """
        Forgets the pictures of every site whose bytes are not in the segments any more.

        `sizes` are the bytes of the segments on disk. Returns how many were forgotten.
        """
        with self._translated():
            names = [row[0] for row in self._rows.execute("SELECT DISTINCT segment FROM images")]
            return sum(
                self._rows.execute(
                    f"DELETE FROM images WHERE segment = ? AND {_END} > ?",  # noqa: S608  # constant
                    (name, sizes.get(name, 0)),
                ).rowcount
                for name in names
            )

    def ends(self) -> dict[str, int]:
        """Where the last recorded picture of each segment ends, whatever its site."""
        with self._translated():
            rows = self._rows.execute(
                f"SELECT segment, max({_END}) FROM images GROUP BY segment"  # noqa: S608  # constant
            )
            return dict(rows.fetchall())

    def _prepare(self) -> None:
        (version,) = self._rows.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise DamagedLedger(
                f"{self._path} has version {version}, this program writes version {_VERSION}. "
                "Use the program that wrote it, or remove the folder to download again."
            )
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = FULL")
        self._rows.executescript(_TABLES)
        self._rows.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in _NO_ROOM:
                raise DiskFull(
                    f"There is no room to write {self._path} ({error}). Everything recorded before "
                    "is safe. Make room, or raise the limit, and run the same command again."
                ) from error
            raise DamagedLedger(
                f"{self._path} cannot be used ({error}). Restore it, or remove "
                f"{self._path.parent} to download again."
            ) from error


def _lock(folder: Path) -> int | None:
    """Locks the folder; the system gives it free when this process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise AlreadyRunning(
            f"Another run is writing to {folder}. Two at once would write into each other's files. "
            "Wait until it ends, or stop it, and run again."
        ) from error
    return handle
