"""Tests the estimate of a run before it starts."""

import dataclasses

import pytest

from scraper import personae, planner
from scraper.errors import ConnectionLost
from scraper.params.decide import Params as DecideParams
from scraper.personae import Kinship
from scraper.planner import PageSample, Plan, Rules
from scraper.post import Variant
from scraper.site import Params, Site
from scraper.sources import Tag
from tests.scraper.listing_fixture import BLANK, Shelf

RULES = Rules(DecideParams().limits)
NOBODY = Kinship.from_pairs((), ())
SITE = Site.resolve(Params(name="danbooru"), contact="me@example.org")


def post(post_id, *characters, **changes):
    return dataclasses.replace(BLANK, post_id=post_id, tags_character=characters, **changes)


def test_judges_a_page_by_the_rules():
    """Posts that break no rule and show this persona are kept; the others have reasons."""
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
    """Skipped rules and accepted tags refuse nothing."""
    page = [post(1, "rin", tags_general=("1girl", "solo", "comic"), is_flagged=True)]
    rules = Rules(DecideParams().limits, skip=frozenset({"flagged"}), accepted=frozenset({"comic"}))

    assert 1 == planner.judge("rin", page, rules, NOBODY, side=None).kept


def test_estimates_the_smallest_sufficient_file():
    """The bytes of a thumbnail are estimated from its pixels; those of an original are known."""
    small = Variant("180x180", "/small.jpg", 100, 180, "jpg")
    page = [post(1, "rin", variants=(small, *BLANK.variants))]

    assert 100 * 180 * 0.25 == planner.judge("rin", page, RULES, NOBODY, side=96).file_bytes
    assert 1000.0 == planner.judge("rin", page, RULES, NOBODY, side=400).file_bytes


@pytest.mark.asyncio
async def test_samples_are_spread_over_the_ranks():
    """The sampled personae are spread over the ranks, not only those with most images."""
    shelf = Shelf(
        *(post(10 * rank + n, f"p{rank}") for rank in range(8) for n in range(1, 9 - rank))
    )
    tags = [tag async for tag in shelf.candidates(1)]

    found = await planner.sample(tags, shelf, terms="", rules=RULES, side=None, pages=4)

    assert ["p0", "p2", "p4", "p6"] == list(found)
    assert [8, 6, 4, 2] == [sample.posts for sample in found.values()]
    assert {} == await planner.sample([], shelf, terms="", rules=RULES, side=None, pages=4)


def test_estimate_counts_personae_requests_and_bytes():
    """Sampled personae use their own share, others the mean; each walk adds an empty last page."""
    tags = [Tag("rin", 4, 1000), Tag("mai", 4, 500), Tag("eri", 4, 201)]
    samples = {"rin": PageSample(200, 100, 100 * 5000.0), "mai": PageSample(200, 20, 20 * 5000.0)}

    plan = planner.estimate(tags, samples, personae.Params(min_images=60, max_images=400))

    assert [("rin", 500, True), ("eri", 60, True), ("mai", 50, False)] == [
        (row.name, row.kept, row.qualifies) for row in plan.personae
    ]
    assert 6 + 4 + 3 == plan.listing_requests
    assert 400 + 60 == plan.downloads
    assert 460 * 5000.0 == plan.download_bytes


def test_search_terms_shrink_the_listing():
    """With search terms, only their share of the posts is listed."""
    plan = planner.estimate(
        [Tag("rin", 4, 1000)], {}, personae.Params(min_images=1), share_listed=0.25
    )

    assert (250, 3) == (plan.personae[0].posts, plan.listing_requests)


def test_share_comes_from_exact_counts():
    """The share of the terms is counted for a few personae; without terms it is 1."""

    def count(search):
        if search == "eri solo":
            raise ConnectionLost("gone")
        return {"rin solo": 50, "mai solo": None}[search]

    tags = [Tag("rin", 4, 100), Tag("mai", 4, 100), Tag("eri", 4, 100)]

    assert 0.5 == planner.share_listed(count, tags, "solo")
    assert 1.0 == planner.share_listed(count, tags, "")


def test_plan_in_words():
    """The plan gives personae, requests, hours at the site's rate, bytes and reasons."""
    samples = {"rin": PageSample(200, 100, 100 * 50_000.0)}
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
    """A plan without candidates and without counts is printed as well."""
    words = planner.render(
        Plan((), 0, 0, 0.0, PageSample()), SITE, personae.Params(), board_posts=None
    )

    assert "an unknown number of posts" in words
    assert "0 images" in words


class Counts:
    """Replaces the synchronous client; returns the same document for each count."""

    def __init__(self, document):
        self.document = document
        self.asked = []

    def get_json(self, path, params=None, *, max_bytes):
        self.asked.append((path, params, max_bytes))
        return self.document


def test_counts_posts():
    """A count is the number in the response; null, or anything but a number, gives None."""
    client = Counts({"counts": {"posts": 42}})

    assert 42 == planner.count(client, "rin solo")
    assert [("/counts/posts.json", {"tags": "rin solo"}, 65_536)] == client.asked
    assert planner.count(Counts({"counts": {"posts": None}})) is None
    assert planner.count(Counts([])) is None
