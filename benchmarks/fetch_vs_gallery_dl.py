"""
Complete, correct images per second against gallery-dl, from listing to files, on one local board.

Both programs list the whole board and store every original, into an empty folder. gallery-dl runs
unmodified with its pauses set to zero; ours judges every post, checks size and md5, and keeps the
record from which it resumes.
"""

import hashlib
import itertools
import json
import statistics
import subprocess
from pathlib import Path

from benchmarks.shared import board, pairs, peers
from benchmarks.shared.result import Result

PACKAGE, BAR = "gallery-dl==1.32.18", 15.0


def run() -> Result:
    """Returns the median ratio of images per second."""
    binaries = peers.environment(PACKAGE)
    with board.served() as (url, root):
        originals = {_md5(path) for path in (root / "images").glob("*/*.jpg")}
        config = root / "gallery-dl.json"
        site = {"root": url, "sleep-request": 0, "sleep": 0}
        config.write_text(
            json.dumps({"extractor": {"sleep-request": 0, "Danbooru": {"loc": site}}})
        )
        numbers = itertools.count()

        def theirs() -> int:
            folder = root / f"theirs{next(numbers)}"
            command = [binaries / "gallery-dl", "--config-ignore", "-c", config, "-q"]
            command += ["-d", folder, f"{url}/posts?tags=solo"]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            stored = {_md5(path) for path in folder.rglob("*.jpg")}
            if stored != originals:
                raise SystemExit(f"gallery-dl stored {len(stored & originals)} of {len(originals)}")
            return len(stored)

        def ours() -> int:
            return board.scrape(url, root / f"ours{next(numbers)}")

        ratios, rates = pairs.compared(ours, theirs)
    return Result(
        value=statistics.median(ratios),
        unit="times gallery-dl's images per second",
        bar=f">= {BAR:g}",
        ok=statistics.median(ratios) >= BAR,
        runs=ratios,
        peer=f"{PACKAGE}, sleep-request 0",
        details={"images_per_second": rates, "latency_seconds": board.LATENCY_SECONDS},
    )


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
