"""The record of a listing: its tables, and its posts and answers as JSON, checked when read."""

import json
import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from scraper import store
from scraper.post import Post
from scraper.schemas import POSTS_SCHEMA
from scraper.sources import GONE, Tag

_log = logging.getLogger(__name__)
_ShapeT = TypeVar("_ShapeT")
_COLUMNS = set(POSTS_SCHEMA.names)
_LATER = {"licence"}  # columns that records of older versions lack: null in the table

REMEDY = "The next run then lists the posts again."
VERSION = 2
TABLES = """
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
    early_ends INTEGER NOT NULL DEFAULT 0,
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
CREATE TABLE IF NOT EXISTS refused_posts (
    walk INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (walk, post_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    collection INTEGER NOT NULL,
    post_id INTEGER NOT NULL,
    PRIMARY KEY (collection, post_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS latest (
    row INTEGER PRIMARY KEY CHECK (row = 0),
    collection INTEGER NOT NULL
);
CREATE TEMP TABLE chosen (walk INTEGER PRIMARY KEY);
"""
UPGRADES = {1: "ALTER TABLE walks ADD COLUMN early_ends INTEGER NOT NULL DEFAULT 0"}

BY_POST = (
    "CREATE INDEX IF NOT EXISTS sightings_of_post ON sightings (post_id)",
    "CREATE INDEX IF NOT EXISTS refusals_of_post ON refused_posts (post_id)",
    "CREATE TEMP TABLE IF NOT EXISTS wanted (post_id INTEGER PRIMARY KEY)",
    "DELETE FROM temp.wanted",
)
"""Made by the first listing by a dump: only that looks up the walks of a post."""
# `+walk`: the walks of one post are few, those with the same terms are all.
_ALIKE = """
    +walk IN (SELECT walk FROM walks WHERE collection = :collection
              AND substr(search, instr(search || ' ', ' ')) = :terms)
"""
# A sighting alone is no post: a damaged one is removed, and requested again.
_LISTED = "SELECT 1 FROM posts WHERE collection = :collection AND posts.post_id = wanted.post_id"
_MET = "SELECT 1 FROM sightings WHERE walk = :walk AND sightings.post_id = wanted.post_id"
SHARE = (
    f"""
    INSERT OR IGNORE INTO sightings SELECT :walk, post_id FROM temp.wanted
    WHERE NOT EXISTS ({_MET}) AND EXISTS ({_LISTED})
    AND EXISTS (SELECT 1 FROM sightings AS met WHERE met.post_id = wanted.post_id AND {_ALIKE})
    """,  # noqa: S608  # constants
    f"""
    INSERT OR IGNORE INTO refused_posts SELECT :walk, post_id, min(reason), min(detail)
    FROM temp.wanted CROSS JOIN refused_posts USING (post_id) WHERE {_ALIKE} GROUP BY post_id
    """,  # noqa: S608  # constants
)
"""Lets a walk have met what the walks with the same terms have met of the wanted posts."""
UNLISTED = f"""
    SELECT post_id FROM temp.wanted WHERE NOT EXISTS (
        SELECT 1 FROM refused_posts WHERE walk = :walk AND refused_posts.post_id = wanted.post_id
    ) AND NOT (EXISTS ({_MET}) AND EXISTS ({_LISTED})) ORDER BY post_id DESC
"""  # noqa: S608  # constants

KNOWN = """
    SELECT post_id FROM posts WHERE collection = :collection AND post_id > :above
    UNION SELECT post_id FROM refused_posts JOIN walks USING (walk)
    WHERE collection = :collection AND post_id > :above
"""
_REFUSED = "FROM refused_posts JOIN walks USING (walk) WHERE collection = :collection AND post_id = :post_id"
LIST_REFUSED = (
    "INSERT INTO posts VALUES (:collection, :post_id, :row)",
    f"INSERT OR IGNORE INTO sightings SELECT walk, post_id {_REFUSED}",
    f"DELETE FROM refused_posts WHERE post_id = :post_id AND walk IN (SELECT walk {_REFUSED})",  # noqa: S608  # a constant
)
"""Lists a refused post as met by the walks that refused it."""
NOTE_LATEST = """
    INSERT OR REPLACE INTO latest SELECT 0, :collection
    WHERE (SELECT collection FROM latest) IS NOT :collection
"""
"""Notes the collection that is listed; nothing is written where it is the same as before."""

SEARCHES = "searches"
"""The answer that holds the searches of the last listing; a record of an older version has none."""
_WALKS = """
    WITH listed AS (SELECT answer FROM answers WHERE collection = :collection
                    AND question = :searches AND json_valid(answer))
    SELECT count(*), count(*) FILTER (WHERE is_done = 1) FROM walks WHERE collection = :collection
    AND (NOT EXISTS (SELECT 1 FROM listed) OR search IN (SELECT value FROM listed, json_each(answer)))
"""
_LACKING = {
    "refused_posts": "SELECT post_id, reason FROM refused_posts JOIN walks USING (walk) WHERE collection = :collection",
    "tombstones": "SELECT post_id, :gone AS reason FROM tombstones WHERE collection = :collection",
}
"""By table, which records of older versions lack: the posts that cannot be listed, and why."""

DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
    pa.ArrowException,
)
"""What a damaged text raises where it is read, or where it becomes a table."""


@dataclass(frozen=True, slots=True)
class Walk:
    """The state of one search: how far its pages are listed."""

    walk: int
    search: str
    cursor: int | None
    """The next page holds ids below it; None before the first page."""
    is_done: bool
    early_ends: int = 0
    """Runs that met an empty page although the board counted more posts."""
    floor: int | None = None
    """Ids up to it were listed by an earlier walk of the search; None in the first one."""


@dataclass(frozen=True, slots=True)
class RefreshedCounts:
    """How many recorded posts have changed on the board since they were recorded."""

    edited: int
    gone: int
    """Posts that are no more on the board."""


@dataclass(frozen=True, slots=True)
class ListingSummary:
    """Counts of a record: those of the collection that was listed last."""

    posts: int
    searches: int
    searches_done: int
    unreadable: int = 0
    gone: int = 0
    """Posts that a dump chose, or that were listed before, and that the board lacks."""
    board: str = ""
    """Name of the collection."""
    boards: int = 1
    """Collections of the record."""


class DamagedRows(Exception):
    """A recorded post cannot be read; `Pages.repair` removes it."""


def is_whole(row: dict[str, Any]) -> bool:
    """Returns whether a row has the columns of `posts.parquet`, or had them in an older version."""
    return row.keys() | _LATER == _COLUMNS


def tags_of(answer: Any) -> list[Tag] | None:
    """Returns the tags of a recorded answer; None when nothing is recorded, or it is damaged."""
    rows = _shaped(TypeAdapter(list[tuple[str, int, int]]), answer)
    return None if rows is None else [Tag(*row) for row in rows]


def pairs_of(answer: Any) -> list[tuple[str, str]] | None:
    """Returns the pairs of a recorded answer; None when nothing is recorded, or it is damaged."""
    return _shaped(TypeAdapter(list[tuple[str, str]]), answer)


def _shaped(shape: "TypeAdapter[_ShapeT]", answer: Any) -> _ShapeT | None:
    try:
        return None if answer is None else shape.validate_python(answer)
    except ValidationError:
        _log.warning("listing: a recorded table of tags is damaged; it is requested again")
        return None


def rows_of(tags: Iterable[Tag]) -> list[tuple[Any, ...]]:
    """Returns tags as an answer to record."""
    return [astuple(tag) for tag in tags]


def is_post(post_id: int, text: Any) -> bool:
    """Returns whether a recorded text is the row of `posts.parquet` of that post."""
    try:
        row = json.loads(text)
        pa.Table.from_pylist([row], schema=POSTS_SCHEMA)
        return bool(is_whole(row) and row["post_id"] == post_id)
    except DAMAGE:
        return False


def row_of(post: Post) -> str:
    """Returns the recorded text of a post."""
    return json.dumps(
        post.to_row(), default=_milliseconds, separators=(",", ":"), ensure_ascii=False
    )


def deleted_row(row: str) -> str:
    """Returns the row of a post that is gone: deleted, and without files."""
    changed = json.loads(row) | {"is_deleted": True, "variants": [], "md5": None}
    return json.dumps(changed, separators=(",", ":"), ensure_ascii=False)


def _milliseconds(moment: datetime) -> int:
    """Returns a time as Arrow stores it: whole milliseconds since 1970, UTC."""
    return round(moment.timestamp() * 1000)


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
    with store.translated(path, remedy=REMEDY), closing(store.read_only(path)) as rows:
        if not store.has_tables(rows):
            return None
        tables = {name for (name,) in rows.execute("SELECT name FROM sqlite_schema")}
        boards = dict(rows.execute("SELECT collection, identity FROM collections"))
        latest = None
        if "latest" in tables:
            latest = rows.execute("SELECT collection FROM latest").fetchone()
        collection = latest[0] if latest else max(boards, default=0)
        values = {"collection": collection, "searches": SEARCHES, "gone": GONE}
        (posts,) = rows.execute(
            "SELECT count(*) FROM posts WHERE collection = :collection", values
        ).fetchone()
        searches, done = rows.execute(_WALKS, values).fetchone()
        lacking = " UNION ".join(sql for table, sql in _LACKING.items() if table in tables)
        unreadable = gone = 0
        if lacking:
            unreadable, gone = rows.execute(
                "SELECT count(DISTINCT post_id) FILTER (WHERE reason != :gone), "  # noqa: S608  # constants
                f"count(DISTINCT post_id) FILTER (WHERE reason = :gone) FROM ({lacking})",
                values,
            ).fetchone()
    board = boards.get(collection, "")
    return ListingSummary(posts, searches, done, unreadable, gone, board, len(boards))
