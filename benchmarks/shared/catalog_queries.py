"""
The catalog of a synthetic data folder: time and memory of its build, and time of the ten queries.

The build is a process of its own. Each query of docs/queries.sql opens the catalog anew, as
`python -m curation query` does, and gives all its rows.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.shared import browse_data
from benchmarks.shared.result import Result
from curation import query

QUERIES, ROUNDS = Path("docs/queries.sql"), 5


def measured(
    posts: int,
    *,
    median_ms: float,
    worst_ms: float,
    build_seconds: float | None = None,
    build_gib: float | None = None,
) -> Result:
    """
    Returns the median time of the ten queries in milliseconds.

    Args:
        posts: Number of posts in the catalog.
        median_ms: Bar of the median over the queries.
        worst_ms: Bar of the slowest query.
        build_seconds: Bar of the build in seconds; None for none.
        build_gib: Bar of the peak resident size of the build; None for none.
    """
    with tempfile.TemporaryDirectory(dir=os.environ.get("PERSONAE_BENCH_DIR")) as folder:
        root = Path(folder)
        # In a process of its own: the kernel counts the peak of a parent as that of its children.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            data_dir, results_dir = pool.submit(
                browse_data.write, root, posts, shared_images=False
            ).result()
        seconds, gib = _build(data_dir)
        catalog_path = data_dir / "catalog" / "catalog.duckdb"
        size = catalog_path.stat().st_size
        times = {
            title: _milliseconds(sql, catalog_path, results_dir)
            for title, sql in _queries().items()
        }
    medians = {title: statistics.median(values) for title, values in times.items()}
    median, worst = statistics.median(medians.values()), max(medians.values())
    is_built = (build_seconds is None or seconds <= build_seconds) and (
        build_gib is None or gib <= build_gib
    )
    bar = f"<= {median_ms:g} ms, the slowest <= {worst_ms:g} ms"
    if build_seconds is not None:
        bar += f"; built in <= {build_seconds:g} s and <= {build_gib:g} GiB"
    return Result(
        value=median,
        unit="ms, median of the ten queries",
        bar=bar,
        ok=median <= median_ms and worst <= worst_ms and is_built,
        runs=sorted(medians.values()),
        details={
            "posts": posts,
            "milliseconds": {title: round(value, 1) for title, value in medians.items()},
            "worst_ms": worst,
            "build_seconds": round(seconds, 1),
            "build_peak_gib": round(gib, 2),
            "catalog_bytes": size,
        },
    )


def _queries() -> dict[str, str]:
    """Returns the queries by their comment."""
    pieces = QUERIES.read_text(encoding="utf-8").split(";")
    titled = [piece.strip().partition("\n") for piece in pieces if piece.strip()]
    return {title.removeprefix("-- "): sql for title, _, sql in titled}


def _build(data_dir: Path) -> tuple[float, float]:
    """Runs stage `catalog`; returns its seconds and its peak resident size in GiB."""
    command = [sys.executable, "-m", "curation", "catalog", "--data", str(data_dir)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=data_dir.parent, env=environment) as process:
        # Only `wait4` tells the peak of one process; after it, Popen has nothing to wait for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"stage 'catalog' ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20  # Linux counts in KiB


def _milliseconds(sql: str, catalog_path: Path, results_dir: Path) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        query.run_query(sql, catalog_path=catalog_path, results_dir=results_dir)
        times.append((time.perf_counter() - start) * 1000)
    return times
