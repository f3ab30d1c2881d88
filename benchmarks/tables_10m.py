"""
The table stages with 10,000,000 posts of 30 tags each: peak resident size and CPU seconds.

Peaks are those of the kernel (`ru_maxrss`) and include the libraries. The times of the ten queries of
the documentation are of a catalog with 91,000 different tags and 10,000 labels.
"""

import os
import statistics
from pathlib import Path

from benchmarks.shared import catalog_queries, table_stages
from benchmarks.shared.result import Result

POSTS, BAR_MIB = 10_000_000, 4096.0


def run() -> Result:
    """Returns the largest of the peaks of the stages, in MiB."""
    with table_stages.tables(POSTS) as data_dir:
        stages = table_stages.costs(data_dir)
        catalog_path = data_dir / "catalog" / "catalog.duckdb"
        queries = catalog_queries.times(catalog_path, Path(data_dir.parent / "results"))
        size = catalog_path.stat().st_size
    peaks = [stage["peak_mib"] for stage in stages.values()]
    return Result(
        value=max(peaks),
        unit="MiB, largest peak of a stage",
        bar=f"<= {BAR_MIB:g} MiB for every stage",
        ok=max(peaks) <= BAR_MIB,
        runs=peaks,
        details={
            "posts": POSTS,
            "stages": stages,
            "catalog_bytes": size,
            "query_ms": {name: round(statistics.median(ms), 1) for name, ms in queries.items()},
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=table_stages.COMMANDS,
    )
