"""
Draws files on demand in worker processes, and caches the results.

    listing ──> facts (md5, size) of a page ──> chunks ──> [pool of processes] ──> shelf
    CDN ─────> one file of one post ─────────> shelf, recent files, or the pool
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path

from scraper.demo.facts.record import FileFacts, FileRecipe
from scraper.demo.painter import files
from scraper.demo.painter.files import ProducedFiles
from scraper.demo.painter.shelf import Shelf

ORIGINAL = "original"
"""The variant that needs no drawing when the file lies on disk."""
THUMBNAIL = "180x180"
"""The variant that the cache keeps: a scraper requests it for every post."""

_CHUNK = 10
"""Posts per job: a page feeds all workers, and a job takes longer than its transfer."""
_RECENT_BYTES = 64 * 2**20
"""Bytes of the files in memory that were requested last, so that a retry draws nothing."""


class Studio:
    """The files of one board. All calls must come from one event loop."""

    def __init__(self, recipe: Callable[[int], FileRecipe], *, shelf: Shelf, workers: int) -> None:
        """
        Prepares a studio; no process starts before the first file is requested.

        Args:
            recipe: Returns the recipe of a post's file by post id.
            shelf: Cache of facts and thumbnails; the studio closes it.
            workers: Number of processes that draw; 0 draws in a thread of this process.
        """
        self._recipe = recipe
        self._shelf = shelf
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._facts = shelf.facts()
        self._by_md5: dict[str, int] = {}
        for post_id in sorted(self._facts, reverse=True):
            self._by_md5[self._facts[post_id].md5] = post_id
        self._changed: set[int] = set()
        self._drawing: dict[int, asyncio.Future[list[ProducedFiles]]] = {}
        self._recent: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._recent_bytes = 0

    def known(self, post_id: int) -> FileFacts | None:
        """Returns the facts of a post, or None if its file has not been drawn yet."""
        return self._facts.get(post_id)

    async def facts(self, post_ids: Sequence[int]) -> dict[int, FileFacts]:
        """
        Returns the facts of posts by post id, and draws the files that have none yet.

        Raises:
            OSError: A file on disk cannot be read.
        """
        while missing := [post_id for post_id in post_ids if post_id not in self._facts]:
            self.prefetch(missing)
            waiting = {self._drawing[post_id] for post_id in missing}
            await asyncio.wait(waiting)
            for job in waiting:
                job.result()
        return {post_id: self._facts[post_id] for post_id in post_ids}

    def prefetch(self, post_ids: Iterable[int]) -> None:
        """Starts to draw the files of posts that are likely to be requested next."""
        new = [
            post_id
            for post_id in post_ids
            if post_id not in self._facts and post_id not in self._drawing
        ]
        for start in range(0, len(new), _CHUNK):
            self._start(tuple(new[start : start + _CHUNK]))

    def _start(self, post_ids: tuple[int, ...]) -> None:
        job = self._submit(post_ids, (THUMBNAIL,))
        for post_id in post_ids:
            self._drawing[post_id] = job
        job.add_done_callback(lambda done: self._store(post_ids, done))

    def _submit(
        self, post_ids: tuple[int, ...], types: tuple[str, ...]
    ) -> asyncio.Future[list[ProducedFiles]]:
        if self._pool is None and self._workers:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_leave_with_parent,
            )
        recipes = tuple(self._recipe(post_id) for post_id in post_ids)
        loop = asyncio.get_running_loop()
        # The first job starts the workers, which inherit the blocked signal: Ctrl-C on a terminal
        # reaches the board alone.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return loop.run_in_executor(self._pool, files.produce, recipes, types)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _store(self, post_ids: tuple[int, ...], job: asyncio.Future[list[ProducedFiles]]) -> None:
        # A post that changed while it was drawn belongs to a later job, or to none.
        current = [post_id for post_id in post_ids if self._drawing.get(post_id) is job]
        for post_id in current:
            del self._drawing[post_id]
        if job.cancelled() or job.exception() is not None:
            return
        rows = []
        for post_id, produced in zip(post_ids, job.result(), strict=True):
            if post_id not in current:
                continue
            self._facts[post_id] = produced.facts
            first = self._by_md5.get(produced.facts.md5, post_id)
            self._by_md5[produced.facts.md5] = min(first, post_id)
            if post_id not in self._changed:
                rows.append((post_id, produced.facts, produced.files.get(THUMBNAIL, b"")))
        self._shelf.put(rows)

    async def find(self, md5: str, post_ids: Iterable[int]) -> int | None:
        """
        Returns the lowest id of a post with this md5, or None.

        Args:
            md5: Hash of the original, 32 hex digits.
            post_ids: Posts that are drawn, in this order, until one has the md5.

        Raises:
            OSError: A file on disk cannot be read.
        """
        waiting = iter(post_ids)
        step = _CHUNK * 4 * max(1, self._workers)
        while md5 not in self._by_md5 and (part := list(islice(waiting, step))):
            new = [post_id for post_id in part if post_id not in self._facts]
            if new:
                await self.facts(new)
        return self._by_md5.get(md5)

    async def file(self, post_id: int, variant_type: str) -> bytes:
        """
        Returns the bytes of one file of a post.

        Raises:
            KeyError: The post has no variant of this type.
            OSError: A file on disk cannot be read.
        """
        if variant_type == THUMBNAIL and post_id not in self._changed:
            await self.facts([post_id])
            thumbnail = self._shelf.thumbnail(post_id)
            if thumbnail is not None:
                return thumbnail
        key = (post_id, variant_type)
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        on_disk = self._recipe(post_id).path
        if on_disk is not None and variant_type == ORIGINAL:
            return await asyncio.to_thread(Path(on_disk).read_bytes)
        (produced,) = await self._submit((post_id,), (variant_type,))
        content = produced.files[variant_type]
        self._remember(key, content)
        return content

    def _remember(self, key: tuple[int, str], content: bytes) -> None:
        if key not in self._recent:
            self._recent[key] = content
            self._recent_bytes += len(content)
        while self._recent_bytes > _RECENT_BYTES:
            _, dropped = self._recent.popitem(last=False)
            self._recent_bytes -= len(dropped)

    def forget(self, post_id: int) -> None:
        """
        Drops the facts and files of a post that is new or has changed.

        The cache on disk keeps the old state, which is the state of a restarted board.
        """
        self._changed.add(post_id)
        self._drawing.pop(post_id, None)
        facts = self._facts.pop(post_id, None)
        if facts is not None and self._by_md5.get(facts.md5) == post_id:
            del self._by_md5[facts.md5]
        for key in [key for key in self._recent if key[0] == post_id]:
            self._recent_bytes -= len(self._recent.pop(key))

    def close(self) -> None:
        """Ends the worker processes without waiting for their jobs, and closes the cache."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._shelf.close()


def _leave_with_parent() -> None:
    """Ends this worker process when the board is killed; else it would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
