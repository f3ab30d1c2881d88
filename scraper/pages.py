"""
The record of a listing: one SQLite file (WAL) with one writer.

Every page of posts is committed together with the cursor of the next page, so a listing that was
killed continues there. Rows are keyed by collection: two boards never mix.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from scraper import store
from scraper.post import Post
from scraper.sources import Page, Tag
from scraper.store import Store

_VERSION = 1
_AGAIN = "list"
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
CREATE TABLE IF NOT EXISTS floors (
    walk INTEGER PRIMARY KEY,
    floor INTEGER NOT NULL
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


@dataclass(frozen=True, slots=True)
class Walk:
    """The state of one search: how far its pages are listed."""

    walk: int
    search: str
    cursor: int | None
    """The next page holds ids below it; None before the first page."""
    is_done: bool
    floor: int | None = None
    """Ids up to it were listed by an earlier walk of the search; None in the first one."""


@dataclass(frozen=True, slots=True)
class ListingSummary:
    """Counts of a record, over all its collections."""

    posts: int
    searches: int
    searches_done: int


@dataclass(frozen=True, slots=True)
class RefreshedCounts:
    """How many recorded posts have changed on the board since they were recorded."""

    edited: int
    gone: int
    """Posts that are no more on the board."""


class Pages(Store):
    """
    The record of one collection in `folder`, held by this process alone until it is closed.

    Args:
        folder: Holds `ledger.sqlite`; made when absent.
        identity: Name of the collection whose rows are read and written.
        at: Called with the name of each write step as it is reached, for tests that kill there.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DamagedLedger: The file is no record of this version.
        DiskRefused: The disk is full.
    """

    def __init__(
        self, folder: Path, identity: str, *, at: Callable[[str], None] = lambda _step: None
    ) -> None:
        # A page lost with the power is requested again; a killed process loses none.
        super().__init__(
            folder, tables=_TABLES, version=_VERSION, synchronous="NORMAL", again=_AGAIN, at=at
        )
        try:
            self._collection = self._number(identity)
        except BaseException:
            self.close()
            raise

    def answer(self, question: str) -> Any:
        """Returns the recorded answer to a question, or None."""
        with self._translated():
            row = self._rows.execute(
                "SELECT answer FROM answers WHERE collection = ? AND question = ?",
                (self._collection, question),
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, question: str, answer: Any) -> None:
        """Records the answer to a question, so that it is not requested again."""
        with self._translated():
            self._rows.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                (self._collection, question, json.dumps(answer)),
            )
        self._at(f"{question.split(maxsplit=1)[0]} recorded")

    def walk(self, search: str) -> Walk:
        """Returns the state of the walk of a search; a new walk begins without a cursor."""
        with self._translated():
            self._rows.execute(
                "INSERT OR IGNORE INTO walks (collection, search, is_done) VALUES (?, ?, 0)",
                (self._collection, search),
            )
            number, cursor, is_done, floor = self._rows.execute(
                "SELECT walk, cursor, is_done, floor FROM walks LEFT JOIN floors USING (walk) "
                "WHERE collection = ? AND search = ?",
                (self._collection, search),
            ).fetchone()
        return Walk(number, search, cursor, bool(is_done), floor)

    def renew(self) -> None:
        """
        Lets every finished walk begin again at the newest post, down to the newest that it has listed.

        The recorded answers are forgotten, so candidates, aliases and implications are requested again. Walks
        that are not finished go on where they are.
        """
        with self._transaction():
            self._rows.execute(
                "INSERT OR REPLACE INTO floors SELECT walk, max(post_id) FROM walks "
                "JOIN sightings USING (walk) WHERE collection = ? AND is_done GROUP BY walk",
                (self._collection,),
            )
            self._rows.execute(
                "UPDATE walks SET cursor = NULL, is_done = 0 WHERE collection = ? AND is_done",
                (self._collection,),
            )
            self._rows.execute("DELETE FROM answers WHERE collection = ?", (self._collection,))
        self._at("walks renewed")

    def count(self, *, above: int) -> int:
        """Returns the number of recorded posts with an id above `above`."""
        with self._translated():
            (number,) = self._rows.execute(
                "SELECT count(*) FROM posts WHERE collection = ? AND post_id > ?",
                (self._collection, above),
            ).fetchone()
        return int(number)

    def known(self, *, above: int, limit: int) -> list[int]:
        """Returns the next `limit` ids of recorded posts above `above`, in order."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id FROM posts WHERE collection = ? AND post_id > ? ORDER BY post_id LIMIT ?",
                (self._collection, above, limit),
            )
            return [number for (number,) in rows]

    def refresh(self, ids: Sequence[int], posts: Iterable[Post]) -> RefreshedCounts:
        """
        Replaces the rows of `ids` by `posts`, as the board has them now; all of them or none.

        A post that is no more on the board becomes a tombstone: its row stays, marked as deleted.
        """
        fresh = {post.post_id: _dump(post.to_row()) for post in posts}
        marks = ", ".join("?" * len(ids))
        with self._transaction():
            before = dict(
                self._rows.execute(
                    f"SELECT post_id, row_json FROM posts WHERE collection = ? AND post_id IN ({marks})",  # noqa: S608  # marks are question marks
                    (self._collection, *ids),
                )
            )
            gone = {number: _deleted(row) for number, row in before.items() if number not in fresh}
            after = {
                number: row for number, row in (fresh | gone).items() if before.get(number) != row
            }
            self._rows.executemany(
                "UPDATE posts SET row_json = ? WHERE collection = ? AND post_id = ?",
                [(row, self._collection, number) for number, row in after.items()],
            )
        self._at("posts refreshed")
        return RefreshedCounts(
            edited=len(after.keys() - gone.keys()), gone=len(after.keys() & gone.keys())
        )

    def sighted(self, walk: Walk) -> int:
        """Returns the number of posts that the walk has listed so far."""
        with self._translated():
            return int(
                self._rows.execute(
                    "SELECT count(*) FROM sightings WHERE walk = ?", (walk.walk,)
                ).fetchone()[0]
            )

    def add(self, walk: Walk, page: Page) -> Walk:
        """
        Records one page and the cursor of the next, both or neither; returns the new walk.

        Raises:
            DiskRefused: The disk is full; nothing of this page is recorded.
        """
        reached = page.cursor is not None and walk.floor is not None and page.cursor <= walk.floor
        after = replace(walk, cursor=page.cursor, is_done=reached or page.cursor is None)
        rows = [(self._collection, post.post_id, _dump(post.to_row())) for post in page.posts]
        with self._transaction():
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
        self._at("page committed")
        return after

    def posts(self, walks: Iterable[Walk], *, batch: int) -> Iterator[list[dict[str, Any]]]:
        """Yields batches of the posts of `walks`, each once, by id, as rows of `posts.parquet`."""
        with self._translated():
            self._rows.execute("DELETE FROM temp.chosen")
            self._rows.executemany(
                "INSERT OR IGNORE INTO temp.chosen VALUES (?)", [(walk.walk,) for walk in walks]
            )
            result = self._rows.execute(
                "SELECT row_json FROM posts WHERE collection = ? AND post_id IN "
                "(SELECT post_id FROM sightings JOIN temp.chosen USING (walk)) ORDER BY post_id",
                (self._collection,),
            )
            while rows := result.fetchmany(batch):
                yield [json.loads(row) for (row,) in rows]

    def _number(self, identity: str) -> int:
        with self._translated():
            self._rows.execute(
                "INSERT OR IGNORE INTO collections (identity) VALUES (?)", (identity,)
            )
            (number,) = self._rows.execute(
                "SELECT collection FROM collections WHERE identity = ?", (identity,)
            ).fetchone()
        return int(number)


