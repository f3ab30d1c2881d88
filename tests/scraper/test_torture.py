"""
A sample of the benchmarks `kill_matrix` and `torture`: kills, lost power, and operations that fail.

After each, the same command must give the images of an undisturbed run.
"""

import pytest

from benchmarks import torture
from benchmarks.shared import scraper_kills
from benchmarks.shared.board import everything
from benchmarks.shared.forked import Forked, Stop

LEDGER, SEGMENT = "download/ledger.sqlite", "download/segments/00000.tar"


@pytest.fixture(scope="module")
def scrape():
    """Returns the command, a folder with the undisturbed run `calm`, and the board's address."""
    with (
        scraper_kills.board(torture.IMAGES) as (url, root),
        Forked(*scraper_kills.MODULES) as command,
    ):
        calm = scraper_kills.new_folder(root, "calm")
        assert 0 == command(calm, *everything(url)).code
        yield command, root, url


@pytest.mark.parametrize("record", ["listing/ledger.sqlite", LEDGER])
def test_killed_between_a_record_and_its_tables(scrape, record):
    """A record without tables, of a run that was killed as it made the file, is begun again."""
    (kill,) = scraper_kills.at_names(*scrape, [Stop(f"after database {record}")])

    assert () == kill.problems


def test_power_is_lost(scrape):
    """After a loss of power, every recorded image is still there, with its bytes and its folders."""
    stops = [
        Stop(f"after commit {LEDGER}", 5),
        Stop(f"torn write {SEGMENT}", 5),
        Stop("after rename download/images.parquet"),
    ]

    assert [()] * 3 == [kill.problems for kill in scraper_kills.without_power(*scrape, stops)]


def test_commit_before_sync_is_noticed(scrape):
    """A writer that records images before their bytes are synced loses them with the power."""
    patch = "benchmarks.shared.scraper_kills:commit_before_sync"
    stops = [Stop(f"after commit {LEDGER}", 5)] * 2

    kills = list(scraper_kills.without_power(*scrape, stops, patch=patch))

    assert any("recorded" in problem for problem in kills[0].problems)
    assert ("the segments hold other bytes",) == kills[1].problems


@pytest.mark.parametrize(
    ("kind", "number", "error"),
    [
        ("open", 3, "EMFILE"),
        ("create", 6, "EACCES"),
        ("write", 30, "ENOSPC"),
        ("fsync", 20, "EIO"),
        ("rename", 4, "EIO"),
        ("commit", 12, "SQLITE_IOERR_FSYNC"),
        ("commit", 16, "SQLITE_FULL"),
        ("statement", 9, "SQLITE_IOERR_READ"),
    ],
)
def test_operation_fails(scrape, kind, number, error):
    """A failing operation ends the run with its cause, and the next run completes it."""
    command, root, url = scrape
    expected = scraper_kills.outcome(root / "calm")

    trial = torture.attempt(command, root, url, Stop(kind, number, error), expected)

    assert () == trial.problems
    assert 3 == trial.code


def test_connection_fails(scrape):
    """A connection that fails once is made again, and the run succeeds."""
    command, root, url = scrape
    expected = scraper_kills.outcome(root / "calm")

    trial = torture.attempt(command, root, url, Stop("receive", 9, "ECONNRESET"), expected)

    assert ((), 0) == (trial.problems, trial.code)
