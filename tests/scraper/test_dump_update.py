"""Tests a listing by a dump that changes: each chosen post is requested once, whatever chose it."""

import asyncio
import logging
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from personae.errors import BadParams
from scraper import listing, recorded, status, update
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import ConnectionLost
from scraper.params import personae
from scraper.params.decide import Params
from scraper.sources import Page, RefusedPost
from scraper.sources.dump import Dump
from tests.scraper.listing_fixture import Shelf
from tests.scraper.test_dump import row, written
from tests.scraper.test_pages import edited
from tests.scraper.test_update import post

FIRST = range(10, 210, 10)
GROWN = [*FIRST, *range(15, 115, 10), *range(300, 400, 10)]


class Board(Shelf):
    """A board that counts how often each id is requested, as a first try, and refuses some posts."""

    def __init__(self, *posts):
        super().__init__(*posts)
        self.requests = Counter()
        self.unreadable = set()
        self._absent = ""

    async def page(self, search, *, before, size):
        page = await super().page(search, before=before, size=size)
        ids = {int(number) for number in search.split()[0].removeprefix("id:").split(",")}
        absent = ids - {each.post_id for each in page.posts}
        if search != self._absent:  # else the second try of what did not come
            self.requests.update(ids)
        self._absent = f"id:{','.join(map(str, sorted(absent)))} {search.partition(' ')[2]}".strip()
        refused = [RefusedPost(number, "malformed_post", "") for number in self.unreadable & ids]
        posts = [each for each in page.posts if each.post_id not in self.unreadable]
        return Page(tuple(posts), page.cursor, tuple(refused))

    def new(self):
        """Returns the ids requested since the last call; each was requested once."""
        assert {1} >= set(self.requests.values())
        ids, self.requests = sorted(self.requests), Counter()
        return ids


class Scrape:
    """A folder with a record and a dump, and the runs in it."""

    def __init__(self, folder, board):
        self.folder, self.board = folder / "listing", board
        self.rows, self.rules, self.terms, self.min_images = [], Params().rules, "", 2
        self.exclude = ()
        self._dump = folder

    def _source(self):
        return Dump(written(self._dump, self.rows), "gsqe", self.board, self.rules)

    def listing(self):
        """Lists by the dump; returns the ids that the board was asked for."""
        params = listing.Params(page_size=20, terms=self.terms)
        selection = personae.Params(min_images=self.min_images, exclude=self.exclude)
        asyncio.run(listing.run(params, selection, self._source(), self.folder))
        return self.board.new()

    def update(self, *, changed=False):
        asyncio.run(update.run(self._source(), self.folder, changed=changed))
        return self.listing()

    def table(self, name):
        return {
            each["post_id"]: each
            for each in pq.read_table(self.folder / f"{name}.parquet").to_pylist()
        }

    def reasons(self):
        return {number: each["reason"] for number, each in self.table("decisions").items()}


@pytest.fixture
def scrape(tmp_path):
    """Returns a scrape of a board with every id from 1 to 500."""
    return Scrape(tmp_path, Board(*(post(number, "rin") for number in range(1, 501))))


def rows(ids, *characters, **changes):
    return [row(number, *characters, **changes) for number in ids]


@pytest.mark.parametrize("command", ["listing", "update"])
def test_a_grown_dump_requests_what_is_new(scrape, command):
    """Ids between those known, and above them, are requested; those known are not."""
    scrape.rows = rows(FIRST)
    assert [*FIRST] == scrape.listing()
    scrape.rows = rows(GROWN)

    assert sorted({*GROWN} - {*FIRST}) == getattr(scrape, command)()
    assert {*GROWN} == scrape.table("posts").keys()
    assert [] == getattr(scrape, command)()


