"""
Runs commands of ours in forked children of one warm process, which may be killed or fail on purpose.

    python -m benchmarks.shared.forked MODULE ... < jobs

A fork costs a few milliseconds, where a new process would import for a second. `Forked` starts this
program and sends it the jobs, in JSON, one a line.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.shared import operations
from benchmarks.shared.operations import Observer, Operation
from benchmarks.shared.power import Durable

_DEFECT = 70
_MOST_SECONDS = 60
_OUTPUT = "output.txt"
_TRACE = "operations.txt"


@dataclass(frozen=True, slots=True)
class Stop:
    """The `count`-th occurrence of an operation, and what happens there."""

    at: str
    """The text of an operation, or of its kind alone."""
    count: int = 1
    error: str = ""
    """Name of an error of `operations.ERRORS`; empty to kill the process."""
    stays: bool = False
    """Whether every later operation of the kind fails too, as on a full disk."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    code: int
    """Exit code; a signal as its negative number."""
    text: str
    """What it wrote to standard output and standard error."""
    cpu_seconds: float
    peak_mib: float
    """Largest resident size, libraries included."""

    @property
    def is_killed(self) -> bool:
        """Whether the child killed itself at its stop."""
        return self.code == -signal.SIGKILL


class Forked:
    """
    The warm process; a context manager.

    Args:
        module: Its function `main` takes the command line.
        imported: Further modules to import beforehand.
    """

    def __init__(self, module: str, *imported: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.shared.forked", module, *imported]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(timeout=2 * _MOST_SECONDS)

    def __call__(
        self,
        folder: Path,
        *arguments: str,
        stop: Stop | None = None,
        kept: Path | None = None,
        patch: str = "",
    ) -> Ended:
        """
        Runs the command in `folder`; its data are in `folder/data`.

        Args:
            folder: Working directory.
            arguments: The command line.
            stop: Where the child is killed, or an operation fails.
            kept: An empty folder, for `power.cut`.
            patch: `MODULE:FUNCTION` that changes the program first.
        """
        job = {
            "folder": str(folder),
            "arguments": arguments,
            "stop": asdict(stop) if stop else None,
            "kept": str(kept) if kept else "",
            "patch": patch,
        }
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018  # Popen got pipes
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code, cpu_seconds, peak_mib = self._process.stdout.readline().split()
        text = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace")
        return Ended(int(code), text, float(cpu_seconds), float(peak_mib))


def trace(folder: Path) -> list[str]:
    """Returns the operations of the last run in `folder`, in order."""
    return (folder / _TRACE).read_text(encoding="utf-8").splitlines()


def _observer(stop: Stop | None, file: Any) -> Observer:
    seen: Counter[str] = Counter()

    def observer(operation: Operation, path: Path) -> None:
        text = str(operation)
        file.write(text + "\n")
        name = operation.kind if operation.when == "before" else ""
        if stop is None or stop.at not in {text, name}:
            return
        seen[stop.at] += 1
        if seen[stop.at] == stop.count or (stop.stays and seen[stop.at] > stop.count):
            if stop.error:
                raise operations.error(stop.error, path)
            os.kill(os.getpid(), signal.SIGKILL)

    return observer


def _run(module: Any, job: dict[str, Any]) -> int:
    """Runs one job in this process, and returns the exit code."""
    os.chdir(job["folder"])
    output = os.open(_OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.alarm(_MOST_SECONDS)
    root = Path("data").resolve()
    root.mkdir(exist_ok=True)
    if job["patch"]:
        name, _, function = job["patch"].partition(":")
        getattr(importlib.import_module(name), function)()
    stop = Stop(**job["stop"]) if job["stop"] else None
    with Path(_TRACE).open("w", buffering=1, encoding="utf-8") as file:
        observer = _observer(stop, file)
        if job["kept"]:
            observer = Durable(root, Path(job["kept"]), observer)
        operations.observe(root, observer)
        try:
            return int(module.main(job["arguments"]))
        except SystemExit as error:
            return int(error.code or 0)
        except BaseException:  # noqa: BLE001  # a defect becomes an exit code of its own
            traceback.print_exc()
            return _DEFECT


def main(names: list[str]) -> None:
    """Imports the modules `names`, and runs every job of standard input in a child."""
    module, *_ = [importlib.import_module(name) for name in names]
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = _DEFECT
            try:
                code = _run(module, json.loads(line))
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
            finally:
                os._exit(code)
        _, status, usage = os.wait4(process, 0)
        # Linux counts in KiB.
        cost = f"{usage.ru_utime + usage.ru_stime:.3f} {usage.ru_maxrss / 1024:.1f}"
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {cost}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
