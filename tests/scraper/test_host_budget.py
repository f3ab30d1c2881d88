"""Tests the budget of a host that processes share: rate, pause, day, and every state of its file."""

import asyncio
import fcntl
import json
import logging
import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from scraper import host_budget
from scraper.__main__ import main
from scraper.breaker import Breaker
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import ConnectionLost, DailyBudgetSpent, RateLimited
from scraper.host_budget import HostBudget, state_folder
from scraper.policy import Patience, RequestBudget
from scraper.policy import shared_budget as budget_of
from scraper.ratelimit import TokenBucket, acquire_blocking
from scraper.site import Params, Site

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
PUBLIC = Site.resolve(Params(name="https://booru.example.org"), contact="me@example.org")


class Wall:
    """A clock of the day that the tests set, and a monotonic one that follows only sleeps."""

    def __init__(self):
        self.now = NOON
        self.monotonic = 5.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.monotonic += seconds


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def process(tmp_path, wall):
    """Returns the budget that a further process opens."""
    return lambda **changes: HostBudget("booru.example.org", tmp_path, now=wall, **changes)


def test_processes_share_the_rate(process, wall):
    """What has left from one process holds the others back, of the same kind alone."""
    first, second = process(), process()

    assert 0 == first.take("api", 1.0)
    assert 1.0 == second.take("api", 1.0)
    assert 0 == second.take("files", 1.0)
    wall.now += 1.0
    assert 0 == second.take("api", 1.0)
    assert 1.0 == first.take("api", 1.0)


def test_refusal_of_one_process_pauses_the_others(wall, process):
    """A 429 that one process receives lets no request of another leave before Retry-After."""
    first, second = (
        RequestBudget(PUBLIC, clock=lambda: wall.monotonic, draw=lambda: 0.0, host=process())
        for _ in range(2)
    )
    sent_at = acquire_blocking(first.files, sleep=wall.sleep)
    refused = RateLimited("429", url="https://booru.example.org/", status=429, wait_seconds=120.0)
    first.wait_after(refused, first.files, tries=1, sent_at=sent_at)

    acquire_blocking(second.files, sleep=wall.sleep)

    assert NOON + 120 == wall.now


def test_short_pause_does_not_end_a_long_one(process):
    """The later end of two pauses counts."""
    first, second = process(), process()

    first.pause("api", 300)
    second.pause("api", 10)

    assert 300 == second.take("api", 1.0)


@pytest.mark.parametrize("seconds", [-86_400, -3600, -0.5, 0.5, 3600, 86_400, 10**9])
def test_clock_that_was_set_stalls_nobody(process, wall, seconds):
    """After the clock was set back or ahead, the wait is the interval or the pause at most."""
    first, second = process(), process()
    first.take("api", 2.0)
    first.take("files", 2.0)
    first.pause("files", 60.0)
    wall.now += seconds

    for kind, most in (("api", 2.0), ("files", 60.0)):
        wait = second.take(kind, 2.0)
        assert 0 <= wait <= most
        wall.now += wait
        assert 0 == (second.take(kind, 2.0) if wait else 0)


@given(
    numbers=st.lists(st.floats(0, 1e300), min_size=8, max_size=8),
    day=st.integers(0, 10**9),
    requests=st.integers(0, 10**12),
)
def test_no_state_stalls_a_run(tmp_path, numbers, day, requests):
    """Whatever numbers a file holds, a run waits at most a minute or the longest obeyed pause."""
    wall = Wall()
    state = {"day": day, "requests": requests, "api": numbers[:4], "files": numbers[4:]}
    (tmp_path / "booru.example.org.json").write_text(json.dumps(state))
    budget = HostBudget("booru.example.org", tmp_path, most_pause=100.0, now=wall)

    for _ in range(3):
        wait = budget.take("api", 1.0)
        assert 0 <= wait <= 100
        if not wait:
            return
        wall.now += wait + 1e-3
    raise AssertionError("it waits again and again")


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"day": 1, "requests": 1, "api": [0, 0, 0], "files": [0, 0, 0, 0]}',
        b'{"day": 1, "requests": -1, "api": [0, 0, 0, 0], "files": [0, 0, 0, 0]}',
        b'{"day": 1, "requests": 1, "api": [NaN, 0, 0, 0], "files": [0, 0, 0, 0]}',
        b'{"day": 1, "requests": 1, "api": [Infinity, 0, 0, 0], "files": [0, 0, 0, 0]}',
        b'{"day": "x", "requests": 1, "api": [0, 0, 0, 0], "files": [0, 0, 0, 0]}',
        b"[" * 511,
        bytes(100_000),
    ],
)
def test_damaged_state_is_written_anew(process, wall, tmp_path, content, caplog):
    """A damaged file costs one warning and at most one interval, and is shared again."""
    (tmp_path / "booru.example.org.json").write_bytes(content)
    first, second = process(), process()

    wait = first.take("api", 1.0)
    wall.now += wait

    assert wait <= 1.0
    assert 0 == first.take("api", 1.0)
    assert 1.0 == second.take("api", 1.0)
    assert 1 == sum("is damaged" in record.message for record in caplog.records)


