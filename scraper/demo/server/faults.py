"""
Faults that the demo board commits on purpose: refusals, broken answers, broken files, a changing world.

A fault strikes a fixed share of addresses, chosen by hash of seed, kind and path, and only the
first attempts at each: the same run meets the same faults, and a client that tries again succeeds.
Without `faults` or `control` in the parameters none of this is reachable.
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
"""Orders one fault for the request that carries it, where the board has `control`."""

_BURST = 4
_WIDE_LIMIT = 100
_DRIP_BYTES, _DRIP_SECONDS = 100, 0.1
_STALL_SECONDS = 600.0

STATUSES = {
    "too_many": 429,
    "too_many_retry_after": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "gateway_timeout": 504,
}
"""HTML pages of the proxy."""

API_ERRORS = {
    "query_canceled": (500, "ActiveRecord::QueryCanceled"),
    "wide_query": (500, "ActiveRecord::QueryCanceled"),
    "database_down": (503, "PG::ConnectionBad"),
}
"""JSON errors of the application; `wide_query` strikes only pages of more than 100 posts."""

BODIES = ("invalid_json", "truncated_json")
CONNECTIONS = ("reset", "reset_in_body", "stall", "drip")
FILES = (
    *("short_file", "flipped_bytes", "undecodable_file"),
    *("wrong_type", "html_as_picture", "png_as_jpg"),
)
WORLD = ("gone", "deleted", "banned", "edited", "replaced")
"""Changes of a post between listing and download; they stay."""

KINDS = (*STATUSES, *API_ERRORS, *BODIES, "challenge", *CONNECTIONS, *FILES, *WORLD)

_API_ONLY = frozenset({*API_ERRORS, *BODIES})
_CDN_ONLY = frozenset({*FILES, *WORLD})


@dataclass(slots=True)
class FaultPlan:
    """Which faults are committed, and how often each was."""

    seed: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    """Kind to share of addresses struck, 0 to 1."""
    attempts: int = 1
    """How many attempts at one address fail before one succeeds."""
    committed: Counter[str] = field(default_factory=Counter)
    _tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    _seen: Counter[bool] = field(default_factory=Counter)

    def choose(self, path: str, *, is_cdn: bool) -> str | None:
        """The fault that strikes this request, if any."""
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
        text = f"{self.seed}:{kind}:{name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


def parse(texts: Iterable[str], *, seed: int = 0, attempts: int = 1) -> FaultPlan:
    """
    Reads `kind=share` texts.

    Raises:
        BadParams: An unknown kind, or a share that is no number from 0 to 1.
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


async def commit(
    kind: str, request: web.Request, handler: Handler, board: DemoBoard
) -> web.StreamResponse:
    """Answers a request with the fault `kind`."""
    if kind in (*STATUSES, *API_ERRORS, "challenge") and not _spares(kind, request):
        return _refusal(kind)
    if kind in ("reset", "stall"):
        return await _no_answer(kind, request)
    if kind in WORLD:
        await change(kind, request.path, board)
    response = await handler(request)
    if kind not in (*BODIES, *FILES, *CONNECTIONS) or not isinstance(response, web.Response):
        return response
    body = response.body if isinstance(response.body, bytes) else b""
    if kind in BODIES and response.headers.pop("Content-Encoding", None) == "gzip":
        body = gzip.decompress(body)
    if kind in CONNECTIONS:
        return await _slow_or_cut(kind, request, response, body)
    return _spoilt(kind, response, body)


def _spares(kind: str, request: web.Request) -> bool:
    """`wide_query` lets small pages through."""
    text = request.query.get("limit", "20")
    return kind == "wide_query" and not (text.isdigit() and int(text) > _WIDE_LIMIT)


def _refusal(kind: str) -> web.Response:
    """An answer that the application or the proxy gives instead of the right one."""
    if kind in API_ERRORS:
        status, name = API_ERRORS[kind]
        message = "The database timed out running your query."
        return web.json_response(answers.error(name, message), status=status)
    if kind == "challenge":
        return _html(200, "Just a moment...", "text/html")
    response = _html(STATUSES[kind], f"{STATUSES[kind]} {kind.replace('_', ' ')}", "text/html")
    if kind == "too_many_retry_after":
        response.headers["Retry-After"] = "1"
    return response


def _html(status: int, title: str, content_type: str) -> web.Response:
    text = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body></body></html>\n"
    return web.Response(text=text, status=status, content_type=content_type)


async def _no_answer(kind: str, request: web.Request) -> web.StreamResponse:
    """Breaks the connection at once, or says nothing until the caller loses patience."""
    if kind == "stall":
        await asyncio.sleep(_STALL_SECONDS)
    _reset(request)
    return web.Response()


def _reset(request: web.Request) -> None:
    """Breaks the connection with a TCP reset."""
    if request.transport is None:
        return
    sock = request.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def _slow_or_cut(
    kind: str, request: web.Request, response: web.Response, body: bytes
) -> web.StreamResponse:
    """Sends the right headers, then the body drop by drop, or half of it."""
    headers = response.headers.copy()
    headers["Content-Length"] = str(len(body))
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    if kind == "reset_in_body":
        await stream.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return stream
    for start in range(0, len(body), _DRIP_BYTES):
        if request.transport is None:
            break
        await stream.write(body[start : start + _DRIP_BYTES])
        await asyncio.sleep(_DRIP_SECONDS)
    return stream


def _spoilt(kind: str, response: web.Response, body: bytes) -> web.Response:
    """A complete answer with a wrong body or a wrong type."""
    middle = len(body) // 2
    if kind == "html_as_picture":
        return _html(200, "Origin error", "text/html")
    if kind == "wrong_type":
        response.headers["Content-Type"] = "application/octet-stream"
        return response
    if kind == "png_as_jpg":
        stream = io.BytesIO()
        Image.open(io.BytesIO(body)).convert("RGB").save(stream, "PNG")
        response.body = stream.getvalue()
        return response
    spoilt = {
        "invalid_json": body[:middle] + b"}}<" + body[middle:],
        "truncated_json": body[:middle],
        "short_file": body[:middle],
        "flipped_bytes": body[:middle] + bytes(one ^ 0x55 for one in body[middle : middle + 64]),
        "undecodable_file": body[:20] + b"\0" * (len(body) - 20),
    }[kind]
    response.body = spoilt + (body[middle + 64 :] if kind == "flipped_bytes" else b"")
    return response


async def change(kind: str, path: str, board: DemoBoard) -> None:
    """Lets the post whose file lies at `path` be deleted, banned, edited, replaced or gone."""
    parsed = files.parse_path(path)
    post_id = await board.find(parsed[1]) if parsed else None
    if post_id is not None:
        change_post(kind, post_id, board)


def change_post(kind: str, post_id: int, board: DemoBoard) -> None:
    """Changes one post as its uploader or a moderator would."""
    changes: dict[str, Callable[[], None]] = {
        "gone": lambda: board.remove_files(post_id),
        "deleted": lambda: board.flag(post_id, "deleted"),
        "banned": lambda: board.flag(post_id, "banned"),
        "edited": lambda: board.retag(post_id, add=["moss_oracle_(cosplay)"], rating="q"),
        "replaced": lambda: board.replace_file(post_id),
    }
    changes[kind]()
