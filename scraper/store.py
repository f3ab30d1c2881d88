"""
A record that survives a kill: one SQLite file (WAL) in a folder that one process locks.

`Ledger` of the download and `Pages` of the listing are such records. Errors of SQLite become ours
here.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from personae import files
from personae.errors import AlreadyRunning, DiskRefused
from scraper.errors import DamagedLedger

NAME = "ledger.sqlite"
# Beyond a quota or a limit on file size, SQLite reports a failed write instead of a full disk.
_NO_ROOM = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"}
_DISK = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")
_DAMAGE = {"SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA"}
_HELD = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")


class Store:
    """
    The record in `folder`, held by this process alone until it is closed.

    Args:
        folder: Holds `ledger.sqlite`; made when absent.
        tables: SQL that makes the tables where they are absent.
        version: Of the tables; a file of a later version is refused.
        upgrades: SQL that turns the tables of an earlier version into those of the next.
        synchronous: FULL keeps a commit through a loss of power, NORMAL through a kill.
        remedy: What the next run does without the file, for the message when it is damaged.
        at: Called with the name of each write step as it is reached, for tests that kill there.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DamagedLedger: The file is no record of this version.
        DiskRefused: The disk is full, fails, or may not be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tables: str,
        version: int,
        synchronous: Literal["FULL", "NORMAL"],
        remedy: str,
        at: Callable[[str], None],
        upgrades: Mapping[int, str] | None = None,
    ) -> None:
        self.is_new = False
        """Whether the file was made now."""
        self._at = at
        self._path = folder / NAME
        self._remedy = remedy
        self._lock: int | None = files.lock(folder)
        try:
            with self._translated():
                files.own(self._path)
                # A writer may work in threads, one after the other.
                self._rows = sqlite3.connect(
                    self._path, isolation_level=None, check_same_thread=False
                )
                self._prepare(tables, version, synchronous, upgrades or {})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and unlocks the folder."""
        if hasattr(self, "_rows"):
            self._rows.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commits everything that the block writes, or nothing."""
        with self._translated():
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._rows.execute("COMMIT")
            except BaseException:
                if self._rows.in_transaction:
                    self._rows.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self._path, remedy=self._remedy):
            yield

    def _prepare(
        self, tables: str, version: int, synchronous: str, upgrades: Mapping[int, str]
    ) -> None:
        (present,) = self._rows.execute("PRAGMA user_version").fetchone()
        if present not in (0, version, *upgrades):
            raise DamagedLedger(
                f"{self._path} has version {present}, this program writes version {version}. "
                f"Use the program that wrote it, or move the file away. {self._remedy}"
            )
        self.is_new = present == 0
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute(f"PRAGMA synchronous = {synchronous}")
        for earlier in range(present or version, version):
            self._rows.executescript(
                f"BEGIN; {upgrades[earlier]}; PRAGMA user_version = {earlier + 1}; COMMIT"
            )
        # All at once: a file with a version has every table, also after a kill.
        self._rows.executescript(f"BEGIN; {tables}; PRAGMA user_version = {version}; COMMIT")


@contextmanager
def translated(path: Path, *, remedy: str) -> Iterator[None]:
    """
    Turns an error of SQLite about the file at `path` into one of ours.

    Raises:
        DiskRefused: The disk is full, fails, or may not be written; the file may be sound.
        AlreadyRunning: Another program holds the file.
        DamagedLedger: The file is damaged.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        if code in _NO_ROOM:
            raise DiskRefused(
                f"There is no room to write {path} ({error}). Everything recorded before is kept. "
                "Make room, or raise the limit, and run the same command again."
            ) from error
        if code.startswith(_DISK) and code not in _DAMAGE:
            raise DiskRefused(
                f"{path} cannot be read or written ({error}). Nothing says that it is damaged. Check "
                "the rights, and whether the disk is sound, and run the same command again."
            ) from error
        if code.startswith(_HELD):
            raise AlreadyRunning(
                f"Another program holds {path} ({error}). Close it, and run the same command again."
            ) from error
        raise DamagedLedger(
            f"{path} cannot be used ({error}). Restore it from a copy. Without a copy, move the file "
            f"away. {remedy}".rstrip()
        ) from error


def read_only(path: Path) -> sqlite3.Connection:
    """
    Opens a record for reading, also while a run writes it, without leaving files beside it.

    A reader of a WAL database makes side files; without a writer they would be empty.
    """
    idle = not path.with_name(f"{path.name}-wal").exists()
    how = "immutable=1" if idle else "mode=ro"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)


def has_tables(rows: sqlite3.Connection) -> bool:
    """Returns whether a record was begun: a run may be killed between the file and its tables."""
    (version,) = rows.execute("PRAGMA user_version").fetchone()
    return bool(version)
