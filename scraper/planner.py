"""
    python -m scraper plan

What a run would take, before any image is downloaded: which personae qualify, how many requests,
bytes and hours at the site's rate, and which rules will refuse how many posts.

Reads the candidates by tag counts, and one page of posts for some of them. Returns an estimate.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scraper import filters, personae
from scraper.errors import RequestRefused, TransientError
from scraper.filters import PostFacts, Rules
from scraper.image import smallest_sufficient
from scraper.one_shot import OneShot
from scraper.params.personae import Params as PersonaeParams
from scraper.personae import Kinship
from scraper.post import Post
from scraper.site import Site
from scraper.sources import PostSource, Tag
from scraper.sources.danbooru import counted

# Bytes per pixel of the board's own variants (JPEG quality 85, WebP 75) and of originals whose
# size is not listed; chosen from typical illustrations, right to about a factor of two.
_BYTES_PER_PIXEL = {"jpg": 0.25, "webp": 0.12, "png": 1.0}
_SHOWN = 30
_MOST_COUNT_BYTES = 64 * 1024


@dataclass(slots=True)
class PageSample:
    """Counts over one page of a persona's newest posts."""

    posts: int = 0
    kept: int = 0
    file_bytes: float = 0.0
    """Of the files that would be fetched, together."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Posts by reason; a post may have several."""

    def __add__(self, other: "PageSample") -> "PageSample":
        """Returns the counts over both pages together."""
        return PageSample(
            self.posts + other.posts,
            self.kept + other.kept,
            self.file_bytes + other.file_bytes,
            self.reasons + other.reasons,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """One persona: how many posts are tagged, how many would be kept."""

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
    pooled: PageSample
    """The counts over all pages read, together."""


def count(client: OneShot, search: str = "") -> int | None:
    """
    Returns how many posts a search has (all, when empty); None when the board does not know.

    Raises:
        TransientError: The board does not respond.
        RequestRefused: The board refuses the request.
        UnexpectedResponse: The response is not that of a Danbooru-style board.
    """
    query = {"tags": search}
    return counted(client.get_json("/counts/posts.json", query, max_bytes=_MOST_COUNT_BYTES))


async def sample(
    candidates: Sequence[Tag],
    source: PostSource,
    *,
    terms: str,
    rules: Rules,
    side: int | None,
    pages: int,
    page_size: int = 200,
) -> dict[str, PageSample]:
    """
    Reads the newest page of up to `pages` candidates, spread evenly over their ranks.

    The tag tables are read first: without them a form and its base look like two personae.

    Args:
        candidates: Personae by tag counts, those with most posts first.
        source: Where posts come from.
        terms: Search terms added to each persona.
        rules: The rules that `decide` would apply.
        side: Pixels that the longer side of a file needs; None for originals.
        pages: Number of pages read.
        page_size: Posts per page.
    """
    kinship = Kinship.from_pairs(
        [pair async for pair in source.aliases()], [pair async for pair in source.implications()]
    )
    step = max(1.0, len(candidates) / max(pages, 1))
    chosen = [candidates[int(number * step)] for number in range(min(pages, len(candidates)))]
    samples = {}
    for tag in chosen:
        search = f"{tag.name} {terms}".strip()
        page = await source.page(search, before=None, size=page_size)
        samples[tag.name] = judge(tag.name, page.posts, rules, kinship, side=side)
    return samples


def judge(
    name: str, posts: Sequence[Post], rules: Rules, kinship: Kinship, *, side: int | None
) -> PageSample:
    """Returns how many of a persona's posts the rules keep, with the reasons of the others."""
    sample = PageSample(posts=len(posts))
    for post in posts:
        lineage = personae.lineage(
            kinship.canonical(post.tags_character), kinship.canonical(post.tags_copyright), kinship
        )
        facts = PostFacts(
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
        sample.reasons.update({decision.reason for decision in refusals if decision.reason})
        if not refusals and lineage.leaves == (name,):
            sample.kept += 1
            sample.file_bytes += _file_bytes(post, side)
        elif not refusals:
            sample.reasons["another_persona"] += 1
    return sample


def estimate(
    candidates: Sequence[Tag],
    samples: Mapping[str, PageSample],
    selection: PersonaeParams,
    *,
    page_size: int = 200,
    share_listed: float = 1.0,
    table_requests: int = 0,
) -> Plan:
    """
    Returns the plan for candidates of which some were sampled.

    A persona without a page is assumed to keep the share of all pages together.

    Args:
        candidates: Personae by tag counts.
        samples: The counts over the pages read, by persona.
        selection: Section `personae`.
        page_size: Posts per request.
        share_listed: Share of a persona's posts that match the search terms.
        table_requests: Requests for candidates and tag tables, which a listing repeats.
    """
    pooled = sum(samples.values(), PageSample())
    listed = {tag.name: round(tag.post_count * share_listed) for tag in candidates}
    kept = {
        name: round(posts * _share(samples.get(name) or pooled)) for name, posts in listed.items()
    }
    outcome = personae.choose(kept, {name: name for name in kept}, selection)
    rows = [
        Estimate(name, listed[name], kept[name], name in samples, outcome[name] is None)
        for name in sorted(kept, key=lambda name: (-kept[name], name))
    ]
    most = selection.most_images or max(kept.values(), default=0)
    downloads = sum(min(row.kept, most) for row in rows if row.qualifies)
    return Plan(
        personae=tuple(rows),
        # The last page of a walk is empty.
        listing_requests=table_requests
        + sum(math.ceil(posts / page_size) + 1 for posts in listed.values()),
        downloads=downloads,
        download_bytes=downloads * (pooled.file_bytes / pooled.kept if pooled.kept else 0.0),
        pooled=pooled,
    )


def render(plan: Plan, site: Site, selection: PersonaeParams, *, board_posts: int | None) -> str:
    """Returns the plan as text; `board_posts` is the number of all posts, None if unknown."""
    qualified = [row for row in plan.personae if row.qualifies]
    lines = [
        (
            f"The board holds {_number(board_posts)} posts. "
            f"{len(plan.personae):,} personae have enough by their tags alone."
        ),
        "",
        (
            f"Of them {len(qualified):,} are expected to have {selection.min_images:,} images that pass "
            "the rules:"
        ),
    ]
    lines += [
        f"  {row.name:<40.40} {row.posts:>9,} tagged {row.kept:>9,} kept"
        f"{'' if row.is_sampled else ' (by the mean share)'}"
        for row in qualified[:_SHOWN]
    ]
    if len(qualified) > _SHOWN:
        lines.append(f"  … and {len(qualified) - _SHOWN:,} more")
    list_hours = site.hours(plan.listing_requests, site.api_rate)
    load_hours = site.hours(plan.downloads, site.cdn_rate)
    lines += [
        "",
        (
            f"listing   {plan.listing_requests:,} requests at {site.api_rate:g}/s: {_time(list_hours)}"
        ),
        (
            f"download  {plan.downloads:,} images at {site.cdn_rate:g}/s: {_time(load_hours)}, about "
            f"{_bytes(plan.download_bytes)}"
        ),
        *_days(plan, site),
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


def share_listed(
    count_of: Callable[[str], int | None],
    candidates: Sequence[Tag],
    terms: str,
    *,
    counted_tags: int = 5,
) -> float:
    """
    Returns the share of the candidates' posts that match the search terms too.

    Args:
        count_of: Returns how many posts a search has, or None. Searches that fail are left out.
        candidates: Personae by tag counts.
        terms: Search terms that are added to each persona; without terms the share is 1.
        counted_tags: Number of candidates whose exact counts are requested.
    """
    if not terms:
        return 1.0
    matching = tagged = 0
    for tag in candidates[:counted_tags]:
        try:
            posts = count_of(f"{tag.name} {terms}")
        except (RequestRefused, TransientError):
            continue
        if posts is not None:
            matching, tagged = matching + posts, tagged + tag.post_count
    return min(1.0, matching / tagged) if tagged else 1.0


def _share(pages: PageSample) -> float:
    return pages.kept / pages.posts if pages.posts else 0.0


def _file_bytes(post: Post, side: int | None) -> float:
    variant = smallest_sufficient(post.variants, side)
    if variant is None or variant.type == "original":
        return float(post.file_bytes)
    return variant.width * variant.height * _BYTES_PER_PIXEL.get(variant.file_ext, 0.25)


def _days(plan: Plan, site: Site) -> list[str]:
    """Returns the line on a day's limit, if there is one."""
    if site.daily_requests is None:
        return []
    requests = plan.listing_requests + plan.downloads
    days = math.ceil(requests / site.daily_requests)
    return [
        (
            f"a day     {site.daily_requests:,} requests at most: the run ends each day when they are "
            f"used up, and takes {days:,} day{'s' if days != 1 else ''}, with the same command on each"
        )
    ]


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
