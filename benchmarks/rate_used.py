"""
The share of a permitted rate that a download uses over 2,000 files, and how often it exceeds it.

Both figures come from the log of the board. A window is open at its end, begins at a request, and
exceeds the rate when it holds more than rate × w + 1 requests.

On a busy machine both processes wait for a core, which says nothing about them. So they run with
real-time priority, where the system permits it; `details` says whether it did.
"""

import contextlib
import os
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import requests

from benchmarks.shared import board
from benchmarks.shared.result import Result

FILES, RATE = 2_000, 35.0
WINDOWS_SECONDS = (1, 10, 60)
LEAST = 0.97


def run() -> Result:
    """Returns the share; the bar also allows no window above the rate."""
    with board.served(count=FILES) as (url, root):
        load = os.getloadavg()[0]
        with _undisturbed() as is_undisturbed:
            board.scrape(url, root / "ours", "--cdn-rate", str(RATE), expected=FILES)
        headers = {"User-Agent": "benchmark (local board)"}
        log = requests.get(f"{url}/demo/log.json?entries=true", headers=headers, timeout=60).json()
    times = sorted(at for at, kind, _path, status in log["entries"] if kind == "cdn")
    if len(times) != FILES:
        raise SystemExit(f"the board was asked for {len(times)} files instead of {FILES}")
    share = (len(times) - 1) / (times[-1] - times[0]) / RATE
    above = {seconds: _above(times, seconds) for seconds in WINDOWS_SECONDS}
    return Result(
        value=share,
        unit="of the permitted rate",
        bar=f">= {LEAST:g} and <= 1, no window above the rate",
        ok=LEAST <= share <= 1 and not any(above.values()),
        runs=[share],
        details={
            "rate_per_second": RATE,
            "real_time_priority": is_undisturbed,
            "load_average_before": load,
            "files": FILES,
            "seconds": times[-1] - times[0],
            "windows_above_the_rate": {f"{seconds} s": n for seconds, n in above.items()},
            "least_gap_seconds": min(later - earlier for earlier, later in pairwise(times)),
        },
    )


@contextlib.contextmanager
def _undisturbed() -> Iterator[bool]:
    """Gives this process, its children and the new ones real-time priority; yields whether it did."""
    children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    processes = [os.getpid(), *(int(pid) for pids in children for pid in pids)]
    try:
        for pid in processes:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        for pid in processes:
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _above(times: list[float], seconds: float) -> int:
    """Returns how many windows, one from each request, hold more than the rate allows."""
    return sum(
        bisect_left(times, begin + seconds) - first > RATE * seconds + 1
        for first, begin in enumerate(times)
    )
