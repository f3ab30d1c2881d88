"""
Stage `listing`: metadata of every post of every candidate persona, and the tag tables.

    python -m scraper listing

Reads pages of a source. Writes `posts`, `tags`, `implications` and `aliases` as Parquet, and
`decisions` with the posts that could not be read, or that a dump chose and the board lacks. Each
page is committed to `ledger.sqlite` together with the cursor of the next page, so memory stays flat
and a killed run continues where it was. Pages in the ledger are not requested again; posts of other
candidates in the ledger are not written.
"""

import asyncio
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from personae import tables
from personae.decisions import DECISIONS
from personae.errors import BadParams
from scraper import fingerprint, walks
from scraper.errors import Unfinished
from scraper.pages import Pages
from scraper.params.listing import Params
from scraper.params.personae import Params as PersonaeParams
from scraper.personae import MOST_NAMED
from scraper.post import CATEGORIES, TAG_KINDS, PostDecision
from scraper.recorded import DAMAGE, DamagedRows, Walk, pairs_of, rows_of, tags_of
from scraper.schemas import PAIRS_SCHEMA, POSTS_SCHEMA, TAGS_SCHEMA
from scraper.segments import disk_errors_translated
from scraper.sources import ChoosingSource, PostSource, RefusedPost, Tag

_log = logging.getLogger(__name__)

STAGE = "listing"
_BATCH = 1000


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
            await walks.list_posts(params, candidates, searches, source, pages)
    except TimeoutError as error:
        raise Unfinished(
            f"The listing stopped after {params.deadline_hours} hours "
            "(listing.deadline_hours). Run the same command again to continue; no page is "
            "requested twice."
        ) from error
    done = [pages.walk(search) for search in searches]
    effective = {STAGE: params.model_dump(), "personae": selection.model_dump()}
    questions = json.dumps([effective, rows_of(candidates), pair_tables], sort_keys=True)
    digest = hashlib.sha256(questions.encode()).hexdigest()
    if skip_unchanged and pages.exported() == [digest, fingerprint.tables(out_dir)]:
        _log.info("listing: nothing is new, and the tables stay as they are")
        return
    with disk_errors_translated(out_dir):
        at("exporting")
        _export_posts(candidates, done, pages, out_dir, json.dumps(effective))
        _export_refused(pages.refused(done), out_dir)
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
        BadParams: A name of `listing.names`, `personae.include` or `personae.exclude` is no character
            tag of the source, or no persona has `min_images` posts.
    """
    named = params.names or selection.include
    tags = await _tags(source, named)
    # A dump need not have a row of an excluded persona: its board knows the name.
    board = source.board if isinstance(source, ChoosingSource) else source
    fields = {
        "personae.exclude": (selection.exclude, await _tags(board, selection.exclude)),
        "listing.names" if params.names else "personae.include": (named, tags),
    }
    for field, (names, known) in fields.items():
        for name in names:
            if name not in known:
                raise BadParams(
                    f"'{field}' holds {name!r}, which is no character tag of this board. "
                    "Look the name up there (an old name leads to the present one)."
                )
    for name in named:
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
    if not count and not named:
        largest = await _largest(source)
        raise BadParams(
            f"No persona has {selection.min_images} posts on this board. The largest: {largest}. "
            "Lower --min-images (personae.min_images)."
        )


async def _tags(source: PostSource, names: Sequence[str]) -> dict[str, Tag]:
    return {tag.name: tag async for tag in source.named(names)} if names else {}


async def _largest(source: PostSource) -> str:
    """Returns the personae with most posts and their counts, for a message."""
    largest = []
    async for tag in source.candidates(1):
        largest.append(f"{tag.name} {tag.post_count:,}")
        if len(largest) == MOST_NAMED:
            break
    return ", ".join(largest) or "none"


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
    # A dump answers without a request, and may be another one than before.
    is_recorded = not isinstance(source, ChoosingSource)
    question = "candidates " + json.dumps(
        [
            selection.min_images,
            _most_candidates(params, selection),
            sorted(params.names or selection.include),
            *(["without", *sorted(selection.exclude)] if selection.exclude else []),
        ]
    )
    known = tags_of(pages.answer(question)) if is_recorded else None
    if known is None:
        known = [tag async for tag in find_candidates(params, selection, source)]
        if is_recorded:
            pages.put(question, rows_of(known))
    if not known:
        _log.warning("listing: every persona of this board is excluded (personae.exclude)")
    return known


def _export_refused(refused: list[RefusedPost], out_dir: Path) -> None:
    """Writes the posts that could not be listed; one line counts them."""
    rows = [
        PostDecision(row.post_id, STAGE, kept=False, reason=row.reason).to_row()
        for row in refused
        if row.post_id is not None
    ]
    tables.write(out_dir / "decisions.parquet", pa.Table.from_pylist(rows, schema=DECISIONS))
    if refused:
        reasons = Counter(row.reason for row in refused).most_common()
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons)
        _log.warning("listing: %d posts are refused: %s", len(refused), counts)


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
