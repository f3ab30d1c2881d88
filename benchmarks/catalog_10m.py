"""The ten queries of the documentation on a catalog of 10,000,000 posts."""

from benchmarks.shared import catalog_queries
from benchmarks.shared.result import Result


def run() -> Result:
    """Returns the median time of the ten queries in milliseconds."""
    return catalog_queries.measured(
        10_000_000, median_ms=500, worst_ms=2000, build_seconds=600, build_gib=8
    )
