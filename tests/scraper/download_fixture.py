"""Runs stage `download` on the images of the test host, and provides faults for that host."""

import asyncio
from dataclasses import replace

import pytest
import stamina
from aiohttp import web

from scraper import download, site
from scraper.client import Client


@pytest.fixture(autouse=True)
def _instant_retries():
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def run(shelf):
    """Runs the stage once; returns nothing, or raises the error of the stage."""
    whole = shelf

    async def once(*, name="board", shelf=whole, **changes):
        extra = {
            key: changes.pop(key)
            for key in ("at", "clock", "segments", "queue_bytes")
            if key in changes
        }
        params = download.Params(**{"side": None, "workers": 4, "group": 8, **changes})
        board = replace(
            site.Site.resolve(site.Params(name=shelf.host.url)), name=name, cdn_rate=10_000.0
        )
        async with Client(board, sleep=lambda _seconds: asyncio.sleep(0)) as client:
            await download.run(
                params, client, board, shelf.listing_dir, shelf.decide_dir, shelf.out_dir, **extra
            )

    return lambda **changes: asyncio.run(once(**changes))


def fill(shelf, count=30):
    for post_id in range(100, 100 + count):
        shelf.add(post_id)
    shelf.write()


def answer(status=200, **options):
    async def handler(_request):
        return web.Response(status=status, **options)

    return handler
