"""Fixtures of the download tests: a host that serves images, and tables that list them."""

import asyncio
import hashlib
import io
import random
import threading
from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from PIL import Image

from scraper.decide import KEPT_SCHEMA
from scraper.post import Post, Variant
from scraper.schemas import POSTS_SCHEMA

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class ImageHost:
    """
    A real HTTP server on loopback. It runs in its own thread, so that child processes can reach it.

    `images` maps paths to bytes. `faults` maps paths to functions that respond instead.
    `intercept`, a function of the path and the number of the request (from 1), may return such a
    function. `requests` counts the requests of each path. `arrived` is notified at every request.
    """

    def __init__(self):
        self.images = {}
        self.faults = {}
        self.intercept = lambda _path, _number: None
        self.requests = Counter()
        self.arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="image host")

    def start(self):
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def wait_for(self, count):
        """Waits until that many requests have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.requests.total() >= count, timeout=240)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request):
        with self.arrived:
            self.requests[request.path] += 1
            self.arrived.notify_all()
            number = self.requests.total()
        respond = self.intercept(request.path, number) or self.faults.get(request.path)
        if respond is not None:
            return await respond(request)
        if request.path not in self.images:
            raise web.HTTPNotFound
        return web.Response(body=self.images[request.path], content_type="image/png")


@pytest.fixture
def image_host():
    host = ImageHost()
    host.start()
    yield host
    host.stop()


def noise(seed, width, height, file_ext="png"):
    """Returns an incompressible image; equal seeds give equal bytes."""
    pixels = random.Random(seed).randbytes(width * height * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(
        file, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[file_ext]
    )
    return file.getvalue()


class Shelf:
    """Images on a host, and the tables of `listing` and `decide` that list them."""

    def __init__(self, host, folder):
        self.host = host
        self.listing_dir = folder / "listing"
        self.decide_dir = folder / "decide"
        self.out_dir = folder / "download"
        self.posts = {}

    def add(self, post_id, *, variants=None, md5=None, payload=None, **changes):
        """Adds a post with a thumbnail and an original; `payload` replaces the original."""
        payload = payload or noise(post_id, 30, 40)
        digest = hashlib.md5(payload).hexdigest()
        if variants is None:
            small = f"/180x180/{digest}.jpg"
            self.host.images[small] = noise(post_id, 15, 20, "jpg")
            variants = (Variant("180x180", small, 15, 20, "jpg"),)
        path = f"/original/{digest}.png"
        self.host.images[path] = payload
        original = Variant("original", path, 30, 40, "png")
        self.posts[post_id] = Post(
            post_id=post_id,
            created_at_utc=MOMENT,
            updated_at_utc=MOMENT,
            md5=md5 or digest,
            pixel_hash=None,
            rating="g",
            image_width=30,
            image_height=40,
            file_ext="png",
            file_bytes=len(payload),
            duration_seconds=None,
            parent_id=None,
            has_children=False,
            is_pending=False,
            is_flagged=False,
            is_deleted=False,
            is_banned=False,
            score=0,
            uploader_id=1,
            source="",
            tags_general=("../../x", "solo"),
            tags_character=("rin",),
            tags_copyright=(),
            tags_artist=(),
            tags_meta=(),
            variants=(*variants, original),
            **changes,
        )
        return self.posts[post_id]

    def write(self, kept=None):
        """Writes the tables; `kept` are the posts to download, by default all."""
        self.listing_dir.mkdir(exist_ok=True)
        self.decide_dir.mkdir(exist_ok=True)
        rows = [self.posts[post_id].to_row() for post_id in sorted(self.posts)]
        pq.write_table(pa.Table.from_pylist(rows, POSTS_SCHEMA), self.listing_dir / "posts.parquet")
        labels = [
            {
                "post_id": post_id,
                "persona": "../../x",
                "base": "../../x",
                "base_source": "self",
                "copyright": None,
                "white_background_tag": False,
            }
            for post_id in sorted(self.posts if kept is None else kept)
        ]
        pq.write_table(pa.Table.from_pylist(labels, KEPT_SCHEMA), self.decide_dir / "kept.parquet")

    def stored(self):
        """Returns the bytes of every image of `images.parquet`, read at its offset."""
        found = {}
        for row in pq.read_table(self.out_dir / "images.parquet").to_pylist():
            with (self.out_dir / "segments" / row["segment"]).open("rb") as file:
                file.seek(row["offset"])
                found[row["post_id"]] = file.read(row["file_bytes"])
            assert row["sha256"] == hashlib.sha256(found[row["post_id"]]).hexdigest()
        return found

    def expected(self, *, variant=-1):
        """Returns the bytes on the host for the variant of every post."""
        return {
            post_id: self.host.images[post.variants[variant].url]
            for post_id, post in self.posts.items()
        }

    def decisions(self):
        """Returns the reason and the two numbers of each post."""
        return {
            row["post_id"]: (row["reason"], row["measured"], row["threshold"])
            for row in pq.read_table(self.out_dir / "decisions.parquet").to_pylist()
        }


@pytest.fixture
def shelf(image_host, tmp_path):
    return Shelf(image_host, tmp_path)
