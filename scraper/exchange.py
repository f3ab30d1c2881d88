"""
One asynchronous request and its response: session, name look-ups, and the translation of errors.

The only file that imports aiohttp's client. No exception of aiohttp leaves it, no cookie is kept,
and redirects are returned, not followed. What may be requested is decided in `policy.py`.
"""

import socket

import aiohttp
import aiohttp.abc
from yarl import URL

from scraper import connecting, policy
from scraper.body import ResponseBody
from scraper.errors import (
    ConnectionLost,
    CutShort,
    ForeignHost,
    ScraperError,
)
from scraper.policy import Patience
from scraper.responses import Response, shown
from scraper.site import Site


class Exchange:
    """Sends single requests to one site; `requests` counts them."""

    def __init__(self, site: Site, patience: Patience) -> None:
        self.requests = 0
        self._site = site
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Opens the session; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_PublicResolver(self._site),
                ssl=connecting.trust(self._site) or True,
                limit=64,
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._patience.total_seconds,
                sock_connect=self._patience.connect_seconds,
                sock_read=self._patience.read_seconds,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Bodies are unpacked under a cap, and not by the library.
            auto_decompress=False,
        )
        # The library would repeat a broken GET at once by itself, past rate limit and count; there
        # is no public switch (aio-libs/aiohttp: ClientSession._request). The tests of broken
        # connections fail when this stops working.
        self._session._retry_connection = False  # noqa: SLF001  # see above

    async def close(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, target: URL, most: int, *, is_api: bool) -> Response:
        """
        Sends one request and returns the response.

        Args:
            target: An address that `policy.checked` returned.
            most: Largest accepted body in bytes; of an error only the first part is read.
            is_api: Whether the target is the API, or a file.

        Raises:
            ConnectionLost: No response, or not a whole one.
            TooLarge: The body has more than `most` bytes.
            UnexpectedResponse: The encoding was not requested.
        """
        assert self._session is not None, "open the exchange first"  # noqa: S101  # our mistake
        self.requests += 1
        try:
            async with self._session.get(
                target,
                headers=policy.headers(self._site, target, is_api=is_api),
                allow_redirects=False,
                proxy=self._site.proxies.of(target),
            ) as response:
                body = ResponseBody(str(target), response.status, response.headers, most)
                async for chunk in response.content.iter_any():
                    if not body.add(chunk):
                        break
                return Response(str(target), response.status, response.headers, body.content())
        except (aiohttp.ClientError, OSError) as error:
            raise translated(error, str(target)) from _without_request(error)


def translated(error: aiohttp.ClientError | OSError, url: str) -> ScraperError:
    """Returns our error for an error of aiohttp: one to repeat, or one to never repeat."""
    name = type(error).__name__
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ForeignHost(f"{shown(url)} cannot be requested ({name}).", url=url)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return connecting.bad_certificate(url, getattr(error, "certificate_error", error))
        case aiohttp.ClientConnectorSSLError():
            what = connecting.no_handshake(url, error.os_error)
        case aiohttp.ClientPayloadError():
            return CutShort(f"{shown(url)} ended before its end ({name}).", url=url)
        case TimeoutError():
            what = f"{shown(url)} did not answer in time ({name})."
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            what = f"The proxy of the environment does not let {shown(url)} through ({name})."
        case aiohttp.ClientConnectorError():
            what = connecting.unreachable(url, error.os_error)
        case aiohttp.ClientResponseError():
            what = f"{shown(url)} sent something that is no HTTP: {error.message}."
        case _:
            what = f"The connection to {shown(url)} broke ({name}: {error})."
    return ConnectionLost(what, url=url)


def _without_request(error: Exception) -> Exception:
    """Returns the cause to chain: the library's response errors hold the request's headers."""
    if isinstance(error, aiohttp.ClientResponseError):
        return aiohttp.ClientError(f"{type(error).__name__}: {error.message}")
    return error


class _PublicResolver(aiohttp.abc.AbstractResolver):
    """Looks names up, and drops the addresses that `policy.public_only` does not allow."""

    def __init__(self, site: Site) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._site = site

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        addresses = await self._inner.resolve(host, port, family)
        return policy.public_only(self._site, host, addresses, text=lambda entry: entry["host"])

    async def close(self) -> None:
        await self._inner.close()
