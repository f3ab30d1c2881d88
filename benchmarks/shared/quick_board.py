"""
A board that costs little: any number of tiny PNG files, made when they are requested.

    python -m benchmarks.shared.quick_board POSTS

It answers what the scraper requests of a board without faults, and nothing else; the demo board is the
faithful one. It prints its address, and ends when standard input closes.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from aiohttp import web

from benchmarks.shared.board import everything

LABELS = 10
_SIDE, _TAGS, _WORDS = 8, 25, 3000


def png(post_id: int) -> bytes:
    """Returns the file of a post: 8 by 8 grey pixels that no other post has."""
    noise = hashlib.shake_128(str(post_id).encode()).digest(_SIDE * _SIDE)
    rows = b"".join(b"\0" + noise[at : at + _SIDE] for at in range(0, len(noise), _SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _post(post_id: int, url: str) -> dict[str, Any]:
    content = png(post_id)
    words = random.Random(post_id).sample(range(_WORDS), _TAGS)  # noqa: S311  # words, not secrets
    size = {"width": _SIDE, "height": _SIDE, "file_ext": "png"}
    file_url = f"{url}/original/{post_id}.png"
    return {
        "id": post_id,
        "created_at": "2026-01-02T03:04:05.000-05:00",
        "updated_at": "2026-01-02T03:04:05.000-05:00",
        "uploader_id": 1,
        "score": 1,
        "source": f"https://example.org/{post_id}",
        "md5": hashlib.md5(content).hexdigest(),  # noqa: S324  # as boards do
        "rating": "g",
        "image_width": _SIDE,
        "image_height": _SIDE,
        "file_ext": "png",
        "file_size": len(content),
        "parent_id": None,
        **dict.fromkeys(("has_children", "is_pending", "is_flagged", "is_deleted"), False),
        "is_banned": False,
        "tag_string_general": " ".join(["1girl", "solo", *(f"word_{word}" for word in words)]),
        "tag_string_character": f"label_{post_id % LABELS}",
        "tag_string_copyright": "series",
        "tag_string_artist": f"artist_{post_id % 500}",
        "tag_string_meta": "",
        "file_url": file_url,
        "media_asset": {"variants": [{"type": "original", "url": file_url, **size}]},
    }


def _application(posts: int) -> web.Application:
    seen: Counter[str] = Counter()

    async def tags(request: web.Request) -> web.Response:
        counts = [len(range(label or LABELS, posts + 1, LABELS)) for label in range(LABELS)]
        rows = [
            {"name": f"label_{label}", "category": 4, "post_count": count}
            for label, count in enumerate(counts)
        ]
        return web.json_response(rows if request.query.get("page", "1") == "1" else [])

    async def table(_request: web.Request) -> web.Response:
        return web.json_response([])

    @functools.lru_cache(maxsize=4 * LABELS)
    def page(label: int, before: int, limit: int, url: str) -> str:
        first = before - 1 - (before - 1 - label) % LABELS
        return json.dumps([_post(post_id, url) for post_id in range(first, 0, -LABELS)[:limit]])

    async def listed(request: web.Request) -> web.Response:
        seen["pages"] += 1
        label = int(request.query["tags"].removeprefix("label_"))
        before = int(request.query.get("page", f"b{posts + 1}").removeprefix("b"))
        limit = int(request.query["limit"])
        text = page(label, before, limit, f"http://{request.host}")
        return web.Response(text=text, content_type="application/json")

    async def file(request: web.Request) -> web.Response:
        seen["files"] += 1
        content = png(int(request.match_info["post_id"]))
        return web.Response(body=content, content_type="image/png")

    async def log(_request: web.Request) -> web.Response:
        return web.json_response(seen)

    application = web.Application()
    application.router.add_get("/tags.json", tags)
    application.router.add_get("/tag_aliases.json", table)
    application.router.add_get("/tag_implications.json", table)
    application.router.add_get("/posts.json", listed)
    application.router.add_get("/original/{post_id}.png", file)
    application.router.add_get("/log", log)
    return application


async def _serve(posts: int) -> None:
    runner = web.AppRunner(_application(posts), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextlib.contextmanager
def served(posts: int) -> Iterator[str]:
    """Serves a board of `posts` posts in a process of its own; yields its address."""
    command = [sys.executable, "-m", "benchmarks.shared.quick_board", str(posts)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None  # noqa: S101  # Popen got a pipe
        assert child.stdout is not None  # noqa: S101  # Popen got a pipe
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()


def requested(url: str) -> dict[str, int]:
    """Returns the number of `pages` and of `files` that were requested so far."""
    return {"pages": 0, "files": 0} | dict(requests.get(f"{url}/log", timeout=60).json())


def options(url: str) -> list[str]:
    """Returns the options of a scrape of everything that the board at `url` has."""
    return [*everything(url), "--workers", "32"]


def new_folder(folder: Path) -> None:
    """Makes `folder` a working directory whose scrape downloads the originals."""
    (folder / "params.yaml").write_text("download: {side: null}\n")


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
