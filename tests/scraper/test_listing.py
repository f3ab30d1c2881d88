"""Tests stage `listing`: no post is missed and no page requested twice, wherever it is stopped."""

import asyncio
import dataclasses
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests

from personae.errors import AlreadyRunning, BadParams, DiskRefused
from scraper import listing, recorded
from scraper.client import Client
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import ConnectionLost, DamagedLedger, Unfinished
from scraper.listing import PAIRS_SCHEMA, TAGS_SCHEMA, Params
from scraper.pages import Pages
from scraper.params import personae
from scraper.schemas import POSTS_SCHEMA
from scraper.site import Params as SiteParams
from scraper.site import Site
from scraper.sources.danbooru import Danbooru
from tests.scraper.listing_fixture import BLANK, Shelf, post_of_row

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("posts", "tags", "implications", "aliases", "decisions")


def post(post_id, *characters, **changes):
    return dataclasses.replace(BLANK, post_id=post_id, tags_character=characters, **changes)


def run(source, folder, *, min_images=2, wanted=None, at=lambda _step: None, **changes):
    params = Params(**{"page_size": 2, **changes})
    wanted = wanted or personae.Params(min_images=min_images)
    asyncio.run(listing.run(params, wanted, source, folder, at=at))


def table(folder, name="posts"):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def ids(folder):
    return [row["post_id"] for row in table(folder)]


@pytest.fixture
def shelf():
    """Returns seven posts: five of rin, three of mai (one with rin), one of a persona too rare."""
    hidden = {"md5": None, "variants": ()}
    return Shelf(
        post(1, "rin"),
        post(2, "rin", **hidden),
        post(3, "rin"),
        post(4, "mai"),
        post(5, "mai", "rin"),
        post(6, "rin"),
        post(7, "rare"),
        post(8, "mai", tags_general=("1girl", "solo", "../../x")),
    )


def test_lists_every_post_of_every_candidate_once(shelf, tmp_path):
    """Each post of a candidate is one row, sorted by id, even if hidden or with two personae."""
    run(shelf, tmp_path)

    assert [1, 2, 3, 4, 5, 6, 8] == ids(tmp_path)
    assert shelf.posts[:6] == [post_of_row(row) for row in table(tmp_path)][:6]


def test_asks_until_the_empty_page(shelf, tmp_path):
    """A short page does not end the walk; only an empty page does."""
    run(shelf, tmp_path)

    walk = [before for search, before in shelf.asked[3:] if search == "rin"]
    assert [None, 5, 2, 1] == walk


def test_page_of_hidden_posts_moves_the_cursor(tmp_path):
    """A page of only hidden posts does not end the walk."""
    hidden = {"md5": None, "variants": ()}
    shelf = Shelf(*(post(number, "rin", **hidden) for number in range(1, 6)), post(9, "rin"))

    run(shelf, tmp_path)

    assert [1, 2, 3, 4, 5, 9] == ids(tmp_path)


def test_writes_the_tag_tables(shelf, tmp_path):
    """Tags have the category of their field, candidates have their count, and pairs are unique."""
    run(shelf, tmp_path)

    tags = {row["name"]: (row["category"], row["post_count"]) for row in table(tmp_path, "tags")}
    assert {
        "1girl": (0, None),
        "solo": (0, None),
        "series": (3, None),
        "../../x": (0, None),
        "rin": (4, 5),
        "mai": (4, 3),
    } == tags
    assert [{"antecedent": "old_rin", "consequent": "rin"}] == table(tmp_path, "aliases")
    assert [("rin_(swimsuit)", "rin")] == [
        tuple(row.values()) for row in table(tmp_path, "implications")
    ]


def test_schemas_are_fixed(shelf, tmp_path):
    """The tables have their documented columns, and posts record the effective parameters."""
    run(shelf, tmp_path)

    schemas = {name: pq.read_schema(tmp_path / f"{name}.parquet") for name in TABLES}
    assert schemas["posts"].equals(POSTS_SCHEMA)
    assert schemas["tags"].equals(TAGS_SCHEMA)
    assert schemas["aliases"].equals(PAIRS_SCHEMA)
    assert b'"min_images": 2' in schemas["posts"].metadata[b"personae.params"]


def test_second_run_asks_nothing(shelf, tmp_path):
    """A second run requests no page, and the tables are the same bytes."""
    run(shelf, tmp_path)
    first = {name: (tmp_path / f"{name}.parquet").read_bytes() for name in TABLES}
    shelf.asked.clear()

    run(shelf, tmp_path)

    assert [] == shelf.asked
    assert first == {name: (tmp_path / f"{name}.parquet").read_bytes() for name in TABLES}


