"""
What a board remembers of files already drawn: their facts, and the smallest thumbnail of each.

A board that is started again must know which post an md5 belongs to without drawing all of them.
The shelf is a cache: it may be deleted at any time, and everything comes back the same.
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
    """A SQLite table of one board, in a file or in memory."""

    def __init__(self, folder: str, *, key: str) -> None:
        """Opens the shelf for boards with this `key` in `folder`; an empty name means memory."""
        # Made by one thread and then used by that of the server, never by both at once.
        self._db = sqlite3.connect(
            _place(folder, key), timeout=10.0, isolation_level=None, check_same_thread=False
        )
        # A cache that a crash spoils is drawn again, so nothing waits for the disk.
        self._db.execute("pragma synchronous = off")
        self._db.execute("pragma journal_mode = wal")
        self._db.executescript(_SCHEMA)

    def facts(self) -> dict[int, FileFacts]:
        """Everything known, by post."""
        rows = self._db.execute("select post_id, md5, file_bytes, pixel_hash from files")
        return {post_id: FileFacts(*rest) for post_id, *rest in rows}

    def thumbnail(self, post_id: int) -> bytes | None:
        """The 180x180 variant of a post, or None when the shelf has none."""
        row = self._db.execute("select thumbnail from files where post_id = ?", (post_id,))
        found = row.fetchone()
        return found[0] if found and found[0] else None

    def put(self, rows: Iterable[tuple[int, FileFacts, bytes]]) -> None:
        """Stores facts and thumbnails; what is there already stays."""
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
        """A text that was kept under this name."""
        row = self._db.execute("select content from notes where name = ?", (name,)).fetchone()
        return row[0] if row else None

    def note(self, name: str, content: str) -> None:
        """Keeps a text under a name."""
        self._db.execute("insert or replace into notes values (?, ?)", (name, content))

    def close(self) -> None:
        """Closes the table."""
        self._db.close()


def _place(folder: str, key: str) -> str:
    """Path of the table. Tables of the same board by an older program are removed."""
    if not folder:
        return ":memory:"
    board = hashlib.sha256(key.encode()).hexdigest()[:12]
    place = Path(folder) / f"{board}-{_program()}.sqlite"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.glob(f"{board}-*.sqlite*"):
            if not old.name.startswith(place.name):
                old.unlink(missing_ok=True)
        place.open("ab").close()
    except OSError as error:
        _log.warning(
            "Files are remembered in memory only: %s cannot be written (%s).", folder, error
        )
        return ":memory:"
    return str(place)


def _program() -> str:
    """Changes whenever the bytes of a drawing may: with this package and with Pillow."""
    digest = hashlib.sha256(version("pillow").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
