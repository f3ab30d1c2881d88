"""
The synchronous HTTP client, for single questions to the API outside an event loop.

It sends one request at a time through `requests`, without retries. Addresses, headers, caps, the
meaning of a response and the waits are those of `policy.py`, as in the asynchronous client.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from yarl import URL

from scraper import connecting, policy, responses
from scraper.body import ResponseBody
from scraper.errors import (
    BrokenJson,
    ConnectionLost,
    CutShort,
    ForeignHost,
    ScraperError,
    TooLarge,
    TransientError,
)
from scraper.policy import RequestBudget
from scraper.ratelimit import acquire_blocking
from scraper.responses import Response, shown
from scraper.site import Site

_CHUNK_BYTES = 64 * 1024
_OK = 200


class OneShot:
    """
    Sends single requests to the API of one site. Use it as a context manager.

    Args:
        site: The board.
        budget: The tokens that this client shares with others; a budget of its own when None.
        sleep: Waits for a number of seconds.
        now: The time against which a date in Retry-After counts.
    """

    def __init__(
        self,
        site: Site,
        budget: RequestBudget | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.site = site
        self.requests = 0
        self._budget = budget or RequestBudget(site)
        self._sleep, self._now = sleep, now
        self._session = _Session()
        # No .netrc: it must not change as whom a request is sent. The proxies are those of the site.
        self._session.trust_env = False
        self._session.headers.clear()
        self._open: list[HTTPConnection] = []
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _PublicAdapter(site, self._open))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._session.close()

    def get_json(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        max_bytes: int = policy.MOST_JSON_BYTES,
    ) -> Any:
        """
        Returns the parsed response of the API to `path` (`/counts/posts.json`) with query `params`.

        Raises:
            TransientError: The board did not respond; the next request waits as it asked.
            Unfinished: The board asks for a longer wait than `max_wait_seconds`.
            RequestRefused: The board refuses the request, see the subclasses.
            UnexpectedResponse: The response is no JSON of the API, or has more than `max_bytes`.
        """
        url = policy.api_url(self.site, path, params)
        sent_at = acquire_blocking(self._budget.api, sleep=self._sleep)
        try:
            answer = responses.parse(self._fetch(url, max_bytes))
        except (TooLarge, BrokenJson) as error:
            raise policy.unrepeatable(error) from error
        except TransientError as error:
            self._budget.wait_after(error, self._budget.api, tries=1, sent_at=sent_at)
            raise
        self._budget.note_success(self._budget.api)
        return answer

    def _fetch(self, url: str, most: int) -> Response:
        """Returns one response with status 200; each redirect costs a token too."""
        steps = policy.conversation(self.site, url, is_api=True, now=self._now)
        target = next(steps)
        while True:
            response = self._send(target, most)
            try:
                target = steps.send(response)
            except StopIteration as end:
                final: Response = end.value
                return final
            acquire_blocking(self._budget.api, sleep=self._sleep)

    def _send(self, target: URL, most: int) -> Response:
        patience = self._budget.patience
        self.requests += 1
        # Cookies of an earlier response are not sent.
        self._session.cookies.clear()
        # Neither library bounds a whole response: headers may come for ever, one byte at a time.
        is_late = threading.Event()
        timer = threading.Timer(patience.total_seconds, self._abort, [is_late])
        timer.daemon = True
        timer.start()
        proxy = self.site.proxies.of(target)
        try:
            with self._session.get(
                str(target),
                headers=policy.headers(self.site, target, is_api=True),
                timeout=(patience.connect_seconds, patience.read_seconds),
                allow_redirects=False,
                stream=True,
                proxies={target.scheme: proxy} if proxy else None,
            ) as response:
                body = ResponseBody(str(target), response.status_code, response.headers, most)
                # Bodies are unpacked under a cap, and not by the library.
                # A response that closes its connection has taken the socket out of `_abort`'s reach.
                while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                    if is_late.is_set() or not body.add(chunk):
                        break
                if is_late.is_set():
                    raise TimeoutError  # translated below
                content = body.content()
                if response.status_code == _OK and not content and _lacks_length(response):
                    # http.client takes a connection that closes within the headers for their end.
                    raise ConnectionLost(
                        f"{shown(str(target))} ended within its headers.", url=str(target)
                    )
                return Response(str(target), response.status_code, response.headers, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            cause = TimeoutError() if is_late.is_set() else error
            raise translated(cause, str(target)) from _without_request(error)
        finally:
            timer.cancel()
            self._open.clear()

    def _abort(self, is_late: threading.Event) -> None:
        """Ends the response that is under way."""
        is_late.set()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(socket.SHUT_RDWR)


def _lacks_length(response: requests.Response) -> bool:
    """Returns whether no header says where the body of a response ends."""
    return not any(name in response.headers for name in ("Content-Length", "Transfer-Encoding"))


def translated(error: Exception, url: str) -> ScraperError:
    """Returns our error for an error of requests or urllib3."""
    name = type(error).__name__
    match error:
        case (
            requests.exceptions.InvalidURL()
            | requests.exceptions.InvalidSchema()
            | requests.exceptions.MissingSchema()
            | urllib3.exceptions.LocationValueError()
            | urllib3.exceptions.URLSchemeUnknown()
        ):
            return ForeignHost(f"{shown(url)} cannot be requested ({name}).", url=url)
        case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
            cause = _cause(error)
            if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                what = connecting.unreachable(url, cause)
            elif isinstance(cause, ssl.SSLError) and not isinstance(
                cause, ssl.SSLCertVerificationError
            ):
                what = connecting.no_handshake(url, cause)
            else:
                return connecting.bad_certificate(url, cause)
        case (
            requests.exceptions.ChunkedEncodingError()
            | urllib3.exceptions.IncompleteRead()
            | urllib3.exceptions.InvalidChunkLength()
            # urllib3 wraps the two above while it streams a body.
            | urllib3.exceptions.ProtocolError(args=(_, http.client.IncompleteRead()))
        ):
            return CutShort(f"{shown(url)} ended before its end ({name}).", url=url)
        case requests.Timeout() | urllib3.exceptions.TimeoutError() | TimeoutError():
            what = f"{shown(url)} did not answer in time ({name})."
        case _:
            what = connecting.unreachable(url, _cause(error))
    return ConnectionLost(what, url=url)


def _cause(error: BaseException) -> BaseException:
    """Returns the error of the system at the end of the causes; else `error` itself."""
    cause: BaseException | None = error
    while cause is not None and (
        not isinstance(cause, OSError) or isinstance(cause, requests.RequestException)
    ):
        reason = getattr(cause, "reason", None)
        first = next((each for each in cause.args if isinstance(each, BaseException)), None)
        cause = reason if isinstance(reason, BaseException) else first or cause.__cause__
    return cause or error


def _without_request(error: Exception) -> Exception:
    """Returns the cause to chain: errors of requests hold the request's headers, key and all."""
    return OSError(f"{type(error).__name__}: {error}")


