"""
Fetches files: a feeder, workers and one writer, joined by bounded queues.

Takes the files to fetch; writes bytes to segments and rows to the ledger. The writer appends,
syncs, and only then records. To stop, the feeder closes first, then the workers, then the writer:
nothing that is being written is cancelled.

    feeder ──> [queue] ──> workers ──> [queue] ──> one writer: segment, sync, ledger row

An answer that the network may have caused is recorded as suspected (`ledger.State`), and the
breaker decides whether the site is at fault.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from personae.progress import Progress
from scraper.breaker import Breaker
from scraper.errors import (
    BadCertificate,
    Challenged,
    CorruptImage,
    ForeignHost,
    ForeignRedirect,
    NotAuthorised,
    NotFound,
    RequestRefused,
    ScraperError,
    TooLarge,
    TransientError,
    UnexpectedResponse,
    Unfinished,
)
from scraper.image import Header, RequestedFile, has_end, inspect, stored_image
from scraper.ledger import UNAVAILABLE, Ledger, RefusedImage, StoredImage
from scraper.segments import Segments
from scraper.transport import Transport

_log = logging.getLogger(__name__)

Arrived: TypeAlias = tuple[RequestedFile, bytes, Header | RefusedImage]
"""A file, its bytes, and what they are; of a refused file no bytes are kept."""
Row: TypeAlias = StoredImage | RefusedImage

_STOPPING = (BadCertificate, Challenged, UnexpectedResponse, Unfinished)
"""Errors after which no further request is useful."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much at once, and when to stop; the fields are those of section `download`."""

    workers: int
    queue: int
    group: int
    max_bytes: int
    give_up_after: int
    deadline_seconds: float | None
    queue_bytes: int
    max_pixels: int


