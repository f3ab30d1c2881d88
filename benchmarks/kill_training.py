"""
SIGKILL of training at 30 moments, then the same command again: the files of an unbroken run.

A round trains a flat network and a hierarchy from it on small drawn shards; the moments lie evenly
over both, and every fifth falls on the instant at which a checkpoint or a result is being written.
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

from benchmarks import loader_data
from benchmarks.result import Result

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
    """Everything that must be equal: weights, metrics, predictions, curves without their seconds."""
    found = {}
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
        found[name] = hashlib.sha256(content).hexdigest()
    left = [str(path) for path in (folder / "work").glob("train/*")]
    return found | {"unfinished": str(left)}


def _killed_at(folder: Path, command: list[str], moment: float) -> bool:
    """Kills after so many seconds; says whether there was still something to kill."""
    process = _run(folder, command)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _killed_while_writing(folder: Path, command: list[str], chance: random.Random) -> bool:
    """Kills when a file is half there (`*.part`), after letting a few of them pass."""
    process, seen, wanted = _run(folder, command), set[int](), chance.randint(1, 3)
    while process.poll() is None and len(seen) < wanted:
        for place in ("work/train/*/*.part", "results/*/*/*.part", "data/clustering/*/*.part"):
            for path in folder.glob(place):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(path.stat().st_mtime_ns)  # the same name comes again with every epoch
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run() -> Result:
    """Counts the rounds that ended as the unbroken run did; all thirty must."""
    hits = 0
    chance, equal, killed = random.Random(0), [], []  # noqa: S311  # moments, not secrets
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        whole = root / "whole"
        loader_data.write(whole / "data" / "shards", samples=SAMPLES, side=SIDE)
        (whole / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        fresh = root / "fresh"
        shutil.copytree(whole, fresh)
        began = []
        for command in COMMANDS:
            start = time.perf_counter()
            if _run(whole, command).wait():
                raise SystemExit(f"{command} failed without being killed")
            began.append(time.perf_counter() - start)
        expected = _outcome(whole)
        for number in range(ROUNDS):
            folder = root / str(number)
            shutil.copytree(fresh, folder)
            at = sum(began) * (number + chance.random()) / ROUNDS
            place = int(np.searchsorted(np.cumsum(began), at))
            for command in COMMANDS[:place]:
                _run(folder, command).wait()
            if number % 5 == 4:
                hit = _killed_while_writing(folder, COMMANDS[place], chance)
                what = f"{COMMANDS[place][0]} while writing"
            else:
                moment = 0.95 * (at - sum(began[:place]))  # a faster run must not slip away
                hit = _killed_at(folder, COMMANDS[place], moment)
                what = f"{COMMANDS[place][0]} after {moment:.2f} s"
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
            "seconds_of_the_unbroken_commands": began,
        },
    )
