"""
All near pairs among 1,000,000 hashes of 256 bits: time as a share of that of a flat scan by faiss.

20,000 hashes are copies of others with 0 to 31 bits changed. faiss compares 4,000 of the rows with all;
its time is scaled to every pair once. Both use two threads, and take turns.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.shared import peers
from benchmarks.shared.result import Result
from curation.hamming import Hashes, Indices, near_pairs

PACKAGE = "faiss-cpu==1.12.0"
ROWS, COPIES, SCANNED, RUNS, THREADS, BAR = 1_000_000, 20_000, 4_000, 3, 2, 0.1
DISTANCES = (15, 31)
_SCAN = """
import json, sys, time
import faiss, numpy as np
hashes = np.load(sys.argv[1]).view(np.uint8)
faiss.omp_set_num_threads(int(sys.argv[3]))
index = faiss.IndexBinaryFlat(256)
index.add(hashes)
start = time.perf_counter()
limits, _, _ = index.range_search(hashes[-int(sys.argv[2]):], int(sys.argv[4]) + 1)
print(json.dumps({"seconds": time.perf_counter() - start, "near": int(limits[-1])}))
"""


def run() -> Result:
    """Returns the median share at the default distance, 31."""
    hashes, first, copied, bits = _planted()
    python = peers.environment(PACKAGE, "numpy") / "python"
    seconds: dict[str, dict[str, list[float]]] = {str(distance): {} for distance in DISTANCES}
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hashes.npy"
        np.save(path, hashes)
        for _ in range(RUNS):
            for distance, of_distance in zip(DISTANCES, seconds.values(), strict=True):
                start = time.perf_counter()
                low, high, _ = near_pairs(hashes, distance)
                of_distance.setdefault("ours", []).append(time.perf_counter() - start)
                is_near = bits <= distance
                planted = first[is_near] * ROWS + copied[is_near]
                missed += len(np.setdiff1d(planted, low * ROWS + high))
                command = [python, "-c", _SCAN, path, SCANNED, THREADS, distance]
                environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
                scan = subprocess.run(
                    list(map(str, command)),
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                )
                scaled = json.loads(scan.stdout)["seconds"] * ROWS / SCANNED / 2
                of_distance.setdefault("flat_scan", []).append(scaled)
    shares = {
        distance: [ours / flat for ours, flat in zip(*of_distance.values(), strict=True)]
        for distance, of_distance in seconds.items()
    }
    medians = {distance: statistics.median(values) for distance, values in shares.items()}
    return Result(
        value=medians["31"],
        unit="of the time of a flat scan, at distance 31",
        peer=PACKAGE,
        bar=f"<= {BAR:g} at distances 15 and 31, every planted pair",
        ok=max(medians.values()) <= BAR and not missed,
        runs=shares["31"],
        details={
            "median_shares": medians,
            "seconds": seconds,
            "rows_scanned": SCANNED,
            "planted_pairs": COPIES,
            "missed_pairs": missed,
            "load_average": round(os.getloadavg()[0], 1),
        },
    )


def _planted() -> tuple[Hashes, Indices, Indices, Indices]:
    """Returns the hashes; the rows of each planted pair, the smaller first; and the bits between."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (ROWS, 4), np.uint64)
    first = random.choice(ROWS - COPIES, COPIES, replace=False)
    copied = np.arange(ROWS - COPIES, ROWS)
    changed = random.integers(0, 32, COPIES)
    # Of 256 bits in random order, the first ones are changed.
    order = random.random((COPIES, 256)).argsort(axis=1).argsort(axis=1)
    flips = np.packbits(order < changed[:, None], axis=1).view(np.uint64)
    hashes[copied] = hashes[first] ^ flips
    return hashes, first, copied, changed