def test_folder_that_cannot_be_used_leaves_a_budget_of_the_process(tmp_path, wall, caplog):
    """Where no file can be kept, the process keeps rate and day for itself, with one warning."""
    (tmp_path / "state").write_text("a file, and no folder")
    budget = HostBudget("h", tmp_path / "state", daily_requests=2, now=wall)

    assert [0, 1.0] == [budget.take("api", 1.0) for _ in range(2)]
    wall.now += 1
    assert 0 == budget.take("api", 1.0)
    with pytest.raises(DailyBudgetSpent):
        budget.take("files", 1.0)
    (warning,) = caplog.records
    assert "holds for this run alone" in warning.message
    assert "PERSONAE_STATE" in warning.message


@pytest.mark.parametrize("failing", ["pread", "pwrite"])
def test_disk_that_fails_in_between(process, monkeypatch, failing, caplog):
    """A disk that fails during a run ends neither the run nor its rate."""

    def fail(*_arguments):
        raise OSError(5, "Input/output error")

    budget = process()
    budget.take("api", 1.0)
    monkeypatch.setattr(os, failing, fail)

    assert [1.0, 1.0] == [budget.take("api", 1.0) for _ in range(2)]
    assert 1 == len(caplog.records)


def test_state_that_is_removed_is_made_again(process, tmp_path):
    """Processes share the new file after the old one was removed."""
    first, second = process(), process()
    first.take("api", 1.0)
    (tmp_path / "booru.example.org.json").unlink()

    assert 0 == second.take("api", 1.0)
    assert 1.0 == first.take("api", 1.0)


def test_stopped_process_holds_nobody(process, tmp_path, monkeypatch, caplog):
    """A process that was stopped while it held the lock costs a moment and a warning."""
    monkeypatch.setattr(host_budget, "_LOCK_SECONDS", 0.02)
    first, second = process(), process()
    first.take("api", 1.0)
    with (tmp_path / "booru.example.org.json").open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert 0 == second.take("api", 1.0)

    assert 1 == len(caplog.records)


def test_day_is_counted_over_processes_and_kinds(process, wall):
    """The requests of a UTC day end for all processes together, and begin anew the next day."""
    first, second = process(daily_requests=3), process(daily_requests=3)
    for budget, kind in ((first, "api"), (second, "files"), (first, "files")):
        wall.now += 10
        assert 0 == budget.take(kind, 1.0)
    assert 3 == second.requests_today()

    with pytest.raises(DailyBudgetSpent, match=r"2026-03-02 00:00 UTC, in 12 h 0 min") as caught:
        second.take("api", 1.0)
    assert 3 == caught.value.exit_code

    wall.now = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    assert 0 == second.requests_today()
    assert 0 == second.take("api", 1.0)


def test_day_counts_without_a_limit(process, wall):
    """Requests of runs without a limit count for a run that has one."""
    process().take("api", 1.0)
    wall.now += 1
    with pytest.raises(DailyBudgetSpent):
        process(daily_requests=1).take("api", 1.0)


@given(
    gaps=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 3)), min_size=2, max_size=40),
    rate=st.floats(0.2, 50),
    slow=st.sets(st.integers(0, 39), max_size=5),
)
def test_no_window_holds_more_than_its_share(tmp_path_factory, gaps, rate, slow):
    """Over three processes, w seconds hold at most rate × w + 1 requests, halved rates included."""
    wall = Wall()
    folder = tmp_path_factory.mktemp("host")
    buckets = [
        TokenBucket(
            rate,
            clock=lambda: wall.monotonic,
            host=HostBudget("h", folder, now=wall),
        )
        for _ in range(3)
    ]
    left = []
    for number, (index, gap) in enumerate(gaps):
        wall.sleep(gap)
        if number in slow:
            buckets[index].slow_down()
        acquire_blocking(buckets[index], sleep=wall.sleep)
        left.append(wall.monotonic)

    for first in range(len(left)):
        for last in range(first, len(left)):
            assert last - first + 1 <= rate * (left[last] - left[first]) + 1 + 1e-4


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PERSONAE_STATE": "/a", "XDG_STATE_HOME": "/b"}, "/a"),
        ({"XDG_STATE_HOME": "/b"}, "/b/personae"),
        ({}, "/home/rin/.local/state/personae"),
    ],
)
def test_folder_of_the_states(environment, expected, monkeypatch):
    """The environment decides, and else the folder of the user."""
    monkeypatch.setenv("HOME", "/home/rin")

    assert expected == str(state_folder(environment))


