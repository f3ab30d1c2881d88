"""
The record of stored and refused images: one SQLite file (WAL) with one writer.

A row is written only after its bytes are on the disk, so every recorded image exists. Keys are
site, post and file (checksum and variant): a file that the board replaced is another file, and two
sites never mix.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from scraper.store import Store

_VERSION = 2
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
    width INTEGER,
    height INTEGER,
    PRIMARY KEY (site, post_id, file_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    site TEXT NOT NULL,
    post_id INTEGER NOT NULL,
    file_key TEXT NOT NULL,
    reason TEXT NOT NULL,
    measured REAL,
    threshold REAL,
    state TEXT NOT NULL DEFAULT 'final',
    evidence TEXT NOT NULL DEFAULT '',
    requests INTEGER NOT NULL DEFAULT 1,
    repeats INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (site, post_id, file_key)
) WITHOUT ROWID;
CREATE TEMP TABLE requested_now (
    post_id INTEGER NOT NULL,
    file_key TEXT NOT NULL,
    PRIMARY KEY (post_id, file_key)
) WITHOUT ROWID;
"""
# Version 1 did not record whose fault a refusal was: all but our own limits are requested again.
_UPGRADES = {
    1: """
ALTER TABLE images ADD COLUMN width INTEGER;
ALTER TABLE images ADD COLUMN height INTEGER;
ALTER TABLE refusals ADD COLUMN state TEXT NOT NULL DEFAULT 'final';
ALTER TABLE refusals ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
ALTER TABLE refusals ADD COLUMN requests INTEGER NOT NULL DEFAULT 1;
ALTER TABLE refusals ADD COLUMN repeats INTEGER NOT NULL DEFAULT 1;
UPDATE refusals SET state = 'refused' WHERE reason != 'too_large'
"""
}
_NO_SITE = ""
UNAVAILABLE = "unavailable"
"""Reason of a refusal for want of an answer."""
# Equal answers in a row that make a refusal final.
_REPEATS = 3
_REPEATS_OF_PLAIN_ANSWERS = 2
_PLAIN_ANSWERS = ("gone", "wrong_type")
# Where the next tar header begins after an image (blocks of 512 bytes).
_END = "byte_offset + (file_bytes + 511) / 512 * 512"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image whose bytes are on the disk."""

    post_id: int
    file_key: str
    segment: str
    offset: int
    file_bytes: int
    sha256: str
    file_ext: str
    width: int | None = None
    """In pixels, where the bytes have another size than the board listed; else None."""
    height: int | None = None

    @property
    def url(self) -> str:
        """Where the bytes came from."""
        return self.file_key.partition(" ")[2]


State: TypeAlias = Literal["suspected", "refused", "final"]
"""
Whose fault a refusal is.

