"""
`get` of one sample, and the first page of `browse`, in a data set of 10,000,000 posts.

`get` is measured as a whole command, and without the start of Python: in a process that has imported
it. The page is measured as the three answers that a browser waits for, from a server that has started.
CPU seconds of the server are those of /proc. Neither reads the table of tags, and posts have five tags
here instead of 24, which makes the data in a quarter of the time. The post of `get` lies in a shard of 79 MB, whose sha256
is checked at each call.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks.shared import browse_data, peak
from benchmarks.shared.result import Result
from curation import sample

POSTS, ROUNDS, BAR_MS = 10_000_000, 9, 200.0
PAGE = ("", "api/choices", "api/posts?")


def run() -> Result:
    """Returns the larger of the medians in milliseconds: of `get` without start, and of the page."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PERSONAE_BENCH_DIR")) as folder:
        root = Path(folder)
        data_dir, results_dir = peak.apart(
            browse_data.write, root, POSTS, shared_images=False, tags_of_post=1
        )
        build = peak.of_stage(["catalog"], data_dir)
        got = _get(data_dir)
        page = _page(data_dir, results_dir)
    medians = {
        name: statistics.median(times) for name, times in (got | page).items() if len(times) > 1
    }
    judged = {name: medians[name] for name in ("get_ms", "page_ms")}
    slowest = max(judged, key=lambda name: judged[name])
    return Result(
        value=judged[slowest],
        unit="ms, the slower of `get` without the start of Python and the first page of browse",
        bar=f"<= {BAR_MS:g} ms for both",
        ok=judged[slowest] <= BAR_MS,
        runs=(got | page)[slowest],
        details={
            "posts": POSTS,
            "samples": POSTS * 2 // 5,
            "median_ms": {name: round(value, 1) for name, value in medians.items()},
            "once": {name: round(times[0], 1) for name, times in page.items() if len(times) == 1},
            "build_seconds": round(build.seconds, 1),
            "build_cpu_seconds": round(build.cpu_seconds, 1),
            "build_peak_mib": round(build.peak_mib, 1),
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=["python -m curation get KEY", "python -m curation browse"],
    )


def _get(data_dir: Path) -> dict[str, list[float]]:
    """Returns the milliseconds of `get`: of the command, and of its work, each with CPU time."""
    key = str(browse_data.FIRST_POST)
    command = [sys.executable, "-m", "curation", "get", key, "--data", str(data_dir), "-o", "-"]
    times: dict[str, list[float]] = {
        name: [] for name in ("get_ms", "get_cpu_ms", "get_command_ms", "get_command_cpu_ms")
    }
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        sample.stored_bytes(data_dir, sample.post_id_of(data_dir, key))
        times["get_ms"].append((time.perf_counter() - wall) * 1000)
        times["get_cpu_ms"].append((time.process_time() - cpu) * 1000)
        wall = time.perf_counter()
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        times["get_command_ms"].append((time.perf_counter() - wall) * 1000)
        times["get_command_cpu_ms"].append(spent * 1000)
    return times


def _page(data_dir: Path, results_dir: Path) -> dict[str, list[float]]:
    """Returns the milliseconds of the first page, with CPU time, and of the start of the server."""
    command = [sys.executable, "-m", "curation", "browse", "--port", "0"]
    folders = ["--data", str(data_dir), "--results", str(results_dir)]
    start = time.perf_counter()
    with subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "a pipe was requested"  # noqa: S101  # our own mistake
        try:
            address = server.stdout.readline().strip()
            times = {"start_ms": [(time.perf_counter() - start) * 1000]}
            rounds = [_round(server.pid, address) for _ in range(ROUNDS)]
        finally:
            server.terminate()
    names: Any = rounds[0].keys()
    return times | {name: [spent[name] for spent in rounds] for name in names}


def _round(server: int, address: str) -> dict[str, float]:
    wall, cpu = time.perf_counter(), _cpu_seconds(server)
    for target in PAGE:
        requests.get(address + target, timeout=60).raise_for_status()
    return {
        "page_ms": (time.perf_counter() - wall) * 1000,
        "page_server_cpu_ms": (_cpu_seconds(server) - cpu) * 1000,
    }


def _cpu_seconds(process: int) -> float:
    """Returns user and system time of a process: fields 14 and 15 of /proc/PID/stat."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
