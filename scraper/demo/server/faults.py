"""
Faults that the demo board causes on purpose, so that a client can be tested against them.

A fault refuses a request, breaks the connection, spoils the answer or changes a post. It strikes a
fixed share of addresses, chosen by a hash of seed, kind and path, and only the first attempts at
each address. So equal runs meet equal faults, and a client that tries again succeeds. The board
commits faults only if its parameters have `faults` or `control`.
"""

import asyncio
import gzip
import hashlib
import io
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from aiohttp import web
from PIL import Image

from personae.errors import BadParams
from scraper.demo.board.booru import DemoBoard
from scraper.demo.painter import files
from scraper.demo.server import answers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADER = "X-Demo-Fault"
"""Request header that orders one fault for its request, on a board with `control`."""

_BURST = 4
"""Requests in a row that a fault 429 strikes."""
_WIDE_LIMIT = 100
"""Posts per page above which `wide_query` strikes: a scraper succeeds by halving its pages."""
_DRIP_BYTES, _DRIP_SECONDS = 100, 0.1
"""A dripping answer sends 100 bytes every 0.1 seconds, 1 kB/s."""
_STALL_SECONDS = 600.0
"""Silence of a stalled connection: longer than the time-out of any client."""
_FLIPPED_BYTES = 64
"""Wrong bytes in the middle of a file with flipped bytes."""
_HEAD_BYTES = 20
"""First bytes that an undecodable file keeps: enough to name its type."""

STATUSES = {
    "too_many": 429,
    "too_many_retry_after": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "gateway_timeout": 504,
}
"""Kinds that answer an HTML page of the proxy, with their HTTP status."""

API_ERRORS = {
    "query_canceled": (500, "ActiveRecord::QueryCanceled"),
    "wide_query": (500, "ActiveRecord::QueryCanceled"),
    "database_down": (503, "PG::ConnectionBad"),
}
"""Kinds that answer a JSON error of the application, with HTTP status and Danbooru's class."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One request that a fault strikes."""

    kind: str
    """Kind of the fault, one of `KINDS`."""
    request: web.Request
    handler: Handler
    """Returns the right answer to the request."""
    board: DemoBoard


Fault = Callable[[Strike], Awaitable[web.StreamResponse]]
"""Answers a request with a fault."""


