"""
Images on their way: a source, workers and one writer, joined by bounded queues.

In come the files wanted, out go bytes in segments and rows in the ledger. The writer appends,
syncs, and only then records. To stop, the source closes and the others run dry behind it: nothing
that is being written is cancelled.

    source ──> [queue] ──> workers ──> [queue] ──> one writer: segment, sync, ledger row
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from personae.progress import Progress
from scraper.errors import (
    CorruptImage,
    ForeignHost,
    NotFound,
    RequestRefused,
    ScraperError,
    TooLarge,
    TransientError,
    UnexpectedResponse,
    Unfinished,
)
from scraper.ledger import Ledger, Refused, Stored
from scraper.picture import Wanted, inspect
from scraper.segments import Segments

_log = logging.getLogger(__name__)

Arrived: TypeAlias = tuple[Wanted, bytes | Refused]

# What concerns one image, and asking again would not change.
_REASONS: dict[type[ScraperError], str] = {
    NotFound: "gone",
    ForeignHost: "foreign_host",
    TooLarge: "too_large",
    CorruptImage: "corrupt",
}


class Transport(Protocol):
    """What fetches bytes: the client, or a stand-in."""

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """Returns the body at `url` (relative to the board, or foreign), at most `max_bytes`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much at once, and when to stop; section `download` says what each is for."""

    workers: int
    queue: int
    group: int
    max_bytes: int
    give_up_after: int
    deadline_seconds: float | None


class Writer:
    """The one owner of segments and ledger while images arrive; it works in a thread."""

    def __init__(self, ledger: Ledger, segments: Segments, *, max_pixels: int) -> None:
        self._ledger = ledger
        self._segments = segments
        self._max_pixels = max_pixels

    def save(self, arrived: Sequence[Arrived]) -> list[str]:
        """Appends what is sound, syncs, then records; returns the outcomes, `stored` or a reason."""
        stored, refused = [], []
        for wanted, outcome in arrived:
            row = outcome if isinstance(outcome, Refused) else self._store(wanted, outcome)
            if isinstance(row, Refused):
                refused.append(row)
            else:
                stored.append(row)
        self._segments.sync()
        self._ledger.record(stored, refused)
        return ["stored"] * len(stored) + [row.reason for row in refused]

    def close(self, *, seal: bool) -> None:
        """Closes the segment, with its end mark when nothing went wrong."""
        if seal:
            self._segments.seal()
        self._segments.close()

    def _store(self, wanted: Wanted, payload: bytes) -> Stored | Refused:
        found = inspect(payload, wanted, max_pixels=self._max_pixels)
        if isinstance(found, Refused):
            return found
        place = self._segments.append(wanted.post_id, found.file_ext, payload)
        return Stored(
            post_id=wanted.post_id,
            file_key=wanted.file_key,
            segment=place.segment,
            offset=place.offset,
            file_bytes=len(payload),
            sha256=hashlib.sha256(payload).hexdigest(),
            file_ext=found.file_ext,
        )


class Transfer:
    """
    One run over the files wanted.

    Args:
        bounds: How much at once, and when to stop.
        client: Fetches bytes, at the polite rate.
        writer: Keeps what arrives.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        bounds: Bounds,
        client: Transport,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = bounds
        self._client = client
        self._writer = writer
        self._clock = clock
        self._begun = clock()
        self._failed_in_a_row = 0
        self._stop: ScraperError | None = None
        self._last_failure: TransientError | None = None
        self._wanted: asyncio.Queue[Wanted | None] = asyncio.Queue(bounds.queue)
        self._arrived: asyncio.Queue[Arrived | None] = asyncio.Queue(bounds.queue)

    async def run(self, batches: Iterator[Sequence[Wanted]], progress: Progress) -> None:
        """
        Fetches and records everything in `batches`, or as much as can be had now.

        Raises:
            Unfinished: Some are left for a later run.
            RequestRefused: The board does not want this client.
            ExceptionGroup: A task failed, such as the writer for want of room.
        """
        sound = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed(batches))
                for _ in range(self._bounds.workers):
                    group.create_task(self._work())
                group.create_task(self._write(progress))
            sound = True
        finally:
            self._writer.close(seal=sound)
        if isinstance(self._stop, RequestRefused | UnexpectedResponse):
            raise self._stop
        left = progress.total - progress.counts.total()
        if left:
            reason = self._stop or self._last_failure
            raise Unfinished(
                f"{left} of {progress.total} images are still to fetch. {reason} "
                "What arrived is recorded: run the same command again to go on."
            ) from reason

    async def _feed(self, batches: Iterator[Sequence[Wanted]]) -> None:
        """Source: hands out what is wanted until there is no more, or the run must stop."""
        while self._stop is None and (batch := await asyncio.to_thread(next, batches, None)):
            for wanted in batch:
                self._check_deadline()
                if self._stop is not None:
                    break
                await self._wanted.put(wanted)
        for _ in range(self._bounds.workers):
            await self._wanted.put(None)

    async def _work(self) -> None:
        """Worker: one image after the other, until the source closes."""
        while (wanted := await self._wanted.get()) is not None:
            # What was handed out before the run had to stop is left for the next run.
            outcome = None if self._stop is not None else await self._fetch(wanted)
            if outcome is not None:
                await self._arrived.put((wanted, outcome))
        await self._arrived.put(None)

    async def _fetch(self, wanted: Wanted) -> bytes | Refused | None:
        """The bytes, or why there will never be any, or None when a later run may have them."""
        if wanted.variant is None:
            return wanted.refused("wrong_type")
        url, max_bytes = wanted.variant.url, self._bounds.max_bytes
        try:
            payload = await self._client.get_bytes(url, max_bytes=max_bytes)
        except tuple(_REASONS) as error:
            reason = next(code for kind, code in _REASONS.items() if isinstance(error, kind))
            return wanted.refused(
                reason, threshold=max_bytes if isinstance(error, TooLarge) else None
            )
        except (RequestRefused, UnexpectedResponse, Unfinished) as error:
            self._stop = self._stop or error
        except TransientError as error:
            self._note_failure(wanted, error)
        else:
            self._failed_in_a_row = 0
            return payload
        return None

    async def _write(self, progress: Progress) -> None:
        """Writer: takes what has arrived, at most a group at a time, until all workers closed."""
        loop = asyncio.get_running_loop()
        workers = self._bounds.workers
        # Not `to_thread`: leaving this block waits for the group being written, so that nothing
        # is closed under it when the run is cancelled.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer") as thread:
            while workers:
                taken = [await self._arrived.get()]
                while len(taken) < self._bounds.group and not self._arrived.empty():
                    taken.append(self._arrived.get_nowait())
                arrived = [item for item in taken if item is not None]
                workers -= len(taken) - len(arrived)
                if arrived:
                    outcomes = await loop.run_in_executor(thread, self._writer.save, arrived)
                    for outcome in outcomes:
                        progress.advance(outcome)

    def _note_failure(self, wanted: Wanted, error: TransientError) -> None:
        self._last_failure = error
        self._failed_in_a_row += 1
        _log.warning("download: post %d is left for a later run: %s", wanted.post_id, error)
        if self._failed_in_a_row >= self._bounds.give_up_after:
            self._stop = self._stop or Unfinished(
                f"The site failed {self._failed_in_a_row} images one after the other; the last "
                f"time: {error}"
            )

    def _check_deadline(self) -> None:
        deadline = self._bounds.deadline_seconds
        if deadline is not None and self._clock() - self._begun >= deadline:
            self._stop = self._stop or Unfinished(
                f"The deadline of {deadline:g} s has passed (`deadline_seconds`)."
            )
