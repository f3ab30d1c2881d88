"""
The same command again when the board has nothing new among 100,000 known posts: wall-clock seconds.

The first run lists, judges and downloads 100,000 tiny images. Each later run requests the newest page of
each of the ten labels, and may request no image.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.shared import quick_board
from benchmarks.shared.result import Result

POSTS, RUNS, BAR_SECONDS = 100_000, 5, 3.0
COMMANDS = (["python", "-m", "scraper"], ["python", "-m", "scraper", "update"])


def run() -> Result:
    """Returns the median of both commands, `python -m scraper` and `update`, five times each."""
    seconds: dict[str, list[float]] = {" ".join(command): [] for command in COMMANDS}
    with quick_board.served(POSTS) as url, tempfile.TemporaryDirectory() as name:
        options = quick_board.options(url)
        quick_board.new_folder(Path(name))
        first = _seconds(COMMANDS[0], options, name)
        before = quick_board.requested(url)
        for _ in range(RUNS):
            for command in COMMANDS:
                seconds[" ".join(command)].append(_seconds(command, options, name))
        after = quick_board.requested(url)
    runs = [second for rows in seconds.values() for second in rows]
    images = after["files"] - before["files"]
    value = statistics.median(runs)
    return Result(
        value=value,
        unit="seconds",
        bar=f"<= {BAR_SECONDS:g}, no image requested",
        ok=value <= BAR_SECONDS and before["files"] == POSTS and images == 0,
        runs=runs,
        details={
            "seconds": {
                name: [round(value, 2) for value in rows] for name, rows in seconds.items()
            },
            "images_requested_first": before["files"],
            "images_requested_again": images,
            "pages_requested_each_time": (after["pages"] - before["pages"]) / len(runs),
            "seconds_of_the_first_run": round(first, 1),
        },
        commands=list(seconds),
    )


def _seconds(command: list[str], options: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command[1:], *options], cwd=folder, check=True, capture_output=True
    )
    return time.perf_counter() - start
