"""
The open catalog and predictions that the browse page shows, opened anew when a file is replaced.

A `Snapshot` is one state of the files. `Library` gives the newest: a request that has begun keeps its
own snapshot until it ends, and a build that fails or is under way leaves the old one in use.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from curation import catalog_tables, predictions
from personae.catalog import OFFLINE, connect
from personae.errors import MissingInput, PersonaeError

log = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

_CHECK_SECONDS = 1.0  # the files are compared with what was opened, at most once in this time
_MOST_POSITIONS = 10_000  # of images; some 5 MiB
# Every column that the page reads: a catalog of another version is refused when it is opened.
_COLUMNS = {
    "posts": "post_id created_at_utc rating score image_width image_height file_ext file_bytes "
    "parent_id uploader_id source tags_general tags_character tags_copyright tags_artist tags_meta "
    "licence original_url original_path",
    "tags": "name post_count",
    "post_tags": "post_id tag",
    "decisions": "post_id stage kept reason measured threshold",
    "stages": "position stage",
    "kept": "post_id persona",
    "images": "post_id segment byte_offset file_bytes sha256",
    "measures": "post_id error file_format mode width height phash_quality border_white saturation "
    "sharpness contrast image_tar byte_offset image_bytes image_sha256",
    "groups": "post_id group_id representative link distance",
    "links": "post_a post_b link distance inliers mirrored",
    "labels": "label leaf",
    "splits": "post_id split",
    "samples": "post_id label leaf split white_background shard byte_offset image_offset image_bytes",
    "builds": "root_sha256",
    "journey": "post_id position step outcome detail",
    "funnel": "position stage outcome posts",
}
_TABLE = """
CREATE TABLE predictions (
    run VARCHAR, seed INTEGER, post_id BIGINT, split VARCHAR, leaf INTEGER, predicted INTEGER,
    probability FLOAT, label_probability FLOAT
)
"""
_INSERT = """
INSERT INTO predictions
SELECT ?, ?, post_id, split, label, predicted, probabilities[predicted + 1], probabilities[label + 1]
FROM read_parquet('{path}')
"""
# Leaves count the labels of one build. Predictions of another build would get wrong names.
_OTHER_BUILD = """
SELECT run, seed FROM predictions AS q LEFT JOIN catalog.samples AS s USING (post_id)
WHERE s.leaf IS DISTINCT FROM q.leaf GROUP BY ALL ORDER BY ALL
"""


class Snapshot:
    """
    One state of the catalog and of the predictions of all runs, open for reading.

    Tables of the catalog are `catalog.NAME`; `predictions` is a table in memory. SQL cannot open any
    other file. Threads may query at the same time.

    Raises:
        MissingInput: There is no catalog, or it is of another version.
        AlreadyRunning: Another program has the catalog open for writing.
    """

    def __init__(self, data_dir: Path, results_dir: Path) -> None:
        self.data_dir = data_dir
        self._kept: dict[str, Any] = {}
        self._positions: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        path = data_dir / "catalog" / "catalog.duckdb"
        connect(path).close()  # names who has it open for writing
        self._connection = duckdb.connect(config=OFFLINE)
        try:
            self._connection.execute("SET enable_progress_bar = false")
            self._connection.execute(
                f"ATTACH '{catalog_tables.quoted(path)}' AS catalog (READ_ONLY)"
            )
            notices = self._load(results_dir)
            # A view of a crafted catalog could read a file: nothing of it is queried before this.
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
            for table, columns in _COLUMNS.items():
                names = ", ".join(columns.split())
                self._connection.execute(f"SELECT {names} FROM catalog.{table} LIMIT 0")  # noqa: S608  # constants of this file
            self.notices = (*notices, *self._drop_other_builds())
        except duckdb.Error as error:
            self._connection.close()
            raise MissingInput(
                f"{path} cannot be read: {str(error).splitlines()[0]} It may be of another version. "
                "Stage 'catalog' builds it anew from the tables: run that stage again."
            ) from error

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Returns the rows of one query, whose `?` are bound to `values`."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def kept(self, name: str, compute: Callable[[], ValueT]) -> ValueT:
        """Returns what `compute` returned at the first call with this name: a snapshot never changes."""
        if name not in self._kept:
            self._kept[name] = compute()
        value: ValueT = self._kept[name]
        return value

    def remember(self, post_id: int, position: dict[str, Any]) -> None:
        """Keeps where an image is stored, for the request of it that follows; the oldest go first."""
        with self._lock:
            self._positions[post_id] = position
            if len(self._positions) > _MOST_POSITIONS:
                del self._positions[next(iter(self._positions))]

    def remembered(self, post_id: int) -> dict[str, Any] | None:
        """Returns what `remember` has kept of a post."""
        return self._positions.get(post_id)

    @cached_property
    def leaves(self) -> dict[str, int]:
        """The index of each label in the predictions."""
        return {row["label"]: row["leaf"] for row in self.rows("FROM catalog.labels")}

    def _load(self, results_dir: Path) -> list[str]:
        """Fills the table `predictions`; returns a sentence for each file that cannot be read."""
        notices = []
        self._connection.execute(_TABLE)
        for run, seed, path in predictions.files(results_dir):
            try:
                self._connection.execute(
                    _INSERT.format(path=catalog_tables.pattern(path)), [run, seed]
                )
            except duckdb.Error as error:
                log.warning("%s cannot be read: %s", path, str(error).splitlines()[0])
                notices.append(
                    f"The predictions of run {run}, seed {seed}, cannot be read and are left out. Run "
                    "the stage 'evaluate' again."
                )
        return notices

    def _drop_other_builds(self) -> list[str]:
        """Deletes predictions of other builds; returns a sentence for each run and seed."""
        notices = []
        for run, seed in self._connection.execute(_OTHER_BUILD).fetchall():
            self._connection.execute(
                "DELETE FROM predictions WHERE run = ? AND seed = ?", [run, seed]
            )
            notices.append(
                f"The predictions of run {run}, seed {seed}, are of another build of the data set and "
                "are left out. Run the stage 'evaluate' again."
            )
        return notices


class Library:
    """
    Gives the newest snapshot of the catalog and the predictions in two folders.

    Raises what `Snapshot` raises, when it is made; later, a catalog that cannot be opened only leaves
    the old one in use.
    """

    def __init__(self, data_dir: Path, results_dir: Path) -> None:
        self._data_dir, self._results_dir = data_dir, results_dir
        self._lock = threading.Lock()
        self._state = self._read_state()
        self._snapshot = Snapshot(data_dir, results_dir)
        self._checked = time.monotonic()

    def snapshot(self, *, at_least_every: float = _CHECK_SECONDS) -> Snapshot:
        """Returns the newest snapshot; files are looked at once in `at_least_every` seconds."""
        with self._lock:
            if time.monotonic() - self._checked >= at_least_every:
                self._renew()
                self._checked = time.monotonic()
            return self._snapshot

    def _renew(self) -> None:
        state = self._read_state()
        if state == self._state or state[0] is None:
            return
        try:
            self._snapshot = Snapshot(self._data_dir, self._results_dir)
        except PersonaeError as error:
            log.warning("The page still shows the catalog as it was: %s", error)
        self._state = state

    def _read_state(self) -> tuple[object, ...]:
        """Returns what identifies the present catalog (None: absent) and files of predictions."""
        paths = [path for _, _, path in predictions.files(self._results_dir)]
        return (
            _identity(self._data_dir / "catalog" / "catalog.duckdb"),
            tuple((path, _identity(path)) for path in paths),
        )


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
