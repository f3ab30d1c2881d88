"""What a run would take, told before it is begun."""

import dataclasses

import pytest

from scraper import personae, planner
from scraper.errors import ConnectionLost, NotAuthorised, UnexpectedResponse
from scraper.filters import Limits
from scraper.personae import Kinship
from scraper.planner import Board, Plan, Rules, Sample
from scraper.post import Variant
from scraper.site import Params, Site
from scraper.sources import Tag
from tests.scraper.listing_fixture import BLANK, Shelf

RULES = Rules(Limits())
NOBODY = Kinship.from_pairs((), ())
SITE = Site.resolve(Params(name="danbooru"), contact="me@example.org")


def post(post_id, *characters, **changes):
    return dataclasses.replace(BLANK, post_id=post_id, tags_character=characters, **changes)


def test_judges_a_page_by_the_rules():
    """Kept are the posts that break no rule and show this very persona; others have reasons."""
    form = post(4, "rin", "rin_(swimsuit)")
    page = [
        post(1, "rin"),
        post(2, "rin", tags_general=("1girl", "solo", "comic", "monochrome")),
        post(3, "rin", md5=None, variants=()),
        form,
    ]
    kinship = Kinship.from_pairs((), [("rin_(swimsuit)", "rin")])

    sample = planner.judge("rin", page, RULES, kinship, side=None)

    assert (4, 1, 1000.0) == (sample.posts, sample.kept, sample.file_bytes)
    assert {"comic": 1, "monochrome_tag": 1, "hidden": 1, "another_persona": 1} == sample.reasons
    assert 1 == planner.judge("rin_(swimsuit)", [form], RULES, kinship, side=None).kept


def test_respects_what_decide_accepts():
    """Rules that are skipped and tags that are accepted refuse nothing."""
    page = [post(1, "rin", tags_general=("1girl", "solo", "comic"), is_flagged=True)]
    rules = Rules(Limits(), skip=frozenset({"flagged"}), accepted=frozenset({"comic"}))

    assert 1 == planner.judge("rin", page, rules, NOBODY, side=None).kept


def test_estimates_the_smallest_sufficient_file():
    """A thumbnail's bytes are estimated by its pixels, an original's are known."""
    small = Variant("180x180", "/small.jpg", 100, 180, "jpg")
    page = [post(1, "rin", variants=(small, *BLANK.variants))]

    assert 100 * 180 * 0.25 == planner.judge("rin", page, RULES, NOBODY, side=96).file_bytes
    assert 1000.0 == planner.judge("rin", page, RULES, NOBODY, side=400).file_bytes


@pytest.mark.asyncio
async def test_samples_are_spread_over_the_ranks():
    """The personae of which a page is read are not only the most pictured."""
    shelf = Shelf(
        *(post(10 * rank + n, f"p{rank}") for rank in range(8) for n in range(1, 9 - rank))
    )
    tags = [tag async for tag in shelf.candidates(1)]

    found = await planner.sample(tags, shelf, terms="", rules=RULES, side=None, pages=4)

    assert ["p0", "p2", "p4", "p6"] == list(found)
    assert [8, 6, 4, 2] == [sample.posts for sample in found.values()]
    assert {} == await planner.sample([], shelf, terms="", rules=RULES, side=None, pages=4)


def test_estimate_counts_personae_requests_and_bytes():
    """Sampled personae have their own share, others the mean; the last page of a walk is empty."""
    tags = [Tag("rin", 4, 1000), Tag("mai", 4, 500), Tag("eri", 4, 201)]
    samples = {"rin": Sample(200, 100, 100 * 5000.0), "mai": Sample(200, 20, 20 * 5000.0)}

    plan = planner.estimate(tags, samples, personae.Params(min_images=60, max_images=400))

    assert [("rin", 500, True), ("eri", 60, True), ("mai", 50, False)] == [
        (row.name, row.kept, row.qualifies) for row in plan.personae
    ]
    assert 6 + 4 + 3 == plan.listing_requests
    assert 400 + 60 == plan.downloads
    assert 460 * 5000.0 == plan.download_bytes