`suspected`: the network may have caused it, and the image counts as not fetched. `refused`: it
recurred while other images arrived, and later runs request the image again. `final`: the board
itself or a limit of ours refuses the image, which is not requested again.
"""


@dataclass(frozen=True, slots=True)
class RefusedImage:
    """An image that was requested, or may not be requested, and is not stored."""

    post_id: int
    file_key: str
    reason: str
    measured: float | None = None
    threshold: float | None = None
    state: State = "final"
    evidence: str = ""
    """The status, or the sha256 of the body; empty when another answer would look the same."""
    requests: int = 1
    """How often the image was requested; the retries of one request count once."""
    repeats: int = 1
    """How many of the last answers had the same reason and the same evidence."""

    def after(self, earlier: "RefusedImage | None") -> "RefusedImage":
        """Returns this refusal as the one that follows `earlier`."""
        if earlier is None or self.state != "suspected":
            return self
        if earlier.state == "refused" and self.reason == UNAVAILABLE:
            return replace(earlier, requests=earlier.requests + 1)  # no answer is no news
        same = (self.reason, self.evidence) == (earlier.reason, earlier.evidence)
        return replace(
            self,
            state="refused" if earlier.state == "refused" else "suspected",
            requests=earlier.requests + 1,
            repeats=earlier.repeats + 1 if same else 1,
        )


Key = tuple[int, str]
"""Post and file."""


class Ledger(Store):
    """
    The ledger of one site in `folder`, held by this process alone until it is closed.

    Args:
        folder: Holds `ledger.sqlite`; made when absent.
        site: Name of the site whose rows are read and written.
        at: Called with the name of each write step as it is reached, for tests that kill there.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DamagedLedger: The file is no ledger of this version.
        DiskRefused: The disk is full.
    """

    def __init__(
        self, folder: Path, site: str, *, at: Callable[[str], None] = lambda _step: None
    ) -> None:
        super().__init__(
            folder,
            tables=_TABLES,
            version=_VERSION,
            upgrades=_UPGRADES,
            synchronous="FULL",
            remedy="The next run then records the images again from the segments.",
            at=at,
        )
        self._site = site

    def record(self, stored: Iterable[StoredImage], refused: Iterable[RefusedImage]) -> None:
        """
        Records images in one transaction: all of them or none.

        A stored image has no refusal any more. A suspected refusal follows the recorded one.

        Raises:
            DiskRefused: The disk is full; nothing of this call is recorded.
        """
        with self._transaction():
            self._rows.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(self._site, *astuple(row)) for row in stored],
            )
            self._rows.executemany(
                "DELETE FROM refusals WHERE site = ? AND post_id = ? AND file_key = ?",
                [(self._site, row.post_id, row.file_key) for row in stored],
            )
            self._rows.executemany(
                "INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(self._site, *astuple(row)) for row in refused],
            )
            self._rows.executemany(
                "INSERT OR REPLACE INTO temp.requested_now VALUES (?, ?)",
                [(row.post_id, row.file_key) for row in refused],
            )
            self._at("recorded")
        self._at("committed")

    def stored(self, first: int, last: int) -> dict[Key, StoredImage]:
        """Returns the stored images of the posts from `first` to `last`, both included."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, segment, byte_offset, file_bytes, sha256, file_ext, "
                "width, height FROM images WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): StoredImage(*row) for row in rows}

    def refused(self, first: int, last: int) -> dict[Key, RefusedImage]:
        """Returns the refused images of the posts from `first` to `last`, both included."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, reason, measured, threshold, state, evidence, "
                "requests, repeats FROM refusals WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): RefusedImage(*row) for row in rows}

    def keep(self, rows: Iterable[StoredImage]) -> None:
        """Records bytes of no known post, so that their segments are not cut back."""
        with self._transaction():
            self._rows.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(_NO_SITE, *astuple(row)) for row in rows],
            )

    def some_stored(self, count: int) -> list[StoredImage]:
        """Returns stored images of this site at random, at most `count`."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, segment, byte_offset, file_bytes, sha256, file_ext, "
                "width, height FROM images WHERE site = ? ORDER BY random() LIMIT ?",
                (self._site, count),
            )
            return [StoredImage(*row) for row in rows]

    def accept_refusals(self, *, least_requests: int) -> None:
        """
        Makes decisions of the suspected refusals of this run, since the site is well.

        A refusal becomes final when the same answer recurred, and its body is that of no other
        image, as a placeholder would be. An image that was unavailable waits for a second run.

        Args:
            least_requests: An image that was requested less often stays suspected.
        """
        with self._translated():
            self._rows.execute(
                """
UPDATE refusals SET state = CASE
    WHEN evidence != '' AND repeats >= iif(reason IN (?, ?), ?, ?) AND (
        length(evidence) < 64 OR evidence NOT IN (
            SELECT evidence FROM refusals WHERE site = ? GROUP BY evidence HAVING count(*) > 1
        )
    ) THEN 'final' ELSE 'refused' END
WHERE site = ? AND state != 'final' AND requests >= iif(reason = ?, 3, ?)
    AND (post_id, file_key) IN (SELECT post_id, file_key FROM temp.requested_now)
                """,
                (
                    *_PLAIN_ANSWERS,
                    _REPEATS_OF_PLAIN_ANSWERS,
                    _REPEATS,
                    self._site,
                    self._site,
                    UNAVAILABLE,
                    least_requests,
                ),
            )

    def is_settled(self, sizes: Mapping[str, int]) -> bool:
        """
        Returns whether no image is to be requested again: all bytes are there, all refusals final.

        Args:
            sizes: Bytes of each segment on disk.
        """
        with self._translated():
            (waiting,) = self._rows.execute(
                "SELECT count(*) FROM refusals WHERE site = ? AND state != 'final'", (self._site,)
            ).fetchone()
        return not waiting and all(sizes.get(name, 0) >= end for name, end in self.ends().items())

    def forget_refused(self) -> int:
        """Deletes the refusals, so that their images are requested again; returns the number."""
        with self._translated():
            return self._rows.execute("DELETE FROM refusals WHERE site = ?", (self._site,)).rowcount

    def forget_lost(self, sizes: Mapping[str, int]) -> int:
        """
        Deletes the rows of all sites whose bytes are not in the segments; returns the number.

        Args:
            sizes: Bytes of each segment on disk.
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
        """Returns the offset after the last recorded image of each segment, over all sites."""
        with self._translated():
            rows = self._rows.execute(
                f"SELECT segment, max({_END}) FROM images GROUP BY segment"  # noqa: S608  # constant
            )
            return dict(rows.fetchall())
