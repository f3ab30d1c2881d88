"""Tests stage `listing` against a faulty board and a damaged record: one bad item never stops it."""

import asyncio

import pytest

from scraper import listing, recorded
from scraper.errors import (
    ConnectionLost,
    EmptyPage,
    NotAuthorised,
    UnexpectedResponse,
    UnreadablePage,
)
from scraper.params import personae
from scraper.sources import Page, RefusedPost
from scraper.sources.danbooru import Danbooru
from tests.scraper.listing_fixture import BASE, Shelf, raw, variant
from tests.scraper.test_listing import ids, post, run, table


class Board:
    """Answers as a board with posts of `rin`; `requests` lists the queries of pages."""

    def __init__(self, rows):
        self.rows = rows
        self.requests = []
        self.fault = lambda _query, _rows: None

    async def get_json(self, path, params=None):
        query = dict(params)
        if path == "/tags.json":
            is_first = query.get("page", 1) == 1
            tag = {"name": "rin", "category": 4, "post_count": len(self.rows)}
            return [tag] if is_first else []
        if path == "/counts/posts.json":
            below = int(query["tags"].partition("id:<")[2] or 2**62)
            rows = [row for row in self.rows if self._id(row) < below]
            return {"counts": {"posts": len(rows)}}
        if path != "/posts.json":
            return []
        self.requests.append((query.get("page"), query["limit"], query["only"] == "id"))
        below = int(query.get("page", f"b{2**62}")[1:])
        known = [row for row in self.rows if self._id(row) < below]
        rows = sorted(known, key=self._id, reverse=True)[: query["limit"]]
        faulty = self.fault(query, rows)
        if faulty is not None:
            return faulty
        return [{"id": self._id(row)} for row in rows] if query["only"] == "id" else rows

    def _id(self, row):
        return row["id"] if isinstance(row, dict) and isinstance(row.get("id"), int) else 0


def listed(board, folder, **changes):
    source = Danbooru(board, BASE)
    params = listing.Params(**{"page_size": 10, **changes})
    asyncio.run(listing.run(params, personae.Params(min_images=1), source, folder))


def refused(folder):
    return {row["post_id"]: row["reason"] for row in table(folder, "decisions")}


