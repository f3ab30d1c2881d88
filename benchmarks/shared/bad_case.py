"""One bad input, and what the programs made of it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow.parquet as pq

from benchmarks.shared.forked import Ended, Forked
from benchmarks.shared.scraper_kills import MODULES
from personae.errors import Exit
from tests.scraper.faulty_fixture import FaultyBoard
from tests.scraper.listing_fixture import raw, variant

_CONNECTIONS = "connections.txt"
HARMLESS = "harmless"
SCRAPER = (*MODULES, "scraper.repeated", "scraper.sources.folder")
CURATION = ("curation.__main__", "curation.measure", "curation.verify", "curation.query")
"""For `Forked`: each command, and what it imports."""


@dataclass(frozen=True, slots=True)
class BadCase:
    """One bad input; `problems` is empty when it did what the bar allows."""

    group: str
    """Such as `images: bomb`."""
    name: str
    outcome: str
    """The reason or the error of the refusal, or `HARMLESS`."""
    cpu_seconds: float = 0.0
    """Of the longest command; 0 where cases share a command."""
    peak_mib: float = 0.0
    """Largest resident size of a command."""
    problems: tuple[str, ...] = ()
    """Each begins with `traceback`, `lost` or `escaped`, or says what else is wrong."""


def spread(
    jobs: Iterable[Callable[[Forked], list[BadCase]]], *modules: str, at_once: int
) -> list[BadCase]:
    """Returns the cases of all jobs, `at_once` of which run at a time, each with a command of its own."""
    free: SimpleQueue[Forked] = SimpleQueue()

    def run(job: Callable[[Forked], list[BadCase]]) -> list[BadCase]:
        command = free.get()
        try:
            return job(command)
        finally:
            free.put(command)

    with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
        for _ in range(at_once):
            free.put(stack.enter_context(Forked(*modules)))
        return [case for cases in pool.map(run, jobs) for case in cases]


def process(folder: Path, *arguments: str) -> Ended:
    """Runs `python -m` with `arguments` in `folder`."""
    command = [sys.executable, "-m", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with (folder / "process.txt").open("w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as running:
            # Only `wait4` tells the peak of one process; after it, Popen has nothing to wait for.
            _, status, usage = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Ended(running.returncode, output.read(), cpu_seconds, usage.ru_maxrss / 1024)


def complaints(ended: Ended) -> list[str]:
    """Returns what is wrong with how a command ended, whatever its input was."""
    wrong = []
    if "Traceback" in ended.text:
        wrong.append(f"traceback: {ended.text[-300:]}")
    if ended.code not in set(Exit):
        wrong.append(f"exit code {ended.code}")
    if ended.code and not error(ended):
        wrong.append("no message")
    if any(sign in ended.text for sign in "\x1b\0"):
        wrong.append("control characters in the output")
    return wrong


def error(ended: Ended) -> str:
    """Returns the error that a command ended with, empty if there is none."""
    lines = [line for line in ended.text.splitlines() if line.startswith("error: ")]
    return lines[-1] if lines else ""


def refusals(
    data_dir: Path, stages: Sequence[str] = ("listing", "decide", "download")
) -> dict[int, str]:
    """Returns the reason for each post that a stage refused."""
    reasons: dict[int, str] = {}
    for stage in stages:
        path = data_dir / stage / "decisions.parquet"
        if path.exists():
            table = pq.read_table(path, columns=["post_id", "reason"]).drop_null()
            reasons |= dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return reasons


def offer(board: FaultyBoard, post_id: int, content: bytes, **changes: Any) -> None:
    """Adds a post with `content` as its original file to a board."""
    path = f"/original/{post_id}"
    board.images[path] = content
    url = board.origin + path
    fields = {
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "file_url": url,
        "file_size": len(content),
        "image_width": 30,
        "image_height": 40,
        "tag_string_general": "1girl solo",
        "media_asset": {"variants": [variant(post_id, url=url, width=30, height=40)]},
    }
    board.rows.append(raw(post_id, **(fields | changes)))


def log_connections() -> None:
    """Writes every address that this process connects to or looks up to a file of its folder."""
    file = Path(_CONNECTIONS).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115  # stays open

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            file.write(f"{arguments[1][0]}:{arguments[1][1]}\n")
        elif event == "socket.getaddrinfo":
            file.write(f"{arguments[0]}:{arguments[1]}\n")

    sys.addaudithook(hook)


LOG_CONNECTIONS = f"{__name__}:{log_connections.__name__}"
"""For the argument `patch` of `Forked`."""


def escapes(folder: Path, allowed: set[str]) -> list[str]:
    """Returns the connections of the commands in `folder` that led off the list."""
    connected = set((folder / _CONNECTIONS).read_text(encoding="utf-8").splitlines())
    return [f"escaped: a connection to {address}" for address in sorted(connected - allowed)]
