"""`dvc repro` of an up-to-date pipeline: wall-clock seconds. Run after `make repro`."""

import statistics
import subprocess
import time

from benchmarks.shared.result import Result

COMMAND = ["dvc", "repro"]
BAR_SECONDS = 3.0


def run() -> Result:
    """Times five runs, in each of which every stage must be up to date."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        if "Running stage" in done.stdout:
            raise SystemExit("the pipeline is not up to date: run `make repro` first")
    value = statistics.median(seconds)
    return Result(
        value=value,
        unit="seconds",
        bar=f"<= {BAR_SECONDS}",
        ok=value <= BAR_SECONDS,
        runs=seconds,
        commands=[" ".join(COMMAND)],
    )
