"""
How long to wait: a token bucket for the steady rate, a backoff after failures.

All of it is arithmetic on numbers; clock, sleep and randomness are arguments. Both HTTP clients
wait for the same buckets, and a bucket may share its tokens with other processes
(`host_budget.py`). With a burst of one, no window of w seconds holds more than rate × w + 1
requests.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from scraper.shared_budget import CommonBudget

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

# Repeated refusals halve the rate, but at least one request a minute remains.
_SLOWEST = 1 / 60
# So many requests in a row without a refusal double a halved rate.
_CALM = 20
# An event loop wakes a millisecond or two late, which would waste a tenth of 50 requests a second.
_LATE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    The pause after a failure, in seconds: doubling from `first` to `most`, with jitter.

    Danbooru documents no times, so they are chosen: 1 to 60 s after a server error, 60 s to 15
    minutes after a refusal (429).
    """

    first: float
    most: float

    def seconds(self, attempt: int, draw: float) -> float:
        """
        Returns the pause after failed try number `attempt` (from 1), for a draw in 0..1.

        The pause lies between the half and the whole of min(most, first × 2^(attempt − 1)), so that
        clients which failed together do not return together.
        """
        # 2.0**1024 overflows; long before that the cap decides.
        whole = min(self.most, self.first * 2.0 ** min(max(attempt, 1) - 1, 64))
        return whole * (0.5 + 0.5 * draw)


class TokenBucket:
    """
    Tells when the next request may leave: at most `rate` a second, burst one.

    The time of leaving counts, not the time of asking: a caller that wakes late delays the next
    one, so the promise holds however coarse the sleep is. `acquire` and `acquire_blocking` wait.

    Args:
        rate: Requests per second.
        clock: Monotonic time in seconds.
        host: CommonBudget that other processes share; None for this process alone.
        kind: api or files: the tokens of `host` that are taken.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Clock = time.monotonic,
        host: CommonBudget | None = None,
        kind: str = "api",
    ) -> None:
        self.rate = rate
        self.left_at = -math.inf
        """When the last request left, by the bucket's clock."""
        self._full_rate = rate
        self._calm = 0
        self._clock = clock
        self._next = -math.inf
        self._paused_at = -math.inf
        self._host, self._kind = host, kind

    def take(self) -> float:
        """
        Lets a request leave, if it may; returns 0 then, and else the seconds until it may.

        Raises:
            DailyBudgetSpent: The requests of this day to the host are used up.
        """
        now = self._clock()
        if (wait := self._next - now) > 0:
            return wait
        if self._host is not None and (wait := self._host.take(self._kind, 1 / self.rate)) > 0:
            return wait
        # After the other processes, which may have made this one wait for the file's lock.
        self.left_at = self._clock()
        self._next = self.left_at + 1 / self.rate
        return 0.0

    def pause(self, seconds: float) -> None:
        """Lets no request leave for `seconds` from now, of no process that shares the host."""
        self._paused_at = self._clock()
        self._next = max(self._next, self._paused_at + seconds)
        if self._host is not None:
            self._host.pause(self._kind, seconds)

    def slow_down(self) -> None:
        """Halves the rate; successful requests raise it again."""
        self.rate = max(self.rate / 2, min(self.rate, _SLOWEST))
        self._calm = 0

    def note_success(self) -> None:
        """Doubles a halved rate after a series of successful requests, up to the full rate."""
        self._calm += 1
        if self._calm >= _CALM:
            self._calm = 0
            self.rate = min(self._full_rate, 2 * self.rate)

    def has_paused_since(self, moment: float) -> bool:
        """
        Returns whether a pause began at or after `moment`.

        Several requests may be under way when a board refuses. Only the first refusal counts.
        """
        return self._paused_at >= moment


async def sleep_precisely(seconds: float) -> None:
    """
    Sleeps as `asyncio.sleep`, but wakes on time: other tasks run during the last two milliseconds.

    Waits of under 4 ms are left to the loop: nobody needs such rates kept to the end.
    """
    end = time.monotonic() + seconds
    if seconds < 2 * _LATE_SECONDS:
        await asyncio.sleep(seconds)
        return
    await asyncio.sleep(seconds - _LATE_SECONDS)
    while time.monotonic() < end:  # noqa: ASYNC110  # nothing happens then that sets an event
        await asyncio.sleep(0)


async def acquire(bucket: TokenBucket, *, turn: asyncio.Lock, sleep: Sleep) -> float:
    """
    Waits for a token of `bucket` and returns the moment of leaving.

    Args:
        bucket: The bucket of the host.
        turn: Lock that the callers of one event loop share; they leave in the order of asking.
        sleep: Waits for a number of seconds.
    """
    async with turn:
        while (wait := bucket.take()) > 0:
            await sleep(wait)
        return bucket.left_at


def acquire_blocking(bucket: TokenBucket, *, sleep: Callable[[float], None] = time.sleep) -> float:
    """Waits for a token of `bucket` in a program without event loop; as `acquire` otherwise."""
    while (wait := bucket.take()) > 0:
        sleep(wait)
    return bucket.left_at


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Returns the seconds that a Retry-After header asks for, or None when it cannot be read.

    Both forms of RFC 9110, section 10.2.3, are read: seconds, and an HTTP date. A date in the past
    is 0 seconds.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # 18 digits are 30 billion years; the caller's cap decides.
        return float(text[:18]) if len(text) > 18 else float(text)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, OverflowError, TypeError):
        return None
