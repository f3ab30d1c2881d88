"""
Stages `shards` and `catalog` under kills: at random times, at every operation, with power lost.

After each kill the same command runs again. The shards must have the bytes of an unbroken run, the
catalog must hold every promise that `verify` checks, and no file may be left over. A loss of power
may never leave a finished document that describes bytes which are lost.
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
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared import power
from benchmarks.shared.forked import Forked, Stop, trace
from benchmarks.shared.kills import Kill
from benchmarks.shared.scraper_kills import matters, stops

IMAGES, LABELS, SIDE = 160, 4, 96
RANDOM = {"shards": 60, "catalog": 40}
"""Stage to kills at random times."""
DOCUMENTS = {"shards": "manifest.json", "catalog": "catalog.json"}
"""Stage to the file that it writes last."""
BEFORE = ("measure", "filters", "duplicates", "persona", "split")
MODULES = ("curation.__main__", "curation.shards", "curation.catalog", "curation.verify")
_PARAMS = """
decide: {min_side: 0}
download: {side: null}
measure: {side: 32, workers: 1}
persona: {min_samples: 5, balance: none}
split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, seed: 2, least_difference: 0}
shards: {samples_per_shard: 20}
"""


def publish_without_sync() -> None:
    """Gives this process a defective writer, which names shards before their bytes are on the disk."""
    from personae import files

    publish = files.publish

    def defective(part: Path, path: Path) -> None:
        if path.suffix == ".tar":
            part.replace(path)
        else:
            publish(part, path)

    files.publish = defective


def collect(root: Path) -> Path:
    """Returns a folder whose data hold every stage of the scraper, of small images of noise."""
    noise = np.random.default_rng(0)
    for number in range(IMAGES):
        path = root / "images" / f"label_{number % LABELS}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(path)
    folder = root / "before"
    folder.mkdir()
    (folder / "params.yaml").write_text(_PARAMS)
    _run(folder, "scraper", "--folder", str(root / "images"), "--min-images", "1")
    return folder


def prepare(root: Path) -> Path:
    """Returns a folder whose data hold every stage before `shards`."""
    folder = collect(root)
    for stage in BEFORE:
        _run(folder, "curation", stage)
    return folder


def digests(folder: Path, stage: str) -> dict[str, str]:
    """Returns the sha256 of each file of a stage; a catalog has other bytes in every run."""
    paths = sorted((folder / "data" / stage).iterdir())
    if stage == "catalog":
        return {path.name: "" for path in paths}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def problems(folder: Path, stage: str, expected: dict[str, str]) -> list[str]:
    """Returns what distinguishes the files of a finished stage from those of an unbroken run."""
    present = digests(folder, stage)
    wrong = [f"{name} is left over" for name in present.keys() - expected.keys()]
    wrong += [f"{name} is absent" for name in expected.keys() - present.keys()]
    common = present.keys() & expected.keys()
    return wrong + [f"{name} has other bytes" for name in common if present[name] != expected[name]]


def at_random(root: Path, before: Path, stage: str, rounds: int) -> Iterator[Kill]:
    """Kills a stage at times spread over its whole length."""
    chance = random.Random(0)  # noqa: S311  # moments, not secrets
    command = [sys.executable, "-m", "curation", stage]
    calm = Path(shutil.copytree(before, root / f"calm-{stage}"))
    start = time.perf_counter()
    _run(calm, "curation", stage)
    length, expected = time.perf_counter() - start, digests(calm, stage)
    for number in range(rounds):
        folder = Path(shutil.copytree(before, root / "random"))
        moment = length * (number + chance.random()) / rounds
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _run(folder, "curation", stage)
        wrong = problems(folder, stage, expected)
        if stage == "catalog":
            wrong += _broken_promises(folder)
        shutil.rmtree(folder)
        yield Kill("random", f"{stage}: after {moment:.2f} of {length:.2f} s", tuple(wrong))


def at_names(run: Forked, root: Path, before: Path, stage: str) -> Iterator[Kill]:
    """Kills a stage at the first and the last occurrence of each of its operations."""
    calm = Path(shutil.copytree(before, root / f"observed-{stage}"))
    run(calm, stage)
    expected = digests(calm, stage)
    for stop in stops(trace(calm)):
        folder = Path(shutil.copytree(before, root / "named"))
        is_killed = run(folder, stage, stop=stop).is_killed
        wrong = _again(run, folder, stage, expected) if is_killed else ["it was not killed"]
        shutil.rmtree(folder)
        yield Kill("named", f"{stage}: {stop.at}, number {stop.count}", tuple(wrong))


def without_power(
    run: Forked, root: Path, before: Path, stage: str, chosen: Sequence[Stop], *, patch: str = ""
) -> Iterator[Kill]:
    """
    Cuts the power at each stop, in both ways of `power.cut` in turn, of a program with `patch`.

    The last stop is the end of the stage: nothing may be lost there.
    """
    expected = digests(root / f"observed-{stage}", stage)
    for number, stop in enumerate(chosen):
        zeros = bool(number % 2)
        folder, kept = Path(shutil.copytree(before, root / "power")), root / "kept"
        kept.mkdir()
        ended = run(folder, stage, stop=stop, kept=kept, patch=patch)
        power.cut(folder / "data", kept, zeros=zeros)
        if not ended.is_killed:
            raise SystemExit(f"the run was not killed at {stop.at}, number {stop.count}")
        wrong = _lost(folder / "data" / stage, DOCUMENTS[stage])
        if stop == chosen[-1] and not (folder / "data" / stage / DOCUMENTS[stage]).exists():
            wrong.append("the finished stage is lost")
        wrong += _again(run, folder, stage, expected)
        shutil.rmtree(folder)
        shutil.rmtree(kept)
        tail = "zeros" if zeros else "nothing"
        yield Kill(
            "exchanged" if patch else "power",
            f"{stage}: {stop.at}, number {stop.count}, {tail} for what was not synced",
            tuple(wrong),
        )


def _lost(folder: Path, document: str) -> list[str]:
    """Returns the files whose bytes are not those that a finished document describes."""
    if not (folder / document).exists():
        return []
    described = json.loads((folder / document).read_text())
    sums = {"catalog.duckdb": described["sha256"]} if "sha256" in described else {}
    sums |= {entry["shard"]: entry["sha256"] for entry in described.get("shards", ())}
    sums |= described.get("files", {})
    return [
        f"{name} is described, and its bytes are lost"
        for name, digest in sums.items()
        if not (folder / name).exists()
        or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest
    ]


def _again(run: Forked, folder: Path, stage: str, expected: dict[str, str]) -> list[str]:
    ended = run(folder, stage)
    if ended.code:
        return [f"the run after it ended with {ended.code}: {ended.text[-300:]}"]
    wrong = problems(folder, stage, expected)
    if stage == "catalog":
        ended = run(folder, "verify")
        wrong += [f"verify: {ended.text[-300:]}"] if ended.code else []
    return wrong


def _broken_promises(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "curation", "verify"]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    return [f"verify: {ended.stdout[-300:]}"] if ended.returncode else []


def _run(folder: Path, module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command[2:])} failed:\n{ended.stderr[-2000:]}")


def run() -> list[Kill]:
    """Returns every kill of the two stages."""
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory() as name, Forked(*MODULES) as command:
        root = Path(name)
        before = prepare(root)
        for stage, rounds in RANDOM.items():
            kills += at_random(root, before, stage, rounds)
            kills += at_names(command, root, before, stage)
            every = stops(trace(root / f"observed-{stage}"))
            chosen = [stop for stop in every if matters(stop)]
            # The last operation of all: the sync of the folder after the document got its name.
            chosen.sort(key=lambda stop: stop.at == f"after fsync {stage}" and stop.count > 1)
            kills += without_power(command, root, before, stage, chosen)
            before = root / f"calm-{stage}"
        defect = f"{__name__}:{publish_without_sync.__name__}"
        # The folder is synced for the table, for the labels and for the manifest.
        finished = [Stop("after fsync shards", 3)] * 2
        kills += without_power(command, root, root / "before", "shards", finished, patch=defect)
    return kills
