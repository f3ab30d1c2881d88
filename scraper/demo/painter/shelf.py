"""
A cache of files that were drawn before: the facts and the smallest thumbnail of each post.

A restarted board needs the facts to know which post has an md5 without drawing every image again.
The cache can be deleted at any time: the board computes the same contents again.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from scraper.demo.facts.record import FileFacts

_log = logging.getLogger(__name__)

_SCHEMA = """
create table if not exists files (
    post_id integer primary key, md5 text not null, file_bytes integer not null,
    pixel_hash text not null, thumbnail blob not null);
create table if not exists notes (name text primary key, content text not null);
"""


class Shelf:
    """The cache of one board: a SQLite database in a file or in memory."""

    def __init__(self, folder: str, *, key: str) -> None:
        """
        Opens the cache, and creates it if there is none.

        Args:
            folder: Folder of the database; an empty text means memory. A folder that cannot be
                written gives a warning in the log, and the cache is in memory.
            key: Text that is equal for boards with equal posts and files.
        """
        # One thread creates the connection and the server's thread uses it, never both at once.
        self._db = sqlite3.connect(
            _database(folder, key), timeout=10.0, isolation_level=None, check_same_thread=False
        )
        # After a crash a damaged cache is computed again, so writes need not wait for the disk.
        self._db.execute("pragma synchronous = off")
        self._db.execute("pragma journal_mode = wal")
        self._db.executescript(_SCHEMA)

    def facts(self) -> dict[int, FileFacts]:
        """Returns the facts of every cached post, by post id."""
        rows = self._db.execute("select post_id, md5, file_bytes, pixel_hash from files")
        return {post_id: FileFacts(*rest) for post_id, *rest in rows}

    def thumbnail(self, post_id: int) -> bytes | None:
        """Returns the bytes of a post's 180x180 variant, or None if it is not cached."""
        query = "select thumbnail from files where post_id = ?"
        row = self._db.execute(query, (post_id,)).fetchone()
        return row[0] if row and row[0] else None

    def put(self, rows: Iterable[tuple[int, FileFacts, bytes]]) -> None:
        """
        Stores rows of post id, facts and thumbnail, in one transaction.

        A cached post keeps its row. Empty bytes stand for a post without a thumbnail.
        """
        self._db.execute("begin")
        self._db.executemany(
            "insert or ignore into files values (?, ?, ?, ?, ?)",
            (
                (post_id, facts.md5, facts.file_bytes, facts.pixel_hash, thumbnail)
                for post_id, facts, thumbnail in rows
            ),
        )
        self._db.execute("commit")

    def noted(self, name: str) -> str | None:
        """Returns the text that was stored under `name`, or None."""
        row = self._db.execute("select content from notes where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def note(self, name: str, content: str) -> None:
        """Stores a text under a name, and replaces an older text."""
        self._db.execute("insert or replace into notes values (?, ?)", (name, content))

    def close(self) -> None:
        """Closes the database."""
        self._db.close()


def _database(folder: str, key: str) -> str:
    """Returns the path of the database, and removes databases of the board by older programs."""
    if not folder:
        return ":memory:"
    board = hashlib.sha256(key.encode()).hexdigest()[:12]
    path = Path(folder) / f"{board}-{_program()}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{board}-*.sqlite*"):
            if not old.name.startswith(path.name):
                old.unlink(missing_ok=True)
        path.open("ab").close()
    except OSError as error:
        _log.warning(
            "The cache of drawn files is in memory only, because %s cannot be written (%s).",
            folder,
            error,
        )
        return ":memory:"
    return str(path)


def _program() -> str:
    """Returns a hash of everything that decides the bytes of a drawing: this package and Pillow."""
    digest = hashlib.sha256(version("pillow").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
