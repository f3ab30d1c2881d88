"""Tests the update of posts that cannot be read: they stop no other post, and are requested again."""

import asyncio

import pytest

from scraper import update
from scraper.errors import UnreadablePage
from scraper.sources.danbooru import Danbooru
from tests.scraper.listing_fixture import BASE, raw
from tests.scraper.test_listing import ids, table
from tests.scraper.test_listing_faults import Board, listed, refused


class SearchedBoard(Board):
    """A board that also answers a search by ids, such as `id:1,2`."""

    async def get_json(self, path, params=None):
        whole, tags = self.rows, dict(params).get("tags", "")
        if tags.startswith("id:"):
            chosen = set(tags.removeprefix("id:").split(","))
            self.rows = [row for row in whole if str(row["id"]) in chosen]
        try:
            return await super().get_json(path, params)
        finally:
            self.rows = whole


def unreadable(query, rows):
    """Breaks the JSON of every page that has post 33."""
    if query["only"] != "id" and any(row["id"] == 33 for row in rows):
        raise UnreadablePage("no JSON")


def test_unreadable_post_does_not_end_an_update(tmp_path):
    """The other posts of its request are refreshed, and its own row stays as it was."""
    board = SearchedBoard([raw(number) for number in range(1, 61)])
    listed(board, tmp_path)
    board.rows = [row | {"rating": "s"} for row in board.rows]
    board.fault = unreadable
    asyncio.run(update.run(Danbooru(board, BASE), tmp_path, changed=True))
    board.fault = lambda _query, _rows: None
    listed(board, tmp_path)
    ratings = {row["post_id"]: row["rating"] for row in table(tmp_path, "posts")}

    assert dict.fromkeys(range(1, 61), "s") | {33: "g"} == ratings
    assert len(board.requests) < 40


@pytest.mark.parametrize("fault", ["unreadable", "malformed"])
def test_refused_post_is_listed_once_it_can_be_read(tmp_path, fault):
    """An update with `--changed` requests refused posts again too; one that is gone stays refused."""
    board = SearchedBoard([raw(number) for number in range(1, 61)])
    if fault == "malformed":
        board.rows[32:34] = [raw(33, score=None), raw(34, score=None)]
    else:
        board.fault = unreadable
    listed(board, tmp_path)
    assert 33 in refused(tmp_path)
    board.fault = lambda _query, _rows: None
    board.rows = [raw(number) for number in range(1, 61) if number != 34]
    asyncio.run(update.run(Danbooru(board, BASE), tmp_path, changed=True))
    listed(board, tmp_path)

    assert 33 in ids(tmp_path)
    assert ({34: "malformed_post"} if fault == "malformed" else {}) == refused(tmp_path)
