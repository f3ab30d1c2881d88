"""
How the CPU time of the table stages grows from 10,000 to 1,000,000 posts.

The exponent of a stage is the slope of the logarithm of its CPU seconds over that of its posts, by least
squares. The CPU seconds of the start, which are those of the stage with 1,000 posts, are subtracted:
with them, every stage would seem to grow more slowly. `split` compares all pairs of hashes up to some
120,000 images, and searches the near pairs above that, so that its two decades differ: both stand in
the details. `duplicates` is a search with a bar of its own.
"""

import itertools
import math
import os
import shutil
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.shared import peak, table_data, table_stages
from benchmarks.shared.result import Result

ROUNDS = {1_000: 3, 10_000: 3, 100_000: 1, 1_000_000: 1}
"""Runs of each stage by number of posts; the first number gives the start."""
BAR, BAR_SEARCH = 1.05, 1.5


def run() -> Result:
    """Returns the largest exponent of a table stage; that of `duplicates` is in the details."""
    cpu: dict[str, dict[int, float]] = {}
    peaks: dict[str, dict[int, float]] = {}
    for posts, rounds in ROUNDS.items():
        measured = [_costs(posts) for _ in range(rounds)]
        for stage in measured[0]:
            seconds = [costs[stage]["cpu_seconds"] for costs in measured]
            cpu.setdefault(stage, {})[posts] = round(statistics.median(seconds), 3)
            mib = [costs[stage]["peak_mib"] for costs in measured]
            peaks.setdefault(stage, {})[posts] = round(max(mib), 1)
    exponents = {stage: _exponent(seconds) for stage, seconds in cpu.items()}
    tables = [value for stage, value in exponents.items() if stage != "duplicates"]
    return Result(
        value=max(tables),
        unit="exponent of CPU seconds over posts, of the stage where it is largest",
        bar=f"<= {BAR:g} for every table stage, <= {BAR_SEARCH:g} for duplicates",
        ok=max(tables) <= BAR and exponents["duplicates"] <= BAR_SEARCH,
        runs=tables,
        details={
            "exponents": {stage: round(value, 3) for stage, value in exponents.items()},
            "of_each_decade": {stage: _decades(seconds) for stage, seconds in cpu.items()},
            "with_the_start": {
                stage: round(_exponent(seconds, with_start=True), 3)
                for stage, seconds in cpu.items()
            },
            "cpu_seconds": cpu,
            "peak_mib": peaks,
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=[*table_stages.COMMANDS, "python -m curation duplicates"],
    )


def _costs(posts: int) -> dict[str, dict[str, float]]:
    """Returns the cost of each stage; `duplicates` runs on tables whose images it can read."""
    with table_stages.tables(posts) as data_dir, tempfile.TemporaryDirectory() as folder:
        costs = table_stages.costs(data_dir)
        with_images = Path(folder) / "data"
        peak.apart(table_data.write, with_images, posts)
        for stage in ("decide", "filters"):  # they read nothing that differs
            shutil.copytree(data_dir / stage, with_images / stage)
        return costs | {"duplicates": asdict(peak.of_stage(["duplicates"], with_images))}


def _work(seconds: dict[int, float]) -> dict[int, float]:
    """Returns the CPU seconds without those of the start; at least one hundredth of a second."""
    start, *sizes = sorted(seconds)
    return {posts: max(0.01, seconds[posts] - seconds[start]) for posts in sizes}


def _exponent(seconds: dict[int, float], *, with_start: bool = False) -> float:
    work = _work(seconds)
    points = {posts: seconds[posts] if with_start else work[posts] for posts in work}
    return statistics.linear_regression(
        [math.log(posts) for posts in points], [math.log(value) for value in points.values()]
    ).slope


def _decades(seconds: dict[int, float]) -> list[float]:
    """Returns the exponent from each size to the next."""
    work = list(_work(seconds).values())
    return [round(math.log10(later / earlier), 3) for earlier, later in itertools.pairwise(work)]
