"""Tests which posts count as gone in an update: those whose absence another answer proves."""

import asyncio

import pytest

from scraper import recorded, update
from scraper.errors import EmptyPage
from scraper.sources import Page, RefusedPost
from tests.scraper.test_update import pages_of, rows, run, shelf, updated

__all__ = ["shelf"]  # a fixture


def test_spurious_empty_answer_makes_no_tombstones(shelf, tmp_path):
    """Posts that an empty answer leaves out are requested again, and none counts as deleted."""
    run(shelf, tmp_path)
    whole, answers = shelf.page, []

    async def page(search, *, before, size):
        answers.append(search)
        is_empty = search.startswith("id:") and len(answers) % 2
        return Page((), None) if is_empty else await whole(search, before=before, size=size)

    shelf.page = page
    asyncio.run(update.run(shelf, tmp_path, changed=True))
    shelf.page = whole
    run(shelf, tmp_path)

    assert not any(row["is_deleted"] for row in rows(tmp_path).values())


def test_a_board_that_cannot_count_is_asked_for_another_post(shelf, tmp_path):
    """No count is no proof that a post is gone: it is requested again, beside the newest post."""
    run(shelf, tmp_path)
    whole, answers = shelf.page, []

    async def page(search, *, before, size):
        answers.append(search)
        is_empty = len(answers) <= 2
        return Page((), None) if is_empty else await whole(search, before=before, size=size)

    shelf.page, shelf.counted = page, lambda _search, _before: None
    asyncio.run(update.run(shelf, tmp_path, changed=True))
    shelf.page = whole
    run(shelf, tmp_path)

    assert not any(row["is_deleted"] for row in rows(tmp_path).values())


@pytest.mark.parametrize("count", [None, 10**6])
@pytest.mark.parametrize(("gone", "other"), [(1, 100), (100, 199)])
def test_posts_are_gone_where_another_comes_without_them(shelf, tmp_path, count, gone, other):
    """
    Where the board never counts, or counts all its posts, another post proves the answer whole.

    It is one of the same hundred; where all of them are gone, it is the newest of the board.
    """
    run(shelf, tmp_path)
    shelf.posts = [post for post in shelf.posts if post.post_id > gone]
    shelf.counted = lambda _search, _before: count
    shelf.asked.clear()
    updated(shelf, tmp_path, changed=True)
    ids = ",".join(map(str, range(1, gone + 1)))

    assert gone == recorded.summary(tmp_path).gone
    assert 1 == len(pages_of(shelf, f"id:{ids},{other}"))
    assert (gone == 100) == len(pages_of(shelf, "id:>0"))


@pytest.mark.parametrize("count", [None, 10**6])
@pytest.mark.parametrize("sends_newest", [False, True])
def test_empty_answers_prove_nothing_where_the_board_cannot_count(
    shelf, tmp_path, count, sends_newest
):
    """A search by ids that sends nothing, whatever the ids, ends the update without tombstones."""
    run(shelf, tmp_path)
    whole = shelf.page

    async def page(search, *, before, size):
        is_sent = sends_newest and search == "id:>0"
        return await whole(search, before=before, size=size) if is_sent else Page((), None)

    shelf.page, shelf.counted = page, lambda _search, _before: count
    _fail_without_tombstones(shelf, tmp_path, whole, "does not prove them gone")


def test_lasting_empty_answer_ends_the_update(shelf, tmp_path):
    """When the board counts posts that it does not send, no post becomes a tombstone."""
    run(shelf, tmp_path)
    whole = shelf.page

    async def page(_search, *, before, size):
        return Page((), None)

    shelf.page = page
    _fail_without_tombstones(shelf, tmp_path, whole, "no post")


def test_unreadable_post_is_no_tombstone(shelf, tmp_path):
    """A post whose fields are invalid for a while keeps its recorded row."""
    run(shelf, tmp_path)
    whole = shelf.page

    async def page(search, *, before, size):
        sent = await whole(search, before=before, size=size)
        refused = tuple(RefusedPost(each.post_id, "malformed_post", "") for each in sent.posts[:1])
        return Page(sent.posts[1:], sent.cursor, refused)

    shelf.page = page
    asyncio.run(update.run(shelf, tmp_path, changed=True))
    shelf.page = whole
    run(shelf, tmp_path)

    assert not any(row["is_deleted"] for row in rows(tmp_path).values())


def _fail_without_tombstones(shelf, folder, whole, message):
    """Runs an update that must end in an error, then one on the whole board: no post counts as gone."""
    with pytest.raises(EmptyPage, match=message):
        asyncio.run(update.run(shelf, folder, changed=True))
    shelf.page = whole
    run(shelf, folder)

    assert not any(row["is_deleted"] for row in rows(folder).values())
