"""
Every stage that reads tables alone, with 1,000,000 posts: seconds and peak resident size.

Each stage is a process of its own on synthetic tables, with some 170,000 links. The catalog has a
benchmark of its own. The images have 48 pixels, too few for keypoints, and `split` compares no edges:
both read every image, at a pace of their own. The size is that of the kernel (`ru_maxrss`) and includes
the libraries.
"""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.shared import peak, table_data
from benchmarks.shared.result import Result

POSTS, BAR_SECONDS, BAR_MIB = 1_000_000, 120.0, 1024.0
STAGES = (
    ["decide", "--min-images", "300"],
    ["filters", "--min-side", "32"],
    ["duplicates"],
    ["persona"],
    ["split", "--least-difference", "0"],
)


def run() -> Result:
    """Returns the seconds of the slowest stage."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        planted = peak.apart(table_data.write, data_dir, POSTS)
        costs = {
            stage[0]: asdict(peak.of_command([_package(stage), *stage], data_dir))
            for stage in STAGES
        }
    stages = {
        name: {key: round(value, 1) for key, value in cost.items()} for name, cost in costs.items()
    }
    seconds = [stage["seconds"] for stage in stages.values()]
    largest = max(stage["peak_mib"] for stage in stages.values())
    return Result(
        value=max(seconds),
        unit="seconds of the slowest stage",
        bar=f"<= {BAR_SECONDS:g} s and <= {BAR_MIB:g} MiB for every stage",
        ok=max(seconds) <= BAR_SECONDS and largest <= BAR_MIB,
        runs=seconds,
        details={
            "posts": POSTS,
            "planted": planted,
            "stages": stages,
            "largest_peak_mib": largest,
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=[f"python -m {_package(stage)} {' '.join(stage)}" for stage in STAGES],
    )


def _package(stage: list[str]) -> str:
    return "scraper" if stage[0] == "decide" else "curation"