class Writer:
    """
    The one owner of segments and ledger while images arrive; a context that works in a thread.

    Args:
        ledger: Where the rows go.
        segments: Where the bytes go.
        is_remote: Whether a network may have changed what arrives; if not, a refusal is final.
    """

    def __init__(self, ledger: Ledger, segments: Segments, *, is_remote: bool) -> None:
        self._ledger = ledger
        self._segments = segments
        self._is_remote = is_remote

    def save(self, arrived: Sequence[Arrived]) -> list[Row]:
        """Appends the images, syncs, then records images and refusals; returns the rows."""
        rows = [
            self._refused(file, outcome)
            if isinstance(outcome, RefusedImage)
            else self._store(file, payload, outcome)
            for file, payload, outcome in arrived
        ]
        self._segments.sync()
        self._ledger.record(
            [row for row in rows if isinstance(row, StoredImage)],
            [row for row in rows if isinstance(row, RefusedImage)],
        )
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Closes the segment, with its end mark unless the block failed."""
        if kind is None:
            self._segments.seal()
        self._segments.close()

    def _store(self, file: RequestedFile, payload: bytes, image: Header) -> StoredImage:
        location = self._segments.append(file.post_id, image.file_ext, payload)
        return stored_image(file, payload, image, location.segment, location.offset)

    def _refused(self, file: RequestedFile, row: RefusedImage) -> RefusedImage:
        if not self._is_remote and row.reason != UNAVAILABLE:
            return replace(row, state="final")
        earlier = self._ledger.refused(file.post_id, file.post_id)
        return row.after(earlier.get((file.post_id, file.file_key)))


class Transfer:
    """
    One pass over files to fetch.

    Args:
        bounds: How much at once, and when to stop.
        client: Fetches bytes, at the site's rate.
        writer: Saves what arrives.
        breaker: Decides when the site is at fault.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        bounds: Bounds,
        client: Transport,
        writer: Writer,
        breaker: Breaker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop: ScraperError | None = None
        """Why no further request is sent; None while all goes well."""
        self._bounds = bounds
        self._client = client
        self._writer = writer
        self._breaker = breaker
        self._clock = clock
        self._begun = clock()
        self._requested: asyncio.Queue[RequestedFile | None] = asyncio.Queue(bounds.queue)
        self._arrived: asyncio.Queue[Arrived | None] = asyncio.Queue(bounds.queue)
        self._arrived_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def run(self, batches: Iterator[Sequence[RequestedFile]], progress: Progress) -> None:
        """
        Fetches and records every file in `batches`, or as many as possible now; see `stop`.

        Raises:
            ExceptionGroup: A task failed, such as the writer on a full disk.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(batches))
            for _ in range(self._bounds.workers):
                group.create_task(self._work())
            group.create_task(self._write(progress))

    async def _feed(self, batches: Iterator[Sequence[RequestedFile]]) -> None:
        """Feeder: queues the files until none is left, or the run must stop."""
        while self.stop is None and (batch := await asyncio.to_thread(next, batches, None)):
            for file in batch:
                self._check_deadline()
                if self.stop is not None:
                    break
                await self._requested.put(file)
        for _ in range(self._bounds.workers):
            await self._requested.put(None)

    async def _work(self) -> None:
        """Worker: fetches one file after the other, until the feeder closes."""
        while (file := await self._requested.get()) is not None:
            # Files queued before the run had to stop are left for the next run.
            await self._has_room.wait()
            await self._breaker.wait_for_probe()
            arrived = None if self.stop is not None else await self._fetch(file)
            if arrived is not None:
                self._hold(len(arrived[1]))
                await self._arrived.put(arrived)
        await self._arrived.put(None)

    async def _fetch(self, file: RequestedFile) -> Arrived | None:
        """Returns the image or the refusal; None when the run stops."""
        if file.variant is None:
            return file, b"", file.refused("wrong_type")
        url, max_bytes = file.variant.url, self._bounds.max_bytes
        try:
            payload = await self._whole(url, max_bytes)
        except _STOPPING as error:
            self.stop = self.stop or error
            return None
        except ScraperError as error:
            refusal = _refusal(file, error, max_bytes)
            await self._note_failure(refusal, error)
            return file, b"", refusal
        image = inspect(payload, file, max_pixels=self._bounds.max_pixels)
        if isinstance(image, RefusedImage):
            await self._note_failure(image)
            return file, b"", image
        self._breaker.note_image()
        return file, payload, image

    async def _whole(self, url: str, max_bytes: int) -> bytes:
        """
        Returns the bytes of a file; one without its end is requested once more.

        A proxy or a full disk may have cut it short at the length that it announces. What arrives
        twice alike is the board's own file, which is stored as it is.

        Raises:
            CorruptImage: Both times it ended early, and each time otherwise.
        """
        payload = await self._client.get_bytes(url, max_bytes=max_bytes)
        if has_end(payload) or not self._client.is_remote:
            return payload
        again = await self._client.get_bytes(url, max_bytes=max_bytes)
        if again != payload and not has_end(again):
            raise CorruptImage(f"{url!r:.200} arrived cut short twice, at different places.")
        return again

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
                    rows = await loop.run_in_executor(thread, self._writer.save, arrived)
                    self._hold(-sum(len(payload) for _, payload, _ in arrived))
                    for row in rows:
                        if isinstance(row, StoredImage):
                            progress.advance("stored")
                            self._breaker.add_probe(row)
                        else:
                            progress.advance(row.reason)

    def _hold(self, size: int) -> None:
        """Counts bytes that wait for the writer; above the bound no further file is requested."""
        self._arrived_bytes += size
        if self._arrived_bytes < self._bounds.queue_bytes:
            self._has_room.set()
        else:
            self._has_room.clear()

    async def _note_failure(self, refusal: RefusedImage, error: ScraperError | None = None) -> None:
        is_suspicious = self._client.is_remote or refusal.reason == UNAVAILABLE
        if refusal.state != "suspected" or not is_suspicious:
            return
        _log.warning(
            "download: post %d: %s", refusal.post_id, error or f"the answer is {refusal.reason}"
        )
        await self._breaker.note_failure(error)
        if self._breaker.is_open and self.stop is None:
            last = self._breaker.last
            if isinstance(last, NotAuthorised | Unfinished):
                self.stop = last
                return
            self.stop = Unfinished(
                f"{self._breaker.failures} requests for images failed one after the other, and no "
                "stored image arrives again: the site or the network is at fault. "
                + (f"The last failure: {last}" if last else "The answers were no images.")
            )

    def _check_deadline(self) -> None:
        deadline = self._bounds.deadline_seconds
        if deadline is not None and self._clock() - self._begun >= deadline:
            self.stop = self.stop or Unfinished(
                f"The deadline of {deadline:g} s has passed (`deadline_seconds`)."
            )


def _refusal(file: RequestedFile, error: ScraperError, max_bytes: int) -> RefusedImage:
    """Returns the row of a request that failed; only a retry can show whose fault it is."""
    status = getattr(error, "status", None)
    evidence = str(status or "")
    match error:
        case TooLarge(is_announced=True):
            row = file.refused("too_large", error.size, max_bytes)
        case TooLarge():
            # Without an announced length, something else may have sent a body without end.
            row = file.suspected("too_large", error.size, max_bytes, evidence="without length")
        case NotFound():
            row = file.suspected("gone", evidence=evidence)
        case ForeignRedirect():
            row = file.suspected("foreign_host")
        case ForeignHost():
            # No request was sent. The user may add the host.
            row = replace(file.refused("foreign_host"), state="refused")
        case CorruptImage():
            row = file.suspected("corrupt")
        case TransientError():
            row = file.suspected(UNAVAILABLE, status)
        case RequestRefused():
            row = file.suspected("odd_answer", status, evidence=evidence)
        case _:
            raise AssertionError(f"an error that is none of a request: {error!r}")
    return row
