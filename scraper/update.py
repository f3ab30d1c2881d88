"""
    python -m scraper update

What has changed since the last listing: new posts, and with `--changed` edits and deletions too.

Reads the record of stage `listing` and pages of the board. Marks in the record what is to be listed
again; stage `listing` then requests it, in pages proportional to what is new, and goes on after a
kill like any listing.
"""

import logging
from pathlib import Path

from personae.progress import Progress
from scraper.pages import Pages
from scraper.sources import ChoosingSource, PostSource
from scraper.sources.by_id import IDS_AT_ONCE, posts_by_id

_log = logging.getLogger(__name__)

_QUESTION = "refreshed up to"


async def run(source: PostSource, listing_dir: Path, *, changed: bool) -> None:
    """
    Prepares the record in `listing_dir` for a listing of what is new.

    Args:
        source: Where the posts come from.
        listing_dir: Folder of stage `listing`, with its record.
        changed: Also requests every recorded post again, by id, and records edits and deletions.

    Raises:
        AlreadyRunning, DamagedLedger, DiskRefused, TransientError, RequestRefused,
        UnexpectedResponse: As `listing.run` does.
    """
    with Pages(listing_dir, source.identity) as pages:
        if changed:
            await _refresh(source, pages)
        # What is new of a chosen search is known without a walk over its newest pages.
        pages.renew(walks=not isinstance(source, ChoosingSource))


async def _refresh(source: PostSource, pages: Pages) -> None:
    """Requests every recorded post again; a killed run goes on after the last ids recorded."""
    done = pages.answer(_QUESTION) or 0
    edited = gone = 0
    requests = -(-pages.count(above=done) // IDS_AT_ONCE)
    with Progress("update", requests) as progress:
        while ids := pages.known(above=done, limit=IDS_AT_ONCE):
            page = await posts_by_id(source, ids)
            unreadable = {row.post_id for row in page.refused}
            counts = pages.refresh([each for each in ids if each not in unreadable], page.posts)
            done = ids[-1]
            pages.put(_QUESTION, done)
            edited, gone = edited + counts.edited, gone + counts.gone
            progress.advance(text=f"{edited} edited, {gone} gone")
    _log.info("update: %d posts edited, %d gone", edited, gone)
