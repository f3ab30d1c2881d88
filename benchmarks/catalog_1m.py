"""The ten queries of the documentation on a catalog of 1,000,000 posts."""

from benchmarks.shared import catalog_queries
from benchmarks.shared.result import Result


def run() -> Result:
    """Returns the median time of the ten queries in milliseconds."""
    return catalog_queries.measured(1_000_000, median_ms=100, worst_ms=400)
