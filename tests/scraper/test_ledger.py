"""Tests the ledger: atomic groups, one writer, and no record without its bytes."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from personae.errors import AlreadyRunning, DiskRefused
from scraper import store
from scraper.errors import DamagedLedger
from scraper.ledger import Ledger, RefusedImage, StoredImage

ROOT = Path(__file__).resolve().parents[2]


def stored(post_id, segment="00000.tar", offset=512, file_bytes=700, file_key="a"):
    return StoredImage(post_id, file_key, segment, offset, file_bytes, "0" * 64, "png")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path, "board") as opened:
        yield opened


def test_records_come_back(ledger):
    """Recorded images are returned by post and file, within the requested range."""
    rows = [stored(1), stored(5), stored(9)]
    ledger.record(rows, [RefusedImage(6, "b", "too_large", 10.0, 5.0)])

    assert {(5, "a"): rows[1], (9, "a"): rows[2]} == ledger.stored(2, 9)
    assert {(6, "b"): RefusedImage(6, "b", "too_large", 10.0, 5.0)} == ledger.refused(1, 9)
    assert {} == ledger.refused(7, 9)


def test_records_survive_closing(tmp_path):
    """Records persist for the next run."""
    with Ledger(tmp_path, "board") as first:
        first.record([stored(1)], [])
    with Ledger(tmp_path, "board") as second:
        assert {(1, "a"): stored(1)} == second.stored(0, 9)


def test_replaced_file_is_another_file(ledger):
    """A new checksum of the same post is not recorded yet, and the old record stays."""
    ledger.record([stored(1, file_key="old")], [])

    assert (1, "new") not in ledger.stored(1, 1)
    ledger.record([stored(1, file_key="new", offset=2048)], [])
    assert {(1, "old"), (1, "new")} == set(ledger.stored(1, 1))


def test_two_sites_do_not_mix(tmp_path):
    """The same id on another board is another post; the bytes of both keep their offset."""
    with Ledger(tmp_path, "board") as one:
        one.record([stored(1)], [RefusedImage(2, "a", "gone")])
    with Ledger(tmp_path, "other") as two:
        assert ({}, {}) == (two.stored(0, 9), two.refused(0, 9))
        assert {"00000.tar": 512 + 1024} == two.ends()


def test_a_group_is_recorded_whole_or_not_at_all(tmp_path):
    """A failure before the commit records nothing of the group."""

    def fail(step):
        if step == "recorded":
            raise KeyboardInterrupt

    with Ledger(tmp_path, "board", at=fail) as ledger:
        with pytest.raises(KeyboardInterrupt):
            ledger.record([stored(1), stored(2)], [RefusedImage(3, "a", "gone")])
        assert ({}, {}) == (ledger.stored(0, 9), ledger.refused(0, 9))


def test_ends_are_where_the_next_header_begins(ledger):
    """The end of a segment is the padded end of its last recorded image."""
    ledger.record(
        [stored(1), stored(2, offset=2048, file_bytes=512), stored(3, "00001.tar", 512, 1)], []
    )

    assert {"00000.tar": 2560, "00001.tar": 1024} == ledger.ends()


def test_lost_bytes_are_forgotten(ledger):
    """Images beyond the end of their segment, or without a segment, are fetched again."""
    ledger.record([stored(1), stored(2, offset=2048), stored(3, "00001.tar")], [])

    assert 2 == ledger.forget_lost({"00000.tar": 2048})
    assert {(1, "a")} == set(ledger.stored(0, 9))


def test_refused_images_can_be_forgotten(ledger):
    """On request, refusals are deleted and stored images stay."""
    ledger.record([stored(1)], [RefusedImage(2, "a", "gone")])

    assert 1 == ledger.forget_refused()
    assert ({(1, "a"): stored(1)}, {}) == (ledger.stored(0, 9), ledger.refused(0, 9))


def test_second_run_at_once_is_refused(ledger, tmp_path):
    """While one process holds the folder, a second is refused, and the error says what to do."""
    code = f"from scraper.ledger import Ledger; Ledger(__import__('pathlib').Path({str(tmp_path)!r}), 'x')"
    second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert "AlreadyRunning: Another run is writing to" in second.stderr
    assert "Wait until it ends, or stop it, and run the same command again." in second.stderr
    with pytest.raises(AlreadyRunning):
        Ledger(tmp_path, "board")


def test_folder_is_free_after_closing(tmp_path):
    """A finished run, or one that failed to open, lets the next run begin."""
    Ledger(tmp_path, "board").close()
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    for _ in range(2):
        with pytest.raises(DamagedLedger):
            Ledger(tmp_path, "board")


def test_damaged_file_says_what_to_do(tmp_path):
    """A file that is not a database is reported with two remedies: restore it, or move it away."""
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all" * 100)

    with pytest.raises(DamagedLedger, match=r"Restore it.*move the file away.*from the segments"):
        Ledger(tmp_path, "board")


def test_other_version_is_refused(tmp_path):
    """A ledger of a later version is not changed."""
    rows = sqlite3.connect(tmp_path / "ledger.sqlite")
    rows.execute("PRAGMA user_version = 99")
    rows.close()

    with pytest.raises(DamagedLedger, match="version 99"):
        Ledger(tmp_path, "board")


def test_full_disk_records_nothing(ledger):
    """If the file cannot grow, nothing of the group is recorded, and the earlier rows stay."""
    ledger.record([stored(1)], [])
    (pages,) = ledger._rows.execute("PRAGMA page_count").fetchone()
    ledger._rows.execute(f"PRAGMA max_page_count = {pages + 1}")

    with pytest.raises(DiskRefused, match="Make room"):
        ledger.record([stored(number) for number in range(2, 500)], [])
    assert {(1, "a")} == set(ledger.stored(0, 1000))


SQLITE_ERRORS = sorted(
    {sqlite3.Error, *sqlite3.Error.__subclasses__(), *sqlite3.DatabaseError.__subclasses__()},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", SQLITE_ERRORS)
def test_every_error_of_sqlite_is_translated(kind, tmp_path):
    """Every SQLite error class is translated, and the message says what to do."""
    with (
        pytest.raises(DamagedLedger, match="Restore it") as caught,
        store.translated(tmp_path / "ledger.sqlite", remedy=""),
    ):
        raise kind("broken")
    assert isinstance(caught.value.__cause__, kind)


CODES = {
    "SQLITE_FULL": DiskRefused,
    "SQLITE_READONLY": DiskRefused,
    "SQLITE_READONLY_DIRECTORY": DiskRefused,
    "SQLITE_IOERR_FSYNC": DiskRefused,
    "SQLITE_IOERR_READ": DiskRefused,
    "SQLITE_CANTOPEN": DiskRefused,
    "SQLITE_BUSY": AlreadyRunning,
    "SQLITE_LOCKED": AlreadyRunning,
    "SQLITE_NOTADB": DamagedLedger,
    "SQLITE_CORRUPT": DamagedLedger,
    "SQLITE_IOERR_SHORT_READ": DamagedLedger,
}


@pytest.mark.parametrize("code", CODES)
def test_failure_of_the_disk_is_no_damage(code, tmp_path):
    """Only a damaged file is called damaged, and no message advises to delete anything."""
    error = sqlite3.OperationalError("broken")
    error.sqlite_errorname = code
    with (
        pytest.raises(CODES[code]) as caught,
        store.translated(tmp_path / "ledger.sqlite", remedy="The next run lists again."),
    ):
        raise error

    assert not any(word in str(caught.value) for word in ("remove", "delete"))
    assert ("move the file away" in str(caught.value)) is (CODES[code] is DamagedLedger)
