"""
The record of stored and refused images: one SQLite file (WAL) with one writer.

A row is written only after its bytes are on the disk, so every recorded image exists. Keys are
site, post and file (checksum and variant): a file that the board replaced is another file, and two
sites never mix.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from scraper.store import Store

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


@dataclass(frozen=True, slots=True)
class RefusedImage:
    """An image that is not requested again."""

    post_id: int
    file_key: str
    reason: str
    measured: float | None = None
    threshold: float | None = None


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
            folder, tables=_TABLES, version=_VERSION, synchronous="FULL", again="download", at=at
        )
        self._site = site

    def record(self, stored: Iterable[StoredImage], refused: Iterable[RefusedImage]) -> None:
        """
        Records images in one transaction: all of them or none.

        Raises:
            DiskRefused: The disk is full; nothing of this call is recorded.
        """
        with self._transaction():
            self._rows.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(self._site, *astuple(row)) for row in stored],
            )
            self._rows.executemany(
                "INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?, ?)",
                [(self._site, *astuple(row)) for row in refused],
            )
            self._at("recorded")
        self._at("committed")

    def stored(self, first: int, last: int) -> dict[Key, StoredImage]:
        """Returns the stored images of the posts from `first` to `last`, both included."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, segment, byte_offset, file_bytes, sha256, file_ext "
                "FROM images WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): StoredImage(*row) for row in rows}

    def refused(self, first: int, last: int) -> dict[Key, RefusedImage]:
        """Returns the refused images of the posts from `first` to `last`, both included."""
        with self._translated():
            rows = self._rows.execute(
                "SELECT post_id, file_key, reason, measured, threshold "
                "FROM refusals WHERE site = ? AND post_id BETWEEN ? AND ?",
                (self._site, first, last),
            )
            return {(row[0], row[1]): RefusedImage(*row) for row in rows}

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
