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

More examples are in `docs/demo-board.md`. The board answers 403 to a User-Agent that looks like a
browser or a bare library, as Danbooru does (https://danbooru.donmai.us/forum_topics/23284). pytest
loads this file in every run of an environment that has `personae`, so the imports of the board and
of aiohttp wait for a fixture.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from scraper.demo.server.thread import ServedBoard


def _served(*, has_control: bool) -> "AbstractContextManager[ServedBoard]":
    """Returns a tiny board that is served within a `with` block."""
    try:
        from scraper.demo.board import booru
        from scraper.demo.facts.params import TINY
        from scraper.demo.server.thread import serving
    except ImportError as error:
        pytest.fail(
            f"The demo board cannot be imported: {error}. Install what it needs:\n"
            "  pip install 'personae[scraper]'",
            pytrace=False,
        )
    params = TINY.model_copy(update={"control": has_control})
    return serving(booru.board(params), params)


@pytest.fixture(scope="session")
def demo_board() -> "Iterator[ServedBoard]":
    """
    Yields a tiny board that all tests of the session share. Tests may read it, not change it.

    It holds about 280 posts, has no rate limit and draws images when they are first requested.
    The yielded `ServedBoard` has the attributes `url`, `board`, `log` and `faults`.
    """
    with _served(has_control=False) as served:
        yield served


@pytest.fixture
def own_demo_board() -> "Iterator[ServedBoard]":
    """
    Yields a tiny board that belongs to one test, which may change posts and set faults.

    For instance `own_demo_board.set_faults("reset=0.1")` breaks connections at a tenth of the
    addresses, `own_demo_board.board.flag(post_id, "deleted")` deletes a post, and
    `own_demo_board.add_unusual_posts()` adds rare files and tags.
    """
    with _served(has_control=True) as served:
        yield served
