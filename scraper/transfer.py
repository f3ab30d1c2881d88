"""
Fetches files: a feeder, workers and one writer, joined by bounded queues.

Takes the files to fetch; writes bytes to segments and rows to the ledger. The writer appends,
syncs, and only then records. To stop, the feeder closes first, then the workers, then the writer:
nothing that is being written is cancelled.

    feeder ──> [queue] ──> workers ──> [queue] ──> one writer: segment, sync, ledger row
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
from scraper.image import RequestedFile, inspect
from scraper.ledger import Ledger, RefusedImage, StoredImage
from scraper.segments import Segments

_log = logging.getLogger(__name__)

Arrived: TypeAlias = tuple[RequestedFile, bytes | RefusedImage]

# Failures of one image that another request would not change.
_REASONS: dict[type[ScraperError], str] = {
    NotFound: "gone",
    ForeignHost: "foreign_host",
    TooLarge: "too_large",
    CorruptImage: "corrupt",
}


class Transport(Protocol):
    """Fetches bytes: the client, or a folder."""

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """Returns the body at `url` (relative to the board, or foreign), at most `max_bytes`."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much at once, and when to stop; the fields are those of section `download`."""

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
        """
        Appends the images that pass the checks, syncs, then records all.

        Returns `stored` or the reason of the refusal for each image; the stored ones first.
        """
        stored, refused = [], []
        for file, outcome in arrived:
            row = outcome if isinstance(outcome, RefusedImage) else self._store(file, outcome)
            if isinstance(row, RefusedImage):
                refused.append(row)
            else:
                stored.append(row)
        self._segments.sync()
        self._ledger.record(stored, refused)
        return ["stored"] * len(stored) + [row.reason for row in refused]

    def close(self, *, seal: bool) -> None:
        """Closes the segment, with its end mark if `seal`."""
        if seal:
            self._segments.seal()
        self._segments.close()

    def _store(self, file: RequestedFile, payload: bytes) -> StoredImage | RefusedImage:
        checked = inspect(payload, file, max_pixels=self._max_pixels)
        if isinstance(checked, RefusedImage):
            return checked
        location = self._segments.append(file.post_id, checked.file_ext, payload)
        return StoredImage(
            post_id=file.post_id,
            file_key=file.file_key,
            segment=location.segment,
            offset=location.offset,
            file_bytes=len(payload),
            sha256=hashlib.sha256(payload).hexdigest(),
            file_ext=checked.file_ext,
        )


class Transfer:
    """
    One run over the files file.

    Args:
        bounds: How much at once, and when to stop.
        client: Fetches bytes, at the site's rate.
        writer: Saves what arrives.
        clock: Monotonic time in seconds.
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
        self._requested: asyncio.Queue[RequestedFile | None] = asyncio.Queue(bounds.queue)
        self._arrived: asyncio.Queue[Arrived | None] = asyncio.Queue(bounds.queue)

    async def run(self, batches: Iterator[Sequence[RequestedFile]], progress: Progress) -> None:
        """
        Fetches and records every file in `batches`, or as many as possible now.

        Raises:
            Unfinished: Files are left for a later run.
            RequestRefused: The board refuses this client.
            ExceptionGroup: A task failed, such as the writer on a full disk.
        """
        is_complete = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed(batches))
                for _ in range(self._bounds.workers):
                    group.create_task(self._work())
                group.create_task(self._write(progress))
            is_complete = True
        finally:
            self._writer.close(seal=is_complete)
        if isinstance(self._stop, RequestRefused | UnexpectedResponse):
            raise self._stop
        left = progress.total - progress.counts.total()
        if left:
            reason = self._stop or self._last_failure
            raise Unfinished(
                f"{left} of {progress.total} images are left to fetch. {reason} "
                "What arrived is recorded. Run the same command again to continue."
            ) from reason

    async def _feed(self, batches: Iterator[Sequence[RequestedFile]]) -> None:
        """Feeder: queues the files until none is left, or the run must stop."""
        while self._stop is None and (batch := await asyncio.to_thread(next, batches, None)):
            for file in batch:
                self._check_deadline()
                if self._stop is not None:
                    break
                await self._requested.put(file)
        for _ in range(self._bounds.workers):
            await self._requested.put(None)

    async def _work(self) -> None:
        """Worker: fetches one file after the other, until the feeder closes."""
        while (file := await self._requested.get()) is not None:
            # Files queued before the run had to stop are left for the next run.
            outcome = None if self._stop is not None else await self._fetch(file)
            if outcome is not None:
                await self._arrived.put((file, outcome))
        await self._arrived.put(None)

    async def _fetch(self, file: RequestedFile) -> bytes | RefusedImage | None:
        """Returns the bytes, or the refusal, or None when a later run may fetch the file."""
        if file.variant is None:
            return file.refused("wrong_type")
        url, max_bytes = file.variant.url, self._bounds.max_bytes
        try:
            payload = await self._client.get_bytes(url, max_bytes=max_bytes)
        except tuple(_REASONS) as error:
            reason = next(code for kind, code in _REASONS.items() if isinstance(error, kind))
            if isinstance(error, TooLarge):
                return file.refused(reason, measured=error.size, threshold=max_bytes)
            return file.refused(reason)
        except (RequestRefused, UnexpectedResponse, Unfinished) as error:
            self._stop = self._stop or error
        except TransientError as error:
            self._note_failure(file, error)
        else:
            self._failed_in_a_row = 0
            return payload
        return None

    async def _write(self, progress: Progress) -> None:
        """Writer: saves what has arrived, at most a group at a time, until all workers closed."""
        loop = asyncio.get_running_loop()
        workers = self._bounds.workers
        # Not `to_thread`: leaving this block waits for the group being written, so that its files
        # stay open when the run is cancelled.
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

    def _note_failure(self, file: RequestedFile, error: TransientError) -> None:
        self._last_failure = error
        self._failed_in_a_row += 1
        _log.warning("download: post %d is left for a later run: %s", file.post_id, error)
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
