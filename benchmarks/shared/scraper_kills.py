"""
The scraper under kills: at random times under faults, at every operation, in recovery, with power lost.

After each kill the same command runs again. The posts, the sha256 of the bytes in the segments and the
tables must equal those of an unbroken run, and no file may be left over. An image that was recorded
before the kill may not be requested again.
"""

import contextlib
import hashlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.shared import power
from benchmarks.shared.board import everything, set_faults
from benchmarks.shared.forked import Forked, Stop, trace
from benchmarks.shared.kills import Kill
from benchmarks.shared.operations import KINDS_THAT_CHANGE
from scraper.demo.server.process import running

RANDOM, IN_RECOVERY, SEVERAL = 50, 40, 3
# One request in ten fails, or is answered with something that is no image.
FAULTS = (
    "server_error=0.02",
    "unavailable=0.02",
    "reset=0.02",
    "reset_in_body=0.02",
    "short_file=0.01",
    "html_as_image=0.01",
)
MODULES = (
    "scraper.__main__",
    "scraper.client",
    "scraper.decide",
    "scraper.download",
    "scraper.listing",
    "scraper.one_shot",
    "scraper.score",
    "scraper.sources.danbooru",
    "scraper.status",
    "scraper.update",
)
# One image at a time, so that an operation has the same number in every run.
_PARAMS = "download: {side: null, workers: 1, queue: 4, group: 1, segment_bytes: 10240}\n"
_PARAMS_AT_RANDOM = "download: {side: null, segment_bytes: 102400}\n"
_TABLES = {
    "listing": {"aliases", "decisions", "implications", "posts", "tags"},
    "decide": {"decisions", "kept", "personae"},
    "download": {"decisions", "images"},
}


def commit_before_sync() -> None:
    """Gives this process a defective writer, which commits the rows of images before their bytes."""
    from scraper import transfer

    save: Any = transfer.Writer.save

    def defective(self: Any, arrived: Any) -> Any:
        sync, self._segments.sync = self._segments.sync, lambda: None
        try:
            rows = save(self, arrived)
        finally:
            self._segments.sync = sync
        sync()
        return rows

    transfer.Writer.save = defective  # type: ignore[method-assign]


def write_images(folder: Path, count: int) -> None:
    """Writes `count` small PNG files of two labels; equal on every run."""
    noise = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"label_{number % 2}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (16, 16, 3), np.uint8)).save(path)


@contextlib.contextmanager
def board(count: int, *options: str) -> Iterator[tuple[str, Path]]:
    """Serves `count` small images; yields the address and an empty folder for the runs."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_images(root / "images", count)
        command = ["--folder", str(root / "images"), "--cache", str(root / "cache")]
        command += ["--rate", "0", "--workers", "0", *options]
        with running(None, options=command) as url:
            yield url, root


def new_folder(root: Path, name: str, params: str = _PARAMS) -> Path:
    """Makes the working directory of one run."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(params)
    return folder


def recorded(folder: Path) -> int:
    """Returns the number of images that the ledger of a killed run holds; it leaves the files alone."""
    source = folder / "data" / "download"
    with tempfile.TemporaryDirectory() as name:
        for path in source.glob("ledger.sqlite*"):
            shutil.copy(path, name)
        with contextlib.closing(sqlite3.connect(Path(name, "ledger.sqlite"))) as rows:
            try:
                return int(rows.execute("SELECT count(*) FROM images").fetchone()[0])
            except sqlite3.OperationalError:  # killed before the table was made
                return 0


