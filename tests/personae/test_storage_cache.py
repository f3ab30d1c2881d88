"""Tests the bounded cache: its bound, what it evicts, and files that are whole or absent."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from personae.storage.cache import FileCache

SIZES = {"a": 10, "b/c": 25, "d": 40, "e": 55, "f": 70}
UNFINISHED = """
import sys, time
from pathlib import Path
from personae.storage.cache import FileCache

def fill(part):
    part.write_bytes(b"x" * 60)
    print("filling", flush=True)
    time.sleep(60)

FileCache(Path(sys.argv[1]), 100).fetch("late", 60, fill)
"""


def filler(content: bytes, called: list[Path] | None = None):
    """Returns a function that writes `content`, as a download does, and notes its calls."""

    def fill(part: Path) -> None:
        if called is not None:
            called.append(part)
        with part.open("r+b") as file:
            file.write(content)

    return fill


def stored(cache: FileCache) -> dict[str, int]:
    """Returns the bytes of each file in a cache."""
    paths = [path for path in cache.folder.rglob("*") if path.is_file()]
    return {path.relative_to(cache.folder).as_posix(): path.stat().st_size for path in paths}


@given(st.lists(st.sampled_from(sorted(SIZES)), max_size=30))
def test_bound_is_held_and_the_least_recently_used_goes_first(tmp_path_factory, names):
    """After any sequence of fetches the files are those of a plain LRU of 100 bytes."""
    ticks = itertools.count(1)
    cache = FileCache(tmp_path_factory.mktemp("cache"), 100, clock=lambda: next(ticks))
    model: OrderedDict[str, int] = OrderedDict()
    fetched: list[Path] = []
    for name in names:
        fetched.clear()
        path = cache.fetch(name, SIZES[name], filler(b"x" * SIZES[name], fetched))
        was_there = name in model
        model[name] = SIZES[name]
        model.move_to_end(name)
        while sum(model.values()) > 100:
            model.popitem(last=False)

        assert was_there != bool(fetched)
        assert b"x" * SIZES[name] == path.read_bytes()
        assert dict(model) == stored(cache)


def test_file_above_the_bound_is_refused(tmp_path):
    """A file that could never fit is a named error, and nothing is removed for it."""
    cache = FileCache(tmp_path, 100)
    cache.fetch("a", 90, filler(b"x" * 90))

    with pytest.raises(BadParams, match=r"big has 101 bytes, and the cache in .* may hold 100"):
        cache.fetch("big", 101, filler(b"x" * 101))
    assert {"a": 90} == stored(cache)


def test_files_in_use_make_no_room(tmp_path):
    """With `unused_since` only older files are evicted; where they are too few, there is no room."""
    ticks = itertools.count(1)
    cache = FileCache(tmp_path, 100, clock=lambda: next(ticks))
    cache.fetch("old", 50, filler(b"x" * 50))
    opened = next(ticks)
    cache.fetch("new", 50, filler(b"x" * 50))

    assert cache.fetch("more", 60, filler(b"x" * 60), unused_since=opened) is None
    assert {"old": 50, "new": 50} == stored(cache)
    assert cache.fetch("other", 50, filler(b"x" * 50), unused_since=opened) is not None
    assert {"new": 50, "other": 50} == stored(cache)


def test_failed_fetch_leaves_nothing(tmp_path):
    """A download that fails leaves neither a file nor a part of it."""

    def fail(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError("the line is cut")

    cache = FileCache(tmp_path, 100)
    with pytest.raises(OSError, match="the line is cut"):
        cache.fetch("a", 10, fail)

    assert {} == stored(cache)
    assert cache.get("a") is None


def test_threads_fetch_a_file_once(tmp_path):
    """Eight threads that need the same file get it from one download."""
    cache, fetched = FileCache(tmp_path, 100), []

    fill = filler(b"x" * 10, fetched)
    threads = [threading.Thread(target=cache.fetch, args=("a", 10, fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(fetched)
    assert {"a": 10} == stored(cache)


def test_unfinished_file_counts_and_goes_with_its_process(tmp_path):
    """A file that another process is fetching keeps its room; after a SIGKILL the room is free."""
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path)]
    cache = FileCache(tmp_path, 100)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert b"filling\n" == child.stdout.readline()
        assert cache.fetch("a", 50, filler(b"x" * 50), unused_since=0) is None
        assert {"late.part": 60} == stored(cache)
        thread = threading.Thread(target=cache.fetch, args=("a", 50, filler(b"x" * 50)))
        thread.start()
        os.kill(child.pid, signal.SIGKILL)
        thread.join(30)

    assert cache.get("a") is not None
    assert {"a": 50} == stored(cache)
