"""
One request and its answer: session, allow-list, caps, and the translation of foreign errors.

The only file that imports aiohttp's client. No exception of aiohttp leaves it, no cookie is kept,
redirects are returned and not followed, and the key goes to the API's own host alone.
"""

import base64
import ipaddress
import socket
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import aiohttp
import aiohttp.abc
from yarl import URL

from scraper.answers import Answer, quoted, shown
from scraper.errors import (
    ConnectionLost,
    ForeignHost,
    RequestRefused,
    ScraperError,
    TooLarge,
    UnexpectedResponse,
)
from scraper.site import KNOWN, Params, Site

_MOST_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the client is; every figure comes from section `site`."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    total_seconds: float = 180.0
    attempts: int = 5
    max_wait_seconds: float = 900.0

    @classmethod
    def of(cls, params: Params) -> Self:
        """Takes them from section `site`."""
        return cls(
            connect_seconds=params.connect_seconds,
            read_seconds=params.read_seconds,
            total_seconds=params.total_seconds,
            attempts=params.attempts,
            max_wait_seconds=params.max_wait_seconds,
        )


class CutShort(ConnectionLost):
    """A body that ended before its end; for a file, the file itself may be the reason."""


class Exchange:
    """Sends single requests to one site; `requests` counts them."""

    def __init__(self, site: Site, limits: Limits) -> None:
        self.requests = 0
        self._site = site
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Opens the session; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_PublicResolver(self._site), limit=64),
            timeout=aiohttp.ClientTimeout(
                total=self._limits.total_seconds,
                sock_connect=self._limits.connect_seconds,
                sock_read=self._limits.read_seconds,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._site.user_agent},
            # Bodies are unpacked here, under a cap, and not by the library.
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

    def checked(self, url: str) -> URL:
        """
        The address as it will be asked, when it is on the list.

        It is judged as the library reads it, so that no two readings of one text can differ.
        """
        try:
            target = URL(url)
            host, port = target.host or "", target.port
        except ValueError:
            target, host, port = URL(), "", None
        listed = target.scheme in ("http", "https") and f"{host}:{port}" in self._site.hosts
        own = host == URL(self._site.base_url).host
        if not listed or target.user or target.password or not (own or _is_public(host)):
            raise ForeignHost(
                f"{shown(url)} is not an address of this board ({', '.join(sorted(self._site.hosts))}). "
                "It is not fetched. If the board really keeps files there, add the host to "
                "'site.file_hosts'.",
                url=url,
            )
        return target

    async def send(self, target: URL, most: int, *, is_api: bool) -> Answer:
        """One request and its answer; the body of an error is read to its first part only."""
        assert self._session is not None, "open the exchange first"  # noqa: S101  # our mistake
        headers = {
            "Accept": "application/json" if is_api else "*/*",
            "Accept-Encoding": "gzip" if is_api else "identity",
        }
        if is_api and self._site.api_key and self._site.is_api(str(target)):
            pair = f"{self._site.login}:{self._site.api_key}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"
        self.requests += 1
        try:
            async with self._session.get(
                target, headers=headers, allow_redirects=False
            ) as response:
                body = await _body(response, most)
                return Answer(str(target), response.status, response.headers, body)
        except (aiohttp.ClientError, OSError) as error:
            raise translated(error, str(target)) from _without_request(error)


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Reads and unpacks a body; never holds more than `most` bytes and one network read."""
    url, wanted = str(response.url), response.status == HTTPStatus.OK
    most = most if wanted else _MOST_ERROR_BYTES
    announced = response.content_length
    if wanted and announced is not None and announced > most:
        raise _too_large(url, most)
    unpack = _unpacker(response.headers.get("Content-Encoding", "identity"), url)
    body, received = bytearray(), 0
    async for chunk in response.content.iter_any():
        received += len(chunk)
        try:
            body += unpack.decompress(chunk, most + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise CutShort(f"{shown(url)} sent damaged gzip data ({error}).", url=url) from error
        if len(body) > most:
            if wanted:
                raise _too_large(url, most)
            return bytes(body[:most])
    if (unpack and received and not unpack.eof) or received < (announced or 0):
        raise CutShort(f"{shown(url)} ended after {received} bytes, before its end.", url=url)
    return bytes(body)


def _unpacker(encoding: str, url: str) -> "zlib._Decompress | None":
    encoding = encoding.strip().lower()
    if encoding in ("identity", ""):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header is recognised
    raise UnexpectedResponse(
        f"{shown(url)} is packed as {quoted(encoding)}, which was not asked for. The board, or a "
        "proxy before it, is broken: try later."
    )


def _too_large(url: str, most: int) -> TooLarge:
    return TooLarge(f"{shown(url)} has more than the {most} bytes that are accepted.", url=url)


def translated(error: aiohttp.ClientError | OSError, url: str) -> ScraperError:
    """Returns our error for one of the library's: repeat it, or never."""
    name = type(error).__name__
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ForeignHost(f"{shown(url)} is no address that can be asked ({name}).", url=url)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return RequestRefused(
                f"{shown(url)} shows a certificate that is not valid: {error}. Somebody may stand "
                "between; nothing was sent. Check clock and network.",
                url=url,
            )
        case aiohttp.ClientPayloadError():
            return CutShort(f"{shown(url)} ended before its end ({name}).", url=url)
        case TimeoutError():
            what = f"{shown(url)} did not answer in time ({name})."
        case aiohttp.ClientConnectorError():
            what = (
                f"{shown(url)} cannot be reached: {error.os_error}. Is the board running, and this "
                "machine online?"
            )
        case aiohttp.ClientResponseError():
            what = f"{shown(url)} sent something that is no HTTP: {error.message}."
        case _:
            what = f"The connection to {shown(url)} broke ({name}: {error})."
    return ConnectionLost(what, url=url)


def _without_request(error: Exception) -> Exception:
    """The cause to chain: the library's response errors hold the request's headers, key and all."""
    if isinstance(error, aiohttp.ClientResponseError):
        return aiohttp.ClientError(f"{type(error).__name__}: {error.message}")
    return error


class _PublicResolver(aiohttp.abc.AbstractResolver):
    """Looks names up, and drops private addresses unless the user named that very host."""

    def __init__(self, site: Site) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._trusted = None if site.name in KNOWN else URL(site.base_url).host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host != self._trusted:
            found = [entry for entry in found if _is_public(entry["host"])]
        if not found:
            raise OSError(None, f"{host} leads to private addresses only, which are not asked")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _is_public(host: str) -> bool:
    """False for the literal of an address that is not of the public internet; a name may pass."""
    try:
        return ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_global
    except ValueError:
        return True
