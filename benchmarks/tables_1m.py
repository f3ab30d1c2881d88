"""
Every stage of curation that reads tables alone, with 1,000,000 posts: seconds and peak resident size.

Each stage is a process of its own on synthetic tables, with some 190,000 links. Its images have 48
pixels, too few for keypoints, and `split` compares no edges: both read every image, at a pace of their
own. The size is that of the kernel (`ru_maxrss`) and includes the libraries.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.shared import table_data
from benchmarks.shared.result import Result

POSTS, BAR_SECONDS, BAR_MIB = 1_000_000, 120.0, 1024.0
STAGES = (
    ["filters", "--min-side", "32"],
    ["duplicates"],
    ["persona"],
    ["split", "--least-difference", "0"],
)


def run() -> Result:
    """Returns the seconds of the slowest stage."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        # In a process of its own: the kernel counts the peak of a parent as that of its children.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            planted = pool.submit(table_data.write, data_dir, POSTS).result()
        stages = {stage[0]: _measured(stage, data_dir) for stage in STAGES}
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
        commands=[f"python -m curation {' '.join(stage)}" for stage in STAGES],
    )


def _measured(stage: list[str], data_dir: Path) -> dict[str, float]:
    """Runs one stage; returns its seconds, those of the processor, and its peak in MiB."""
    folders = ["--data", str(data_dir), "--work", str(data_dir.parent / "work")]
    command = [sys.executable, "-m", "curation", *stage, *folders]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=data_dir.parent, env=environment) as process:
        # Only `wait4` tells the peak of one process; after it, Popen has nothing to wait for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"stage '{stage[0]}' ended with {process.returncode}")
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),  # Linux counts in KiB
    }
