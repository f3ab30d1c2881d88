"""
Tests listing and download against every fault of a server: once, for a tenth of the requests, always.

Every run ends by itself within bounded requests and with an error of ours, if any. Nothing is
decided by a fault: when the server recovers, the next run is complete.
"""

import asyncio
from dataclasses import replace

import pytest

from personae.errors import PersonaeError
from scraper import download, listing
from scraper.client import Client
from scraper.params import personae
from scraper.policy import Patience, RequestBudget
from scraper.site import Params, Site
from scraper.sources.danbooru import Danbooru
from tests.scraper.conftest import Shelf
from tests.scraper.faulty_fixture import CONNECTION, FILES, HOST, JSON, FaultyBoard
from tests.scraper.listing_fixture import raw
from tests.scraper.network_fixture import NOW, Clock
from tests.scraper.test_listing import ids

POSTS = range(100, 124)
PATIENCE = Patience(connect_seconds=5, read_seconds=5, total_seconds=10, attempts=2)
SHORT = Patience(connect_seconds=5, read_seconds=0.1, total_seconds=0.2, attempts=2)
SLOW = ("silence", "drip", "interim answers", "endless headers")
"""Faults that only a time-out ends."""


class Scraper:
    """Runs listing or download against a faulty board, and returns the errors of each run."""

    def __init__(self, board, folder, patience):
        self.board = board
        self.patience = patience
        self.shelf = Shelf(board, folder)
        self.listing_dir = folder / "listing"
        self.clock = Clock()
        for post_id in POSTS:
            self.shelf.add(post_id)
            board.rows.append(raw(post_id, tag_string_character="rin" if post_id % 2 else "mai"))

    async def download(self, **changes):
        self.shelf.write()
        params = {"side": None, "workers": 3, "queue": 2, "group": 4, "give_up_after": 4}
        params = download.Params(**{**params, "max_bytes": 200_000, **changes})
        shelf = self.shelf
        return await self._run(
            lambda client, site: download.run(
                params, client, site, shelf.listing_dir, shelf.decide_dir, shelf.out_dir
            )
        )

    async def list(self):
        params, selection = listing.Params(page_size=5), personae.Params(min_images=2)
        return await self._run(
            lambda client, _site: listing.run(
                params,
                selection,
                Danbooru(client, self.board.origin, identity="board"),
                self.listing_dir,
            )
        )

    async def _run(self, stage):
        site = Site.resolve(Params(name=self.board.origin, api_rate=1e6, cdn_rate=1e6))
        site = replace(site, name="board")
        budget = RequestBudget(site, self.patience, clock=self.clock, draw=lambda: 1.0)
        async with Client(site, budget, sleep=self.clock.sleep, now=lambda: NOW) as client:
            errors = []
            try:
                await stage(client, site)
            except* PersonaeError as group:
                errors = [type(error).__name__ for error in group.exceptions]
            return errors

    def check_downloaded(self):
        assert self.shelf.expected() == self.shelf.stored()
        assert {None} == {row[0] for row in self.shelf.decisions().values()}


@pytest.fixture
def scrape(tmp_path, name):
    """Runs an asynchronous test with a scraper of a faulty board."""

    async def run(test):
        async with FaultyBoard() as board, asyncio.timeout(60):
            await test(Scraper(board, tmp_path, SHORT if name in SLOW else PATIENCE))

    return lambda test: asyncio.run(run(test))


# Fault of a file: the reason when a tenth of the files has it for ever, and the outcome when all
# have it. A stop ends every run at the first such answer.
STOP = {"429 huge": "Unfinished", "503 for a day": "Unfinished", "challenge": "Challenged"}
ODD = (
    *("forbidden", "forbidden XML", "unauthorised", "bad request", "304", "501"),
    *("redirect in a circle", "redirect to nowhere", "brotli"),
)
REASONS = {
    **dict.fromkeys(CONNECTION.keys() - STOP.keys(), "unavailable"),
    **dict.fromkeys(("reset in the body", "long length", "damaged gzip"), "corrupt"),
    **dict.fromkeys(("cut gzip", "header alone"), "corrupt"),
    **dict.fromkeys((name for name in HOST if name.startswith("redirect to")), "foreign_host"),
    **dict.fromkeys(ODD, "odd_answer"),
    **dict.fromkeys(("not found", "gone"), "gone"),
    **dict.fromkeys(("page", "empty", "other type"), "wrong_type"),
    **dict.fromkeys(("placeholder", "flipped", "half"), "wrong_md5"),
    **dict.fromkeys(("endless", "bomb", "announced too long"), "too_large"),
}
FILE_FAULTS = {**CONNECTION, **HOST, **FILES}


