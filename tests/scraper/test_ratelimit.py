"""Tests the rate limit: the bucket's bound, the bounds of the backoff, and Retry-After."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import RateLimited
from scraper.policy import Patience, RequestBudget
from scraper.ratelimit import (
    Backoff,
    TokenBucket,
    acquire,
    acquire_blocking,
    retry_after,
    sleep_precisely,
)
from scraper.site import Params, Site

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that advances only during sleeps; a sleep may end late."""

    def __init__(self, lateness=()):
        self.now = 1000.0
        self.slept = []
        self._lateness = iter(lateness)

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds + next(self._lateness, 0.0)
        await asyncio.sleep(0)

    def sleep_blocking(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


async def _acquired(bucket, clock, count=1):
    """Returns the times at which requests leave, one after the other."""
    turn = asyncio.Lock()
    return [await acquire(bucket, turn=turn, sleep=clock.sleep) for _ in range(count)]


def test_first_passes_at_once():
    """The first request does not wait."""
    clock = Clock()

    asyncio.run(_acquired(TokenBucket(1.0, clock=clock), clock))

    assert [] == clock.slept


def test_second_waits_for_the_rate():
    """At two requests per second, the second request leaves half a second later."""
    clock = Clock()
    bucket = TokenBucket(2.0, clock=clock)

    assert [1000.0, 1000.5] == asyncio.run(_acquired(bucket, clock, 2))


def test_blocking_caller_waits_as_an_asynchronous_one():
    """Without an event loop, the same bucket gives the same times, pauses included."""
    clock = Clock()
    bucket = TokenBucket(2.0, clock=clock)

    times = [acquire_blocking(bucket, sleep=clock.sleep_blocking) for _ in range(2)]
    bucket.pause(60)
    times.append(acquire_blocking(bucket, sleep=clock.sleep_blocking))

    assert [1000.0, 1000.5, 1060.5] == times
    assert [0.5, 60.0] == clock.slept


@given(
    rate=st.floats(0.05, 500),
    gaps=st.lists(st.floats(0, 5), min_size=2, max_size=30),
    lateness=st.lists(st.floats(0, 0.5), max_size=30),
    pauses=st.sets(st.integers(0, 29), max_size=3),
    together=st.booleans(),
)
def test_no_window_holds_more_than_its_share(rate, gaps, lateness, pauses, together):
    """In any window of w seconds, at most rate × w + 1 requests leave, whenever they arrive."""
    clock = Clock(lateness)
    bucket = TokenBucket(rate, clock=clock)
    left = []
    turn = asyncio.Lock()

    async def one(number, gap):
        if not together:
            clock.now += gap
        if number in pauses:
            bucket.pause(gap)
        left.append(await acquire(bucket, turn=turn, sleep=clock.sleep))

    async def everyone():
        if together:
            async with asyncio.TaskGroup() as group:
                for number, gap in enumerate(gaps):
                    group.create_task(one(number, gap))
        else:
            for number, gap in enumerate(gaps):
                await one(number, gap)

    asyncio.run(everyone())

    assert len(gaps) == len(left)
    for first in range(len(left)):
        for last in range(first, len(left)):
            window = left[last] - left[first]
            assert last - first + 1 <= rate * window + 1 + 1e-6


@pytest.mark.parametrize(("seconds", "most_late"), [(1.0, 1e-4), (0.02, 1e-4), (0.003, 0.0015)])
def test_sleep_ends_on_time(monkeypatch, seconds, most_late):
    """A loop that wakes 1.5 ms late delays no request, unless the rate is above 250 a second."""
    clock = Clock()

    async def late(duration):
        clock.now += duration + 0.0015 if duration else 1e-5

    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(asyncio, "sleep", late)
    with contextlib.suppress(StopIteration):
        sleep_precisely(seconds).send(None)

    assert 0 <= clock.now - 1000.0 - seconds <= most_late + 1e-9


def test_pause_holds_everybody():
    """After a refusal no request leaves before the pause is over, and the pause is reported."""
    clock = Clock()
    bucket = TokenBucket(10.0, clock=clock)
    bucket.pause(60)

    assert [1060.0] == asyncio.run(_acquired(bucket, clock))
    assert bucket.has_paused_since(1000.0)
    assert not bucket.has_paused_since(1000.1)


def test_slow_down_halves_the_rate_to_an_end():
    """Each refusal halves the rate, down to one request per minute."""
    clock = Clock()
    bucket = TokenBucket(10.0, clock=clock)

    bucket.slow_down()
    assert 5.0 == bucket.rate

    for _ in range(40):
        bucket.slow_down()
    assert 1 / 60 == bucket.rate


def test_rate_recovers_after_calm_requests():
    """Twenty requests without a refusal double a halved rate, and never exceed the full rate."""
    bucket = TokenBucket(8.0, clock=Clock())
    bucket.slow_down()
    bucket.slow_down()
    rates = []
    for _ in range(100):
        bucket.note_success()
        rates.append(bucket.rate)

    assert [2.0] * 19 + [4.0] * 20 + [8.0] * 61 == rates


def test_refusal_begins_the_calm_anew():
    """A refusal within the series counts: the rate is not doubled by requests before it."""
    bucket = TokenBucket(8.0, clock=Clock())
    for _ in range(19):
        bucket.note_success()
    bucket.slow_down()
    bucket.note_success()

    assert 4.0 == bucket.rate


@pytest.mark.parametrize(
    ("refused", "most_hours"), [(range(150, 2000, 333), 0.75), (range(50, 2000, 100), 1.2)]
)
def test_isolated_refusals_cost_little(refused, most_hours):
    """Six refusals in 2,000 requests at one per second cost minutes, 1 % less than an hour."""
    clock = Clock()
    site = Site.resolve(Params(name="https://booru.example.org"), contact="me@example.org")
    budget = RequestBudget(site, Patience(), clock=clock, draw=lambda: 1.0)
    error = RateLimited("429", url="https://booru.example.org/a.jpg", status=429)
    for number in range(2000):
        sent_at = acquire_blocking(budget.files, sleep=clock.sleep_blocking)
        if number in refused:
            budget.wait_after(error, budget.files, tries=1, sent_at=sent_at)
        else:
            budget.note_success(budget.files)

    assert 2000 / 3600 <= (clock.now - 1000.0) / 3600 <= most_hours


def test_slow_down_never_speeds_up():
    """A rate below one request per minute stays at the user's value."""
    clock = Clock()
    bucket = TokenBucket(0.001, clock=clock)

    bucket.slow_down()

    assert 0.001 == bucket.rate


@given(
    first=st.floats(0.01, 100),
    factor=st.floats(1, 100),
    attempt=st.integers(-3, 10_000),
    draw=st.floats(0, 1),
)
def test_backoff_is_bounded(first, factor, attempt, draw):
    """No pause is under half the first one or over the cap, whatever the number of tries."""
    most = first * factor

    seconds = Backoff(first, most).seconds(attempt, draw)

    assert first / 2 <= seconds <= most


def test_backoff_doubles():
    """Below the cap, each pause is twice the one before."""
    backoff = Backoff(first=1.0, most=60.0)

    assert [1, 2, 4, 8, 16, 32, 60, 60] == [backoff.seconds(tries, 1.0) for tries in range(1, 9)]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999_999_999_999_999_999.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
    ],
)
def test_reads_retry_after(header, seconds):
    """Both forms of the header are read, and an unusable value gives None."""
    assert seconds == retry_after(header, now=NOW)
