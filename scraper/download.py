"""
Stage `download`: fetches the images of the posts kept, each once.

    python -m scraper download

Reads `kept.parquet` and `posts.parquet`. Writes tar segments and, when nothing is left to fetch,
`images.parquet` and `decisions.parquet`. Posts pass bounded queues to workers and to one writer
(`transfer.py`). A run that was killed continues where the ledger ends.
"""

import json
import logging
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from personae import tables
from personae.decisions import DECISIONS
from personae.progress import Progress
from scraper import parts
from scraper.breaker import PROBES, Breaker
from scraper.errors import NothingStored, RequestRefused, UnexpectedResponse, Unfinished
from scraper.image import RequestedFile
from scraper.kept_files import Ids, KeptFiles
from scraper.ledger import Ledger, RefusedImage, StoredImage
from scraper.params.download import Params
from scraper.rebuild import rebuild
from scraper.segments import Segments, disk_errors_translated
from scraper.transfer import Bounds, Transfer, Writer
from scraper.transport import Transport

_log = logging.getLogger(__name__)

STAGE = "download"
_IMAGE_COLUMNS: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "segment": pa.string(),
    "offset": pa.int64(),
    "file_bytes": pa.int64(),
    "sha256": pa.string(),
    "md5": pa.string(),
    "variant": pa.string(),
    "file_ext": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
}
IMAGES_SCHEMA = pa.schema(_IMAGE_COLUMNS)
_BOUNDS = {field.name for field in fields(Bounds)} & set(Params.model_fields)
_QUEUE_BYTES = 64 * 2**20
_ROW_GROUP = 5000


class NamedSite(Protocol):
    """A site or a folder: something with a name."""

    @property
    def name(self) -> str:
        """Keeps images of different sites apart."""


async def run(  # noqa: PLR0917  # settings, the world, then folders in the order of the flow
    params: Params,
    client: Transport,
    site: NamedSite,
    listing_dir: Path,
    decide_dir: Path,
    out_dir: Path,
    *,
    at: Callable[[str], None] = lambda _step: None,
    clock: Callable[[], float] = time.monotonic,
    segments: Segments | None = None,
    queue_bytes: int = _QUEUE_BYTES,
) -> None:
    """
    Fetches the kept images that are not stored yet; writes the tables when none is left.

    Args:
        params: Section `download`.
        client: Fetches bytes at the site's rate, or reads them from a folder.
        site: The board or folder; its name keeps images of different ones apart.
        listing_dir: Output of stage `listing`.
        decide_dir: Output of stage `decide`.
        out_dir: Folder of the tables, the segments and the ledger.
        at: Called with the name of each write step as it is reached, for tests that kill there.
        clock: Monotonic time in seconds.
        segments: Writes the bytes; None means tar files in `out_dir/segments`.
        queue_bytes: Bytes that may wait for the disk; above it no further image is requested.

    Raises:
        Unfinished: Images are left to fetch; run again. (`DiskRefused` and `AlreadyRunning` too.)
        RequestRefused: The board refuses this client.
        NothingStored: Every image was refused; the tables hold the reasons.
        ExceptionGroup: Of the above, when the writer itself fails.
    """
    _log.info("download: %s from %s", params, site.name)
    with Ledger(out_dir, site.name, at=at) as ledger:
        if segments is None:
            segments = Segments(out_dir / "segments", segment_bytes=params.segment_bytes, at=at)
        listed = KeptFiles(listing_dir, decide_dir, params.side)
        if ledger.is_new and segments.sizes():
            folder = out_dir / "segments"
            rebuild(ledger, folder, listed.files(), max_pixels=params.max_pixels)
        _recover(ledger, segments)
        if params.parts:
            with Writer(ledger, segments, is_remote=True) as writer:
                parts.take_over(
                    params.parts,
                    listed,
                    ledger,
                    writer,
                    site=site.name,
                    max_pixels=params.max_pixels,
                )
        if params.retry_refused:
            _log.info("download: %d refused images are requested again", ledger.forget_refused())
        pending = _pending(listed, ledger)
        if pending.left:
            # A table that exists is complete: those of an earlier run no longer match what is kept.
            for name in ("images.parquet", "decisions.parquet"):
                (out_dir / name).unlink(missing_ok=True)
        if pending.left or len(pending.refused):
            bounds = Bounds(**params.model_dump(include=_BOUNDS), queue_bytes=queue_bytes)
            writer = Writer(ledger, segments, is_remote=client.is_remote)
            await _fetch(bounds, client, ledger, writer, listed, pending, clock)
        with disk_errors_translated(out_dir):
            _export(params, listed, ledger, out_dir, at)


