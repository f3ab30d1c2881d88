"""
The rules that both HTTP clients follow: addresses, headers, size limits, waits.

No input or output happens here. `client.py` (asynchronous) and `one_shot.py` (synchronous) send
the requests that `conversation` yields, read bodies through `body.ResponseBody`, and wait as
`RequestBudget` requires.
"""

import base64
import ipaddress
import os
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self, TypeVar

from yarl import URL

from scraper import responses
from scraper.errors import (
    BrokenJson,
    EmptyBody,
    EmptyResponse,
    ForeignHost,
    ForeignRedirect,
    RateLimited,
    RequestRefused,
    TooLarge,
    TransientError,
    Unfinished,
    UnreadablePage,
)
from scraper.host_budget import HostBudget, state_folder
from scraper.params.site import Manners
from scraper.ratelimit import Backoff, Clock, TokenBucket
from scraper.responses import Response, shown
from scraper.shared_budget import CommonBudget, SharedBudget
from scraper.site import KNOWN, Site

_AddressT = TypeVar("_AddressT")

MOST_JSON_BYTES: Final = 32 * 1024 * 1024
"""Largest JSON body: 200 posts of 1,250 tags each, the board's own limits, are smaller."""
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_AFTER_ERROR = Backoff(first=1.0, most=60.0)
_AFTER_REFUSAL = Backoff(first=60.0, most=900.0)
# Added to a wait that the server asks for, at most: clients that it refused at once return apart.
_JITTER = 0.1
# With the longest pause on top, a run that is only refused ends within the hour.
_MOST_REFUSED_SECONDS = 1800.0
# A board on this machine needs no protection, and its faults are tests.
_AFTER_LOCAL_ERROR = Backoff(first=0.1, most=5.0)
_AFTER_LOCAL_REFUSAL = Backoff(first=0.5, most=10.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits; every value comes from section `site`."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    total_seconds: float = 180.0
    attempts: int = 5
    max_wait_seconds: float = 900.0

    @classmethod
    def of(cls, params: Manners) -> Self:
        """Returns the values of section `site`."""
        return cls(
            connect_seconds=params.connect_seconds,
            read_seconds=params.read_seconds,
            total_seconds=params.total_seconds,
            attempts=params.attempts,
            max_wait_seconds=params.max_wait_seconds,
        )


class RequestBudget:
    """
    The requests that one site allows: a token bucket for the API, one for files.

    All clients of a run share one budget, so their requests together keep the rate; with `host`,
    the runs of all processes do.

    Args:
        site: The board and its rates.
        patience: How long the clients wait.
        clock: Monotonic time in seconds.
        draw: Random numbers in 0..1, for jitter.
        host: What other processes share; None for a budget of this process alone.
    """

    def __init__(
        self,
        site: Site,
        patience: Patience | None = None,
        *,
        clock: Clock = time.monotonic,
        draw: Callable[[], float] = random.random,
        host: CommonBudget | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.api = TokenBucket(site.api_rate, clock=clock, host=host, kind="api")
        self.files = TokenBucket(site.cdn_rate, clock=clock, host=host, kind="files")
        self._is_local = site.is_local
        self._clock = clock
        self._draw = draw
        self._refusals = 0
        self._refused_since = 0.0

    def note_success(self, bucket: TokenBucket) -> None:
        """Ends a series of refusals: the next refusal pauses for the first time again."""
        self._refusals = 0
        bucket.note_success()

    def wait_after(
        self, error: TransientError, bucket: TokenBucket, *, tries: int, sent_at: float
    ) -> float:
        """
        Returns the seconds that the failed request waits; a refusal (429) pauses the bucket.

        Args:
            error: Why the request failed.
            bucket: The bucket that the request left through.
            tries: Number of tries of this request so far.
            sent_at: When the request left, by the bucket's clock.

        Raises:
            Unfinished: The board asks for a longer wait than `max_wait_seconds`, or refuses every
                request since half an hour.
        """
        requested = error.wait_seconds
        if requested is not None and requested > self.patience.max_wait_seconds:
            raise Unfinished(
                f"{shown(error.url)} asks to come back in {requested:.0f} s. The run waits at most "
                f"{self.patience.max_wait_seconds:.0f} s (`site.max_wait_seconds`). Run the same "
                "command again then. What is finished is kept."
            ) from error
        if requested is not None:
            requested *= 1 + _JITTER * self._draw()
        if not isinstance(error, RateLimited):
            backoff = _AFTER_LOCAL_ERROR if self._is_local else _AFTER_ERROR
            return requested if requested is not None else backoff.seconds(tries, self._draw())
        if not bucket.has_paused_since(sent_at):
            self._refusals += 1
            now = self._clock()
            if self._refusals == 1:
                self._refused_since = now
            elif now - self._refused_since >= _MOST_REFUSED_SECONDS:
                raise Unfinished(
                    f"{shown(error.url)} and every request before it for "
                    f"{(now - self._refused_since) / 60:.0f} minutes were answered 429: too many "
                    "requests. Run the same command again later, or at a lower rate "
                    "(`site.api_rate`, `site.cdn_rate`). What is finished is kept."
                ) from error
            backoff = _AFTER_LOCAL_REFUSAL if self._is_local else _AFTER_REFUSAL
            bucket.pause(
                requested
                if requested is not None
                else backoff.seconds(self._refusals, self._draw())
            )
            bucket.slow_down()
        return 0.0


def shared_budget(
    site: Site, patience: Patience, *, environment: Mapping[str, str] = os.environ
) -> CommonBudget | None:
    """
    Returns what all processes of this user, or of several machines, may request of the board together.

    A board on this machine needs no such care; its requests are counted if a day's are limited, or if
    `PERSONAE_STATE` names a service.

    Raises:
        BadParams: `PERSONAE_STATE` is an address, and not that of a service on this machine.
    """
    base = URL(site.base_url)
    host = f"{base.raw_host}:{base.port}" if site.is_local else base.raw_host or ""
    most_pause = patience.max_wait_seconds
    address = environment.get("PERSONAE_STATE", "")
    if "://" in address:
        return SharedBudget(
            address, host, daily_requests=site.daily_requests, most_pause=most_pause
        )
    if site.is_local and site.daily_requests is None:
        return None
    return HostBudget(
        host,
        state_folder(environment),
        daily_requests=site.daily_requests,
        most_pause=most_pause,
    )


def checked(site: Site, url: str) -> URL:
    """
    Returns the address as it will be requested.

    The check reads the address as both clients do, so that no two readings of one text can differ.

    Raises:
        ForeignHost: It is not http or https, has credentials, leads to a host off the list of the
            site, or to a private address that is not the board itself.
    """
    try:
        target = URL(url)
        host, port = target.host or "", target.port
    except ValueError:
        target, host, port = URL(), "", None
    listed = target.scheme in ("http", "https") and f"{host}:{port}" in site.hosts
    own = host == URL(site.base_url).host
    if not listed or target.user or target.password or not (own or is_public(host)):
        raise ForeignHost(
            f"{shown(url)} is not an address of this board ({', '.join(sorted(site.hosts))}). "
            "It is not fetched. If the board really keeps files there, add the host to "
            "'site.file_hosts'.",
            url=url,
        )
    return target


def public_only(
    site: Site, host: str, addresses: Sequence[_AddressT], *, text: Callable[[_AddressT], str]
) -> list[_AddressT]:
    """
    Returns the addresses of `host` that may be connected to.

    Private addresses are dropped, unless the user named that very host as the board or as a proxy.

    Args:
        site: The board.
        host: The name that was looked up.
        addresses: What the look-up returned.
        text: Returns the IP address of one of them.

    Raises:
        OSError: None is left.
    """
    trusted = set(site.proxies.hosts)
    if site.name not in KNOWN:
        trusted.add(URL(site.base_url).host or "")
    allowed = [each for each in addresses if host in trusted or is_public(text(each))]
    if not addresses:
        raise OSError(None, f"{host} has no address")
    if not allowed:
        raise OSError(None, f"{host} leads to private addresses only, which are not requested")
    return allowed


def is_public(host: str) -> bool:
    """Returns False for an IP address outside the public internet; True for others and names."""
    try:
        return ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_global
    except ValueError:
        return True


def headers(site: Site, target: URL, *, is_api: bool) -> dict[str, str]:
    """Returns the headers of a request; the key goes to the API's own host alone."""
    fields = {
        "User-Agent": site.user_agent,
        "Accept": "application/json" if is_api else "*/*",
        "Accept-Encoding": "gzip" if is_api else "identity",
    }
    if is_api and site.api_key and site.is_api(target):
        pair = f"{site.login}:{site.api_key}".encode()
        fields["Authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return fields


def api_url(site: Site, path: str, query: Mapping[str, Any] | None = None) -> str:
    """Returns the address of an API path such as `/posts.json` with its query."""
    return str(URL(site.absolute(path)).with_query(query or None))


def conversation(
    site: Site, url: str, *, is_api: bool, now: Callable[[], datetime]
) -> Generator[URL, Response, Response]:
    """
    Yields the addresses to request, one after the other, and returns the last response (200).

    The caller sends each request, with a token for each, and passes the response in. Redirects are
    followed on the list of the site only.

    Raises:
        ForeignHost: The address, or a redirect (ForeignRedirect), is off the list.
        RequestRefused: Too many redirects; or as `responses.refusal` returns.
        TransientError: As `responses.refusal` returns.
    """
    for step in range(_MOST_REDIRECTS + 1):
        try:
            target = checked(site, url)
        except ForeignHost as foreign:
            if step == 0:
                raise
            raise ForeignRedirect(
                f"{foreign} An answer of the board led there; a login page of a hotel's or a train's "
                "network does the same: then run the same command again in another network.",
                url=url,
            ) from foreign
        response = yield target
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or location is None:
            error = responses.refusal(response, is_api=is_api, now=now())
            if error is not None:
                raise error
            return response
        url = _joined(response.url, location)
    raise RequestRefused(
        f"{shown(url)} is the end of more than {_MOST_REDIRECTS} redirects: the board redirects in "
        "circles. Check the address of the site.",
        url=url,
    )


def unrepeatable(error: TooLarge | BrokenJson) -> UnreadablePage:
    """Returns the error of an API response that stayed too long, broken or empty at every try."""
    if isinstance(error, TooLarge):
        return UnreadablePage(
            f"{error} A response of the API is never that long. Check the address of the site."
        )
    return (EmptyResponse if isinstance(error, EmptyBody) else UnreadablePage)(str(error))


def _joined(base: str, location: str) -> str:
    try:
        return str(URL(base).join(URL(location)))
    except ValueError:  # brackets that hold no address: `checked` refuses it
        return location