class _Session(requests.Session):
    """Does not read redirects: `policy.conversation` follows them."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  # as in requests
        return None


class _PublicAdapter(HTTPAdapter):
    """Connects to the addresses that `policy.public_only` allows."""

    def __init__(self, site: Site, opened: list[HTTPConnection]) -> None:
        self._site, self._opened = site, opened
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **keywords: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=connecting.trust(self._site), **keywords)
        self.poolmanager.pool_classes_by_scheme = _pools(self._site, self._opened)

    def proxy_manager_for(self, proxy: str, **keywords: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(
            proxy, ssl_context=connecting.trust(self._site), **keywords
        )
        manager.pool_classes_by_scheme = _pools(self._site, self._opened)
        return manager


def _pools(site: Site, opened: list[HTTPConnection]) -> dict[str, type[HTTPConnectionPool]]:
    """
    Returns urllib3's pools by scheme, with connections that look up names under our policy.

    A connection that sends a request adds itself to `opened`.
    """

    class _Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connected(site, self)

        def request(self, *arguments: Any, **keywords: Any) -> None:
            opened.append(self)
            super().request(*arguments, **keywords)

    class _SecureConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connected(site, self)

        def request(self, *arguments: Any, **keywords: Any) -> None:
            opened.append(self)
            super().request(*arguments, **keywords)

    class _Pool(HTTPConnectionPool):
        ConnectionCls = _Connection

    class _SecurePool(HTTPSConnectionPool):
        ConnectionCls = _SecureConnection

    return {"http": _Pool, "https": _SecurePool}


def _connected(site: Site, connection: HTTPConnection) -> socket.socket:
    """Connects to the first allowed address that accepts; as urllib3's own method otherwise."""
    host = connection.host.strip("[]")
    last: OSError | None = None
    try:
        if f"{host}:{connection.port}" not in site.hosts and host not in site.proxies.hosts:
            # urllib3 must not read an address differently from `policy.checked`.
            raise OSError(f"{host}:{connection.port} is not a host of this board")  # noqa: TRY301  # caught below, with what the system raises
        entries = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
        for entry in policy.public_only(site, host, entries, text=lambda entry: str(entry[4][0])):
            try:
                return socket.create_connection(entry[4][:2], connection.timeout)  # type: ignore[arg-type]  # an address of IPv6 has four parts
            except OSError as error:
                last = error
        raise last or OSError(f"{host} has no address")
    except TimeoutError as error:
        raise urllib3.exceptions.ConnectTimeoutError(
            connection, f"Connection to {host} timed out"
        ) from error
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(
            connection, f"Failed to establish a new connection: {error}"
        ) from error
