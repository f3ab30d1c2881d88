"""
Stage `listing`: metadata of every post of every candidate persona, and the tag tables.

    python -m scraper listing

Reads pages of a source. Writes `posts`, `tags`, `implications` and `aliases` as Parquet, and
`decisions` with the posts that could not be read. Each page
is committed to `ledger.sqlite` together with the cursor of the next page, so memory stays flat and
a killed run continues where it was. Pages in the ledger are not requested again; posts of other
candidates in the ledger are not written.
"""

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pyarrow as pa

from personae import tables
from personae.decisions import DECISIONS
from personae.errors import BadParams
from personae.progress import Progress
from scraper import fingerprint
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
from scraper.pages import Pages, Walk
from scraper.params.listing import Params
from scraper.params.personae import Params as PersonaeParams
from scraper.post import CATEGORIES, TAG_KINDS, PostDecision
from scraper.recorded import DAMAGE, DamagedRows, pairs_of, rows_of, tags_of
from scraper.schemas import PAIRS_SCHEMA, POSTS_SCHEMA, TAGS_SCHEMA
from scraper.segments import disk_errors_translated
from scraper.sources import Page, PostSource, RefusedPost, Tag

_log = logging.getLogger(__name__)

STAGE = "listing"
_BATCH = 1000
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


async def run(
    params: Params,
    selection: PersonaeParams,
    source: PostSource,
    out_dir: Path,
    *,
    at: Callable[[str], None] = lambda _step: None,
    skip_unchanged: bool = False,
) -> None:
    """
    Lists the posts that are not listed yet; writes the tables when none is left.

    Args:
        params: Section `listing`.
        selection: Section `personae`; its `min_images` and `labels` choose the candidates.
        source: Where posts come from.
        out_dir: Folder of the tables and the ledger.
        at: Called with the name of each write step as it is reached, for tests that kill there.
        skip_unchanged: Whether tables that would have the same bytes are not written again.

    Raises:
        Unfinished: The deadline has passed; run again. (`DiskRefused` and `AlreadyRunning` too.)
        TransientError: The source did not answer; run again.
        RequestRefused: The source refuses this client or the search.
        UnexpectedResponse: The source sends no posts. A single malformed post is refused.
        ExceptionGroup: Several searches failed; the pages of the others are recorded.
    """
    _log.info("listing: %s, personae: %s, from %s", params, selection, source.identity)
    with Pages(out_dir, source.identity, at=at) as pages:
        try:
            await _run(params, selection, source, pages, out_dir, at, skip_unchanged=skip_unchanged)
        except DamagedRows:
            removed = pages.repair()
            _log.warning("listing: %d recorded posts are damaged; requesting them again", removed)
            await _run(params, selection, source, pages, out_dir, at)


async def _run(  # noqa: PLR0917  # as `run`
    params: Params,
    selection: PersonaeParams,
    source: PostSource,
    pages: Pages,
    out_dir: Path,
    at: Callable[[str], None],
    *,
    skip_unchanged: bool = False,
) -> None:
    """Lists and exports; raises DamagedRows where a recorded post cannot be read."""
    try:
        async with asyncio.timeout(_seconds(params.deadline_hours)):
            pair_tables = {
                "implications": await _pairs("implications", source.implications, pages),
                "aliases": await _pairs("aliases", source.aliases, pages),
            }
            candidates = await _candidates(params, selection, source, pages)
            searches = [f"{tag.name} {params.terms}".strip() for tag in candidates]
            await _posts(params, candidates, searches, source, pages)
    except TimeoutError as error:
        raise Unfinished(
            f"The listing stopped after {params.deadline_hours} hours "
            "(listing.deadline_hours). Run the same command again to continue; no page is "
            "requested twice."
        ) from error
    walks = [pages.walk(search) for search in searches]
    effective = {STAGE: params.model_dump(), "personae": selection.model_dump()}
    questions = json.dumps([effective, rows_of(candidates), pair_tables], sort_keys=True)
    digest = hashlib.sha256(questions.encode()).hexdigest()
    if skip_unchanged and pages.exported() == [digest, fingerprint.tables(out_dir)]:
        _log.info("listing: nothing is new, and the tables stay as they are")
        return
    with disk_errors_translated(out_dir):
        at("exporting")
        _export_posts(candidates, walks, pages, out_dir, json.dumps(effective))
        _export_refused(pages.refused(walks), out_dir)
        for name, pairs in pair_tables.items():
            tables.write_batches(out_dir / f"{name}.parquet", PAIRS_SCHEMA, [_pair_rows(pairs)])
        pages.note_export([digest, fingerprint.tables(out_dir)])
        at("exported")


async def find_candidates(
    params: Params, selection: PersonaeParams, source: PostSource
) -> AsyncIterator[Tag]:
    """
    Yields the personae that may qualify, by tag counts alone: those named, then by number of posts.

    Raises:
        BadParams: A name of `listing.names` or `personae.include` is no character tag of the source.
    """
    named = params.names or selection.include
    tags = {tag.name: tag async for tag in source.named(named)} if named else {}
    for name in named:
        if name not in tags:
            field = "listing.names" if params.names else "personae.include"
            raise BadParams(
                f"'{field}' holds {name!r}, which is no character tag of this board. "
                "Look the name up there (an old name leads to the present one)."
            )
        yield tags[name]
    if params.names:
        return
    most, count = _most_candidates(params, selection), 0
    async for tag in source.candidates(selection.min_images):
        if tag.name not in tags and tag.name not in selection.exclude:
            yield tag
        count += 1
        if count == most:
            return