async def _fetch(  # noqa: PLR0917  # as `run`
    bounds: Bounds,
    client: Transport,
    ledger: Ledger,
    writer: Writer,
    listed: KeptFiles,
    pending: "_Pending",
    clock: Callable[[], float],
) -> None:
    """
    Fetches what was never requested, then what gave a suspicious answer, once more.

    Raises:
        Unfinished: Images are left for a later run.
        RequestRefused: The board refuses this client.
    """
    breaker = Breaker(
        client,
        ledger.some_stored(PROBES),
        most_failures=bounds.give_up_after,
        max_bytes=bounds.max_bytes,
    )
    transfer = Transfer(bounds, client, writer, breaker, clock=clock)
    total, stored = pending.left, 0
    with writer:
        for title, fetch_again in ((STAGE, False), (f"{STAGE} again", True)):
            ids = pending.suspicious if fetch_again else pending.fresh
            if not len(ids) or transfer.stop is not None:
                continue
            if fetch_again:
                breaker.doubt()
            with Progress(title, len(ids), clock=clock) as progress:
                await transfer.run(listed.files(ids), progress)
            _log.info("%s: fetched %d: %s", title, len(ids), progress.summary())
            stored += progress.counts["stored"]
            pending = _pending(listed, ledger)
    if isinstance(transfer.stop, RequestRefused | UnexpectedResponse):
        raise transfer.stop
    is_through = transfer.stop is None and len(pending.suspicious) > 0
    if is_through and (not client.is_remote or await breaker.is_site_well()):
        # More suspicious answers than images: a second run must confirm them.
        doubtful = len(pending.suspected)
        is_doubtful = doubtful > stored and doubtful >= bounds.give_up_after
        ledger.accept_refusals(least_requests=3 if is_doubtful else 2)
        pending = _pending(listed, ledger)
    if pending.left:
        reason = transfer.stop or breaker.last
        raise Unfinished(
            f"{pending.left} of {total} images are left to fetch. "
            f"{reason or 'Their answers were no images.'} "
            "What arrived is recorded. Run the same command again to continue."
        ) from reason
    if len(pending.refused):
        _log.warning(
            "download: %d images are refused until the next run, which requests them again%s",
            len(pending.refused),
            f" ({transfer.stop})" if transfer.stop else "",
        )


def _recover(ledger: Ledger, segments: Segments) -> None:
    """Makes segments and ledger agree after a run that was killed."""
    lost = ledger.forget_lost(segments.sizes())
    if lost:
        _log.warning(
            "download: the bytes of %d recorded images are lost; fetching them again", lost
        )
    cut = segments.cut_back(ledger.ends())
    if cut:
        _log.info("download: cut off %d bytes that an interrupted run left unrecorded", cut)


@dataclass(frozen=True, slots=True)
class _Pending:
    """The posts of which no file is stored and none is refused for good: ids, in order."""

    fresh: Ids
    """Never requested."""
    suspected: Ids
    """Requested; a suspicious answer came, which counts as none (`ledger.State`)."""
    refused: Ids
    """Refused by an earlier run, and worth another request."""

    @property
    def left(self) -> int:
        """Number of posts without a decision."""
        return len(self.fresh) + len(self.suspected)

    @property
    def suspicious(self) -> Ids:
        """Every post that has given a suspicious answer."""
        return np.union1d(self.suspected, self.refused)