def test_search_terms_shrink_the_listing():
    """With terms only their share of the posts is listed."""
    plan = planner.estimate(
        [Tag("rin", 4, 1000)], {}, personae.Params(min_images=1), share_listed=0.25
    )

    assert (250, 3) == (plan.personae[0].posts, plan.listing_requests)


def test_share_comes_from_exact_counts():
    """The share that terms let through is counted for a few personae; without terms it is all."""

    class Counts:
        def count(self, search):
            if search == "eri solo":
                raise ConnectionLost("gone")
            return {"rin solo": 50, "mai solo": None}[search]

    tags = [Tag("rin", 4, 100), Tag("mai", 4, 100), Tag("eri", 4, 100)]

    assert 0.5 == planner.share_listed(Counts(), tags, "solo")
    assert 1.0 == planner.share_listed(Counts(), tags, "")


def test_plan_in_words():
    """The plan names personae, requests, hours at the site's rate, bytes and reasons."""
    samples = {"rin": Sample(200, 100, 100 * 50_000.0)}
    samples["rin"].reasons.update({"comic": 30})
    plan = planner.estimate([Tag("rin", 4, 20_000)], samples, personae.Params(min_images=1000))

    words = planner.render(plan, SITE, personae.Params(min_images=1000), board_posts=9_000_000)

    assert "The board holds 9,000,000 posts" in words
    assert "20,000 tagged    10,000 kept" in words
    assert "listing   101 requests at 1/s: 2 minutes" in words
    assert "download  10,000 images at 1/s: 2.8 hours, about 500 MB" in words
    assert "comic                 15.0%" in words
    assert "the rules keep 50%" in words


def test_empty_plan_in_words():
    """A board without a candidate, and without counts, is told as well."""
    words = planner.render(Plan((), 0, 0, 0.0, Sample()), SITE, personae.Params(), board_posts=None)

    assert "an unknown number of posts" in words
    assert "0 images" in words


@pytest.fixture
def ask(picture_host):
    """A board whose answer to a count is given; waits are noted."""
    waits = []
    with Board(Site.resolve(Params(name=picture_host.url)), sleep=waits.append) as board:
        board.waits = waits
        yield board


def test_counts_through_a_client_of_its_own(ask, demo_answer):
    """A count is asked politely, and null is no number."""
    demo_answer('{"counts": {"posts": 42}}')
    assert 42 == ask.count("rin solo")
    demo_answer('{"counts": {"posts": null}}')
    assert None is ask.count()

    assert [0.1, 0.1] == ask.waits


def test_challenge_stops_the_plan(ask, demo_answer):
    """A page for people is a stop signal here too."""
    demo_answer("<html>", status=403, kind="text/html")

    with pytest.raises(NotAuthorised, match="challenge"):
        ask.count()


def test_wrong_board_stops_the_plan(ask, demo_answer):
    """What is no JSON is no board."""
    demo_answer("hello", kind="text/plain")

    with pytest.raises(UnexpectedResponse, match="no Danbooru-style board"):
        ask.count()


def test_long_answer_is_not_read(ask, demo_answer):
    """A count of megabytes is no count, and its end is never waited for."""
    demo_answer('{"counts": {"posts": 1}, "x": "' + "x" * 1_000_000 + '"}')

    with pytest.raises(ConnectionLost, match="no JSON"):
        ask.count()


def test_unreachable_board_stops_the_plan():
    """Nobody listening is one line."""
    site = Site.resolve(Params(name="http://127.0.0.1:9"))
    with (
        Board(site, sleep=lambda _seconds: None) as board,
        pytest.raises(ConnectionLost, match="cannot be reached"),
    ):
        board.count()


@pytest.fixture
def demo_answer(picture_host):
    """Sets what the host answers to a count."""
    from aiohttp import web

    def put(text, *, status=200, kind="application/json"):
        async def answer(_request):
            return web.Response(text=text, status=status, content_type=kind)

        picture_host.faults["/counts/posts.json"] = answer

    return put