def outcome(folder: Path) -> dict[int, str]:
    """Returns the sha256 of every image by post id, from the table of a finished run."""
    table = pq.read_table(folder / "data/download/images.parquet", columns=["post_id", "sha256"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def problems(folder: Path, expected: dict[int, str]) -> list[str]:
    """Returns what distinguishes the data of a finished run from those of an unbroken run."""
    data = folder / "data"
    names = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
    segments = {name for name in names if name.startswith("download/segments/")}
    allowed = {f"{stage}/{name}.parquet" for stage, tables in _TABLES.items() for name in tables}
    allowed |= {"listing/ledger.sqlite", "download/ledger.sqlite", "finished.json"} | segments
    wrong = [f"{name} is left over" for name in sorted(names - allowed)]
    wrong += [f"{name} is absent" for name in sorted(allowed - names)]
    if wrong:
        return wrong
    if outcome(folder) != expected:
        wrong.append("the table has other images")
    if pq.read_metadata(data / "download/decisions.parquet").num_rows != len(expected):
        wrong.append("a decision is absent")
    held: list[tuple[int, str]] = []
    for name in sorted(segments):
        with tarfile.open(data / name) as tar:
            for member in tar:
                content: Any = tar.extractfile(member)
                digest = hashlib.sha256(content.read()).hexdigest()
                held.append((int(member.name.partition(".")[0]), digest))
    if sorted(held) != sorted(expected.items()):
        wrong.append("the segments hold other bytes")
    return wrong


def finished(run: Forked, folder: Path, url: str, expected: dict[int, str]) -> list[str]:
    """Runs the command again, and returns what is wrong afterwards."""
    before = recorded(folder)
    ended = run(folder, *everything(url))
    if ended.code:
        return [f"the run after it ended with {ended.code}: {ended.text[-300:]}"]
    wrong = problems(folder, expected)
    sent = sum(map(int, re.findall(r"download: (\d+) requests", ended.text)))
    if sent > len(expected) - before:
        wrong.append(f"{sent} images requested although {before} of {len(expected)} were recorded")
    return wrong


def stops(operations: Iterable[str]) -> list[Stop]:
    """Returns the first and the last occurrence of every operation that changes the disk."""
    counts: dict[str, int] = {}
    for text in operations:
        if text.split()[1] in KINDS_THAT_CHANGE:
            counts[text] = counts.get(text, 0) + 1
    firsts = [Stop(text) for text in counts]
    return firsts + [Stop(text, count) for text, count in counts.items() if count > 1]


def at_random(root: Path, url: str, rounds: int) -> Iterator[Kill]:
    """Kills the command at times spread over its whole length, under faults."""
    chance = random.Random(0)  # noqa: S311  # moments, not secrets
    command = [sys.executable, "-m", "scraper", *everything(url)]

    def begun(folder: Path) -> "subprocess.Popen[bytes]":
        set_faults(url, FAULTS)
        return subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    calm = new_folder(root, "calm", _PARAMS_AT_RANDOM)
    start = time.perf_counter()
    if begun(calm).wait():
        raise SystemExit("the unbroken run under faults failed")
    length = time.perf_counter() - start
    expected = outcome(calm)
    for number in range(rounds):
        folder = new_folder(root, f"random{number}", _PARAMS_AT_RANDOM)
        moment = length * (number + chance.random()) / rounds
        process = begun(folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        wrong = [ended.stderr[-300:]] if ended.returncode else problems(folder, expected)
        shutil.rmtree(folder)
        yield Kill("random", f"after {moment:.2f} of {length:.2f} s", tuple(wrong))


def at_names(run: Forked, root: Path, url: str, chosen: Iterable[Stop]) -> Iterator[Kill]:
    """Kills the command at each stop."""
    expected = outcome(root / "calm")
    for stop in chosen:
        folder = new_folder(root, "named")
        ended = run(folder, *everything(url), stop=stop)
        wrong = finished(run, folder, url, expected) if ended.is_killed else ["it was not killed"]
        shutil.rmtree(folder)
        yield Kill("named", f"{stop.at}, number {stop.count}", tuple(wrong))


def in_recovery(run: Forked, root: Path, url: str, first: Stop, rounds: int) -> Iterator[Kill]:
    """Kills the command at `first`, then the run after it at `rounds` of its operations."""
    expected = outcome(root / "calm")
    torn = new_folder(root, "torn")
    if not run(torn, *everything(url), stop=first).is_killed:
        raise SystemExit(f"the run was not killed at {first.at}")
    healed = root / "healed"
    shutil.copytree(torn, healed)
    run(healed, *everything(url))
    every = stops(trace(healed))
    for index in np.linspace(0, len(every) - 1, min(rounds, len(every))).astype(int):
        folder, stop = root / "again", every[index]
        shutil.copytree(torn, folder)
        ended = run(folder, *everything(url), stop=stop)
        wrong = finished(run, folder, url, expected) if ended.is_killed else ["it was not killed"]
        shutil.rmtree(folder)
        yield Kill("recovery", f"{first.at}, then {stop.at}", tuple(wrong))


def without_power(
    run: Forked, root: Path, url: str, chosen: Iterable[Stop], *, patch: str = ""
) -> Iterator[Kill]:
    """Cuts the power at each stop, in both ways of `power.cut` in turn, of a program with `patch`."""
    expected = outcome(root / "calm")
    for number, stop in enumerate(chosen):
        zeros = bool(number % 2)
        folder, kept = new_folder(root, "power"), root / "kept"
        kept.mkdir()
        ended = run(folder, *everything(url), stop=stop, kept=kept, patch=patch)
        before = recorded(folder)
        power.cut(folder / "data", kept, zeros=zeros)
        if not ended.is_killed:
            raise SystemExit(f"the run was not killed at {stop.at}, number {stop.count}")
        left = recorded(folder)
        wrong = [] if left == before else [f"{before} images were recorded, and {left} are left"]
        wrong += finished(run, folder, url, expected)
        shutil.rmtree(folder)
        shutil.rmtree(kept)
        tail = "zeros" if zeros else "nothing"
        yield Kill(
            "exchanged" if patch else "power",
            f"{stop.at}, number {stop.count}, {tail} for what was not synced",
            tuple(wrong),
        )


def matters(stop: Stop) -> bool:
    """Returns whether a loss of power differs here from one at the operations beside it."""
    when, kind = stop.at.split()[:2]
    return kind in {"fsync", "rename", "commit", "mkdir"} or (when, kind) == ("after", "write")


def run() -> list[Kill]:
    """Returns every kill of the scraper."""
    with board(150, "--control") as (url, root):
        kills = list(at_random(root, url, RANDOM))
    with board(24) as (url, root), Forked(*MODULES) as command:
        calm = new_folder(root, "calm")
        command(calm, *everything(url))
        every = stops(trace(calm))
        kills += at_names(command, root, url, every)
        first = Stop("torn write download/segments/00001.tar", 2)
        kills += in_recovery(command, root, url, first, IN_RECOVERY)
        kills += without_power(command, root, url, [stop for stop in every if matters(stop)])
        commits = [Stop("after commit download/ledger.sqlite", count) for count in (6, 8)]
        defect = f"{__name__}:{commit_before_sync.__name__}"
        kills += without_power(command, root, url, commits, patch=defect)
    return kills