@dataclass(slots=True)
class FaultPlan:
    """Chooses the requests that faults strike, and counts the faults."""

    seed: int = 0
    """Random seed of the addresses that are struck."""
    shares: dict[str, float] = field(default_factory=dict)
    """Kind to the share of addresses that it strikes, 0 to 1."""
    attempts: int = 1
    """Failing attempts at one address before an attempt succeeds."""
    committed: Counter[str] = field(default_factory=Counter)
    """Kind to the number of faults committed so far."""
    _tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    _seen: Counter[bool] = field(default_factory=Counter)

    def choose(self, path: str, *, is_cdn: bool) -> str | None:
        """
        Returns the kind of the fault that strikes a request, or None.

        Faults of status 429 strike four requests in a row, whatever their address.

        Args:
            path: Path and query of the request.
            is_cdn: Whether the request is for a file. Some kinds strike files only, others never.
        """
        number = self._seen[is_cdn]
        self._seen[is_cdn] += 1
        for kind, share in self.shares.items():
            if kind in (_API_ONLY if is_cdn else _CDN_ONLY):
                continue
            if kind in ("too_many", "too_many_retry_after"):
                if self._chance(kind, str(number // _BURST)) < share:
                    return kind
            elif self._tries[kind, path] < self.attempts and self._chance(kind, path) < share:
                self._tries[kind, path] += 1
                return kind
        return None

    def _chance(self, kind: str, name: str) -> float:
        """Returns a number from 0 to 1 that depends on seed, kind and name only."""
        text = f"{self.seed}:{kind}:{name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


def parse(texts: Iterable[str], *, seed: int = 0, attempts: int = 1) -> FaultPlan:
    """
    Returns the plan of texts `kind=share`; `kind` alone means a share of 1.

    Args:
        texts: The texts, such as `reset=0.05`.
        seed: Random seed of the addresses that are struck.
        attempts: Failing attempts at one address before an attempt succeeds.

    Raises:
        BadParams: A kind is unknown, or a share is not a number from 0 to 1.
    """
    shares = {}
    for text in texts:
        kind, _, share = text.partition("=")
        try:
            shares[kind] = float(share or "1")
        except ValueError:
            shares[kind] = -1.0
        if kind not in KINDS or not 0 <= shares[kind] <= 1:
            raise BadParams(
                f"'demo.faults' has {text!r}: it must be kind=share with a share from 0 to 1. "
                f"Kinds: {', '.join(KINDS)}."
            )
    return FaultPlan(seed=seed, shares=shares, attempts=attempts)


async def commit(strike: Strike) -> web.StreamResponse:
    """Answers a request with the fault that strikes it. KeyError for an unknown kind."""
    return await _FAULTS[strike.kind](strike)


def change_post(kind: str, post_id: int, board: DemoBoard) -> None:
    """
    Changes a post as its uploader or a moderator does.

    Args:
        kind: The change, one of `WORLD`.
        post_id: The post.
        board: The board of the post.

    Raises:
        KeyError: There is no such kind or no such post.
    """
    _CHANGES[kind](board, post_id)


async def _proxy_page(strike: Strike) -> web.StreamResponse:
    status, title = STATUSES[strike.kind], strike.kind.replace("_", " ")
    response = _html(status, f"{status} {title}")
    if strike.kind == "too_many_retry_after":
        response.headers["Retry-After"] = "1"
    return response


async def _application_error(strike: Strike) -> web.StreamResponse:
    status, name = API_ERRORS[strike.kind]
    message = "The database timed out running your query."
    return web.json_response(answers.error(name, message), status=status)


async def _error_of_wide_query(strike: Strike) -> web.StreamResponse:
    text = strike.request.query.get("limit", "20")
    if text.isdigit() and int(text) > _WIDE_LIMIT:
        return await _application_error(strike)
    return await strike.handler(strike.request)


async def _challenge(_strike: Strike) -> web.StreamResponse:
    return _html(200, "Just a moment...")


def _html(status: int, title: str) -> web.Response:
    text = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body></body></html>\n"
    return web.Response(text=text, status=status, content_type="text/html")


async def _reset(strike: Strike) -> web.StreamResponse:
    """Breaks the connection with a TCP reset: closing with a linger time of 0 sends RST."""
    transport = strike.request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _stall(strike: Strike) -> web.StreamResponse:
    await asyncio.sleep(_STALL_SECONDS)
    return await _reset(strike)


async def _reset_in_body(strike: Strike) -> web.StreamResponse:
    """Sends the right headers and the first half of the body, then closes the connection."""
    response = await strike.handler(strike.request)
    if not isinstance(response, web.Response):
        return response
    body = _body(response)
    stream = await _started(strike.request, response)
    await stream.write(body[: len(body) // 2])
    if strike.request.transport is not None:
        strike.request.transport.close()
    return stream


async def _drip(strike: Strike) -> web.StreamResponse:
    """Sends the right answer at 1 kB/s."""
    response = await strike.handler(strike.request)
    if not isinstance(response, web.Response):
        return response
    body = _body(response)
    stream = await _started(strike.request, response)
    for start in range(0, len(body), _DRIP_BYTES):
        if strike.request.transport is None:
            break
        await stream.write(body[start : start + _DRIP_BYTES])
        await asyncio.sleep(_DRIP_SECONDS)
    return stream


async def _started(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Sends the headers of an answer and returns the stream for its body."""
    headers = response.headers.copy()
    headers["Content-Length"] = str(len(_body(response)))
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    return stream


def _body(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


async def _wrong_body(strike: Strike) -> web.StreamResponse:
    """Answers with wrong bytes and right headers; broken JSON is not compressed."""
    response = await strike.handler(strike.request)
    if not isinstance(response, web.Response):
        return response
    body = _body(response)
    if strike.kind in BODIES and response.headers.pop("Content-Encoding", None) == "gzip":
        body = gzip.decompress(body)
    response.body = _SPOILT[strike.kind](body)
    return response


async def _wrong_type(strike: Strike) -> web.StreamResponse:
    response = await strike.handler(strike.request)
    if isinstance(response, web.Response):
        response.headers["Content-Type"] = "application/octet-stream"
    return response


async def _html_file(strike: Strike) -> web.StreamResponse:
    response = await strike.handler(strike.request)
    return _html(200, "Origin error") if isinstance(response, web.Response) else response


def _first_half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _with_syntax_error(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + b"}}<" + body[middle:]


def _with_flipped_bytes(body: bytes) -> bytes:
    middle = len(body) // 2
    end = middle + _FLIPPED_BYTES
    return body[:middle] + bytes(byte ^ 0x55 for byte in body[middle:end]) + body[end:]


def _with_zeroed_content(body: bytes) -> bytes:
    return body[:_HEAD_BYTES] + b"\0" * (len(body) - _HEAD_BYTES)


def _as_png(body: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(body)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


async def _changed_post(strike: Strike) -> web.StreamResponse:
    """Changes the post whose file is requested, then answers: the change stays."""
    parsed = files.parse_path(strike.request.path)
    post_id = await strike.board.find(parsed[1]) if parsed else None
    if post_id is not None:
        change_post(strike.kind, post_id, strike.board)
    return await strike.handler(strike.request)


_CHANGES: dict[str, Callable[[DemoBoard, int], None]] = {
    "gone": lambda board, post_id: board.remove_files(post_id),
    "deleted": lambda board, post_id: board.flag(post_id, "deleted"),
    "banned": lambda board, post_id: board.flag(post_id, "banned"),
    "edited": lambda board, post_id: board.retag(
        post_id, add=["moss_oracle_(cosplay)"], rating="q"
    ),
    "replaced": lambda board, post_id: board.replace_file(post_id),
}
_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "invalid_json": _with_syntax_error,
    "truncated_json": _first_half,
    "short_file": _first_half,
    "flipped_bytes": _with_flipped_bytes,
    "undecodable_file": _with_zeroed_content,
    "png_as_jpg": _as_png,
}

BODIES = ("invalid_json", "truncated_json")
"""Kinds that spoil the JSON of a page."""

FILES = (
    "short_file",
    "flipped_bytes",
    "undecodable_file",
    "wrong_type",
    "html_as_picture",
    "png_as_jpg",
)
"""Kinds that spoil a file."""

WORLD = tuple(_CHANGES)
"""Kinds that change a post between its listing and the download of its file. The change stays."""

_FAULTS: dict[str, Fault] = {
    **dict.fromkeys(STATUSES, _proxy_page),
    **dict.fromkeys(API_ERRORS, _application_error),
    "wide_query": _error_of_wide_query,
    **dict.fromkeys(BODIES, _wrong_body),
    "challenge": _challenge,
    "reset": _reset,
    "reset_in_body": _reset_in_body,
    "stall": _stall,
    "drip": _drip,
    **dict.fromkeys(FILES, _wrong_body),
    "wrong_type": _wrong_type,
    "html_as_picture": _html_file,
    **dict.fromkeys(WORLD, _changed_post),
}

KINDS = tuple(_FAULTS)
"""Every kind of fault."""

_API_ONLY = frozenset({*API_ERRORS, *BODIES})
_CDN_ONLY = frozenset({*FILES, *WORLD})
