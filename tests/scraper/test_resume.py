"""Tests that a download killed at any step and run again gives the result of an unbroken run."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from aiohttp import web

ROOT = Path(__file__).resolve().parents[2]
POSTS = 120
PARAMS = {
    "side": None,
    "workers": 4,
    "queue": 8,
    "group": 8,
    "segment_bytes": 102_400,
    "max_bytes": 20_000,
}
# Images that a killed run may have fetched without a record: those in both queues, those in work
# at the workers, and those in the group being written.
MOST_UNRECORDED = 8 + 4 + 8
# Every step of the writer, and how often it must occur before the kill.
STEPS = [
    ("segment begun", 1),
    ("segment begun", 3),
    ("header", 1),
    ("header", 50),
    ("payload", 50),
    ("padding", 50),
    ("synced", 1),
    ("synced", 5),
    ("recorded", 1),
    ("recorded", 5),
    ("committed", 1),
    ("committed", 5),
    ("end mark", 1),
    ("end mark", 5),
    ("exporting", 1),
    ("decisions exported", 1),
    ("images exported", 1),
]


class Runner:
    """Runs the stage in child processes of a warm parent."""

    def __init__(self, shelf, parent):
        self.shelf = shelf
        self.parent = parent
        self.folder = shelf.out_dir.parent

    def begin(self, **job):
        """Starts a run and returns its process id."""
        common = {"url": self.shelf.host.url, "folder": str(self.folder), "params": PARAMS}
        self.parent.stdin.write(json.dumps({**common, "rate": 1e6, **job}) + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def end(self):
        """Returns the exit code of the current run; a negative code is a signal."""
        return int(self.parent.stdout.readline())

    def __call__(self, **job):
        self.begin(**job)
        return self.end()

    def message(self):
        """Returns the message of the last failed run."""
        return (self.folder / "message").read_text(encoding="utf-8")


@contextmanager
def warm_parent():
    parent = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "scraper" / "killed_download.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield parent
    finally:
        parent.communicate(timeout=240)


@pytest.fixture(scope="module")
def parent():
    with warm_parent() as process:
        yield process


@pytest.fixture
def runner(shelf, parent):
    for post_id in range(1000, 1000 + POSTS):
        # A refusal that needs no second request.
        shelf.add(post_id, payload=bytes(20_001) if post_id == 1007 else None)
    shelf.write()
    return Runner(shelf, parent)


def recorded(shelf):
    """Returns the number of images in the ledger, stored and refused."""
    path = shelf.out_dir / "ledger.sqlite"
    if not path.exists():
        return 0
    rows = sqlite3.connect(path)
    try:
        return sum(
            rows.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("images", "refusals")
        )
    except sqlite3.OperationalError:  # killed before the tables were created
        return 0
    finally:
        rows.close()


def expected(shelf):
    return {
        post_id: shelf.host.images[post.variants[-1].url]
        for post_id, post in shelf.posts.items()
        if post_id != 1007
    }


def check_whole(shelf):
    """Checks that posts, bytes, hashes, reasons and archives equal those of an unbroken run."""
    assert expected(shelf) == shelf.stored()
    reasons = {post_id: row[0] for post_id, row in shelf.decisions().items()}
    assert {**dict.fromkeys(shelf.posts), 1007: "too_large"} == reasons
    found = {}
    for path in (shelf.out_dir / "segments").iterdir():
        assert path.stat().st_size <= PARAMS["segment_bytes"]
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()
    assert {f"{post_id}.png": payload for post_id, payload in expected(shelf).items()} == found


def finish(shelf, runner):
    """Runs again after a kill, and checks that only unrecorded images are fetched."""
    before = recorded(shelf)
    first = Counter(shelf.host.requests)
    assert 0 == runner()
    second = shelf.host.requests - first

    assert POSTS - before == second.total()
    assert set(second.values()) <= {1}
    assert shelf.host.requests.total() - POSTS <= MOST_UNRECORDED
    check_whole(shelf)
    return before


@pytest.mark.parametrize(("step", "count"), STEPS)
def test_killed_at_every_write_step(shelf, runner, step, count):
    """After SIGKILL at each step of the writer, no recorded image is lost or fetched again."""
    assert -signal.SIGKILL == runner(step=step, count=count)

    finish(shelf, runner)


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment(shelf, runner, seed):
    """After SIGKILL at ten random moments, the final set and its bytes are the same."""
    dice = random.Random(seed)
    process = runner.begin(rate=2000)
    shelf.host.wait_for(dice.randrange(1, POSTS))
    time.sleep(dice.random() * 0.02)
    os.kill(process, signal.SIGKILL)
    assert -signal.SIGKILL == runner.end()

    finish(shelf, runner)


def test_killed_again_and_again(shelf, runner):
    """A run that is killed repeatedly still ends, and refetches few images after each kill."""
    dice = random.Random(0)
    kills = 0
    while -signal.SIGKILL == runner(step="header", count=dice.randrange(12, 30)):
        kills += 1
        assert not (shelf.out_dir / "images.parquet").exists()

    assert kills >= 4
    assert shelf.host.requests.total() - POSTS <= kills * MOST_UNRECORDED
    check_whole(shelf)


def test_nothing_to_do_asks_nothing(shelf, runner):
    """After an unbroken run, the next run sends no request and writes the same tables."""
    assert 0 == runner()
    check_whole(shelf)
    tables = {path: path.read_bytes() for path in shelf.out_dir.glob("*.parquet")}
    shelf.host.requests.clear()

    assert 0 == runner()
    assert {} == shelf.host.requests
    assert tables == {path: path.read_bytes() for path in shelf.out_dir.glob("*.parquet")}


def test_two_runs_at_once(shelf, runner):
    """During a run, a second run is refused with a clear message, and the first one succeeds."""
    release = threading.Event()
    held = shelf.posts[1050].variants[-1].url

    async def wait(_request):
        await asyncio.to_thread(release.wait, 240)
        return web.Response(body=shelf.host.images[held], content_type="image/png")

    shelf.host.faults[held] = wait
    with warm_parent() as another:
        runner.begin()
        shelf.host.wait_for(POSTS)
        second = Runner(shelf, another)()
    release.set()

    assert 3 == second
    assert "AlreadyRunning: Another run is writing to" in runner.message()
    assert 0 == runner.end()
    assert {1} == set(shelf.host.requests.values())
    check_whole(shelf)


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_size_limit_of_the_system(shelf, runner, limit):
    """A file size limit of the system gives a clear error, and the next run resumes."""
    assert 3 == runner(file_limit=limit)
    assert "DiskRefused: There is no room to write" in runner.message()
    assert "run the same command again" in runner.message()
    stored = recorded(shelf)

    assert stored < POSTS
    assert not (shelf.out_dir / "images.parquet").exists()
    before = finish(shelf, runner)
    assert before == stored


def test_interrupted_export_leaves_whole_tables(shelf, runner):
    """After a kill between the two tables, each table is complete or absent."""
    assert -signal.SIGKILL == runner(step="decisions exported", count=1)

    assert POSTS == pq.read_table(shelf.out_dir / "decisions.parquet").num_rows
    assert not (shelf.out_dir / "images.parquet").exists()
