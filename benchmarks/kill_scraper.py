"""
Kills `python -m scraper` (SIGKILL) at ten random times, and runs the same command again.

Each round starts with an empty folder, kills the process once, runs the command to the end, and
curates. The set of posts, the sha256 of every image and the root hash of the shards must equal those
of an uninterrupted run with the same board.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from benchmarks.shared.result import Result
from scraper.demo.server.process import running

ROUNDS = 10
STAGES = ("measure", "filters", "duplicates", "persona", "split", "shards")
SCRAPER = [sys.executable, "-m", "scraper"]


def _folder(root: Path, url: str) -> Path:
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["site"] = {"name": url}
    document["personae"] = {"min_images": 30, "max_images": 60}
    document["persona"]["min_samples"] = 20
    document["split"]["tolerance"] = 0.5
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(document))
    return root


def _finish(folder: Path) -> dict[str, object]:
    """Runs the scraper and curation to the end; returns what must be equal."""
    subprocess.run(SCRAPER, cwd=folder, check=True, capture_output=True)
    for stage in STAGES:
        command = [sys.executable, "-m", "curation", stage]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    images = pq.read_table(
        folder / "data/download/images.parquet", columns=["post_id", "sha256"]
    ).to_pylist()
    manifest = json.loads((folder / "data/shards/manifest.json").read_text())
    return {"images": images, "root": manifest["root_sha256"]}


def run() -> Result:
    """Returns the number of rounds with the result of the uninterrupted run; all ten must have it."""
    chance = random.Random(0)  # noqa: S311  # moments, not secrets
    equal, moments = [], []
    options = ["--posts-large", "80", "--posts-small", "80", "--rate", "0"]
    with tempfile.TemporaryDirectory() as name, running(None, options=options) as url:
        root = Path(name)
        _finish(_folder(root / "warm", url))  # the board has drawn everything once
        start = time.perf_counter()
        subprocess.run(SCRAPER, cwd=_folder(root / "timed", url), check=True, capture_output=True)
        length = time.perf_counter() - start
        unbroken = _finish(root / "timed")
        for number in range(ROUNDS):
            folder = _folder(root / str(number), url)
            moment = length * (number + chance.random()) / ROUNDS
            child = subprocess.Popen(
                SCRAPER, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(moment)
            child.send_signal(signal.SIGKILL)
            child.wait()
            moments.append(round(moment, 3))
            equal.append(float(_finish(folder) == unbroken))
    return Result(
        value=sum(equal),
        unit=f"of {ROUNDS} kills with an equal outcome",
        bar=f"{ROUNDS}",
        ok=sum(equal) == ROUNDS,
        runs=equal,
        details={
            "killed_after_seconds": moments,
            "unbroken_seconds": round(length, 3),
            "pictures": len(unbroken["images"]),
            "root_sha256": unbroken["root"],
        },
    )