ODD = {
    "null score": {"score": None},
    "null uploader": {"uploader_id": None},
    "null time": {"created_at": None},
    "odd time": {"updated_at": "yesterday"},
    "text size": {"image_width": "4"},
    "negative size": {"file_size": -1},
    "tags as a list": {"tag_string_general": ["1girl"]},
    "null md5": {"md5": "xyz"},
    "null URL": {"media_asset": {"variants": [variant(5, url=None)]}},
    "null variant": {"media_asset": {"variants": [None]}},
    "variants as text": {"media_asset": {"variants": "none"}},
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_post_is_refused(name, tmp_path):
    """A post with an invalid field is refused with its reason, and all others are listed."""
    board = Board([raw(number, **(ODD[name] if number == 5 else {})) for number in range(1, 25)])
    listed(board, tmp_path)

    assert [number for number in range(1, 25) if number != 5] == ids(tmp_path)
    assert {5: "malformed_post"} == refused(tmp_path)
    assert 1 == recorded.summary(tmp_path).unreadable


@pytest.mark.parametrize(
    "field", sorted(raw(1).keys() - {"id", "md5", "file_url", "parent_id", "media_asset"})
)
def test_one_missing_field_refuses_one_post(field, tmp_path):
    """Whatever field one post lacks, the others are listed."""
    rows = [raw(number) for number in range(1, 8)]
    del rows[3][field]
    listed(Board(rows), tmp_path)

    assert {4: "malformed_post"} == refused(tmp_path)
    assert 6 == len(ids(tmp_path))


@pytest.mark.parametrize("row", [None, 7, "post", [], {}, {"id": "x"}, {"id": None}])
def test_row_without_an_id_is_passed(row, tmp_path):
    """A row that is no post, and has no id to record, does not stop the listing."""
    board = Board([raw(number) for number in range(1, 8)])
    board.fault = lambda query, rows: [*rows[:2], row, *rows[2:]] if "page" not in query else None
    listed(board, tmp_path)

    assert list(range(1, 8)) == ids(tmp_path)


def test_page_of_odd_posts_stops(tmp_path):
    """When no post of a page can be read, the board has changed: the listing ends."""
    board = Board([raw(number, score=None) for number in range(1, 25)])

    with pytest.raises(UnexpectedResponse, match="'score' of post 24"):
        listed(board, tmp_path)


def test_unreadable_post_is_isolated(tmp_path):
    """A post that breaks the JSON of its pages is refused; smaller pages bring all others."""
    board = Board([raw(number) for number in range(1, 61)])

    def broken(query, rows):
        if query["only"] != "id" and any(row["id"] == 33 for row in rows):
            raise UnreadablePage("no JSON")

    board.fault = broken
    listed(board, tmp_path, page_size=40)

    assert [number for number in range(1, 61) if number != 33] == ids(tmp_path)
    assert {33: "unreadable_post"} == refused(tmp_path)
    assert len(board.requests) < 40


def test_page_that_is_never_readable_ends(tmp_path):
    """When even the ids of a page cannot be read, the search ends with an error."""
    board = Board([raw(number) for number in range(1, 61)])

    def broken(query, _rows):
        if "page" in query:
            raise UnreadablePage("no JSON")

    board.fault = broken
    with pytest.raises(UnreadablePage):
        listed(board, tmp_path)
    assert len(board.requests) < 10
    board.fault = lambda _query, _rows: None
    listed(board, tmp_path)
    assert 60 == len(ids(tmp_path))


@pytest.fixture
def shelf():
    """Returns 60 posts of rin and 20 of mai."""
    return Shelf(*(post(number, "rin" if number % 4 else "mai") for number in range(1, 81)))


def empty_once(shelf, times):
    """Makes the first `times` pages below id 40 of the search `rin` empty."""
    left = [times]
    whole = shelf.page

    async def page(search, *, before, size):
        result = await whole(search, before=before, size=size)
        if search == "rin" and before is not None and before < 40 and left[0]:
            left[0] -= 1
            return Page((), None)
        return result

    shelf.page = page


@pytest.mark.parametrize("times", [1, 2])
def test_spurious_empty_page_does_not_end_a_walk(shelf, tmp_path, times):
    """An empty page is requested again while the tag's count says that posts are missing."""
    empty_once(shelf, times)
    run(shelf, tmp_path, page_size=10)

    assert list(range(1, 81)) == ids(tmp_path)


def test_lasting_empty_page_leaves_the_search(shelf, tmp_path):
    """When the board counts more posts, the search is left for a later run, and others go on."""
    empty_once(shelf, 3)
    with pytest.raises(EmptyPage, match=r"'rin' ended .* counts \d+ more") as caught:
        run(shelf, tmp_path, page_size=10)
    assert 3 == caught.value.exit_code
    assert not (tmp_path / "posts.parquet").exists()
    assert 1 == recorded.summary(tmp_path).searches_done
    run(shelf, tmp_path, page_size=10)

    assert list(range(1, 81)) == ids(tmp_path)


@pytest.mark.parametrize("counted", [25, None], ids=["counted", "not countable"])
def test_empty_page_that_lasts_for_three_runs_is_the_end(shelf, tmp_path, counted, caplog):
    """A board whose count stays wrong does not keep a collection from its end."""
    empty_once(shelf, 10**6)
    shelf.counted = lambda _search, _before: counted
    for _ in range(2):
        with pytest.raises(EmptyPage):
            run(shelf, tmp_path, page_size=10)
    run(shelf, tmp_path, page_size=10)

    assert len(ids(tmp_path)) < 80
    assert "counts as listed" in caplog.text


def test_count_that_is_a_little_stale_is_no_failure(tmp_path):
    """Without a count of the rest, a tag's count may be stale by two per cent."""
    shelf = Shelf(*(post(number, "rin") for number in range(1, 101)))
    tags = shelf._tags
    shelf._tags = lambda: [listing.Tag(tag.name, 4, tag.post_count + 2) for tag in tags()]
    shelf.counted = lambda _search, _before: None
    run(shelf, tmp_path, page_size=50)

    assert 100 == len(ids(tmp_path))


def test_search_without_end_is_bounded(tmp_path):
    """Posts below the cursor without end are an error, long before memory or disk are full."""
    shelf = Shelf(*(post(number, "rin") for number in range(1, 61)))
    requests = []

    async def page(_search, *, before, size):
        requests.append(before)
        top = 10**12 if before is None else before
        return Page(tuple(post(top - number, "rin") for number in range(1, size + 1)), top - size)

    shelf.page = page
    with pytest.raises(UnexpectedResponse, match="does not end"):
        run(shelf, tmp_path, page_size=200)

    assert len(requests) < 10


def test_failed_search_leaves_the_others(shelf, tmp_path):
    """A search that fails is left for the next run, and the other personae are listed."""

    def broken(search, _before):
        if search == "rin":
            raise ConnectionLost("gone")

    shelf.fault = broken
    with pytest.raises(ConnectionLost):
        run(shelf, tmp_path, page_size=10)

    assert 1 == recorded.summary(tmp_path).searches_done


def test_many_failed_searches_end_the_listing(tmp_path):
    """Three failed searches in a row are no fault of the searches: no further one is requested."""
    shelf = Shelf(*(post(number, f"girl_{number % 10}") for number in range(1, 101)))

    def broken(_search, _before):
        raise ConnectionLost("gone")

    shelf.fault = broken
    with pytest.raises(ExceptionGroup):
        run(shelf, tmp_path)

    assert 3 == len([entry for entry in shelf.asked if isinstance(entry, tuple)])


def test_refused_client_ends_the_listing_at_once(tmp_path):
    """A board that refuses the client is not asked for the next search."""
    shelf = Shelf(*(post(number, f"girl_{number % 10}") for number in range(1, 101)))

    def refuse(_search, _before):
        raise NotAuthorised("no")

    shelf.fault = refuse
    with pytest.raises(NotAuthorised):
        run(shelf, tmp_path)

    assert 1 == len([entry for entry in shelf.asked if isinstance(entry, tuple)])


class Tables:
    """Answers each request for a table with what `rows` returns for the query."""

    def __init__(self, rows):
        self.rows = rows
        self.requests = 0

    async def get_json(self, _path, params=None):
        self.requests += 1
        return self.rows(dict(params))


def collected(generator):
    async def collect():
        return [item async for item in generator]

    return asyncio.run(collect())


def tag_row(number, **changes):
    return {"name": f"girl_{number}", "category": 4, "post_count": 9, **changes}


def test_repeated_page_of_tags_ends():
    """A board that repeats the page of tags is not asked for ever."""
    short = Tables(lambda _query: [tag_row(1), tag_row(2)])
    full = Tables(lambda _query: [tag_row(number) for number in range(1000)])

    assert 2 == len(collected(Danbooru(short, BASE).candidates(1)))
    assert 2 == short.requests
    with pytest.raises(UnexpectedResponse, match="repeats the same page"):
        collected(Danbooru(full, BASE).candidates(1))
    assert 2 == full.requests


def test_endless_tables_are_bounded(monkeypatch):
    """Tags, implications and aliases without end are an error."""
    endless = Tables(
        lambda query: [tag_row(1000 * query["page"] + number) for number in range(1000)]
    )

    def pairs(query):
        top = int(query.get("page", "b9000000000")[1:])
        return [
            {"id": top - number, "antecedent_name": f"a{top}", "consequent_name": "b"}
            for number in range(1, 1001)
        ]

    source = Danbooru(endless, BASE, most_rows=5000)
    with pytest.raises(UnexpectedResponse, match="does not end"):
        collected(source.candidates(1))
    for table_of in ("implications", "aliases"):
        below = Tables(pairs)
        with pytest.raises(UnexpectedResponse, match="does not end"):
            collected(getattr(Danbooru(below, BASE, most_rows=5000), table_of)())
        assert below.requests <= 6


@pytest.mark.parametrize(
    "row", [None, {}, {"name": None}, tag_row(1, name="a b"), tag_row(1, post_count="9")]
)
def test_malformed_tag_is_left_out(row):
    """A malformed row of a table is left out, and the others are read."""
    tables = Tables(lambda query: [tag_row(2), row, tag_row(3)] if query["page"] == 1 else [])

    names = [tag.name for tag in collected(Danbooru(tables, BASE).candidates(1))]
    assert ["girl_2", "girl_3"] == names
    with pytest.raises(UnexpectedResponse):
        collected(Danbooru(Tables(lambda _query: [row] * 3), BASE).candidates(1))


def test_malformed_pair_is_left_out():
    """A malformed implication is left out, and the cursor moves on."""
    rows = [
        {"id": 3, "antecedent_name": "a", "consequent_name": "b"},
        {"id": 2, "antecedent_name": None, "consequent_name": "b"},
        {"antecedent_name": "c", "consequent_name": "b"},
    ]
    tables = Tables(lambda query: rows if "page" not in query else [])

    assert {("a", "b"), ("c", "b")} == set(collected(Danbooru(tables, BASE).implications()))


def test_page_keeps_the_ids_of_refused_posts():
    """The cursor counts refused posts, so that a walk never stands still at one."""
    board = Board([raw(number, **({"score": None} if number == 1 else {})) for number in (1, 2, 3)])
    page = asyncio.run(Danbooru(board, BASE).page("rin", before=None, size=10))

    assert 1 == page.cursor
    assert [3, 2] == [entry.post_id for entry in page.posts]
    assert isinstance(page.refused[0], RefusedPost)
