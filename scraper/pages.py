"""
The record of a listing: one SQLite file (WAL) with one writer.

Every page of posts is committed together with the place where the next one begins, so a listing
that is killed goes on at that place. Rows are keyed by collection: two boards never mix.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from scraper.errors import AlreadyRunning, DamagedLedger, DiskFull
from scraper.sources import Page, Tag

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS collections (
    collection INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS answers (
    collection INTEGER NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (collection, question)
);
CREATE TABLE IF NOT EXISTS walks (
    walk INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    search TEXT NOT NULL,
    cursor INTEGER,
    is_done INTEGER NOT NULL,
    UNIQUE (collection, search)
);
CREATE TABLE IF NOT EXISTS posts (
    collection INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    row_json TEXT NOT NULL,
    PRIMARY KEY (collection, post_id)
);
CREATE TABLE IF NOT EXISTS sightings (
    walk INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    PRIMARY KEY (walk, post_id)
) WITHOUT ROWID;
CREATE TEMP TABLE chosen (walk INTEGER PRIMARY KEY);
"""
# Beyond a quota or a limit on file size, SQLite reports a failed write instead of a full disk.
_NO_ROOM = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"}


@dataclass(frozen=True, slots=True)
class Walk:
    """How far one search has been followed."""

    walk: int
    search: str
    cursor: int | None
    """The next page holds ids below it; None before the first page."""
    is_done: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What a record holds, over all its collections."""

    posts: int
    searches: int
    searches_done: int


class Pages:
    """
    The record of one collection in `folder`, held by this process alone until it is closed.

    Args:
        folder: Holds `ledger.sqlite`; made when absent.
        identity: Name of the collection whose rows are meant.
        at: Called with the name of each write step as it is reached, for tests that kill there.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DamagedLedger: The file is no record of this version.
        DiskFull: There is no room.
    """

    def __init__(
        self, folder: Path, identity: str, *, at: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._at = at
        self._path = folder / "ledger.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = _lock(folder)
        try:
            with self._translated():
                self._rows = sqlite3.connect(self._path, isolation_level=None)
                self._collection = self._prepare(identity)
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

    def answer(self, question: str) -> Any:
        """What was put for that question, or None."""
        with self._translated():
            row = self._rows.execute(
                "SELECT answer FROM answers WHERE collection = ? AND question = ?",
                (self._collection, question),
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, question: str, answer: Any) -> None:
        """Keeps an answer that is not to be asked for again."""
        with self._translated():
            self._rows.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                (self._collection, question, json.dumps(answer)),
            )
        self._at(f"{question.split(maxsplit=1)[0]} recorded")

    def walk(self, search: str) -> Walk:
        """Where the walk of that search stands; a new one stands at its beginning."""
        with self._translated():
            self._rows.execute(
                "INSERT OR IGNORE INTO walks (collection, search, is_done) VALUES (?, ?, 0)",
                (self._collection, search),
            )
            number, cursor, is_done = self._rows.execute(
                "SELECT walk, cursor, is_done FROM walks WHERE collection = ? AND search = ?",
                (self._collection, search),
            ).fetchone()
        return Walk(number, search, cursor, bool(is_done))

    def sighted(self, walk: Walk) -> int:
        """How many posts the walk has met so far."""
        with self._translated():
            return int(
                self._rows.execute(
                    "SELECT count(*) FROM sightings WHERE walk = ?", (walk.walk,)
                ).fetchone()[0]
            )

    def add(self, walk: Walk, page: Page) -> Walk:
        """
        Records one page and where the next begins, both or neither; returns the walk after it.

        Raises:
            DiskFull: There is no room; nothing of this page is recorded.
        """
        after = replace(walk, cursor=page.cursor, is_done=page.cursor is None)
        rows = [(self._collection, post.post_id, _dump(post.to_row())) for post in page.posts]
        with self._translated():
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                self._rows.executemany("INSERT OR REPLACE INTO posts VALUES (?, ?, ?)", rows)
                self._rows.executemany(
                    "INSERT OR IGNORE INTO sightings VALUES (?, ?)",
                    [(walk.walk, post.post_id) for post in page.posts],
                )
                self._at("page written")
                self._rows.execute(
                    "UPDATE walks SET cursor = ?, is_done = ? WHERE walk = ?",
                    (after.cursor, after.is_done, after.walk),
                )
                self._rows.execute("COMMIT")
            except BaseException:
                if self._rows.in_transaction:
                    self._rows.execute("ROLLBACK")
                raise
        self._at("page committed")
        return after

    def posts(self, walks: Iterable[Walk], *, batch: int) -> Iterator[list[dict[str, Any]]]:
        """Yields the posts that those walks met, each once, by id, as rows of `posts.parquet`."""
        with self._translated():
            self._rows.execute("DELETE FROM temp.chosen")
            self._rows.executemany(
                "INSERT OR IGNORE INTO temp.chosen VALUES (?)", [(walk.walk,) for walk in walks]
            )
            found = self._rows.execute(
                "SELECT row_json FROM posts WHERE collection = ? AND post_id IN "
                "(SELECT post_id FROM sightings JOIN temp.chosen USING (walk)) ORDER BY post_id",
                (self._collection,),
            )
            while rows := found.fetchmany(batch):
                yield [json.loads(row) for (row,) in rows]

    def _prepare(self, identity: str) -> int:
        (version,) = self._rows.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise DamagedLedger(
                f"{self._path} has version {version}, this program writes version {_VERSION}. "
                "Use the program that wrote it, or remove the folder to list again."
            )
        self._rows.execute("PRAGMA journal_mode = WAL")
        # A page lost with the power is asked again; a killed process loses none.
        self._rows.execute("PRAGMA synchronous = NORMAL")
        self._rows.executescript(_TABLES)
        self._rows.execute(f"PRAGMA user_version = {_VERSION}")
        self._rows.execute("INSERT OR IGNORE INTO collections (identity) VALUES (?)", (identity,))
        (number,) = self._rows.execute(
            "SELECT collection FROM collections WHERE identity = ?", (identity,)
        ).fetchone()
        return int(number)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _ours(error, self._path) from error


def summary(folder: Path) -> Summary | None:
    """
    Returns what the record in `folder` holds, or None when there is none yet.

    It only reads, so a run may be under way.

    Raises:
        DamagedLedger: The file is no record of a listing.
    """
    path = folder / "ledger.sqlite"
    if not path.is_file():
        return None
    try:
        rows = read_only(path)
        try:
            (posts,) = rows.execute("SELECT count(*) FROM posts").fetchone()
            searches, done = rows.execute("SELECT count(*), sum(is_done) FROM walks").fetchone()
        finally:
            rows.close()
    except sqlite3.Error as error:
        raise _ours(error, path) from error
    return Summary(posts, searches, done or 0)


def read_only(path: Path) -> sqlite3.Connection:
    """
    Opens a record to read, also while a run writes it, without leaving files beside it.

    A reader of a WAL database makes its side files; without a writer there is nothing in them.
    """
    idle = not path.with_name(f"{path.name}-wal").exists()
    how = "immutable=1" if idle else "mode=ro"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)


def tags_of(answer: Sequence[Sequence[Any]] | None) -> list[Tag] | None:
    """Tags out of a recorded answer."""
    return None if answer is None else [Tag(*row) for row in answer]


def rows_of(tags: Iterable[Tag]) -> list[tuple[Any, ...]]:
    """Tags as an answer to record."""
    return [astuple(tag) for tag in tags]


def _dump(row: dict[str, Any]) -> str:
    return json.dumps(row, default=_milliseconds, separators=(",", ":"), ensure_ascii=False)


def _milliseconds(moment: datetime) -> int:
    """Times as Arrow stores them: whole milliseconds since 1970, UTC."""
    return round(moment.timestamp() * 1000)


def _ours(error: sqlite3.Error, path: Path) -> DiskFull | DamagedLedger:
    if getattr(error, "sqlite_errorname", "") in _NO_ROOM:
        return DiskFull(
            f"There is no room to write {path} ({error}). Everything recorded before is safe. "
            "Make room, or raise the limit, and run the same command again."
        )
    return DamagedLedger(
        f"{path} cannot be used ({error}). Restore it, or remove {path.parent} to list again."
    )


def _lock(folder: Path) -> int:
    """Locks the folder; the system gives it free when this process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise AlreadyRunning(
            f"Another run is writing to {folder}. Two at once would ask everything twice. Wait "
            "until it ends, or stop it, and run again."
        ) from error
    return handle
