"""A scripted HTTP server on loopback that can fail at any byte, and a clock that does not wait."""

import asyncio
import contextlib
import json
import socket
import struct
from datetime import UTC, datetime

from scraper.client import Client
from scraper.one_shot import OneShot
from scraper.params.site import Params
from scraper.policy import Patience, RequestBudget
from scraper.site import Site

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REASONS = {200: "OK", 302: "Found", 404: "Not Found"}


class Clock:
    """A clock that advances only while a task sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.sleep_blocking(seconds)
        await asyncio.sleep(0)

    def sleep_blocking(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def answer(body=b"{}", status=200, *, kind="application/json", length=None, **headers):
    """Returns the bytes of a response; `length` may be wrong."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}", "Connection: close"]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


FINE = answer([{"id": 1}])


def html(status, **headers):
    return answer(b"<html>Just a moment...</html>", status, kind="text/html", **headers)


async def reset(writer):
    """Resets the connection, as a crash does."""
    plug = writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def stall(writer):
    """Sends nothing until the client disconnects."""
    while not writer.is_closing():
        await asyncio.sleep(0.01)
        writer.write(b"")


async def interim(writer):
    """Sends interim answers without end, and never the final one."""
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
        await writer.drain()
        await asyncio.sleep(0.01)


async def slow_headers(writer):
    """Sends one byte of a header at a time and never finishes."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip(writer):
    """Sends a few bytes at a time and never finishes."""
    writer.write(answer(b"", length=10_000))
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(writer):
    """Sends a body without length and without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" " * 65_536)
        await writer.drain()


class Server:
    """
    Responds to one connection after another from a script; the last entry repeats.

    An entry is bytes to send, or a coroutine function of the writer. `requests` are the received
    request heads, and `origin` is the address.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_error):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.decode("latin-1"))
            entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if isinstance(entry, bytes):
                writer.write(entry)
                await writer.drain()
            else:
                await entry(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def paths(self):
        """Returns path and query of each request."""
        return [head.split(" ")[1] for head in self.requests]

    def header(self, name):
        """Returns the header of each request, None where it was not sent."""
        wanted = f"{name.lower()}: "
        return [
            next(
                (
                    line[len(wanted) :]
                    for line in head.split("\r\n")
                    if line.lower().startswith(wanted)
                ),
                None,
            )
            for head in self.requests
        ]


class Asked:
    """Both clients of a scripted server, with their waits."""

    def __init__(self, server, clock, client, blocking):
        self.server = server
        self.clock = clock
        self.client = client
        self.blocking = blocking

    async def json(self, path="/posts.json", params=None):
        return await self.client.get_json(path, params)

    async def one_shot(self, path="/posts.json", params=None):
        """Returns the response to the synchronous client; both clients share the budget."""
        return await asyncio.to_thread(self.blocking.get_json, path, params)

    async def bytes(self, path="/a.jpg", most=1000):
        return await self.client.get_bytes(path, max_bytes=most)

    @property
    def slept(self):
        """Returns the waits of at least 0.05 seconds; the waits of the rate limit are shorter."""
        return [seconds for seconds in self.clock.slept if seconds >= 0.05]


@contextlib.asynccontextmanager
async def asking(
    *script,
    login="",
    api_key="",
    base=None,
    hosts=(),
    is_local=True,
    rate=1e6,
    draw=1.0,
    **limits,
):
    """Yields an `Asked` of a server that follows `script`."""
    clock = Clock()
    async with Server(*script) as server:
        params = Params(name=base or server.origin, api_rate=rate, cdn_rate=rate, file_hosts=hosts)
        board = Site.resolve(params, contact="me@example.org", login=login, api_key=api_key)
        if not is_local:
            object.__setattr__(board, "is_local", False)  # behave as towards a public board
        patience = {"connect_seconds": 5.0, "read_seconds": 5.0, "total_seconds": 10.0, **limits}
        budget = RequestBudget(board, Patience(**patience), clock=clock, draw=lambda: draw)
        async with Client(board, budget, sleep=clock.sleep, now=lambda: NOW) as client:
            with OneShot(board, budget, sleep=clock.sleep_blocking, now=lambda: NOW) as blocking:
                yield Asked(server, clock, client, blocking)
