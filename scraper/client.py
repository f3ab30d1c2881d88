"""
The asynchronous HTTP client: waits for the rate limit, repeats what failed, returns JSON or bytes.

This file decides when and how often a request is sent. `exchange.py` sends one request, `policy.py`
holds the rules, and `responses.py` turns a response into a value or an error.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import stamina

from scraper import policy, responses
from scraper.errors import (
    BrokenJson,
    CorruptImage,
    CutShort,
    OddAnswer,
    TooLarge,
    TransientError,
    UnexpectedResponse,
)
from scraper.exchange import Exchange
from scraper.policy import RequestBudget
from scraper.ratelimit import Sleep, TokenBucket, acquire, sleep_precisely
from scraper.responses import Response, shown
from scraper.site import Site

_log = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")


class Client:
    """
    Sends requests to one site within its rate limit. Use it as an asynchronous context manager.

    Args:
        site: The board.
        budget: Rate limits and limits on waiting, shared by all clients of a run; None: a budget
            for this client only.
        sleep: Waits for a number of seconds.
        now: Returns the current time, to turn a date in Retry-After into seconds.
    """

    def __init__(
        self,
        site: Site,
        budget: RequestBudget | None = None,
        *,
        sleep: Sleep = sleep_precisely,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.site = site
        self.budget = budget or RequestBudget(site)
        self._sleep, self._now = sleep, now
        self._turns = {self.budget.api: asyncio.Lock(), self.budget.files: asyncio.Lock()}
        self._api_turn = asyncio.Lock()
        self._exchange = Exchange(site, self.budget.patience)

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
    def is_remote(self) -> bool:
        """True: a network lies between, which may answer in place of the board."""
        return True

    @property
    def requests(self) -> int:
        """Number of requests sent, redirects and retries included."""
        return self._exchange.requests

    async def get_json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """
        Returns the parsed response of the API to `path` (`/posts.json`) with query `params`.

        One request is under way at a time.

        Raises:
            TransientError: The board did not respond after several tries; run again later.
            RequestRefused: The board refuses the request, see the subclasses.
            UnexpectedResponse: The response is no JSON of the API.
        """
        url = policy.api_url(self.site, path, params)
        bucket = self.budget.api

        async def fetch() -> Any:
            most = policy.MOST_JSON_BYTES
            return responses.parse(await self._fetch(url, bucket, most, is_api=True))

        async with self._api_turn:
            try:
                return await self._retried(url, bucket, fetch)
            except (TooLarge, BrokenJson) as error:
                raise policy.unrepeatable(error) from error

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """
        Returns the file at `url` (absolute, or relative to the board), all of it.

        Raises:
            ForeignHost: The address, or a redirect, leads off the site's list.
            TooLarge: The file has more than `max_bytes`.
            NotFound: It is gone.
            CorruptImage: It arrived cut short at every try.
            OddAnswer: The status or the encoding is none of a file.
            TransientError: The host did not respond after several tries; run again later.
            NotAuthorised: The host refuses this client.
        """
        url = self.site.absolute(url)
        policy.checked(self.site, url)  # an address off the list must not cost a token
        bucket = self.budget.files

        async def fetch() -> bytes:
            return (await self._fetch(url, bucket, max_bytes, is_api=False)).body

        try:
            return await self._retried(url, bucket, fetch)
        except CutShort as error:
            raise CorruptImage(
                f"{shown(url)} arrived cut short {self.budget.patience.attempts} times. The file "
                "may be damaged on the server, or a proxy cuts it."
            ) from error
        except UnexpectedResponse as error:
            raise OddAnswer(str(error), url=url) from error

    async def _retried(
        self, url: str, bucket: TokenBucket, fetch: Callable[[], Awaitable[_ResultT]]
    ) -> _ResultT:
        """Repeats `fetch` while its failure is transient: stamina counts, the budget waits."""
        wait = sent_at = 0.0
        tries = 0
        attempts = self.budget.patience.attempts

        def judge(error: Exception) -> bool | float:
            nonlocal wait
            if not isinstance(error, TransientError):
                return False
            wait = self.budget.wait_after(error, bucket, tries=tries, sent_at=sent_at)
            _log.warning("%s (try %d of %d)", error, tries, attempts)
            return 0.0  # slept below, with the sleep that was passed in

        try:
            async for attempt in stamina.retry_context(on=judge, attempts=attempts, timeout=None):
                with attempt:
                    if wait:
                        await self._sleep(wait)
                    tries += 1
                    sent_at = await self._acquire(bucket)
                    result = await fetch()
                    self.budget.note_success(bucket)
                    return result
        except TransientError as error:
            raise type(error)(
                f"{error} Requested {tries} times. Run the same command again later. What is "
                "finished is kept.",
                url=url,
                status=error.status,
                wait_seconds=error.wait_seconds,
            ) from error
        raise AssertionError("stamina either returns or raises")

    async def _fetch(self, url: str, bucket: TokenBucket, most: int, *, is_api: bool) -> Response:
        """Returns one response with status 200; each redirect costs a token too."""
        steps = policy.conversation(self.site, url, is_api=is_api, now=self._now)
        target = next(steps)
        while True:
            response = await self._exchange.send(target, most, is_api=is_api)
            try:
                target = steps.send(response)
            except StopIteration as end:
                final: Response = end.value
                return final
            await self._acquire(bucket)

    async def _acquire(self, bucket: TokenBucket) -> float:
        return await acquire(bucket, turn=self._turns[bucket], sleep=self._sleep)
