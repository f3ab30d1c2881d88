"""
The searches of a listing: requests what is left of each, and records every page.

A board is walked down from the newest post of a search. A source that chooses its posts, such as a
dump, is requested for the ids that the record does not know, whatever it chose before.
"""

import logging
from dataclasses import replace

from personae.progress import Progress
from scraper.errors import (
    BadCertificate,
    DamagedLedger,
    EmptyPage,
    ForeignHost,
    NotAuthorised,
    RateLimited,
    ScraperError,
    TagLimitReached,
    UnexpectedResponse,
    Unfinished,
)
from scraper.pages import Pages
from scraper.params.listing import Params
from scraper.recorded import Walk
from scraper.sources import GONE, ChoosingSource, Page, PostSource, Tag
from scraper.sources.by_id import IDS_AT_ONCE

_log = logging.getLogger(__name__)

_MOST_FAILURES = 3
"""Failed searches in a row that end the listing: then it is not the searches' fault."""
_STOPPING = (
    BadCertificate,
    DamagedLedger,
    ForeignHost,
    NotAuthorised,
    RateLimited,
    TagLimitReached,
    Unfinished,
)
"""Errors that concern every search."""
_TRIES_OF_AN_EMPTY_PAGE = 3
_MOST_EARLY_ENDS = 2
"""Runs that wait for the posts behind an empty page; the next one takes the page as the end."""
_TOLERANCE = 0.02
"""Share of a tag's count that may be stale, where the board counts nothing else."""
_SLACK = 1000
"""Posts beyond twice the tag's count that a search may have: counts go stale."""


async def list_posts(
    params: Params, candidates: list[Tag], searches: list[str], source: PostSource, pages: Pages
) -> None:
    """
    Requests what is left of every search, and records it.

    A search that fails is left, and the others go on.

    Raises:
        ScraperError: The failure of a search; several in an ExceptionGroup.
    """
    pages.note_searches(searches)
    walks = [pages.walk(search) for search in searches]
    left = [_left(tag, walk, source, pages) for tag, walk in zip(candidates, walks, strict=True)]
    unfinished = [number for number in left if number is not None]
    _log.info("listing: %d candidates, %d of them still to list", len(walks), len(unfinished))
    if walks and not unfinished:
        _log.info(
            "listing: every post that the dump chooses was requested before"
            if isinstance(source, ChoosingSource)
            else "listing: nothing is left of the last listing; `python -m scraper update` renews it"
        )
    failures: list[ScraperError] = []
    in_a_row = 0
    with Progress("listing", sum(unfinished)) as progress:
        for tag, walk, posts in zip(candidates, walks, left, strict=True):
            try:
                if posts is None:
                    pass
                elif isinstance(source, ChoosingSource):
                    await _walk_chosen(params, walk, source, pages, progress)
                else:
                    await _walk(params, tag, walk, source, pages, progress)
                in_a_row = 0
            except _STOPPING:
                raise
            except ScraperError as error:
                _log.warning("listing: search '%s' is left: %s", walk.search, error)
                failures.append(error)
                in_a_row += 1
                if in_a_row == _MOST_FAILURES:
                    break
    _log.info("listing: posts listed, once per candidate tag: %s", progress.summary())
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup("several searches failed", failures)


def _left(tag: Tag, walk: Walk, source: PostSource, pages: Pages) -> int | None:
    """Returns how many posts of a search are still to be listed; None if the search is finished."""
    if isinstance(source, ChoosingSource):
        posts = len(pages.unlisted(walk, source.chosen(walk.search)))
        return None if walk.is_done and not posts else posts
    return None if walk.is_done else max(0, tag.post_count - pages.sighted(walk))


async def _walk_chosen(
    params: Params, begun: Walk, source: ChoosingSource, pages: Pages, progress: Progress
) -> None:
    """Requests the chosen posts of one search that the record does not know."""
    walk = replace(begun, floor=None)  # an update may add posts below the known ones
    # Looked up again: a search before this one may have listed posts of two personae.
    ids = pages.unlisted(walk, source.chosen(walk.search))
    size = min(params.page_size, IDS_AT_ONCE)
    for start in range(0, len(ids), size):
        page = await source.described(walk.search, ids[start : start + size])
        walk = pages.add(walk, page)
        _report(page, progress)
    pages.add(walk, Page((), None))


async def _walk(  # noqa: PLR0917  # as `list_posts`
    params: Params,
    tag: Tag,
    begun: Walk,
    source: PostSource,
    pages: Pages,
    progress: Progress,
) -> None:
    """
    Requests the pages of one search until the last one.

    Raises:
        EmptyPage: An empty page came although the board counts more posts.
        UnexpectedResponse: The search does not end.
    """
    walk, listed = begun, pages.sighted(begun)
    while not walk.is_done:
        page = await source.page(walk.search, before=walk.cursor, size=params.page_size)
        if page.cursor is None and listed < tag.post_count:
            page = await _confirmed_end(params, tag, walk, source, pages, listed)
        walk = pages.add(walk, page)
        listed += len(page.posts) + len(page.refused)
        _report(page, progress)
        if listed > 2 * tag.post_count + _SLACK:
            raise UnexpectedResponse(
                f"Search '{walk.search}' has sent {listed:,} posts, and the board counts "
                f"{tag.post_count:,} for the tag. It does not end: the board is broken or hostile."
            )


def _report(page: Page, progress: Progress) -> None:
    for post in page.posts:
        progress.advance("hidden" if post.is_hidden else "visible")
    for refused in page.refused:
        if refused.reason != GONE:  # a dump may have thousands: the end of the listing counts them
            _log.warning("listing: post %s is refused: %s", refused.post_id, refused.detail)
        progress.advance(refused.reason)


async def _confirmed_end(  # noqa: PLR0917  # as `_walk`
    params: Params, tag: Tag, walk: Walk, source: PostSource, pages: Pages, listed: int
) -> Page:
    """
    Returns the page that follows an early empty page: another try, or the empty page if it holds.

    The tag's count is no proof, because a search may have further terms and counts go stale. The
    count of the posts below the cursor is one.

    Raises:
        EmptyPage: The board counts more posts, and two earlier runs have not met the same.
    """
    for _ in range(_TRIES_OF_AN_EMPTY_PAGE - 1):
        page = await source.page(walk.search, before=walk.cursor, size=params.page_size)
        if page.cursor is not None:
            return page
    missing = tag.post_count - listed
    remaining = await source.remaining(walk.search, before=walk.cursor)
    if remaining is not None:
        remaining = max(0, remaining - pages.sighted(walk, below=walk.cursor))
    if remaining is not None and remaining > missing:
        remaining = None  # the board counts the whole search, whatever the id
    if remaining is None and not params.terms:
        remaining = missing if missing > _TOLERANCE * tag.post_count else 0
    if not remaining:
        return page
    message = (
        f"Search '{walk.search}' ended with an empty page after {listed:,} posts, and the board "
        f"counts {remaining:,} more. "
    )
    if walk.early_ends >= _MOST_EARLY_ENDS:
        _log.warning("listing: %sSo it was in earlier runs: the search counts as listed.", message)
        return page
    pages.note_early_end(walk)
    raise EmptyPage(f"{message}Run the same command again to continue.")
