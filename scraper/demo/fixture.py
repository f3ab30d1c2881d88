"""
The demo board for tests: real HTTP on loopback, with the truth and the request log at hand.

    from scraper.demo.fixture import demo_board, serving  # in conftest.py
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from scraper.demo.board import booru
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.params import Params
from scraper.demo.server.application import application
from scraper.demo.server.endpoints import STATE, ServerState
from scraper.demo.server.faults import FaultPlan
from scraper.demo.server.gate import RequestLog

TINY = Params(
    posts_large=24,
    posts_small=12,
    posts_minor=3,
    refused_share=0.35,
    mistagged_share=0.04,
    duplicate_share=0.08,
    rate=0,
    workers=0,
    cache="",
)
"""A board of about 280 posts that holds every plant; no rate limit, no process, no cache."""


@dataclass(frozen=True, slots=True)
class ServedBoard:
    """A board that answers at `url`."""

    url: str
    state: ServerState

    @property
    def board(self) -> DemoBoard:
        """Posts, truth, and the means to change them."""
        return self.state.board

    @property
    def log(self) -> RequestLog:
        """What was requested so far."""
        return self.state.log

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong from now on."""
        return self.state.faults


@contextlib.contextmanager
def serving(board: DemoBoard, params: Params = TINY) -> Iterator[ServedBoard]:
    """Serves a board from a thread of its own until the block ends."""
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
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="session")
def demo_board() -> Iterator[ServedBoard]:
    """A tiny board that all tests share: read it, do not change it."""
    with serving(booru.board(TINY)) as served:
        yield served


@pytest.fixture
def own_demo_board() -> Iterator[ServedBoard]:
    """A tiny board of one test, which may change it and order faults."""
    params = TINY.model_copy(update={"control": True})
    with serving(booru.board(params), params) as served:
        yield served
