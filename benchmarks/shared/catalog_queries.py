"""
The catalog of a synthetic data folder: time and memory of its build, and time of the ten queries.

The build is a process of its own. Each query of docs/queries.sql opens the catalog anew, as
`python -m curation query` does, and gives all its rows.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.shared import browse_data, peak
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
        data_dir, results_dir = peak.apart(browse_data.write, root, posts, shared_images=False)
        cost = peak.of_stage(["catalog"], data_dir)
        gib = cost.peak_mib / 1024
        catalog_path = data_dir / "catalog" / "catalog.duckdb"
        size = catalog_path.stat().st_size
        medians = {
            title: statistics.median(values)
            for title, values in times(catalog_path, results_dir).items()
        }
    median, worst = statistics.median(medians.values()), max(medians.values())
    is_built = (build_seconds is None or cost.seconds <= build_seconds) and (
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
            "build_seconds": round(cost.seconds, 1),
            "build_peak_gib": round(gib, 2),
            "catalog_bytes": size,
        },
    )


def times(catalog_path: Path, results_dir: Path) -> dict[str, list[float]]:
    """Returns the milliseconds of every round of each query, by the comment of the query."""
    return {
        title: _milliseconds(sql, catalog_path, results_dir) for title, sql in _queries().items()
    }


def _queries() -> dict[str, str]:
    """Returns the queries by their comment."""
    pieces = QUERIES.read_text(encoding="utf-8").split(";")
    titled = [piece.strip().partition("\n") for piece in pieces if piece.strip()]
    return {title.removeprefix("-- "): sql for title, _, sql in titled}


def _milliseconds(sql: str, catalog_path: Path, results_dir: Path) -> list[float]:
    milliseconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        query.run_query(sql, catalog_path=catalog_path, results_dir=results_dir)
        milliseconds.append((time.perf_counter() - start) * 1000)
    return milliseconds
