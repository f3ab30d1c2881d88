"""
The share of a permitted rate that a download uses over 2,000 files, and how often it exceeds it.

Both figures come from the log of the board. A window is open at its end, begins at a request, and
exceeds the rate when it holds more than rate × w + 1 requests.
"""

from bisect import bisect_left
from itertools import pairwise

import requests

from benchmarks.shared import board
from benchmarks.shared.result import Result

FILES, RATE = 2_000, 35.0
WINDOWS_SECONDS = (1, 10, 60)
LEAST = 0.97


def run() -> Result:
    """Returns the share; the bar also allows no window above the rate."""
    with board.served(count=FILES) as (url, root):
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
            "files": FILES,
            "seconds": times[-1] - times[0],
            "windows_above_the_rate": {f"{seconds} s": n for seconds, n in above.items()},
            "least_gap_seconds": min(later - earlier for earlier, later in pairwise(times)),
        },
    )


def _above(times: list[float], seconds: float) -> int:
    """Returns how many windows, one from each request, hold more than the rate allows."""
    return sum(
        bisect_left(times, begin + seconds) - first > RATE * seconds + 1
        for first, begin in enumerate(times)
    )
