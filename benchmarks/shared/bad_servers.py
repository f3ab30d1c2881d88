"""
Scrapes of a board whose answers are faulty once, every tenth time or always, or its connections always.

The faults are those of the tests. A run must end by itself with a documented exit code, connect to no
other host, and give a reason for each image that it does not store. The same command, once the board is
well, must store every image.
"""

import asyncio
import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.shared import bad_case
from benchmarks.shared.bad_case import BadCase
from benchmarks.shared.board import everything
from benchmarks.shared.forked import Ended, Forked
from benchmarks.shared.scraper_kills import new_folder
from tests.scraper.conftest import noise
from tests.scraper.faulty_fixture import CONNECTION, FILES, HOST, JSON, FaultyBoard
from tests.scraper.secure_fixture import HANDSHAKES, SecureBoard, certificates

POSTS = range(100, 124)
AT_ONCE = 6
"""Runs at the same time: most of their time they wait."""
SHARES = {"once": None, "a tenth": 10, "all": 1}
"""How often a fault strikes: the first time alone, or every N-th time too."""
_PARAMS = """
site: {connect_seconds: 2, read_seconds: 1, total_seconds: 3, attempts: 2, max_wait_seconds: 60}
listing: {page_size: 5}
download: {side: null, workers: 3, queue: 2, group: 4, give_up_after: 4, max_bytes: 200000}
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a board, what it strikes, and how often."""

    kind: str
    struck: str
    """`files`, `API` or `connections`."""
    share: str
    entry: Any
    """What is sent, as `FaultyBoard.fault` returns it."""

    def __str__(self) -> str:
        return f"{self.kind}, {self.share} of the {self.struck}"

    def strike(self, board: FaultyBoard) -> None:
        """Makes a board faulty."""
        struck = 0

        def entry() -> Any:
            nonlocal struck
            struck += 1
            every = SHARES[self.share]
            return self.entry if struck == 1 or (every and struck % every == 0) else None

        if isinstance(board, SecureBoard):
            board.handshake = lambda _number: entry()
        else:
            is_file = self.struck == "files"
            board.fault = lambda path, _number: (
                entry() if (path in board.images) == is_file else None
            )


def of_answers() -> Iterator[Fault]:
    """Yields every fault of an answer, for files and for the API, in every share."""
    struck = {"files": CONNECTION | HOST | FILES, "API": CONNECTION | HOST | JSON}
    for name, kinds in struck.items():
        for kind, entry in kinds.items():
            yield from (Fault(kind, name, share, entry) for share in SHARES)


def run() -> list[BadCase]:
    """Returns the outcome of every fault."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as environment:
        root = Path(name)
        authority, context, bad_certificates = certificates(root)
        environment.setenv("SSL_CERT_FILE", str(authority))
        connections = [
            Fault(kind, "connections", "all", entry)
            for kind, entry in (bad_certificates | HANDSHAKES).items()
        ]
        boards = [(fault, FaultyBoard()) for fault in of_answers()]
        boards += [(fault, SecureBoard(context)) for fault in connections]
        jobs = (
            functools.partial(_case, new_folder(root, str(number), _PARAMS), board, fault)
            for number, (fault, board) in enumerate(boards)
        )
        return bad_case.spread(jobs, *bad_case.SCRAPER, at_once=AT_ONCE)


def _case(folder: Path, board: FaultyBoard, fault: Fault, command: Forked) -> list[BadCase]:
    async def served() -> BadCase:
        async with board:
            return await attempt(command, folder, board, fault)

    case = asyncio.run(served())
    shutil.rmtree(folder)
    return [case]


async def attempt(command: Forked, folder: Path, board: FaultyBoard, fault: Fault) -> BadCase:
    """Scrapes a board with the fault, then the same board without it."""
    for post_id in POSTS:
        persona = "rin" if post_id % 2 else "mai"
        bad_case.offer(board, post_id, noise(post_id, 30, 40), tag_string_character=persona)
    fault.strike(board)
    ended = await _scrape(command, folder, board)
    wrong = bad_case.complaints(ended)
    refusals = bad_case.refusals(folder / "data")
    if not ended.code:
        wrong += _lost(folder, refusals)
    board.fault = board.handshake = lambda *_request: None
    again = await _scrape(command, folder, board, "--retry-refused")
    wrong += bad_case.complaints(again)
    wrong += [f"lost afterwards: {bad_case.error(again)}"] if again.code else _lost(folder, {})
    port = board.origin.rpartition(":")[2]
    wrong += bad_case.escapes(folder, {f"127.0.0.1:{port}", f"localhost:{port}", f"::1:{port}"})
    reasons = ", ".join(sorted(set(refusals.values())))
    return BadCase(
        f"server: {fault.struck}",
        str(fault),
        bad_case.error(ended) or reasons or "harmless",
        max(ended.cpu_seconds, again.cpu_seconds),
        max(ended.peak_mib, again.peak_mib),
        tuple(wrong),
    )


def _lost(folder: Path, refusals: dict[int, str]) -> list[str]:
    """Returns a problem if a finished run has neither the bytes of a post nor a reason."""
    table = pq.read_table(folder / "data/download/images.parquet", columns=["post_id"])
    lost = set(POSTS) - set(table["post_id"].to_pylist()) - refusals.keys()
    return [f"lost: {len(lost)} posts without a reason"] if lost else []


async def _scrape(command: Forked, folder: Path, board: FaultyBoard, *options: str) -> Ended:
    arguments = [*everything(board.origin), *options]
    return await asyncio.to_thread(command, folder, *arguments, patch=bad_case.LOG_CONNECTIONS)
