"""
Draws files when they are asked for, in worker processes, and remembers what it has drawn.

    listing ──> facts (md5, size) of a page ──> chunks ──> [pool of processes] ──> shelf
    CDN ─────> one file of one post ─────────> shelf, recent files, or the pool
"""

import asyncio
import multiprocessing
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait

from scraper.demo.facts.record import FileFacts, FileRecipe
from scraper.demo.painter import files
from scraper.demo.painter.files import ProducedFiles
from scraper.demo.painter.shelf import Shelf

THUMBNAIL = "180x180"

_CHUNK = 10
"""Posts per job: small enough that all workers share a page, large enough to hide the hand-over."""
_RECENT_BYTES = 64 * 2**20


class Studio:
    """The files of one board. Use from one event loop only."""

    def __init__(self, recipe: Callable[[int], FileRecipe], *, shelf: Shelf, workers: int) -> None:
        """`recipe` says how the file of a post is made; `workers` processes start when needed."""
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
        """Facts of a post that was drawn before."""
        return self._facts.get(post_id)

    async def facts(self, post_ids: Sequence[int]) -> dict[int, FileFacts]:
        """Facts of posts, drawing those that are new."""
        while missing := [one for one in post_ids if one not in self._facts]:
            self.prefetch(missing)
            waiting = {self._drawing[one] for one in missing}
            await asyncio.wait(waiting)
            for job in waiting:
                job.result()
        return {post_id: self._facts[post_id] for post_id in post_ids}

    def prefetch(self, post_ids: Iterable[int]) -> None:
        """Starts to draw posts that will be asked for soon."""
        new = [one for one in post_ids if one not in self._facts and one not in self._drawing]
        for start in range(0, len(new), _CHUNK):
            self._start(tuple(new[start : start + _CHUNK]))

    def _start(self, post_ids: tuple[int, ...]) -> None:
        job = self._submit(post_ids, (THUMBNAIL,))
        for post_id in post_ids:
            self._drawing[post_id] = job
        job.add_done_callback(lambda done: self._store(post_ids, done))

    def _submit(
        self, post_ids: tuple[int, ...], wanted: tuple[str, ...]
    ) -> asyncio.Future[list[ProducedFiles]]:
        if self._pool is None and self._workers:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_leave_with_parent,
            )
        recipes = tuple(self._recipe(one) for one in post_ids)
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pool, files.produce, recipes, wanted)

    def _store(self, post_ids: tuple[int, ...], job: asyncio.Future[list[ProducedFiles]]) -> None:
        current = [one for one in post_ids if self._drawing.get(one) is job]
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

    async def find(self, md5: str, post_ids: Sequence[int]) -> int | None:
        """The first post with this md5, drawing those of `post_ids` until it is found."""
        step = _CHUNK * 4 * max(1, self._workers)
        for start in range(0, len(post_ids), step):
            if md5 in self._by_md5:
                break
            new = [one for one in post_ids[start : start + step] if one not in self._facts]
            if new:
                await self.facts(new)
        return self._by_md5.get(md5)

    async def file(self, post_id: int, variant_type: str) -> bytes:
        """Bytes of one file of a post; the type must exist for it."""
        if variant_type == THUMBNAIL and post_id not in self._changed:
            await self.facts([post_id])
            thumbnail = self._shelf.thumbnail(post_id)
            if thumbnail is not None:
                return thumbnail
        key = (post_id, variant_type)
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
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
        """Drops what is known of a post that is new or changed; the shelf keeps the old state."""
        self._changed.add(post_id)
        self._drawing.pop(post_id, None)
        facts = self._facts.pop(post_id, None)
        if facts is not None and self._by_md5.get(facts.md5) == post_id:
            del self._by_md5[facts.md5]
        for key in [key for key in self._recent if key[0] == post_id]:
            self._recent_bytes -= len(self._recent.pop(key))

    def close(self) -> None:
        """Ends the workers; what is being drawn is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._shelf.close()


def _leave_with_parent() -> None:
    """Ends this worker when the board is killed: a queue alone would let it wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
