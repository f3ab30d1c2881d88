"""Time and memory of a process, as the kernel counts them."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage of curation needed."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    """Largest resident size, libraries included."""


def of_stage(arguments: Sequence[str], data_dir: Path) -> StageCost:
    """Runs `python -m curation` with `arguments` on `data_dir`; ends the benchmark if it fails."""
    return of_command(["curation", *arguments], data_dir)


def of_command(arguments: Sequence[str], data_dir: Path) -> StageCost:
    """Runs `python -m` with package and stage on `data_dir`; ends the benchmark if it fails."""
    folders = ["--data", str(data_dir)]
    if arguments[0] == "curation":
        folders += ["--work", str(data_dir.parent / "work")]
    command = [sys.executable, "-m", *arguments, *folders]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=data_dir.parent, env=environment) as process:
        # Only `wait4` tells the peak of one process; after it, Popen has nothing to wait for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"stage '{arguments[1]}' ended with {process.returncode}")
    # Linux counts in KiB.
    return StageCost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def apart(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """
    Returns the result of a function that runs in a process of its own.

    The kernel counts the peak of a parent as that of its children, so data are not made in the parent.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments, **options).result()
