"""
What each fault of the demo board does: the answers that a client must survive.

A fault refuses a request, breaks the connection, spoils the answer or changes a post. `faults.py`
chooses the requests that are struck.
"""

import asyncio
import gzip
import io
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from PIL import Image

from scraper.demo.board.booru import DemoBoard
from scraper.demo.painter import files
from scraper.demo.server import answers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADER = "X-Demo-Fault"
"""Request header that orders one fault for its request, on a board with `control`."""

_WIDE_LIMIT = 100
"""Posts per page above which `wide_query` strikes: a scraper succeeds by halving its pages."""
_DRIP_BYTES, _DRIP_SECONDS = 100, 0.1
"""A dripping answer sends 100 bytes every 0.1 seconds, 1 kB/s."""
_QUERY_SECONDS = 3.0
"""Time limit of a database query, as for anonymous callers of Danbooru."""
_WIDE_WINDOW = 200
"""Ids of a window above which `wide_window` strikes."""
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
    "slow_query": (500, "ActiveRecord::QueryCanceled"),
    "wide_query": (500, "ActiveRecord::QueryCanceled"),
    "wide_window": (500, "ActiveRecord::QueryCanceled"),
    "database_down": (503, "PG::ConnectionBad"),
}
"""Kinds that answer a JSON error of the application, with HTTP status and Danbooru's class."""

_MESSAGES = {
    "ActiveRecord::QueryCanceled": "The database timed out running your query.",
    "PG::ConnectionBad": "The database is unavailable. Try again later.",
}
_WINDOW = re.compile(r"\bid:(\d*)\.\.(\d*)")
"""A window of ids in a search; a side that is absent is open."""


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


def applies(kind: str, path: str, *, is_cdn: bool) -> bool:
    """
    Returns whether a fault can strike a request.

    Args:
        kind: Kind of the fault.
        path: Path and query of the request.
        is_cdn: Whether the request is for a file.
    """
    if kind in (_API_ONLY if is_cdn else _CDN_ONLY):
        return False
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query))
    if kind == "null_count":
        return parts.path.startswith("/counts/")
    if kind == "wide_query":
        limit = query.get("limit", "")
        return limit.isdigit() and int(limit) > _WIDE_LIMIT
    if kind == "wide_window":
        window = _WINDOW.search(query.get("tags", ""))
        return window is not None and int(window[2] or 10**9) - int(window[1] or 0) > _WIDE_WINDOW
    return True


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
    return web.json_response(answers.error(name, _MESSAGES[name]), status=status)


async def _slow_error(strike: Strike) -> web.StreamResponse:
    await asyncio.sleep(_QUERY_SECONDS)
    return await _application_error(strike)


async def _null_count(_strike: Strike) -> web.StreamResponse:
    """Answers a count without its number, as when the database was too slow to count."""
    return web.json_response({"counts": {"posts": None}})


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


async def _reset_in_headers(strike: Strike) -> web.StreamResponse:
    """Sends a status line and the beginning of a header, then resets the connection."""
    if strike.request.transport is not None:
        strike.request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    return await _reset(strike)


async def _cut_in_body(strike: Strike) -> web.StreamResponse:
    """Sends the right headers and the first half of the body, then closes the connection."""
    response = await strike.handler(strike.request)
    if not isinstance(response, web.Response):
        return response
    body = _body(response)
    stream = await _started(strike.request, response, is_chunked=strike.kind == "chunked_cut")
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


async def _started(
    request: web.Request, response: web.Response, *, is_chunked: bool = False
) -> web.StreamResponse:
    """Sends the headers of an answer and returns the stream for its body, in chunks or of known length."""
    stream = web.StreamResponse(status=response.status, headers=response.headers.copy())
    if is_chunked:
        stream.headers.pop("Content-Length", None)
        stream.enable_chunked_encoding()
    else:
        stream.headers["Content-Length"] = str(len(_body(response)))
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
    "html_as_image",
    "png_as_jpg",
)
"""Kinds that spoil a file."""

WORLD = tuple(_CHANGES)
"""Kinds that change a post between its listing and the download of its file. The change stays."""

_FAULTS: dict[str, Fault] = {
    **dict.fromkeys(STATUSES, _proxy_page),
    **dict.fromkeys(API_ERRORS, _application_error),
    "slow_query": _slow_error,
    "null_count": _null_count,
    **dict.fromkeys(BODIES, _wrong_body),
    "challenge": _challenge,
    "reset": _reset,
    "reset_in_headers": _reset_in_headers,
    "reset_in_body": _cut_in_body,
    "chunked_cut": _cut_in_body,
    "stall": _stall,
    "drip": _drip,
    **dict.fromkeys(FILES, _wrong_body),
    "wrong_type": _wrong_type,
    "html_as_image": _html_file,
    **dict.fromkeys(WORLD, _changed_post),
}

KINDS = tuple(_FAULTS)
"""Every kind of fault."""

_API_ONLY = frozenset({*API_ERRORS, *BODIES, "null_count"})
"""Kinds that never strike a request for a file."""

_CDN_ONLY = frozenset({*FILES, *WORLD})
"""Kinds that strike requests for files only."""