def test_lower_minimum_lists_what_it_admits(shelf, tmp_path):
    """A lower minimum requests only the candidates and the newly admitted personae."""
    run(shelf, tmp_path)
    shelf.asked.clear()

    run(shelf, tmp_path, min_images=1)

    assert ["candidates", ("rare", None), ("rare", 7)] == shelf.asked
    assert [1, 2, 3, 4, 5, 6, 7, 8] == ids(tmp_path)


def test_higher_minimum_writes_less(shelf, tmp_path):
    """The tables hold the candidates of this run only, even if the ledger holds more."""
    run(shelf, tmp_path, min_images=1)

    run(shelf, tmp_path, min_images=5)

    assert [1, 2, 3, 5, 6] == ids(tmp_path)


def test_goes_on_after_a_failure(shelf, tmp_path):
    """After a failure, the walk continues at the missing page."""

    def broken(search, before):
        if (search, before) == ("rin", 2):
            raise ConnectionLost("gone")

    shelf.fault = broken
    with pytest.raises(ConnectionLost):
        run(shelf, tmp_path)
    shelf.asked.clear()
    shelf.fault = lambda _search, _before: None

    run(shelf, tmp_path)

    assert ("rin", 2) == shelf.asked[0]
    assert [1, 2, 3, 4, 5, 6, 8] == ids(tmp_path)


def test_two_boards_do_not_mix(shelf, tmp_path):
    """Another collection in the same folder starts anew, and the records of the first one stay."""
    run(shelf, tmp_path)
    run(Shelf(post(3, "mai"), post(4, "mai"), identity="other"), tmp_path)
    assert [3, 4] == ids(tmp_path)
    shelf.asked.clear()

    run(shelf, tmp_path)

    assert [] == shelf.asked
    assert [1, 2, 3, 4, 5, 6, 8] == ids(tmp_path)


def test_terms_are_part_of_the_search(shelf, tmp_path):
    """Other search terms start another walk."""
    run(shelf, tmp_path)
    shelf.asked.clear()

    run(shelf, tmp_path, terms="solo")

    assert ("rin solo", None) == shelf.asked[0]


def test_labels_bound_the_candidates(shelf, tmp_path):
    """With `labels`, only the candidates with the most posts are listed."""
    run(shelf, tmp_path, wanted=personae.Params(min_images=1, labels=1), candidates_per_label=1.0)

    assert [1, 2, 3, 5, 6] == ids(tmp_path)


def test_names_are_listed_whatever_their_counts(shelf, tmp_path):
    """With `listing.names`, exactly these personae are the candidates, whatever their counts."""
    run(shelf, tmp_path, names=("rare",))

    assert [7] == ids(tmp_path)


def test_unknown_name_is_a_bad_parameter(shelf, tmp_path):
    """A name that the board does not know is an error that gives the parameter."""
    with pytest.raises(BadParams, match=r"listing\.names.*'nobody'"):
        run(shelf, tmp_path, names=("nobody",))
    for field in ("include", "exclude"):
        with pytest.raises(BadParams, match=rf"personae\.{field}.*'nobody'"):
            run(shelf, tmp_path, wanted=personae.Params(min_images=1, **{field: ("nobody",)}))


def test_an_excluded_persona_is_not_listed(shelf, tmp_path):
    """The posts of an excluded persona alone are not listed."""
    run(shelf, tmp_path, wanted=personae.Params(min_images=2, exclude=("mai",)))

    assert [1, 2, 3, 5, 6] == ids(tmp_path)


def test_no_candidate_is_an_error_with_the_largest_counts(shelf, tmp_path):
    """If no persona has enough posts, the error names those that have most; no table is written."""
    with pytest.raises(BadParams, match=r"No persona has 1000 posts .* largest: rin 5, mai 3, "):
        run(shelf, tmp_path, min_images=1000)
    assert not (tmp_path / "posts.parquet").exists()


def test_all_candidates_excluded_is_an_empty_table(shelf, tmp_path, caplog):
    """A board of which every persona is excluded gives empty tables and a hint."""
    run(shelf, tmp_path, wanted=personae.Params(min_images=2, exclude=("mai", "rin")))

    assert [] == ids(tmp_path)
    assert "personae.exclude" in caplog.text


def test_deadline_is_resumable(shelf, tmp_path):
    """After the deadline the run ends as unfinished."""

    async def never(*_args, **_kwargs):
        await asyncio.sleep(60)

    shelf.page = never
    with pytest.raises(Unfinished, match="deadline_hours"):
        run(shelf, tmp_path, deadline_hours=0.01 / 3600)


def test_second_run_at_once_is_refused(shelf, tmp_path):
    """A second run in the same folder is refused."""
    with Pages(tmp_path, "shelf"), pytest.raises(AlreadyRunning, match="Another run"):
        run(shelf, tmp_path)


def test_damaged_record_is_named(shelf, tmp_path):
    """A file that is not a ledger is reported and not overwritten."""
    (tmp_path / "ledger.sqlite").write_bytes(b"something else" * 100)

    with pytest.raises(DamagedLedger, match="cannot be used"):
        run(shelf, tmp_path)


