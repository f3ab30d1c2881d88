"""
Lets the N-th open, write, fsync, rename, connect, read or commit of a short scrape fail, for every N.

Each error comes once, or stays until the run ends, as a full disk does. Each run must end with success,
or with an error that names the cause, exit code 3 and no traceback, and no message may advise to delete
anything. Then the same command, undisturbed, must give the images of an undisturbed run.
"""

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared import operations, scraper_kills
from benchmarks.shared.board import everything
from benchmarks.shared.forked import Ended, Forked, Stop, trace
from benchmarks.shared.result import Result

IMAGES = 8
_CODES = {0, 3}
_NETWORK = {"connect", "receive"}
_ADVICE = re.compile(r"\b(delete|remove|rm|erase)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trial:
    """One failing operation, and what was wrong with the run and with the next one."""

    stop: Stop
    code: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        how = "and every later one" if self.stop.stays else "alone"
        return (
            f"{self.stop.at} {self.stop.count} {how}: {self.stop.error}: {'; '.join(self.problems)}"
        )


def stops(operations_of_a_run: list[str]) -> Iterator[Stop]:
    """Yields every operation of a run with every error that it may end with."""
    counts = Counter(
        kind for when, kind, *_ in map(str.split, operations_of_a_run) if when == "before"
    )
    for kind, count in sorted(counts.items()):
        for number in range(1, count + 1):
            for position, error in enumerate(operations.ERRORS[kind]):
                yield Stop(kind, number, error, stays=position > 0)


def complaints(stop: Stop, ended: Ended) -> list[str]:
    """Returns what is wrong with how a run ended in which an operation failed."""
    wrong = []
    errors = [line for line in ended.text.splitlines() if line.startswith("error: ")]
    if ended.code not in _CODES:
        wrong.append(f"exit code {ended.code}")
    if "Traceback" in ended.text:
        wrong.append("a traceback")
    if ended.code and not errors:
        wrong.append("no message")
    if any(_ADVICE.search(line) for line in errors):
        wrong.append("advises to delete")
    if ended.code and stop.at not in _NETWORK and not any(_cause(stop) in line for line in errors):
        wrong.append(f"does not name '{_cause(stop)}'")
    return [*wrong, *errors] if wrong else []


def _cause(stop: Stop) -> str:
    if stop.error.startswith("SQLITE"):
        return str(operations.error(stop.error, Path()))
    return os.strerror(getattr(errno, stop.error))


def attempt(run: Forked, root: Path, url: str, stop: Stop, expected: dict[int, str]) -> Trial:
    """Runs the command with one failing operation, then undisturbed."""
    folder = scraper_kills.new_folder(root, "torture")
    ended = run(folder, *everything(url), stop=stop)
    wrong = complaints(stop, ended) + scraper_kills.finished(run, folder, url, expected)
    shutil.rmtree(folder)
    return Trial(stop, ended.code, tuple(wrong))


def run() -> Result:
    """Returns the number of failing operations after which all was well; all must be."""
    board = scraper_kills.board(IMAGES)
    with board as (url, root), Forked(*scraper_kills.MODULES) as command:
        calm = scraper_kills.new_folder(root, "calm")
        command(calm, *everything(url))
        expected = scraper_kills.outcome(calm)
        trials = [attempt(command, root, url, stop, expected) for stop in stops(trace(calm))]
    good = [float(not trial.problems) for trial in trials]
    return Result(
        value=sum(good),
        unit=f"of {len(trials)} failing operations ended cleanly",
        bar=f"{len(trials)}",
        ok=all(good),
        runs=good,
        details={
            "operations": dict(Counter(trial.stop.at for trial in trials)),
            "exit_codes": dict(Counter(str(trial.code) for trial in trials)),
            "wrong": [str(trial) for trial in trials if trial.problems],
        },
    )
