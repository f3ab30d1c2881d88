"""
    python -m scraper plan

What a run would take, before anything is downloaded: which personae qualify, how many requests,
bytes and hours at the polite rate, and what the rules will refuse.

In come the candidates by tag counts, and one page of posts for some of them; out goes an estimate.
One-shot questions (is the board there, how many posts does a search have) go through `requests`.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import requests

from scraper import answers, filters, personae
from scraper.answers import Answer
from scraper.errors import ConnectionLost, RequestRefused, TransientError
from scraper.filters import Facts, Limits
from scraper.personae import Kinship
from scraper.picture import smallest_sufficient
from scraper.post import Post
from scraper.site import Site
from scraper.sources import Source, Tag
from scraper.sources.danbooru import counted

# Bytes per pixel of the board's own variants (JPEG quality 85, WebP 75) and of originals whose
# size is not told; chosen from typical illustrations, right to about a factor of two.
_BYTES_PER_PIXEL = {"jpg": 0.25, "webp": 0.12, "png": 1.0}
_SHOWN = 30
_TIMEOUT = (10.0, 30.0)
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rules:
    """What `decide` would apply."""

    limits: Limits
    skip: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()


@dataclass(slots=True)
class Sample:
    """What one page of a persona's newest posts shows."""

    posts: int = 0
    kept: int = 0
    file_bytes: float = 0.0
    """Of the files that would be fetched, together."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Posts by reason; a post may have several."""

    def __add__(self, other: "Sample") -> "Sample":
        """Both pages as one."""
        return Sample(
            self.posts + other.posts,
            self.kept + other.kept,
            self.file_bytes + other.file_bytes,
            self.reasons + other.reasons,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """One persona: what is tagged, what would be kept."""

    name: str
    posts: int
    kept: int
    is_sampled: bool
    qualifies: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would take."""

    personae: tuple[Estimate, ...]
    """Most kept first."""
    listing_requests: int
    downloads: int
    download_bytes: float
    pooled: Sample
    """All pages read, together."""


class Board:
    """
    One-shot questions to a board, at the polite rate, through an HTTP client of its own.

    Args:
        site: The board.
        sleep: Waits between two questions.
    """

    def __init__(self, site: Site, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._site = site
        self._sleep = sleep
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": site.user_agent, "Accept": "application/json"})
        if site.api_key:
            self._session.auth = (site.login, site.api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._session.close()

    def count(self, search: str = "") -> int | None:
        """
        Returns how many posts a search has (all, when empty); None when the board cannot tell.

        Raises:
            TransientError: The board does not answer.
            RequestRefused: It answers that it will not.
            UnexpectedResponse: It is no Danbooru-style board.
        """
        url = self._site.absolute("/counts/posts.json")
        self._sleep(1 / self._site.api_rate)
        try:
            with self._session.get(
                url, params={"tags": search}, timeout=_TIMEOUT, allow_redirects=False, stream=True
            ) as response:
                # A count is a few bytes: the first part is all of it, or no answer to a count.
                body: bytes = next(response.iter_content(_MOST_BYTES), b"")
                answer = Answer(url, response.status_code, response.headers, body)
        except requests.RequestException as error:
            raise ConnectionLost(
                f"{url} cannot be reached ({type(error).__name__}). Is the board running, and this "
                "machine online?",
                url=url,
            ) from error
        problem = answers.refusal(answer, is_api=True, now=datetime.now(UTC))
        if problem is not None:
            raise problem
        return counted(answers.parse(answer))


async def sample(
    candidates: Sequence[Tag],
    source: Source,
    *,
    terms: str,
    rules: Rules,
    side: int | None,
    pages: int,
    page_size: int = 200,
) -> dict[str, Sample]:
    """
    Reads the newest page of up to `pages` candidates, spread evenly over their ranks.

    The tag tables are read first: without them a form and its base look like two personae.
    """
    kinship = Kinship.from_pairs(
        [pair async for pair in source.aliases()], [pair async for pair in source.implications()]
    )
    step = max(1.0, len(candidates) / max(pages, 1))
    chosen = [candidates[int(number * step)] for number in range(min(pages, len(candidates)))]
    found = {}
    for tag in chosen:
        search = f"{tag.name} {terms}".strip()
        page = await source.page(search, before=None, size=page_size)
        found[tag.name] = judge(tag.name, page.posts, rules, kinship, side=side)
    return found


def judge(
    name: str, posts: Sequence[Post], rules: Rules, kinship: Kinship, *, side: int | None
) -> Sample:
    """Returns what the rules make of a persona's posts."""
    result = Sample(posts=len(posts))
    for post in posts:
        lineage = personae.lineage(
            kinship.canonical(post.tags_character), kinship.canonical(post.tags_copyright), kinship
        )
        facts = Facts(
            post_id=post.post_id,
            tags=kinship.canonical(post.tags) - rules.accepted,
            leaves=lineage.leaves,
            bases=lineage.bases,
            rating=post.rating,
            file_ext=post.file_ext,
            width=post.image_width,
            height=post.image_height,
            duration_seconds=post.duration_seconds,
            is_hidden=post.is_hidden,
            is_deleted=post.is_deleted,
            is_banned=post.is_banned,
            is_pending=post.is_pending,
            is_flagged=post.is_flagged,
        )
        refusals = filters.refusals(facts, rules.limits, skip=rules.skip)
        result.reasons.update({decision.reason for decision in refusals if decision.reason})
        if not refusals and lineage.leaves == (name,):
            result.kept += 1
            result.file_bytes += _file_bytes(post, side)
        elif not refusals:
            result.reasons["another_persona"] += 1
    return result


def estimate(
    candidates: Sequence[Tag],
    samples: Mapping[str, Sample],
    wanted: personae.Params,
    *,
    page_size: int = 200,
    share_listed: float = 1.0,
) -> Plan:
    """
    Returns the plan for candidates of which some were sampled.

    A persona that was not sampled is taken to keep the share of all pages together.

    Args:
        candidates: Personae by tag counts.
        samples: What the pages read say, by persona.
        wanted: Section `personae`.
        page_size: Posts per request.
        share_listed: Share of a persona's posts that the search terms let through.
    """
    pooled = sum(samples.values(), Sample())
    listed = {tag.name: round(tag.post_count * share_listed) for tag in candidates}
    kept = {
        name: round(posts * _share(samples.get(name) or pooled)) for name, posts in listed.items()
    }
    outcome = personae.choose(kept, {name: name for name in kept}, wanted)
    rows = [
        Estimate(name, listed[name], kept[name], name in samples, outcome[name] is None)
        for name in sorted(kept, key=lambda name: (-kept[name], name))
    ]
    most = wanted.most_images or max(kept.values(), default=0)
    downloads = sum(min(row.kept, most) for row in rows if row.qualifies)
    return Plan(
        personae=tuple(rows),
        # The last page of a walk is empty, and says so.
        listing_requests=sum(math.ceil(posts / page_size) + 1 for posts in listed.values()),
        downloads=downloads,
        download_bytes=downloads * (pooled.file_bytes / pooled.kept if pooled.kept else 0.0),
        pooled=pooled,
    )


def render(plan: Plan, site: Site, wanted: personae.Params, *, board_posts: int | None) -> str:
    """Returns the plan in words."""
    qualified = [row for row in plan.personae if row.qualifies]
    lines = [
        (
            f"The board holds {_number(board_posts)} posts. "
            f"{len(plan.personae):,} personae have enough by their tags alone."
        ),
        "",
        (
            f"Of them {len(qualified):,} are expected to have {wanted.min_images:,} images that meet "
            "the requirements:"
        ),
    ]
    lines += [
        f"  {row.name:<40.40} {row.posts:>9,} tagged {row.kept:>9,} kept"
        f"{'' if row.is_sampled else ' (by the mean share)'}"
        for row in qualified[:_SHOWN]
    ]
    if len(qualified) > _SHOWN:
        lines.append(f"  … and {len(qualified) - _SHOWN:,} more")
    list_hours = plan.listing_requests / site.api_rate / 3600
    load_hours = plan.downloads / site.cdn_rate / 3600
    lines += [
        "",
        (
            f"listing   {plan.listing_requests:,} requests at {site.api_rate:g}/s: {_time(list_hours)}, "
            "and the tag tables"
        ),
        (
            f"download  {plan.downloads:,} images at {site.cdn_rate:g}/s: {_time(load_hours)}, about "
            f"{_bytes(plan.download_bytes)}"
        ),
        "",
        (
            f"From {plan.pooled.posts:,} of the newest posts of some personae: the rules keep "
            f"{_share(plan.pooled):.0%}. Why posts are refused (a post may have several reasons):"
        ),
    ]
    lines += [
        f"  {reason:<20} {count / plan.pooled.posts:>6.1%}"
        for reason, count in plan.pooled.reasons.most_common()
    ]
    lines += ["", "An estimate: counts of tags include deleted posts, and newest posts may differ."]
    return "\n".join(lines)


def share_listed(board: Board, candidates: Sequence[Tag], terms: str, *, asked: int = 5) -> float:
    """Returns the share of posts that the search terms let through, from a few exact counts."""
    if not terms:
        return 1.0
    found = tagged = 0
    for tag in candidates[:asked]:
        try:
            count = board.count(f"{tag.name} {terms}")
        except (RequestRefused, TransientError):
            continue
        if count is not None:
            found, tagged = found + count, tagged + tag.post_count
    return min(1.0, found / tagged) if tagged else 1.0


def _share(pages: Sample) -> float:
    return pages.kept / pages.posts if pages.posts else 0.0


def _file_bytes(post: Post, side: int | None) -> float:
    variant = smallest_sufficient(post.variants, side)
    if variant is None or variant.type == "original":
        return float(post.file_bytes)
    return variant.width * variant.height * _BYTES_PER_PIXEL.get(variant.file_ext, 0.25)


def _number(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{math.ceil(hours * 60)} minutes" if hours > 1 / 60 else "under a minute"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
