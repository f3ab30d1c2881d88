"""
The record of a listing: one SQLite file (WAL) with one writer.

Every page of posts is committed together with the cursor of the next page, so a listing that was
killed continues there. Rows are keyed by collection: two boards never mix.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from scraper import recorded
from scraper.post import Post
from scraper.recorded import (
    DAMAGE,
    DamagedRows,
    RefreshedCounts,
    Walk,
    deleted_row,
    is_post,
    is_whole,
    row_of,
)
from scraper.sources import Page, RefusedPost
from scraper.store import Store

_log = logging.getLogger(__name__)

_EXPORTED = "exported"


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
            folder,
            tables=recorded.TABLES,
            version=recorded.VERSION,
            upgrades=recorded.UPGRADES,
            synchronous="NORMAL",
            remedy=recorded.REMEDY,
            at=at,
        )
        try:
            self._collection = self._number(identity)
        except BaseException:
            self.close()
            raise

    def answer(self, question: str) -> Any:
        """Returns the recorded answer to a question; None when there is none, or it is damaged."""
        with self._translated():
            row = self._rows.execute(
                "SELECT answer FROM answers WHERE collection = ? AND question = ?",
                (self._collection, question),
            ).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except DAMAGE:
            _log.warning("listing: the record of %s is damaged; it is requested again", question)
            return None

    def put(self, question: str, answer: Any) -> None:
        """Records the answer to a question, so that it is not requested again."""
        with self._translated():
            self._rows.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                (self._collection, question, json.dumps(answer)),
            )
        self._at(f"{question.split(maxsplit=1)[0]} recorded")

    def exported(self) -> Any:
        """Returns what `note_export` recorded; None when the record has changed since then."""
        return self.answer(_EXPORTED)

    def note_export(self, state: Any) -> None:
        """Records that the tables were written, from which questions and with which bytes."""
        self.put(_EXPORTED, state)

    def note_searches(self, searches: list[str]) -> None:
        """Records what is being listed: the walks of earlier candidates are then not unfinished."""
        if self.answer(recorded.SEARCHES) != searches:
            self.put(recorded.SEARCHES, searches)

    def walk(self, search: str) -> Walk:
        """Returns the state of the walk of a search; a new walk begins without a cursor."""
        with self._translated():
            self._rows.execute(
                "INSERT OR IGNORE INTO walks (collection, search, is_done) VALUES (?, ?, 0)",
                (self._collection, search),
            )
            row = self._rows.execute(
                "SELECT walk, cursor, is_done, early_ends, floor FROM walks "
                "LEFT JOIN floors USING (walk) WHERE collection = ? AND search = ?",
                (self._collection, search),
            ).fetchone()
        number, cursor, is_done, early_ends, floor = row
        if (
            not isinstance(cursor, int | None)
            or is_done not in (0, 1)
            or not isinstance(early_ends, int)
            or not isinstance(floor, int | None)
        ):
            _log.warning("listing: the record of search '%s' is damaged; it begins anew", search)
            return self._begin_anew(search)
        return Walk(number, search, cursor, bool(is_done), early_ends, floor)

    def renew(self, *, walks: bool = True) -> None:
        """
        Forgets the answers, so that candidates, aliases and implications are requested again.

        With `walks`, every finished walk begins again at the newest post, down to the newest that it
        has listed. Walks that are not finished go on where they are.
        """
        with self._transaction():
            if walks:
                self._rows.execute(
                    "INSERT OR REPLACE INTO floors SELECT walk, max(post_id) FROM walks "
                    "JOIN sightings USING (walk) WHERE collection = ? AND is_done GROUP BY walk",
                    (self._collection,),
                )
                self._rows.execute(
                    "UPDATE walks SET cursor = NULL, is_done = 0 WHERE collection = ? AND is_done",
                    (self._collection,),
                )
            self._rows.execute(
                "DELETE FROM answers WHERE collection = ? AND question != ?",
                (self._collection, _EXPORTED),
            )
        self._at("walks renewed")

    def count(self, *, above: int) -> int:
        """Returns the number of recorded and refused posts with an id above `above`."""
        with self._translated():
            (number,) = self._rows.execute(
                f"SELECT count(*) FROM ({recorded.KNOWN})",  # noqa: S608  # a constant
                {"collection": self._collection, "above": above},
            ).fetchone()
        return int(number)

    def known(self, *, above: int, limit: int) -> list[int]:
        """Returns the next `limit` ids of recorded and refused posts above `above`, in order."""
        with self._translated():
            rows = self._rows.execute(
                f"{recorded.KNOWN} ORDER BY post_id LIMIT :limit",
                {"collection": self._collection, "above": above, "limit": limit},
            )
            return [number for (number,) in rows]

    def refresh(self, ids: Sequence[int], posts: Iterable[Post]) -> RefreshedCounts:
        """
        Replaces the rows of `ids` by `posts`, as the board has them now; all of them or none.

        A post that is no more on the board becomes a tombstone: its row stays, marked as deleted. One
        that was refused, and can be read now, is listed.
        """
        fresh = {post.post_id: row_of(post) for post in posts}
        marks = ", ".join("?" * len(ids))
        with self._transaction():
            before = dict(
                self._rows.execute(
                    f"SELECT post_id, row_json FROM posts WHERE collection = ? AND post_id IN ({marks})",  # noqa: S608  # marks are question marks
                    (self._collection, *ids),
                )
            )
            gone = {
                number: deleted_row(row) for number, row in before.items() if number not in fresh
            }
            after = {
                number: row for number, row in (fresh | gone).items() if before.get(number) != row
            }
            self._rows.executemany(
                "UPDATE posts SET row_json = ? WHERE collection = ? AND post_id = ?",
                [(row, self._collection, number) for number, row in after.items()],
            )
            self._unbury(ids)
            self._rows.executemany(
                "INSERT INTO tombstones VALUES (?, ?)", [(self._collection, each) for each in gone]
            )
            for number in after.keys() & set(ids) - before.keys():
                values = {"collection": self._collection, "post_id": number, "row": after[number]}
                for statement in recorded.LIST_REFUSED:
                    self._rows.execute(statement, values)
            if after:
                self._forget_export()
        self._at("posts refreshed")
        return RefreshedCounts(
            edited=len(after.keys() - gone.keys()), gone=len(after.keys() & gone.keys())
        )

    def _unbury(self, ids: Iterable[int]) -> None:
        """Forgets that posts were gone; part of a transaction."""
        self._rows.executemany(
            "DELETE FROM tombstones WHERE collection = ? AND post_id = ?",
            [(self._collection, number) for number in ids],
        )

    def sighted(self, walk: Walk, *, below: int | None = None) -> int:
        """Returns the number of posts that the walk has met, refused ones included, under an id."""
        with self._translated():
            (listed,) = self._rows.execute(
                "SELECT (SELECT count(*) FROM sightings WHERE walk = :walk AND post_id < :below) "
                "+ (SELECT count(*) FROM refused_posts WHERE walk = :walk AND post_id < :below)",
                {"walk": walk.walk, "below": 2**63 - 1 if below is None else below},
            ).fetchone()
        return int(listed)

    def add(self, walk: Walk, page: Page) -> Walk:
        """
        Records one page and the cursor of the next, both or neither; returns the new walk.

        Raises:
            DiskRefused: The disk is full; nothing of this page is recorded.
        """
        reached = page.cursor is not None and walk.floor is not None and page.cursor <= walk.floor
        after = replace(walk, cursor=page.cursor, is_done=reached or page.cursor is None)
        rows = [(self._collection, post.post_id, row_of(post)) for post in page.posts]
        with self._transaction():
            changes = self._rows.total_changes
            # A post that is known and the same is not written, and does not count as a change.
            self._rows.executemany(
                "INSERT INTO posts VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET row_json = excluded.row_json WHERE row_json IS NOT excluded.row_json",
                rows,
            )
            self._rows.executemany(
                "INSERT OR IGNORE INTO sightings VALUES (?, ?)",
                [(walk.walk, post.post_id) for post in page.posts],
            )
            self._rows.executemany(
                "INSERT OR REPLACE INTO refused_posts VALUES (?, ?, ?, ?)",
                [(walk.walk, *astuple(row)) for row in page.refused if row.post_id is not None],
            )
            if self._rows.total_changes != changes:
                self._forget_export()
            self._unbury(post.post_id for post in page.posts)
            self._at("page written")
            self._rows.execute(
                "UPDATE walks SET cursor = ?, is_done = ? WHERE walk = ?",
                (after.cursor, after.is_done, after.walk),
            )
        self._at("page committed")
        return after

    def unlisted(self, walk: Walk, ids: Iterable[int]) -> list[int]:
        """
        Returns those of `ids` that no walk with the terms of `walk` has met, newest first.

        The others count as met by `walk` too, so that none is requested for two personae.
        """
        terms = "".join(walk.search.partition(" ")[1:])
        values = {"collection": self._collection, "walk": walk.walk, "terms": terms}
        with self._transaction():
            for statement in recorded.BY_POST:
                self._rows.execute(statement)
            self._rows.executemany(
                "INSERT OR IGNORE INTO temp.wanted VALUES (?)", [(number,) for number in ids]
            )
            changes = self._rows.total_changes
            for statement in recorded.SHARE:
                self._rows.execute(statement, values)
            if self._rows.total_changes != changes:
                self._forget_export()
            return [number for (number,) in self._rows.execute(recorded.UNLISTED, values)]

    def note_early_end(self, walk: Walk) -> None:
        """Counts a run that met an empty page although the board counted more posts."""
        with self._translated():
            self._rows.execute(
                "UPDATE walks SET early_ends = early_ends + 1 WHERE walk = ?", (walk.walk,)
            )

    def refused(self, walks: Iterable[Walk]) -> list[RefusedPost]:
        """Returns the posts of `walks` that could not be listed, each once, by id."""
        with self._translated():
            self._choose(walks)
            rows = self._rows.execute(
                "SELECT post_id, min(reason), min(detail) FROM refused_posts "
                "JOIN temp.chosen USING (walk) GROUP BY post_id "
                "HAVING post_id NOT IN (SELECT post_id FROM posts WHERE collection = ?)",
                (self._collection,),
            )
            return [RefusedPost(*row) for row in rows]

    def posts(self, walks: Iterable[Walk], *, batch: int) -> Iterator[list[dict[str, Any]]]:
        """
        Yields batches of the posts of `walks`, each once, by id, as rows of `posts.parquet`.

        Raises:
            DamagedRows: A row cannot be read; `repair` removes it.
        """
        for stored in self._stored(walks, batch=batch):
            try:
                rows = [json.loads(text) for _, text in stored]
                is_sound = all(map(is_whole, rows))
            except DAMAGE as error:
                raise DamagedRows from error
            if not is_sound:
                raise DamagedRows
            yield rows

    def repair(self) -> int:
        """
        Removes the damaged posts of the collection; their walks continue above the newest of them.

        Returns:
            Number of posts removed.
        """
        with self._translated():
            stored = self._rows.execute(
                "SELECT post_id, row_json FROM posts WHERE collection = ?", (self._collection,)
            )
            damaged = [post_id for post_id, text in stored if not is_post(post_id, text)]
        for post_id in damaged:
            with self._transaction():
                self._rows.execute(
                    "UPDATE walks SET is_done = 0, cursor = max(?, ifnull(cursor, 0)) "
                    "WHERE collection = ? AND walk IN (SELECT walk FROM sightings WHERE post_id = ?)",
                    (post_id + 1, self._collection, post_id),
                )
                self._rows.execute(
                    "DELETE FROM floors WHERE walk IN (SELECT walk FROM sightings WHERE post_id = ?)",
                    (post_id,),
                )
                self._rows.execute(
                    "DELETE FROM posts WHERE collection = ? AND post_id = ?",
                    (self._collection, post_id),
                )
                self._forget_export()
        return len(damaged)

    def _stored(self, walks: Iterable[Walk], *, batch: int) -> Iterator[list[tuple[int, str]]]:
        with self._translated():
            self._choose(walks)
            result = self._rows.execute(
                "SELECT post_id, row_json FROM posts WHERE collection = ? AND post_id IN "
                "(SELECT post_id FROM sightings JOIN temp.chosen USING (walk)) ORDER BY post_id",
                (self._collection,),
            )
            while rows := result.fetchmany(batch):
                yield rows

    def _forget_export(self) -> None:
        self._rows.execute(
            "DELETE FROM answers WHERE collection = ? AND question = ?",
            (self._collection, _EXPORTED),
        )

    def _choose(self, walks: Iterable[Walk]) -> None:
        self._rows.execute("DELETE FROM temp.chosen")
        self._rows.executemany(
            "INSERT OR IGNORE INTO temp.chosen VALUES (?)", [(walk.walk,) for walk in walks]
        )

    def _begin_anew(self, search: str) -> Walk:
        with self._translated():
            self._rows.execute(
                "UPDATE walks SET cursor = NULL, is_done = 0, early_ends = 0 "
                "WHERE collection = ? AND search = ?",
                (self._collection, search),
            )
            self._rows.execute(
                "DELETE FROM floors WHERE walk IN "
                "(SELECT walk FROM walks WHERE collection = ? AND search = ?)",
                (self._collection, search),
            )
        return self.walk(search)

    def _number(self, identity: str) -> int:
        with self._translated():
            self._rows.execute(
                "INSERT OR IGNORE INTO collections (identity) VALUES (?)", (identity,)
            )
            (number,) = self._rows.execute(
                "SELECT collection FROM collections WHERE identity = ?", (identity,)
            ).fetchone()
            self._rows.execute(recorded.NOTE_LATEST, {"collection": number})
        return int(number)