def test_host_never_becomes_a_path(tmp_path, wall):
    """A name with separators is a plain file name."""
    HostBudget("../../x/y", tmp_path / "state", now=wall).take("api", 1.0)

    assert ["..%2F..%2Fx%2Fy.json"] == [path.name for path in (tmp_path / "state").iterdir()]
    assert ["state"] == [path.name for path in tmp_path.iterdir()]


def test_public_boards_are_shared_and_local_ones_are_not(monkeypatch, tmp_path):
    """All runs against a public board share its host; a local board shares a limited day alone."""
    monkeypatch.setenv("PERSONAE_STATE", str(tmp_path))
    local = {"name": "http://127.0.0.1:8080"}

    assert budget_of(Site.resolve(Params(**local)), Patience()) is None
    for params in (local | {"daily_requests": 9}, {"name": "https://Booru.example.org:444"}):
        site = Site.resolve(Params(**params), contact="me@example.org")
        budget_of(site, Patience()).take("api", 1.0)
    assert ["127.0.0.1%3A8080.json", "booru.example.org.json"] == sorted(
        path.name for path in tmp_path.iterdir()
    )


@pytest.mark.parametrize(
    ("daily", "requests", "hours"),
    [
        (None, 86_400, 24),
        (86_400, 86_400 * 2, 48),
        (200_000, 86_400 * 2, 48),
        (3600, 3600, 1),
        (3600, 3601, 24 + 1 / 3600),
        (3600, 36_000, 9 * 24 + 1),
        (3600, 0, 0),
    ],
)
def test_hours_of_a_plan_know_the_limit_of_a_day(daily, requests, hours):
    """Each day but the last takes 24 hours when its requests are used up before its end."""
    site = Site.resolve(
        Params(name="https://booru.example.org", daily_requests=daily), contact="me@example.org"
    )

    assert hours == pytest.approx(site.hours(requests, 1.0))


def test_day_that_ends_during_a_probe_is_no_fault_of_the_site():
    """When the breaker's own request is one too many, the run ends for the day's sake."""

    class Client:
        async def get_bytes(self, _url, *, max_bytes):  # as in the transport
            raise DailyBudgetSpent("used up")

    stored = SimpleNamespace(url="/a.png", sha256="", post_id=1)
    breaker = Breaker(Client(), [stored], most_failures=1, max_bytes=9)
    asyncio.run(breaker.note_failure(ConnectionLost("down")))

    assert breaker.is_open
    assert isinstance(breaker.last, DailyBudgetSpent)


def test_used_up_day_ends_the_run_as_resumable(monkeypatch, tmp_path, caplog, capsys):
    """A run ends with code 3 where its day ends, the next one too; a new day finishes the work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONAE_STATE", str(tmp_path / "state"))
    with serving(booru.board(TINY)) as board:
        options = ["--site", board.url, "--api-rate", "1e6", "--cdn-rate", "1e6"]
        options += ["--min-images", "12", "--daily-requests"]
        assert 3 == main([*options, "60"])
        assert 3 == main(["plan", *options, "60"])
        assert 60 == board.log.by_kind.total()

        assert 0 == main([*options, "100000"])
        assert {"Personae"} == {agent.partition("/")[0] for agent in board.log.agents}
        printed = "".join(capsys.readouterr())
        assert printed.count("are used up (`site.daily_requests`)") == 2
        assert "What is finished is kept" in printed
        (path,) = (tmp_path / "state").iterdir()
        assert path.name == f"127.0.0.1%3A{URL(board.url).port}.json"
        assert json.loads(path.read_bytes())["requests"] == board.log.by_kind.total()

        assert 0 == main(["plan", *options, "100000"])
        assert "100,000 requests at most" in capsys.readouterr().out
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
