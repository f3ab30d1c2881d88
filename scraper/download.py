"""
Stage `download`: the bytes of the posts kept, once each.

    python -m scraper download

In come `kept.parquet` and `posts.parquet`; out go tar segments and, when nothing is left to fetch,
`images.parquet` and `decisions.parquet`. Posts flow through bounded queues to workers and on to
one writer (`transfer.py`). Killed anywhere and run again, it goes on where the record ends.
"""

import json
import logging
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from personae import tables
from personae.errors import MissingInput
from personae.progress import Progress
from scraper.errors import NothingStored
from scraper.ledger import Ledger, Refused, Stored
from scraper.picture import Wanted, smallest_sufficient
from scraper.post import DECISIONS_SCHEMA, Variant
from scraper.segments import Segments, room_needed
from scraper.transfer import Bounds, Transfer, Transport, Writer

Ids: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

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


class Params(BaseModel):
    """Section `download`: which size is fetched, how much at once, and what is too much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int | None = Field(
        64,
        ge=1,
        description="pixels that the long side must have; the smallest variant that has them is "
        "fetched; none fetches originals",
    )
    workers: int = Field(
        8,
        ge=1,
        le=256,
        description="requests at once; the site's rate limit holds for all together",
    )
    queue: int = Field(
        64, ge=1, description="images that may wait between two steps, which bounds the memory"
    )
    group: int = Field(
        64,
        ge=1,
        description="most images per sync and ledger transaction; fewer when they come slowly",
    )
    segment_bytes: int = Field(
        256 * 2**20,
        ge=10_240,
        description="bytes of a full tar segment; a few large files suit DVC",
    )
    max_bytes: int = Field(
        20 * 2**20, ge=1, description="bytes of an image beyond which it is refused"
    )
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        description="pixels of an image beyond which it is refused; well under the 89 million at "
        "which Pillow warns",
    )
    give_up_after: int = Field(
        20,
        ge=1,
        description="images failing one after the other, each after its retries, before the run "
        "ends: the site is down, not the image",
    )
    deadline_seconds: float | None = Field(
        None, gt=0, description="seconds after which the run ends, resumable; none never does"
    )
    retry_refused: bool = Field(
        default=False, description="ask again for images that were refused in earlier runs"
    )

    @property
    def bounds(self) -> Bounds:
        """What the transfer needs of these."""
        return Bounds(**{field.name: getattr(self, field.name) for field in fields(Bounds)})


class Named(Protocol):
    """A site or a folder, as far as it matters here."""

    @property
    def name(self) -> str:
        """Keeps images of different sites apart."""


async def run(  # noqa: PLR0917  # settings, the world, then folders in the order of the flow
    params: Params,
    client: Transport,
    site: Named,
    listing_dir: Path,
    decide_dir: Path,
    out_dir: Path,
    *,
    at: Callable[[str], None] = lambda _step: None,
    clock: Callable[[], float] = time.monotonic,
    segments: Segments | None = None,
) -> None:
    """
    Fetches what is kept and not there yet, and writes the tables when nothing is left.

    Args:
        params: Section `download`.
        client: Fetches bytes, at the polite rate; or reads them from a folder.
        site: The board or folder; its name keeps images of different ones apart.
        listing_dir: Where `listing` wrote.
        decide_dir: Where `decide` wrote.
        out_dir: Where to write.
        at: Called with the name of each write step as it is reached, for tests that kill there.
        clock: Seconds that only grow.
        segments: Where the bytes go, if not to `out_dir/segments`.

    Raises:
        Unfinished: Images are left to fetch; run again. (`DiskRefused` and `AlreadyRunning` too.)
        RequestRefused: The board does not want this client.
        NothingStored: Every image was refused; the tables say why.
        ExceptionGroup: Of the above, when the writer itself fails.
    """
    _log.info("download: %s from %s", params, site.name)
    with Ledger(out_dir, site.name, at=at) as ledger:
        if segments is None:
            segments = Segments(out_dir / "segments", segment_bytes=params.segment_bytes, at=at)
        _recover(ledger, segments)
        if params.retry_refused:
            _log.info("download: %d refused images are asked for again", ledger.forget_refused())
        listed = _Listed(listing_dir, decide_dir, params.side)
        pending = _pending(listed, ledger)
        if len(pending):
            # Present means complete: the tables of an earlier run no longer tell what is kept.
            for name in ("images.parquet", "decisions.parquet"):
                (out_dir / name).unlink(missing_ok=True)
            writer = Writer(ledger, segments, max_pixels=params.max_pixels)
            transfer = Transfer(params.bounds, client, writer, clock=clock)
            with Progress(STAGE, len(pending), clock=clock) as progress:
                await transfer.run(listed.wanted(pending), progress)
            _log.info("download: fetched %d: %s", len(pending), progress.summary())
        with room_needed(out_dir):
            _export(params, listed, ledger, out_dir, at)


@dataclass(frozen=True, slots=True)
class _Listed:
    """The images that are kept, read in batches from the tables of the stages before."""

    listing_dir: Path
    decide_dir: Path
    side: int | None

    def wanted(self, only: Ids | None = None) -> Iterator[list[Wanted]]:
        """Yields the files wanted, by post; `only` restricts to posts (sorted ids)."""
        kept = tables.read(self.decide_dir / "kept.parquet", ("post_id",), stage="decide")
        ids = kept.column("post_id").to_numpy() if only is None else only
        columns = ("post_id", "md5", "file_bytes", "variants")
        found = 0
        path = self.listing_dir / "posts.parquet"
        for batch in tables.batches(path, columns, stage="listing", rows=2000):
            listed = batch.column("post_id").to_numpy()
            rows = batch.filter(pa.array(np.isin(listed, _between(ids, listed))))
            found += rows.num_rows
            if rows.num_rows:
                yield _wanted(rows, self.side)
        if found != len(ids):
            raise MissingInput(
                f"{len(ids) - found} of {len(ids)} posts kept by 'decide' are not in {path}: the "
                "tables are of different runs. Run stage 'decide' again."
            )


def _between(ids: Ids, listed: Ids) -> Ids:
    """The part of the sorted `ids` that the sorted `listed` spans."""
    return ids[np.searchsorted(ids, listed[0]) : np.searchsorted(ids, listed[-1], side="right")]


def _wanted(rows: pa.RecordBatch, side: int | None) -> list[Wanted]:
    """The file wanted of each post; column by column, which is several times faster than by row."""
    listed: Any = rows.column("variants")
    # The table has the fields of Variant, in their order.
    fields_of_all = (child.to_numpy(zero_copy_only=False) for child in listed.flatten().flatten())
    # Made when their post's turn comes and gone after it: a hundred thousand would wake the
    # garbage collector again and again.
    variants = map(Variant, *(values.tolist() for values in fields_of_all))
    wanted = []
    plain = (rows.column(name).to_pylist() for name in ("post_id", "md5", "file_bytes"))
    lengths = pc.list_value_length(listed).to_pylist()
    for post_id, md5, file_bytes, length in zip(*plain, lengths, strict=True):
        wanted.append(
            Wanted(
                post_id=post_id,
                md5=md5,
                original_bytes=file_bytes,
                variant=smallest_sufficient(list(islice(variants, length)), side),
            )
        )
    return wanted


def _recover(ledger: Ledger, segments: Segments) -> None:
    """Makes bytes and record agree again after a run that was killed."""
    lost = ledger.forget_lost(segments.sizes())
    if lost:
        _log.warning("download: the bytes of %d recorded images are gone; fetching again", lost)
    cut = segments.cut_back(ledger.ends())
    if cut:
        _log.info("download: cut off %d bytes that an interrupted run left unrecorded", cut)


def _pending(listed: _Listed, ledger: Ledger) -> Ids:
    """The posts whose file is neither stored nor refused, in order."""
    pending = array("q")
    for batch in listed.wanted():
        span = batch[0].post_id, batch[-1].post_id
        known = ledger.stored(*span).keys() | ledger.refused(*span).keys()
        pending.extend(
            wanted.post_id for wanted in batch if (wanted.post_id, wanted.file_key) not in known
        )
    return np.asarray(pending)


def _export(
    params: Params, listed: _Listed, ledger: Ledger, out_dir: Path, at: Callable[[str], None]
) -> None:
    """Writes the tables: every post kept by `decide` has a decision, the stored ones an image."""
    images, decisions = [IMAGES_SCHEMA.empty_table()], [DECISIONS_SCHEMA.empty_table()]
    for batch in listed.wanted():
        span = batch[0].post_id, batch[-1].post_id
        stored, refused = ledger.stored(*span), ledger.refused(*span)
        keys = [(wanted.post_id, wanted.file_key) for wanted in batch]
        images.append(
            _table(
                [
                    _image_row(wanted, stored[key])
                    for wanted, key in zip(batch, keys, strict=True)
                    if key in stored
                ],
                IMAGES_SCHEMA,
            )
        )
        decisions.append(
            _table(
                [_decision_row(key[0], None if key in stored else refused[key]) for key in keys],
                DECISIONS_SCHEMA,
            )
        )
    # Only what decides about images: a run with more workers writes the same bytes.
    effective = params.model_dump(include={"side", "max_bytes", "max_pixels"})
    kept = pa.concat_tables(images).replace_schema_metadata(
        {"personae.params": json.dumps({STAGE: effective})}
    )
    outcome = pa.concat_tables(decisions)
    at("exporting")
    tables.write(out_dir / "decisions.parquet", outcome)
    at("decisions exported")
    tables.write(out_dir / "images.parquet", kept)
    at("images exported")
    counts = Counter(reason for reason in outcome.column("reason").to_pylist() if reason)
    _log.info(
        "download: %d posts, %d stored; refused by reason: %s",
        outcome.num_rows,
        kept.num_rows,
        _told(counts) or "none",
    )
    if outcome.num_rows and not kept.num_rows:
        raise NothingStored(
            f"All {outcome.num_rows} images were refused ({_told(counts)}): nothing is left to "
            "curate. If the files are there again, run with --retry-refused; reasons such as "
            "too_many_bytes are limits of section 'download'."
        )


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _image_row(wanted: Wanted, stored: Stored) -> tuple[Any, ...]:
    """One row of `images.parquet`, in the order of its columns."""
    variant = wanted.variant
    assert variant is not None, "an image was stored that nobody wanted"  # noqa: S101  # our mistake
    return (
        *(stored.post_id, stored.segment, stored.offset, stored.file_bytes, stored.sha256),
        *(wanted.md5, variant.type, stored.file_ext, variant.width, variant.height),
    )


def _decision_row(post_id: int, refused: Refused | None) -> tuple[Any, ...]:
    """One row of `decisions.parquet`, in the order of its columns."""
    if refused is None:
        return post_id, STAGE, True, None, None, None
    return post_id, STAGE, False, refused.reason, refused.measured, refused.threshold