def _most_candidates(params: Params, selection: PersonaeParams) -> int | None:
    if selection.labels is None:
        return None
    return math.ceil(selection.labels * params.candidates_per_label)


def _seconds(hours: float | None) -> float | None:
    return None if hours is None else hours * 3600


async def _pairs(
    name: str, ask: Callable[[], AsyncIterator[tuple[str, str]]], pages: Pages
) -> list[tuple[str, str]]:
    """Returns a whole table of pairs; a part of it would change which tags are leaves."""
    known = pairs_of(pages.answer(name))
    if known is None:
        known = sorted({pair async for pair in ask()})
        pages.put(name, known)
        _log.info("listing: %d %s", len(known), name)
    return known


async def _candidates(
    params: Params, selection: PersonaeParams, source: PostSource, pages: Pages
) -> list[Tag]:
    """Returns the candidates of this run, from the ledger if it holds the same question."""
    question = "candidates " + json.dumps(
        [
            selection.min_images,
            _most_candidates(params, selection),
            sorted(params.names or selection.include),
            *(["without", *sorted(selection.exclude)] if selection.exclude else []),
        ]
    )
    known = tags_of(pages.answer(question))
    if known is None:
        known = [tag async for tag in find_candidates(params, selection, source)]
        pages.put(question, rows_of(known))
    if not known:
        _log.warning(
            "listing: no persona has %d posts on this board. Lower personae.min_images "
            "(--min-images).",
            selection.min_images,
        )
    return known


async def _posts(
    params: Params, candidates: list[Tag], searches: list[str], source: PostSource, pages: Pages
) -> None:
    """
    Requests the pages of every search until the last one, from the recorded cursor.

    A search that fails is left, and the others go on.

    Raises:
        ScraperError: The failure of a search; several in an ExceptionGroup.
    """
    walks = [pages.walk(search) for search in searches]
    left = [
        max(0, tag.post_count - pages.sighted(walk))
        for tag, walk in zip(candidates, walks, strict=True)
        if not walk.is_done
    ]
    _log.info("listing: %d candidates, %d of them still to list", len(walks), len(left))
    if walks and not left:
        _log.info(
            "listing: nothing is left of the last listing; `python -m scraper update` renews it"
        )
    failures: list[ScraperError] = []
    in_a_row = 0
    with Progress(STAGE, sum(left)) as progress:
        for tag, walk in zip(candidates, walks, strict=True):
            try:
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


async def _walk(  # noqa: PLR0917  # as `_posts`
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
        for post in page.posts:
            progress.advance("hidden" if post.is_hidden else "visible")
        for refused in page.refused:
            _log.warning("listing: post %s is refused: %s", refused.post_id, refused.detail)
            progress.advance(refused.reason)
        if listed > 2 * tag.post_count + _SLACK:
            raise UnexpectedResponse(
                f"Search '{walk.search}' has sent {listed:,} posts, and the board counts "
                f"{tag.post_count:,} for the tag. It does not end: the board is broken or hostile."
            )


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


def _export_refused(refused: list[RefusedPost], out_dir: Path) -> None:
    """Writes the posts that could not be listed."""
    rows = [
        PostDecision(row.post_id, STAGE, kept=False, reason=row.reason).to_row()
        for row in refused
        if row.post_id is not None
    ]
    tables.write(out_dir / "decisions.parquet", pa.Table.from_pylist(rows, schema=DECISIONS))
    if refused:
        _log.warning("listing: %d posts are refused, as they cannot be read", len(refused))


def _export_posts(
    candidates: list[Tag], walks: list[Walk], pages: Pages, out_dir: Path, effective: str
) -> None:
    """Writes the posts of this run's searches, and every tag on them."""
    # The field of a tag gives its category; only the counts of candidates are known.
    tags: dict[str, tuple[int, int | None]] = {}
    posts = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal posts
        for rows in pages.posts(walks, batch=_BATCH):
            try:
                batch = pa.RecordBatch.from_pylist(rows, schema=POSTS_SCHEMA)
            except DAMAGE as error:
                raise DamagedRows from error
            for kind in TAG_KINDS:
                category = CATEGORIES[kind]
                for name in set().union(*(row[f"tags_{kind}"] for row in rows)):
                    tags.setdefault(name, (category, None))
            posts += len(rows)
            yield batch

    schema = POSTS_SCHEMA.with_metadata({"personae.params": effective})
    tables.write_batches(out_dir / "posts.parquet", schema, batches())
    tags.update({tag.name: (tag.category, tag.post_count) for tag in candidates})
    named = [
        {"name": name, "category": category, "post_count": count}
        for name, (category, count) in sorted(tags.items())
    ]
    tables.write_batches(
        out_dir / "tags.parquet",
        TAGS_SCHEMA,
        [pa.RecordBatch.from_pylist(named, schema=TAGS_SCHEMA)],
    )
    _log.info("listing: %d posts of %d candidates, %d tags", posts, len(candidates), len(tags))


def _pair_rows(pairs: list[tuple[str, str]]) -> pa.RecordBatch:
    antecedents, consequents = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return pa.RecordBatch.from_arrays(
        [pa.array(antecedents, pa.string()), pa.array(consequents, pa.string())],
        schema=PAIRS_SCHEMA,
    )