def _pending(listed: KeptFiles, ledger: Ledger) -> _Pending:
    """Returns what is left to fetch by the ledger."""
    fresh, suspected, refused = array("q"), array("q"), array("q")
    by_state = {"suspected": suspected, "refused": refused}
    for batch in listed.files():
        span = batch[0].post_id, batch[-1].post_id
        stored, refusals = ledger.stored(*span), ledger.refused(*span)
        for file in batch:
            key = file.post_id, file.file_key
            if key in stored:
                continue
            if key not in refusals:
                fresh.append(file.post_id)
            elif refusals[key].state in by_state:
                by_state[refusals[key].state].append(file.post_id)
    return _Pending(*(np.asarray(ids) for ids in (fresh, suspected, refused)))


def _export(
    params: Params, listed: KeptFiles, ledger: Ledger, out_dir: Path, at: Callable[[str], None]
) -> None:
    """Writes the tables: a decision for every kept post, a row of images for every stored one."""
    # Only the parameters that decide about images: workers change only their order in the segments.
    effective = params.model_dump(include={"side", "max_bytes", "max_pixels"})
    schema = IMAGES_SCHEMA.with_metadata({"personae.params": json.dumps({STAGE: effective})})
    counts: Counter[str] = Counter()
    posts = stored = 0
    at("exporting")
    with tables.writer(out_dir / "images.parquet", schema) as images:
        with tables.writer(out_dir / "decisions.parquet", DECISIONS) as decisions:
            for kept, outcome in _rows_in_groups(listed, ledger):
                images.write_table(_table(kept, schema))
                decisions.write_table(_table(outcome, DECISIONS))
                counts.update(row[3] for row in outcome if row[3])
                posts, stored = posts + len(outcome), stored + len(kept)
        at("decisions exported")
    at("images exported")
    _log.info(
        "download: %d posts, %d stored; refused by reason: %s",
        posts,
        stored,
        _counts_text(counts) or "none",
    )
    if posts and not stored:
        raise NothingStored(
            f"All {posts} images were refused ({_counts_text(counts)}): nothing is left to "
            "curate. Reasons such as too_large are limits of section 'download'. If the board has the "
            "files again, run with --retry-refused."
        )


def _rows_in_groups(
    listed: KeptFiles, ledger: Ledger
) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Yields the rows of both tables, a row group at a time, so that memory stays flat."""
    images: list[tuple[Any, ...]] = []
    decisions: list[tuple[Any, ...]] = []
    for batch in listed.files():
        span = batch[0].post_id, batch[-1].post_id
        stored, refused = ledger.stored(*span), ledger.refused(*span)
        for file in batch:
            key = file.post_id, file.file_key
            if key in stored:
                images.append(_image_row(file, stored[key]))
            decisions.append(_decision_row(file.post_id, None if key in stored else refused[key]))
        if len(decisions) >= _ROW_GROUP:
            yield images, decisions
            images, decisions = [], []
    if decisions:
        yield images, decisions


def _counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _image_row(file: RequestedFile, stored: StoredImage) -> tuple[Any, ...]:
    """Returns one row of `images.parquet`, in the order of its columns."""
    variant = file.variant
    assert variant is not None, "an image was stored without a variant"  # noqa: S101  # our mistake
    return (
        stored.post_id,
        stored.segment,
        stored.offset,
        stored.file_bytes,
        stored.sha256,
        file.md5,
        variant.type,
        stored.file_ext,
        stored.width or variant.width,
        stored.height or variant.height,
    )


def _decision_row(post_id: int, refused: RefusedImage | None) -> tuple[Any, ...]:
    """Returns one row of `decisions.parquet`, in the order of its columns."""
    if refused is None:
        return post_id, STAGE, True, None, None, None
    return post_id, STAGE, False, refused.reason, refused.measured, refused.threshold