def test_every_fault_of_files_has_its_reason():
    """The tables of this file name every fault."""
    assert set(FILE_FAULTS) == set(REASONS) | set(STOP)
    assert len(FILE_FAULTS) + len(JSON) >= 50


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_file_fault_that_passes(name, scrape):
    """A fault of three requests costs no image; a stop signal needs a second run."""

    async def run(scraper):
        scraper.board.fault = lambda _path, number: FILE_FAULTS[name] if 5 <= number <= 7 else None
        errors = await scraper.download(give_up_after=9)
        if name == "announced too long":  # a limit of ours: final at once, by design
            assert {"too_large"} == {row[0] for row in scraper.shelf.decisions().values() if row[0]}
            errors = await scraper.download(retry_refused=True)
        for _ in range(3):
            if errors:
                assert errors[0] in {STOP.get(name), "NotAuthorised"}
                errors = await scraper.download()
        assert [] == errors
        scraper.check_downloaded()

    scrape(run)


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_file_fault_of_a_tenth(name, scrape):
    """When a tenth of the files is faulty for ever, all others arrive, and those have a reason."""

    async def run(scraper):
        bad = {scraper.shelf.posts[post_id].variants[-1].url for post_id in (100, 101, 117)}
        scraper.board.fault = lambda path, _number: FILE_FAULTS[name] if path in bad else None
        errors = [await scraper.download(give_up_after=9) for _ in range(2)]
        if name in STOP:
            assert [[STOP[name]]] * 2 == errors
        else:
            assert [] == errors[-1]
            reasons = {post: row[0] for post, row in scraper.shelf.decisions().items() if row[0]}
            assert dict.fromkeys((100, 101, 117), REASONS[name]) == reasons
            assert 21 == len(scraper.shelf.stored())
        scraper.board.fault = lambda _path, _number: None
        assert [] == await scraper.download(retry_refused=True)
        scraper.check_downloaded()

    scrape(run)


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_file_fault_of_all(name, scrape):
    """When every file is faulty, the run ends soon and decides nothing; then all arrive."""

    async def run(scraper):
        scraper.board.fault = lambda _path, _number: FILE_FAULTS[name]
        errors = await scraper.download()
        if name == "announced too long":
            assert ["NothingStored"] == errors
            assert 24 == len(scraper.board.requests)
            return
        expected = "NotAuthorised" if name.startswith(("forbidden", "unauth")) else "Unfinished"
        assert [STOP.get(name, expected)] == errors
        # Four failures, up to four requests each, and what was queued or under way.
        assert len(scraper.board.requests) <= 4 * (4 + 3 + 2)
        assert scraper.clock.now - 1000 < 3600
        assert not (scraper.shelf.out_dir / "decisions.parquet").exists()
        scraper.board.fault = lambda _path, _number: None
        scraper.board.requests.clear()
        assert [] == await scraper.download()
        assert 24 <= len(scraper.board.requests) <= 24 + 3  # the last ones of the first run
        scraper.check_downloaded()

    scrape(run)


API_FAULTS = {**CONNECTION, **HOST, **JSON}
# Faults of a page that smaller pages do not have.
READABLE = (
    *("syntax error", "cut", "no UTF-8", "deep", "endless", "announced too long", "bomb"),
    *("canceled", "empty"),
)
ERRORS = {
    **dict.fromkeys(CONNECTION, "ConnectionLost"),
    **dict.fromkeys(HOST, "RequestRefused"),
    **dict.fromkeys(JSON, "UnexpectedResponse"),
    **dict.fromkeys((name for name in CONNECTION if name.startswith("429")), "RateLimited"),
    **dict.fromkeys(("408", "500", "503"), "SiteUnavailable"),
    **dict.fromkeys(("reset in the body", "long length", "damaged gzip", "cut gzip"), "CutShort"),
    **dict.fromkeys(("forbidden", "forbidden XML", "unauthorised"), "NotAuthorised"),
    **dict.fromkeys((name for name in HOST if name.startswith("redirect to")), "ForeignRedirect"),
    **dict.fromkeys(READABLE, "UnreadablePage"),
    "brotli": "UnexpectedResponse",
    "empty": "EmptyResponse",
    "page": "ForeignPage",
    "not found": "NotFound",
    "gone": "PageLimitReached",
    "tag limit": "TagLimitReached",
    "redirect to nowhere": "RequestRefused",
    "canceled": "QueryTimedOut",
    "no page": "EmptyPage",
    **STOP,
}


@pytest.mark.parametrize("name", API_FAULTS)
def test_api_fault_that_passes(name, scrape):
    """A fault of one request loses no post, though some faults need a second run."""

    async def run(scraper):
        scraper.board.fault = lambda path, number: (
            API_FAULTS[name] if number == 7 and path.startswith("/posts") else None
        )
        for _ in range(2):
            if not await scraper.list():
                break
        assert list(POSTS) == ids(scraper.listing_dir)

    scrape(run)


@pytest.mark.parametrize("name", API_FAULTS)
def test_api_fault_of_one_page(name, scrape):
    """When a page of each search is always faulty, smaller pages help, or the error is named."""

    async def run(scraper):
        bad = {f"page=b{post_id}" for post_id in POSTS if 105 < post_id < 116}
        scraper.board.fault = lambda path, _number: (
            API_FAULTS[name]
            if path.startswith("/posts")
            and "limit=5" in path
            and bad & set(path.split("?")[1].split("&"))
            else None
        )
        errors = await scraper.list()
        assert ({ERRORS[name]} if name not in READABLE else set()) == set(errors)
        assert len(scraper.board.requests) < 50
        scraper.board.fault = lambda _path, _number: None
        assert [] == await scraper.list()
        assert list(POSTS) == ids(scraper.listing_dir)

    scrape(run)


@pytest.mark.parametrize("name", API_FAULTS)
def test_api_fault_of_all(name, scrape):
    """When every answer is faulty, the run ends soon with an error of ours; then it is complete."""

    async def run(scraper):
        scraper.board.fault = lambda _path, _number: API_FAULTS[name]
        errors = await scraper.list()
        # A board whose every page is empty has no persona.
        assert ["BadParams" if name == "no page" else ERRORS[name]] == errors
        assert len(scraper.board.requests) <= 6
        assert scraper.clock.now - 1000 < 3600
        scraper.board.fault = lambda _path, _number: None
        if name != "no page":
            assert [] == await scraper.list()
            assert list(POSTS) == ids(scraper.listing_dir)

    scrape(run)
