"""
What engine `ray` costs at one node: time of stages `measure` and `shards` against engine `local`.

20,000 small images, so that the work beside the images weighs as much as it may. Both engines run the
commands that a user runs, in turn on the same folder, and must give the same root hash. So few samples
are packed where the command runs, by either engine: the tasks of `ray` are those of `measure`. The cluster
has one node on this machine, with as many cores as the machine, and starts before: its start is
reported beside the overhead.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from benchmarks.shared import image_data
from benchmarks.shared.result import Result

IMAGES, RUNS, BAR = 20_000, 5, 0.15
_STAGES = ("measure", "shards")


def run() -> Result:
    """Returns the median of time by `ray` / time by `local` - 1 over pairs of runs."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image_data.make(folder / "data", IMAGES)
        begun = time.perf_counter()
        node = {"num_cpus": os.cpu_count(), "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        start_seconds = time.perf_counter() - begun
        try:
            seconds: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
            hashes, loads = set(), []
            for number in range(RUNS):
                engines = ("local", "ray") if number % 2 == 0 else ("ray", "local")
                for engine in engines:
                    loads.append(round(os.getloadavg()[0], 1))
                    seconds[engine].append(_timed(folder, engine, cluster.address))
                    hashes.add(image_data.root_sha256(folder / "data"))
        finally:
            cluster.shutdown()
    if len(hashes) != 1:
        raise SystemExit(f"the engines gave {len(hashes)} root hashes")
    totals = {engine: [sum(times.values()) for times in of] for engine, of in seconds.items()}
    ratios = [ray / local - 1 for local, ray in zip(totals["local"], totals["ray"], strict=True)]
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="more time than with the engine local",
        bar=f"< {BAR:g}",
        ok=value < BAR,
        runs=ratios,
        peer="worker processes of one machine (engine local)",
        details={
            "images": IMAGES,
            "ray": metadata.version("ray"),
            "root_sha256": hashes.pop(),
            "cluster_start_seconds": round(start_seconds, 1),
            "load_before_each_run": loads,
            "seconds": {
                engine: [{stage: round(value, 2) for stage, value in run.items()} for run in runs]
                for engine, runs in seconds.items()
            },
        },
    )


def _timed(folder: Path, engine: str, address: str) -> dict[str, float]:
    """Returns the seconds of each stage, run from nothing."""
    for path in ("data/measure", "data/shards", "work"):
        shutil.rmtree(folder / path, ignore_errors=True)
    (folder / "data" / "measured.json").unlink(missing_ok=True)
    seconds = {}
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(Path.cwd())}
    for stage in _STAGES:
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "curation", stage, "--engine", engine],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        seconds[stage] = time.perf_counter() - begun
    return seconds