def summary(folder: Path) -> ListingSummary | None:
    """
    Returns the counts of the record in `folder`, or None without a record.

    It only reads, so a run may be under way.

    Raises:
        DamagedLedger: The file is no record of a listing.
    """
    path = folder / store.NAME
    if not path.is_file():
        return None
    with store.translated(path, again=_AGAIN), closing(store.read_only(path)) as rows:
        (posts,) = rows.execute("SELECT count(*) FROM posts").fetchone()
        searches, done = rows.execute("SELECT count(*), sum(is_done) FROM walks").fetchone()
    return ListingSummary(posts, searches, done or 0)


def tags_of(answer: Sequence[Sequence[Any]] | None) -> list[Tag] | None:
    """Returns the tags of a recorded answer; None when nothing is recorded."""
    return None if answer is None else [Tag(*row) for row in answer]


def rows_of(tags: Iterable[Tag]) -> list[tuple[Any, ...]]:
    """Returns tags as an answer to record."""
    return [astuple(tag) for tag in tags]


def _dump(row: dict[str, Any]) -> str:
    return json.dumps(row, default=_milliseconds, separators=(",", ":"), ensure_ascii=False)


def _deleted(row: str) -> str:
    """Returns the row of a post that is gone: deleted, and without files."""
    changed = json.loads(row) | {"is_deleted": True, "variants": [], "md5": None}
    return json.dumps(changed, separators=(",", ":"), ensure_ascii=False)


def _milliseconds(moment: datetime) -> int:
    """Returns a time as Arrow stores it: whole milliseconds since 1970, UTC."""
    return round(moment.timestamp() * 1000)
