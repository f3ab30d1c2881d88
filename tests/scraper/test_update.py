"""Tests the update: new posts in few pages, edits and deletions, and no gap after a kill."""

import asyncio
import dataclasses
import logging

import pyarrow.parquet as pq
import pytest
import yaml

from scraper import listing, recorded, status, update
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import ConnectionLost
from scraper.pages import Pages
from scraper.params import personae
from scraper.sources import Page
from tests.scraper.listing_fixture import BLANK, Shelf


def post(post_id, *characters, **changes):
    return dataclasses.replace(BLANK, post_id=post_id, tags_character=characters, **changes)


def run(source, folder, *, page_size=10):
    params = listing.Params(page_size=page_size)
    asyncio.run(listing.run(params, personae.Params(min_images=2), source, folder))


def updated(source, folder, *, changed=False):
    asyncio.run(update.run(source, folder, changed=changed))
    run(source, folder)


def rows(folder):
    return {row["post_id"]: row for row in pq.read_table(folder / "posts.parquet").to_pylist()}


def fail_at(name):
    """Returns a fault that loses the connection at the pages of one search."""

    def fail(search, _before):
        if search == name:
            raise ConnectionLost("The connection was lost.", url="")

    return fail


def pages_of(shelf, name):
    return [request[1] for request in shelf.asked if request[0] == name]


@pytest.fixture
def shelf():
    """Returns 100 posts of rin with odd ids and 50 of mai with even ones."""
    odd = [post(2 * number + 1, "rin") for number in range(100)]
    return Shelf(*odd, *(post(2 * number + 2, "mai") for number in range(50)))


@pytest.mark.parametrize(("new", "requested"), [(0, 1), (4, 1), (10, 2), (25, 3)])
def test_new_posts_are_listed_in_as_many_pages_as_they_fill(shelf, tmp_path, new, requested):
    """Pages of ten: the walk ends at the first page that reaches a known post."""
    run(shelf, tmp_path)
    shelf.posts += [post(1000 + number, "rin") for number in range(new)]
    shelf.asked.clear()
    updated(shelf, tmp_path)

    assert requested == len(pages_of(shelf, "rin"))
    assert [None] == pages_of(shelf, "mai")
    assert {known.post_id for known in shelf.posts} == rows(tmp_path).keys()


def test_a_finished_listing_says_how_to_renew_it(shelf, tmp_path, caplog):
    """A listing that has nothing left to request names the command that lists what is new."""
    run(shelf, tmp_path)
    with caplog.at_level(logging.INFO):
        run(shelf, tmp_path)

    assert "`python -m scraper update` renews it" in caplog.text


def test_an_update_asks_for_tables_and_new_personae_again(shelf, tmp_path):
    """A persona that was too rare is listed whole, and the tag tables are renewed."""
    shelf.posts.append(post(900, "rare"))
    run(shelf, tmp_path)
    shelf.posts.append(post(1001, "rare"))
    shelf.pairs["aliases"].append(("oldest_rin", "rin"))
    updated(shelf, tmp_path)

    assert {900, 1001} < rows(tmp_path).keys()
    assert ("oldest_rin", "rin") in [
        tuple(row.values()) for row in pq.read_table(tmp_path / "aliases.parquet").to_pylist()
    ]


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_persona_that_drops_out_leaves_nothing_unfinished(shelf, tmp_path, is_cut):
    """The search of a persona that is no candidate any more, listed in part or not, is not left."""
    folder = tmp_path / "listing"
    if is_cut:
        shelf.fault = fail_at("mai")
        with pytest.raises(ConnectionLost):
            run(shelf, folder)
        assert "1 of 2 searches done" in status.report(tmp_path)
        shelf.fault = lambda _search, _before: None
    else:
        run(shelf, folder)
    shelf.posts = [post for post in shelf.posts if post.post_id % 2 or post.post_id == 2]
    updated(shelf, folder)

    summary = recorded.summary(folder)
    assert (150 - 50 * is_cut, 1, 1) == (summary.posts, summary.searches, summary.searches_done)
    assert "listing   done: 100 posts" in status.report(tmp_path)