def test_record_of_another_version_is_named(shelf, tmp_path):
    """A ledger of a later version is refused."""
    run(shelf, tmp_path)
    with Pages(tmp_path, "shelf") as record:
        record._rows.execute("PRAGMA user_version = 99")

    with pytest.raises(DamagedLedger, match="version 99"):
        run(shelf, tmp_path)


def test_record_without_licences_is_read(shelf, tmp_path):
    """A record of 0.3.0 has no column `licence`: the posts are not requested again."""
    run(shelf, tmp_path)
    with Pages(tmp_path, "shelf") as record:
        record._rows.execute("UPDATE posts SET row_json = json_remove(row_json, '$.licence')")
    (tmp_path / "posts.parquet").unlink()
    shelf.asked.clear()
    run(shelf, tmp_path)

    assert [] == [entry for entry in shelf.asked if isinstance(entry, tuple)]
    assert {None} == set(pq.read_table(tmp_path / "posts.parquet")["licence"].to_pylist())


def test_full_disk_keeps_what_was_recorded(shelf, tmp_path):
    """A full disk ends the run as resumable, and a run with room completes it."""
    run(shelf, tmp_path, min_images=5)
    shelf.posts += [post(number, "mai", source="x" * 900) for number in range(100, 400)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        with pytest.raises(DiskRefused, match="Make room"):
            run(shelf, tmp_path, page_size=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    run(shelf, tmp_path, page_size=100)

    assert 307 == len(ids(tmp_path))


def test_no_side_files_are_left(shelf, tmp_path):
    """Neither a run nor `summary` leaves extra files that would change a hash."""
    run(shelf, tmp_path)

    summary = recorded.ListingSummary(posts=7, searches=2, searches_done=2, board="shelf")
    assert summary == recorded.summary(tmp_path)
    assert {"ledger.sqlite", *(f"{name}.parquet" for name in TABLES)} == {
        path.name for path in tmp_path.iterdir()
    }
    assert recorded.summary(tmp_path / "nowhere") is None


def test_totals_are_logged(shelf, tmp_path, caplog):
    """The last log line of the stage gives the totals."""
    caplog.set_level(logging.INFO)

    run(shelf, tmp_path)

    assert "listing: 7 posts of 2 candidates, 6 tags" in caplog.text
    assert "visible 7, hidden 1" in caplog.text


@pytest.fixture(scope="module")
def board():
    with serving(booru.board(TINY)) as served:
        yield served


async def listed(url, folder, **changes):
    site = Site.resolve(SiteParams(name=url, api_rate=1e6))
    async with Client(site) as client:
        source = Danbooru(client, site.base_url, identity="board")
        params = Params(**{"page_size": 100, **changes})
        await listing.run(params, personae.Params(min_images=20), source, folder)


def test_agrees_with_an_independent_client(board, tmp_path):
    """On the demo board, the rows equal the result of an independent walk over numbered pages."""
    asyncio.run(listed(board.url, tmp_path))

    with requests.Session() as session:
        session.headers["User-Agent"] = "test/1"
        search = {"search[category]": 4, "search[post_count]": ">=20", "limit": 1000}
        tags = session.get(f"{board.url}/tags.json", params=search).json()
        expected = set()
        for tag in tags:
            number = 1
            query = {"tags": tag["name"], "limit": 200}
            while found := session.get(
                f"{board.url}/posts.json", params={**query, "page": number}
            ).json():
                expected |= {row["id"] for row in found}
                number += 1
    assert len(expected) > 100
    assert sorted(expected) == ids(tmp_path)
    assert any(row["md5"] is None for row in table(tmp_path))
    urls = {variant["url"][0] for row in table(tmp_path) for variant in row["variants"]}
    assert {"/"} == urls


KILLS = (
    "implications recorded:1",
    "aliases recorded:1",
    "candidates recorded:1",
    "page written:1",
    "page committed:1",
    "page written:4",
    "page committed:4",
    "exporting:1",
    "exported:1",
)


def test_killed_at_every_step_it_ends_the_same(board, tmp_path):
    """After SIGKILL of a real process at each write step, the next run gives the same bytes."""
    asyncio.run(listed(board.url, tmp_path / "unbroken"))
    done = subprocess.run(
        [sys.executable, "tests/scraper/killed_listing.py", board.url, str(tmp_path), *KILLS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert [f"{kill} [-9, 0]" for kill in KILLS] == done.stdout.splitlines(), done.stderr
    for name in TABLES:
        unbroken = (tmp_path / "unbroken" / f"{name}.parquet").read_bytes()
        for number in range(len(KILLS)):
            assert unbroken == (tmp_path / str(number) / f"{name}.parquet").read_bytes()
