"""
Kills training (SIGKILL) at 30 times, and runs the same command again.

A round trains a flat network and a hierarchy from it on small random shards. The times are spread
evenly over both, and every fifth is during the writing of a checkpoint or a result. The files must
equal those of an uninterrupted run.
"""

import contextlib
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors import safe_open

from benchmarks.shared import loader_data
from benchmarks.shared.result import Result

ROUNDS, SIDE, SAMPLES = 30, 32, 400
COMMANDS = (["flat"], ["clustering"], ["fit", "tree"], ["evaluate", "tree"])
PARAMS = {
    "seeds": [0],
    "data": {"batch_size": 32},
    "backbone": {"name": "fast_cnn", "width": 0.25},
    "loop": {"epochs": 12, "threads": 1, "device": "cpu", "precision": "bfloat16"},
    "clustering": {"confusion": "soft", "bootstrap": 2},
    "evaluate": {"latency_seconds": 0.05, "latency_warm_up": 1},
    "uppsala": {"root_epochs": 6, "subnetwork_epochs": 6, "freeze": "last_block"},
    "runs": {"tree": {"method": "uppsala", "grouping": "modularity"}},
}
_SECONDS = {"seconds", "waiting_seconds", "peak_memory_mib"}


def _run(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _finish(folder: Path) -> None:
    for command in COMMANDS:
        code = _run(folder, command).wait()
        if code:
            raise SystemExit(f"{command} ended with {code} in {folder}")


def _outcome(folder: Path) -> dict[str, str]:
    """Returns hashes of what must be equal: weights, metrics, predictions, curves without seconds."""
    hashes = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                content = b"".join(
                    file.get_tensor(key).tobytes() for key in sorted(file.keys())
                )  # no dictionary
        elif path.name == "curves.csv":
            content = "\n".join(
                line.rpartition(",")[0] for line in path.read_text().splitlines()
            ).encode()
        elif path.name == "metrics.json":
            figures = json.loads(path.read_text())
            kept = {key: value for key, value in figures.items() if not key.startswith("seconds")}
            content = json.dumps(kept, sort_keys=True).encode()
        elif path.suffix == ".parquet":
            content = path.read_bytes()
        else:
            continue
        hashes[name] = hashlib.sha256(content).hexdigest()
    left = [str(path) for path in (folder / "work").glob("train/*")]
    return hashes | {"unfinished": str(left)}


def _killed_at(folder: Path, command: list[str], moment: float) -> bool:
    """Kills the command after `moment` seconds; returns whether it was still running."""
    process = _run(folder, command)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _killed_while_writing(folder: Path, command: list[str], chance: random.Random) -> bool:
    """Kills the command while it writes a file (`*.part`), after up to two earlier files."""
    process, seen, last = _run(folder, command), set[int](), chance.randint(1, 3)
    while process.poll() is None and len(seen) < last:
        for pattern in ("work/train/*/*.part", "results/*/*/*.part", "data/clustering/*/*.part"):
            for path in folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(path.stat().st_mtime_ns)  # the same name comes again with every epoch
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run() -> Result:
    """Returns the number of rounds with the files of the uninterrupted run; all thirty must have them."""
    hits = 0
    chance, equal, killed = random.Random(0), [], []  # noqa: S311  # moments, not secrets
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        whole = root / "whole"
        loader_data.write(whole / "data" / "shards", samples=SAMPLES, side=SIDE)
        (whole / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        fresh = root / "fresh"
        shutil.copytree(whole, fresh)
        seconds = []
        for command in COMMANDS:
            start = time.perf_counter()
            if _run(whole, command).wait():
                raise SystemExit(f"{command} failed without being killed")
            seconds.append(time.perf_counter() - start)
        expected = _outcome(whole)
        for number in range(ROUNDS):
            folder = root / str(number)
            shutil.copytree(fresh, folder)
            at = sum(seconds) * (number + chance.random()) / ROUNDS
            index = int(np.searchsorted(np.cumsum(seconds), at))
            for command in COMMANDS[:index]:
                _run(folder, command).wait()
            if number % 5 == 4:
                hit = _killed_while_writing(folder, COMMANDS[index], chance)
                what = f"{COMMANDS[index][0]} while writing"
            else:
                moment = 0.95 * (at - sum(seconds[:index]))  # a faster run must not end before
                hit = _killed_at(folder, COMMANDS[index], moment)
                what = f"{COMMANDS[index][0]} after {moment:.2f} s"
            killed.append(what if hit else f"{what}: had ended")
            hits += hit
            _finish(folder)
            equal.append(float(_outcome(folder) == expected))
            shutil.rmtree(folder)
    return Result(
        value=sum(equal),
        unit=f"of {ROUNDS} kills with an equal outcome",
        bar=f"{ROUNDS}",
        ok=sum(equal) == ROUNDS and hits >= ROUNDS - 2,
        runs=equal,
        peer="an unbroken run",
        details={
            "killed": killed,
            "alive_when_killed": hits,
            "seconds_of_the_unbroken_commands": seconds,
        },
    )