@pytest.mark.parametrize("failing", range(4))
def test_an_update_that_fails_leaves_no_gap(shelf, tmp_path, failing):
    """After a failure at any page the listing goes on, down to the posts that it knew."""
    run(shelf, tmp_path)
    shelf.posts += [post(1000 + number, "rin") for number in range(35)]
    shelf.asked.clear()

    def fail(search, _before):
        if search == "rin" and len(pages_of(shelf, "rin")) == failing + 1:
            raise ConnectionLost("The connection was lost.", url="")

    shelf.fault = fail
    with pytest.raises(ConnectionLost):
        updated(shelf, tmp_path)
    shelf.fault = lambda _search, _before: None
    shelf.asked.clear()
    run(shelf, tmp_path)

    assert {known.post_id for known in shelf.posts} == rows(tmp_path).keys()
    assert 4 - failing == len(pages_of(shelf, "rin"))


def test_edits_and_deletions_are_recorded(shelf, tmp_path, caplog):
    """An edited post has its new tags, a removed one becomes a tombstone, and new ones are listed."""
    run(shelf, tmp_path)
    before = rows(tmp_path)
    edited = dataclasses.replace(shelf.posts[3], tags_general=("2girls",), rating="s")
    gone = shelf.posts[7].post_id
    shelf.posts[3] = edited
    shelf.posts.append(post(1001, "rin"))
    del shelf.posts[7]
    with caplog.at_level(logging.INFO):
        updated(shelf, tmp_path, changed=True)
    after = rows(tmp_path)

    assert "1 posts edited, 1 gone" in caplog.text
    assert (["2girls"], "s") == (
        after[edited.post_id]["tags_general"],
        after[edited.post_id]["rating"],
    )
    assert before[gone] | {"is_deleted": True, "md5": None, "variants": []} == after[gone]
    assert before.keys() | {1001} == after.keys()
    unchanged = before.keys() - {edited.post_id, gone}
    assert [before[key] for key in unchanged] == [after[key] for key in unchanged]


@pytest.mark.parametrize("changed", [False, True])
def test_status_counts_the_posts_that_are_gone(shelf, tmp_path, changed):
    """Tombstones are counted, until an update of either kind meets the post again."""
    folder = tmp_path / "listing"
    run(shelf, folder)
    newest = shelf.posts.pop(99)
    updated(shelf, folder, changed=True)
    assert 1 == recorded.summary(folder).gone
    assert "listing   done: 150 posts, 1 gone" in status.report(tmp_path)
    shelf.posts.append(newest)
    updated(shelf, folder, changed=changed)

    assert 0 == recorded.summary(folder).gone
    assert not any(row["is_deleted"] for row in rows(folder).values())


def test_status_is_that_of_the_board_listed_last(shelf, tmp_path):
    """A board left unfinished in the same folder does not count, and several boards are named."""
    folder = tmp_path / "listing"
    other = Shelf(*(post(number, "mai") for number in range(5)), identity="other")
    other.fault = fail_at("mai")
    with pytest.raises(ConnectionLost):
        run(other, folder)
    run(shelf, folder)
    text = status.report(tmp_path)
    assert "listing   done: 150 posts of shelf, the last of 2 boards here" in text
    with pytest.raises(ConnectionLost):
        run(other, folder)

    assert "unfinished: 0 posts of other, the last of 2 boards here, 0 of 1" in status.report(
        tmp_path
    )