@pytest.mark.parametrize("command", ["listing", "update"])
def test_other_rules_request_what_they_add(scrape, command):
    """Loosened rules request the rows that they add, and tightened rules request nothing."""
    scrape.rows = [*rows(FIRST), *rows([15, 205, 400], tags="1girl solo comic")]
    assert [*FIRST] == scrape.listing()
    scrape.rules = Params(skip=("comic",)).rules
    assert [15, 205, 400] == getattr(scrape, command)()
    scrape.rules = Params(min_side=300).rules

    assert [] == getattr(scrape, command)()
    assert {*FIRST, 15, 205, 400} == scrape.table("posts").keys()


def test_an_excluded_persona_is_one_of_the_board(scrape):
    """A dump may lack an excluded persona; a name that its board does not know is misspelt."""
    scrape.board.posts.append(post(501, "mai"))
    scrape.rows = rows(FIRST)
    scrape.exclude = ("maii",)
    with pytest.raises(BadParams, match=r"'personae\.exclude' holds 'maii'"):
        scrape.listing()
    scrape.exclude = ("mai",)

    assert [*FIRST] == scrape.listing()


@pytest.mark.parametrize("command", ["listing", "update"])
def test_a_persona_that_was_too_rare_is_listed(scrape, command):
    """The candidates are those of the dump of today; a persona that it lacks takes its posts along."""
    scrape.rows = [*rows(FIRST), row(400, "mai")]
    assert [*FIRST] == scrape.listing()
    scrape.rows = [row(400, "mai"), row(401, "mai")]
    assert [400, 401] == getattr(scrape, command)()
    assert {400, 401} == scrape.table("posts").keys()
    assert "done: 2 posts" in status.report(scrape.folder.parent)
    scrape.rows = [*rows(GROWN), *scrape.rows]

    assert sorted({*GROWN} - {*FIRST}) == getattr(scrape, command)()


def test_a_post_of_two_personae_is_requested_once(scrape):
    """Also in the first listing; and each persona has it, when the other is listed no more."""
    scrape.board.posts += [post(600, "rin", "mai"), post(601, "mai")]
    scrape.board.unreadable = {601}
    scrape.rows = [*rows(FIRST), *rows([600, 601, 602], "rin mai")]
    assert [*FIRST, 600, 601, 602] == scrape.listing()
    scrape.rows = rows([600, 601, 602], "mai")
    scrape.min_images = 3

    assert [] == scrape.listing()
    assert {600} == scrape.table("posts").keys()
    assert {601: "malformed_post", 602: "gone"} == scrape.reasons()


def test_other_terms_are_another_search(scrape):
    """A post that terms exclude is requested again with other terms."""
    scrape.rows = rows(FIRST)
    assert [*FIRST] == scrape.listing()
    scrape.terms = "rating:g"

    assert [*FIRST] == scrape.listing()
    assert [] == scrape.listing()


def test_a_post_that_the_board_lacks_is_explained(scrape, caplog):
    """Stage `listing` refuses it as gone, one line counts all, and it is not requested again."""
    scrape.board.posts = [each for each in scrape.board.posts if each.post_id > 50]
    scrape.board.unreadable = {100}
    scrape.rows = rows(FIRST)
    with caplog.at_level(logging.INFO):
        assert [*FIRST] == scrape.listing()

    assert dict.fromkeys(range(10, 60, 10), "gone") | {100: "malformed_post"} == scrape.reasons()
    assert 1 == sum(
        "gone" in record.getMessage() for record in caplog.records if record.levelno > logging.INFO
    )
    summary = recorded.summary(scrape.folder)
    assert (1, 5) == (summary.unreadable, summary.gone)
    assert "done: 14 posts, 1 unreadable, 5 gone" in status.report(scrape.folder.parent)
    assert [] == scrape.listing()
    assert [] == scrape.update()
    assert 6 == len(scrape.reasons())


def test_changed_requests_every_known_post(scrape):
    """`update --changed` requests listed, unreadable and gone posts; one that is back is listed."""
    scrape.board.posts = [each for each in scrape.board.posts if each.post_id > 50]
    scrape.board.unreadable = {100}
    scrape.rows = rows(FIRST)
    scrape.listing()
    scrape.board.posts.append(post(20, "rin"))

    assert [*FIRST] == scrape.update(changed=True)
    assert dict.fromkeys((10, 30, 40, 50), "gone") | {100: "malformed_post"} == scrape.reasons()
    assert 20 in scrape.table("posts")


