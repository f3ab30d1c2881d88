"""A board on loopback, byte by byte, whose answers can be faulty, and the faults themselves."""

import asyncio
import contextlib
import gzip
import ssl
from collections import Counter
from urllib.parse import parse_qsl

from tests.scraper.conftest import noise
from tests.scraper.network_fixture import answer, drip, endless, html, interim, reset, stall

MILLION_BRACKETS = b"[" * 1_000_000
CANCELED = {"error": "ActiveRecord::QueryCanceled", "message": "timed out"}
PNG = "image/png"


def redirect(location):
    return answer(b"", 302, Location=location)


def gzipped(body, kind="application/json"):
    return answer(gzip.compress(body, 9), kind=kind, Content_Encoding="gzip")


async def cut(writer):
    """Sends headers and half of a body, then resets the connection."""
    writer.write(answer(b"x" * 500, kind=PNG, length=1000))
    await writer.drain()
    await reset(writer)


async def endless_headers(writer):
    """Sends headers without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
CONNECTION = {
    "429": html(429),
    "429 seconds": html(429, Retry_After="1"),
    "429 date": html(429, Retry_After="Sun, 01 Mar 2026 12:00:09 GMT"),
    "429 negative": html(429, Retry_After="-7"),
    "429 huge": html(429, Retry_After="1000000000"),
    "408": html(408),
    "500": html(500),
    "503": html(503),
    "503 for a day": html(503, Retry_After="86400"),
    "reset": reset,
    "reset in the body": cut,
    "silence": stall,
    "drip": drip,
    "closed": b"",
    "no HTTP": b"220 smtp.example.org ESMTP\r\n\r\n",
    "damaged status": b"HTTP/1.1 abc\r\n\r\n",
    "interim answers": interim,
    "endless headers": endless_headers,
    "long length": answer(b"[]", length=1000),
    "chunk garbage": CHUNKED + b"zz\r\n[]\r\n0\r\n\r\n",
    "damaged gzip": answer(b"no gzip", Content_Encoding="gzip"),
    "cut gzip": answer(gzip.compress(b"[]" * 99)[:-9], Content_Encoding="gzip"),
}
"""Faults of the connection and of servers: for files and for the API."""

HOST = {
    "challenge": answer(b"<html>", 403, kind="text/html", cf_mitigated="challenge"),
    "forbidden": html(403),
    "forbidden XML": answer(b"<Error/>", 403, kind="application/xml"),
    "unauthorised": html(401),
    "bad request": html(400),
    "not found": html(404),
    "gone": html(410),
    "304": answer(b"", 304),
    "501": html(501),
    "redirect in a circle": redirect("/circle"),
    "redirect to nowhere": answer(b"", 302),
    "redirect to a portal": redirect("http://login.hotel.example/welcome"),
    "redirect to metadata": redirect("http://169.254.169.254/latest"),
    "redirect to a file": redirect("file:///etc/passwd"),
    "brotli": answer(b"x", Content_Encoding="br"),
    "page": answer(b"<html>", kind="text/html"),
    "empty": answer(b"", kind=PNG),
    "endless": endless,
    "announced too long": answer(b"", length=10**12),
    "bomb": gzipped(bytes(50_000_000)),
}
"""Answers that no board sends in place of a file or of JSON."""

FILES = {
    "other type": answer(noise(1, 30, 40, "jpg"), kind=PNG),
    "placeholder": answer(noise(2, 16, 16), kind=PNG),
    "flipped": answer(noise(3, 30, 40), kind=PNG),
    "half": answer(noise(4, 30, 40)[:1000], kind=PNG),
    "header alone": answer(noise(4, 30, 40)[:20], kind=PNG),
}
"""Bodies of images that are not the listed ones."""

JSON = {
    "syntax error": answer(b'[{"id": 1},,]'),
    "cut": answer(b'[{"id": 1'),
    "no UTF-8": answer(b'["\xff\xfe"]'),
    "deep": answer(MILLION_BRACKETS),
    "object": answer({}),
    "null": answer(b"null"),
    "NaN": answer(b"[NaN]"),
    "text": answer(b"hello", kind="text/plain"),
    "no type": answer(b"[]", kind=None),
    "canceled": answer(CANCELED, 500),
    "tag limit": answer({"error": "PostQuery::TagLimitError"}, 422),
    "no page": answer([]),
    "numbers": answer([1, 2, 3]),
    "nulls": answer([None] * 7),
}
"""Bodies of the API that are no page of posts."""


class FaultyBoard:
    """
    A board on loopback. `fault(path, number)` may return what is sent instead of its answer.

    Attributes:
        images: Path to bytes.
        rows: The posts, as JSON.
        requests: Paths of the requests received.
    """

    def __init__(self):
        self.images = {}
        self.rows = []
        self.requests = []
        self._tasks = set()
        self.fault = lambda _path, _number: None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_error):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            # The board's end cancels what is left; the server would report a cancelled task.
            with contextlib.suppress(asyncio.CancelledError):
                await self._respond(reader, writer)
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _respond(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.decode("latin-1").split(" ")[1]
            self.requests.append(path)
            entry = self.fault(path, len(self.requests))
            if entry is None:
                entry = self._answer(path)
            if isinstance(entry, bytes):
                writer.write(entry)
                await writer.drain()
            else:
                await entry(writer)

    def _answer(self, path):
        if path in self.images:
            return answer(self.images[path], kind=PNG)
        name, _, query = path.partition("?")
        fields = dict(parse_qsl(query, keep_blank_values=True))
        if name == "/tags.json" and fields.get("page") == "1":
            counts = Counter(row["tag_string_character"] for row in self.rows)
            return answer(
                [{"name": tag, "category": 4, "post_count": n} for tag, n in counts.items()]
            )
        if name == "/circle":
            return redirect("/circle")
        if name == "/posts.json":
            return answer(self._page(fields))
        if name == "/counts/posts.json":
            tag, _, below = fields["tags"].partition(" id:<")
            return answer({"counts": {"posts": len(self._below(tag, int(below or 2**62)))}})
        return answer([])

    def _below(self, tag, below):
        rows = [row for row in self.rows if row["tag_string_character"] == tag]
        return sorted((row for row in rows if row["id"] < below), key=lambda row: -row["id"])

    def _page(self, fields):
        below = int(fields.get("page", f"b{2**62}")[1:])
        rows = self._below(fields["tags"], below)[: int(fields["limit"])]
        return [{"id": row["id"]} for row in rows] if fields["only"] == "id" else rows