def test_a_refresh_that_fails_goes_on_after_its_last_hundred(shelf, tmp_path):
    """150 posts are requested again 100 at once; a second try repeats none of the first hundred."""
    run(shelf, tmp_path)

    def fail(search, _before):
        if search.startswith("id:") and f"{shelf.posts[-1].post_id}" not in search.split(","):
            raise ConnectionLost("The connection was lost.", url="")

    shelf.asked.clear()
    shelf.fault = fail
    with pytest.raises(ConnectionLost):
        updated(shelf, tmp_path, changed=True)
    shelf.fault = lambda _search, _before: None
    updated(shelf, tmp_path, changed=True)
    searches = [request[0] for request in shelf.asked if request[0].startswith("id:")]

    assert [100, 50, 50] == [len(search.split(",")) for search in searches]
    assert searches[1] == searches[2]
    with Pages(tmp_path, shelf.identity) as pages:
        assert pages.answer("refreshed up to") is None


def test_the_command_fetches_what_is_new_and_what_has_changed(tmp_path, monkeypatch, capsys):
    """On the demo board: an insert, an edit, a deletion and a new file, each seen by the right command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({}))
    with serving(booru.board(TINY)) as served:
        command = ["--site", served.url, "--min-images", "12", "--side", "64", "--page-size", "5"]
        command += ["--api-rate", "1e6"]
        assert 0 == main(command)
        kept = pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()
        stored = pq.read_table("data/download/images.parquet").num_rows
        newest = max(known.post_id for known in served.board.posts)
        served.board.insert(dataclasses.replace(served.board.post(kept[0]), post_id=newest + 1))
        served.board.retag(kept[1], drop=["solo"], add=["2girls"])
        served.board.flag(kept[2], "deleted")

        assert 0 == main(command)
        again = pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()
        assert [*kept, newest + 1] == again
        assert stored + 1 == pq.read_table("data/download/images.parquet").num_rows

        assert 0 == main(["update", "--changed", *command])
        again = pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()
        assert [key for key in [*kept, newest + 1] if key not in kept[1:3]] == again
        assert "0 left" in capsys.readouterr().out


def test_an_update_follows_an_implication_that_the_board_removes(tmp_path, monkeypatch):
    """Posts with form and base are the form's while the board says so, and refused afterwards."""
    monkeypatch.chdir(tmp_path)
    board = booru.board(TINY)
    sections = {
        "personae": {"min_images": 1},
        "listing": {"names": ["eclipse_ayame", "tsukishiro_ayame"]},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    with serving(board) as served:
        options = ["--site", served.url, "--api-rate", "1e6"]

        def reasons(*commands):
            for command in commands:
                assert 0 == main([command, *(options if command != "decide" else ())])
            table = pq.read_table(tmp_path / "data/decide/decisions.parquet").to_pylist()
            decided = {}
            for row in table:
                decided.setdefault(row["post_id"], set()).add(row["reason"])
            return [decided[number] for number in pairs]

        pairs = [
            post.post_id
            for post in board.posts
            if post.tags["character"] == ("eclipse_ayame", "tsukishiro_ayame")
            and not board.truth(post.post_id).reasons
        ]
        whole = board.implications
        before = reasons("listing", "decide")
        board.implications = tuple(
            dataclasses.replace(row, status="deleted")
            if (row.antecedent, row.consequent) == ("eclipse_ayame", "tsukishiro_ayame")
            else row
            for row in whole
        )
        removed = reasons("update", "listing", "decide")
        board.implications = whole
        again = reasons("update", "listing", "decide")

    assert len(pairs) > 5
    assert [{None}] * len(pairs) == before == again
    assert [{"two_personas"}] * len(pairs) == removed


def test_empty_page_of_an_update_hides_no_new_post(shelf, tmp_path):
    """An empty first page does not end an update while the board counts unknown posts."""
    run(shelf, tmp_path)
    shelf.posts.append(post(1001, "rin"))
    whole, left = shelf.page, [2]

    async def page(search, *, before, size):
        if search == "rin" and left[0]:
            left[0] -= 1
            return Page((), None)
        return await whole(search, before=before, size=size)

    shelf.page = page
    updated(shelf, tmp_path)

    assert 1001 in rows(tmp_path)
