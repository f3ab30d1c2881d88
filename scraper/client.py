"""
The one HTTP client: rate limits, retries, redirects.

In come paths and URLs of one site; out come parsed JSON and bytes, or one of our errors. A single
request is `exchange.py`, what its answer means is `answers.py`; this file decides when and how
often.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode, urljoin

import stamina

from scraper import answers
from scraper.answers import Answer
from scraper.errors import (
    CorruptImage,
    RateLimited,
    RequestRefused,
    TooLarge,
    TransientError,
    UnexpectedResponse,
    Unfinished,
)
from scraper.exchange import CutShort, Exchange, Limits
from scraper.ratelimit import Backoff, Clock, Sleep, TokenBucket
from scraper.site import Site

_log = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
MOST_JSON_BYTES = 32 * 1024 * 1024
"""200 posts of 1,250 tags each, the board's own limits, stay below it."""

# After a server error, and after a refusal (429): the politeness contract of public boards.
_AFTER_ERROR = Backoff(first=1.0, most=60.0)
_AFTER_REFUSAL = Backoff(first=60.0, most=900.0)
# A board on this machine is nobody's to protect, and its faults are tests.
_AFTER_LOCAL_ERROR = Backoff(first=0.1, most=5.0)
_AFTER_LOCAL_REFUSAL = Backoff(first=0.5, most=10.0)


class Client:
    """Asks one site, politely. Use it as an asynchronous context manager."""

    def __init__(
        self,
        site: Site,
        limits: Limits | None = None,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.site = site
        self.limits = limits or Limits()
        self._sleep, self._draw, self._now = sleep, draw, now
        self._api = TokenBucket(site.api_rate, clock=clock, sleep=sleep)
        self._cdn = TokenBucket(site.cdn_rate, clock=clock, sleep=sleep)
        self._api_turn = asyncio.Lock()
        self._exchange = Exchange(site, self.limits)
        self._refusals = 0

    async def __aenter__(self) -> Self:
        await self._exchange.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exchange.close()

    @property
    def requests(self) -> int:
        """How many requests were sent, redirects and retries included."""
        return self._exchange.requests

    async def get_json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """
        Returns the parsed answer of the API to `path` (`/posts.json`) with query `params`.

        One request is under way at a time.

        Raises:
            TransientError: The board did not answer after several tries; run again later.
            RequestRefused: It answered that it will not, see the subclasses.
            UnexpectedResponse: It answered with something that is no JSON of the API.
        """
        url = self.site.absolute(path) + (f"?{urlencode(params)}" if params else "")

        async def once() -> Any:
            return answers.parse(await self._fetch(url, self._api, MOST_JSON_BYTES, is_api=True))

        async with self._api_turn:
            try:
                return await self._retried(url, self._api, once)
            except TooLarge as error:
                raise UnexpectedResponse(
                    f"{error} An answer of the API is never that long: check the address of the "
                    "site."
                ) from error
            except answers.BrokenJson as error:
                raise UnexpectedResponse(str(error)) from error

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """
        Returns the file at `url` (absolute, or relative to the board), all of it.

        Raises:
            ForeignHost: The address, or a redirect, leads off the site's list.
            TooLarge: The file has more than `max_bytes`.
            NotFound: It is gone.
            CorruptImage: It arrived cut short at every try.
            TransientError: The host did not answer after several tries; run again later.
            NotAuthorised: The host does not want this client.
        """
        url = self.site.absolute(url)
        self._exchange.checked(url)  # an address off the list must not cost a token

        async def once() -> bytes:
            return (await self._fetch(url, self._cdn, max_bytes, is_api=False)).body

        try:
            return await self._retried(url, self._cdn, once)
        except CutShort as error:
            raise CorruptImage(
                f"{answers.shown(url)} arrived cut short {self.limits.attempts} times. The file may be damaged "
                "on the server; the post is refused."
            ) from error

    async def _retried(
        self, url: str, bucket: TokenBucket, once: Callable[[], Awaitable[_ResultT]]
    ) -> _ResultT:
        """Repeats `once` while its failure is transient: the count is stamina's, the wait ours."""
        wait = sent_at = 0.0
        tries = 0

        def judge(error: Exception) -> bool | float:
            nonlocal wait
            if not isinstance(error, TransientError):
                return False
            wait = self._wait(error, bucket, tries, sent_at)
            _log.warning("%s (try %d of %d)", error, tries, self.limits.attempts)
            return 0.0  # slept below, with the sleep that was passed in

        try:
            async for attempt in stamina.retry_context(
                on=judge, attempts=self.limits.attempts, timeout=None
            ):
                with attempt:
                    if wait:
                        await self._sleep(wait)
                    tries += 1
                    sent_at = await bucket.acquire()
                    result = await once()
                    self._refusals = 0
                    return result
        except TransientError as error:
            raise type(error)(
                f"{error} Asked {tries} times. Run the same command again later: what was done "
                "is kept.",
                url=url,
                status=error.status,
                wait_seconds=error.wait_seconds,
            ) from error
        raise AssertionError("stamina either returns or raises")

    def _wait(
        self, error: TransientError, bucket: TokenBucket, tries: int, sent_at: float
    ) -> float:
        """Seconds that this request waits; a refusal makes the whole bucket wait instead."""
        local = self.site.is_local
        asked = error.wait_seconds
        if asked is not None and asked > self.limits.max_wait_seconds:
            raise Unfinished(
                f"{answers.shown(error.url)} asks to come back in {asked:.0f} s, and the run waits "
                f"{self.limits.max_wait_seconds:.0f} s at most. Run the same command again then; "
                "what was done is kept."
            ) from error
        if not isinstance(error, RateLimited):
            backoff = _AFTER_LOCAL_ERROR if local else _AFTER_ERROR
            return asked if asked is not None else backoff.seconds(tries, self._draw())
        if not bucket.has_paused_since(sent_at):
            self._refusals += 1
            backoff = _AFTER_LOCAL_REFUSAL if local else _AFTER_REFUSAL
            bucket.pause(
                asked if asked is not None else backoff.seconds(self._refusals, self._draw())
            )
            bucket.slow_down()
        return 0.0

    async def _fetch(self, url: str, bucket: TokenBucket, most: int, *, is_api: bool) -> Answer:
        """One answer with status 200, redirects followed on the list only."""
        for hop in range(_MOST_REDIRECTS + 1):
            target = self._exchange.checked(url)
            if hop:
                await bucket.acquire()
            answer = await self._exchange.send(target, most, is_api=is_api)
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                url = _joined(answer.url, answer.headers["Location"])
                continue
            error = answers.refusal(answer, is_api=is_api, now=self._now())
            if error is not None:
                raise error
            return answer
        raise RequestRefused(
            f"{answers.shown(url)} is the end of more than {_MOST_REDIRECTS} redirects. The board "
            "sends us in circles: check the address of the site.",
            url=url,
        )


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:  # brackets that hold no address
        return location