@pytest.mark.parametrize("failing", range(3))
def test_a_listing_that_ends_goes_on(scrape, failing):
    """After a failure at any request the next run requests what is left."""
    scrape.rows = rows(FIRST)
    scrape.listing()
    scrape.rows = rows([*FIRST, *range(11, 71)])

    def fail(_search, _before):
        if len(scrape.board.requests) == 20 * failing:
            raise ConnectionLost("The connection was lost.", url="")

    scrape.board.fault = fail
    with pytest.raises(ConnectionLost):
        scrape.update()
    scrape.board.fault = lambda _search, _before: None
    begun = scrape.board.new()

    assert 20 * failing == len(begun)
    assert sorted({*range(11, 71)} - {*FIRST, *begun}) == scrape.listing()
    assert [] == scrape.listing()


def test_a_record_of_the_version_before_is_read(scrape):
    """Posts that were passed without a word are requested once more, and those known are not."""
    scrape.board.posts = [each for each in scrape.board.posts if each.post_id > 50]
    scrape.rows = rows(FIRST)
    scrape.listing()
    for statement in (
        "DELETE FROM refused_posts",
        "DROP INDEX sightings_of_post",
        "DROP INDEX refusals_of_post",
        "INSERT INTO floors SELECT walk, 100 FROM walks",
    ):
        edited(scrape.folder, statement)
    scrape.rows = rows(GROWN)

    assert sorted({*range(10, 60, 10), *GROWN} - {*range(60, 210, 10)}) == scrape.listing()
    assert [] == scrape.listing()


def test_a_damaged_post_is_requested_again(scrape):
    """A row that cannot be read is no known post, also where its sighting is left."""
    scrape.rows = rows(FIRST)
    scrape.listing()
    edited(scrape.folder, "UPDATE posts SET row_json = '{' WHERE post_id = 70")
    edited(scrape.folder, "DELETE FROM answers WHERE question = 'exported'")
    assert [70] == scrape.listing()
    edited(scrape.folder, "DELETE FROM posts WHERE post_id = 80")

    assert [80] == scrape.listing()
    assert {*FIRST} == scrape.table("posts").keys()


def test_the_command_follows_a_dump_that_grows(tmp_path, monkeypatch, capsys):
    """On the demo board: half of a dump, the whole one, and a rule less; then nothing is new."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({}))
    board = booru.board(TINY)
    with serving(board) as served:
        common = ["--site", served.url, "--min-images", "5", "--api-rate", "1e6"]
        assert 0 == main(["listing", *common, "--data", "plain"])
        listed = pq.read_table("plain/listing/posts.parquet").to_pylist()
        dump = [
            row(
                each["post_id"],
                " ".join(each["tags_character"]),
                " ".join(each["tags_general"]),
                **{
                    name: each[name]
                    for name in ("rating", "file_ext", "image_width", "image_height")
                },
            )
            for each in listed
        ]
        command = [*common, "--dump", "posts.parquet", "--rating-scale", "gsqe", "--side", "64"]
        written(tmp_path, [*dump[::2], row(10**7, dump[0]["tag_string_character"])])
        assert 0 == main(command)
        half = set(pq.read_table("data/listing/posts.parquet")["post_id"].to_pylist())
        written(tmp_path, dump)
        assert 0 == main(command)
        whole = set(pq.read_table("data/listing/posts.parquet")["post_id"].to_pylist())
        assert 0 == main([*command, "--data", "fresh"])
        assert set(pq.read_table("fresh/listing/posts.parquet")["post_id"].to_pylist()) == whole
        assert half < whole
        assert [10**7] == pq.read_table("data/listing/decisions.parquet")["post_id"].to_pylist()
        assert ", 1 gone" in capsys.readouterr().out
