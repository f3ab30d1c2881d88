"""
A pytest plugin: the demo board as fixtures, for the tests of any program that reads a Danbooru.

An installed `personae` registers it by entry point, so a test only names the fixture:

    import requests

    def test_my_client_reads_a_page(demo_board):
        agent = {"User-Agent": "my-tests/1 (+https://example.org)"}
        answer = requests.get(f"{demo_board.url}/posts.json", headers=agent, timeout=60)
        post = answer.json()[0]

        assert answer.status_code == 200
        assert demo_board.board.truth(post["id"]).post_id == post["id"]
        assert demo_board.log.by_kind["api"] >= 1

The board answers 403 to a User-Agent that looks like a browser or a bare library, as Danbooru does
(https://danbooru.donmai.us/forum_topics/23284). pytest loads this file in every run of an
environment that has `personae`, so the imports of the board and of aiohttp wait for a fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scraper.demo.server.thread import ServedBoard


@pytest.fixture(scope="session")
def demo_board() -> "Iterator[ServedBoard]":
    """
    Yields a tiny board that all tests of the session share. Tests may read it, not change it.

    It holds about 280 posts, has no rate limit and draws images when they are first requested.
    The yielded `ServedBoard` has the attributes `url`, `board`, `log` and `faults`.
    """
    from scraper.demo.board import booru
    from scraper.demo.facts.params import TINY
    from scraper.demo.server.thread import serving

    with serving(booru.board(TINY)) as served:
        yield served


@pytest.fixture
def own_demo_board() -> "Iterator[ServedBoard]":
    """
    Yields a tiny board that belongs to one test, which may change posts and order faults.

    For instance `requests.get(url, headers={"X-Demo-Fault": "reset", ...})` breaks one connection,
    and `own_demo_board.board.flag(post_id, "deleted")` deletes a post.
    """
    from scraper.demo.board import booru
    from scraper.demo.facts.params import TINY
    from scraper.demo.server.thread import serving

    params = TINY.model_copy(update={"control": True})
    with serving(booru.board(params), params) as served:
        yield served
