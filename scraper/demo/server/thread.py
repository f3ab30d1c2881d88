"""
The demo board in a thread of this process: real HTTP on loopback, with the board itself at hand.

A test reads from the board what no answer carries: the truth, the request log, the faults.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from scraper.demo.board import unusual
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.params import TINY, Params
from scraper.demo.server import faults
from scraper.demo.server.application import application
from scraper.demo.server.endpoints import STATE, ServerState
from scraper.demo.server.faults import FaultPlan
from scraper.demo.server.gate import RequestLog

_STOP_SECONDS = 10.0
"""Longest wait for the server to stop: ten times what it grants to open connections."""


@dataclass(frozen=True, slots=True)
class ServedBoard:
    """A board that answers at `url`, for instance `http://127.0.0.1:40001`."""

    url: str
    state: ServerState

    @property
    def board(self) -> DemoBoard:
        """The posts, their truth, and the methods that change them."""
        return self.state.board

    @property
    def log(self) -> RequestLog:
        """The requests received so far."""
        return self.state.log

    @property
    def faults(self) -> FaultPlan:
        """The faults that strike requests from now on."""
        return self.state.faults

    def set_faults(self, *texts: str) -> None:
        """
        Replaces the faults that strike requests from now on; without texts, none strikes.

        Args:
            texts: Faults as `kind=share`, such as `reset=0.1`; `kind` alone strikes every request,
                once at each address.

        Raises:
            BadParams: A kind is unknown, or a share is not a number from 0 to 1.
        """
        self.state.faults.shares = faults.parse(texts).shares

    def add_unusual_posts(self) -> dict[str, int]:
        """Adds one post of each kind of `unusual.UNUSUAL`; returns kind to post id."""
        return unusual.add_posts(self.board)


@contextlib.contextmanager
def serving(board: DemoBoard, params: Params = TINY) -> Iterator[ServedBoard]:
    """
    Serves a board on a free port of 127.0.0.1 until the block ends, then closes the board.

    Args:
        board: The board; the event loop of the new thread owns it while it is served.
        params: How to serve: rate limit, latency, faults, control.

    Raises:
        OSError: No port is free.
    """
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(
        application(board, params=params),
        access_log=None,
        shutdown_timeout=1,
        handler_cancellation=True,
    )

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield ServedBoard(f"http://127.0.0.1:{port}", runner.app[STATE])
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(_STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        loop.close()
