"""Tests that stage `measure`, killed or started twice, gives the same bytes in the next run."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from curation import measure
from personae.errors import AlreadyRunning

CHILD = """
import sys
from pathlib import Path
from curation import measure

params = measure.Params(workers=int(sys.argv[3]), pictures_per_tar=2)
measure.run(params, data_dir=Path(sys.argv[1]), work_dir=Path(sys.argv[2]))
"""


# Each run is a forked process. It is killed before it renames or removes a file for the N-th time.
KILLED_AT_EACH_STEP = """
import hashlib, json, os, signal, sys
from pathlib import Path
import pyarrow.dataset  # loaded once, before the forks; so are the plugins of Pillow
from PIL import Image
from curation import measure

Image.init()
os.fsync = lambda handle: None  # a killed process loses no written byte; the machine runs on
root = Path(sys.argv[1])
work, out = root / "work", root / "data" / "measure"

def stage(side, steps):
    left = [steps]
    def hook(event, arguments):
        if event in ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if steps:
        sys.addaudithook(hook)
    params = measure.Params(workers=1, pictures_per_tar=3, side=side)
    measure.run(params, data_dir=root / "data", work_dir=work)

def forked(side, steps=0):
    child = os.fork()
    if not child:
        code = 1
        try:
            stage(side, steps)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]

def digests():
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir())}

assert forked(32) == 0
small = digests()
assert forked(48) == 0
large, results = digests(), []
# A finished result of side 48 is repeated, then replaced by another side.
for side in (48, 32):
    for steps in range(1, 100):
        if digests() != large:
            assert forked(48) == 0
        status = forked(side, steps)
        has_table = (out / "measures.parquet").exists()
        next_status = forked(side)
        is_equal = digests() == (large if side == 48 else small)
        assert not list(work.rglob("*.*"))
        results.append([side, status, has_table, next_status, is_equal])
        if status == 0:
            break
print(json.dumps(results))
"""


class Trial(NamedTuple):
    """One killed run, and the run after it."""

    side: int
    status: int
    """The exit status of the killed run: 9 for SIGKILL, 0 for success."""
    has_table: bool
    """Whether measures.parquet exists after the killed run."""
    next_status: int
    is_equal: bool
    """Whether the next run gives the bytes of a run that was never killed."""


def run(tiny_data, **changes) -> None:
    options = {"workers": 1, "pictures_per_tar": 16} | changes
    measure.run(measure.Params(**options), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)


def alive(process: str) -> bool:
    """Returns whether a process id belongs to a running process, not to a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_stage_goes_on_to_the_same_bytes(tiny_data, tmp_path: Path, workers: int) -> None:
    """After SIGKILL at random moments, repeated runs end with the same bytes."""
    run(tiny_data, pictures_per_tar=2)
    calm = digests(tiny_data.data_dir / "measure")
    for name in calm:
        (tiny_data.data_dir / "measure" / name).unlink()
    work = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, str(tiny_data.data_dir), str(work), str(workers)]
    chance = random.Random(workers)
    finished = []
    for _ in range(3):
        child = subprocess.Popen(command)
        enough = len(list(work.rglob("*.parquet"))) + chance.randint(1, 7)
        while child.poll() is None and len(list(work.rglob("*.parquet"))) < enough:
            time.sleep(0.001)
        child.kill()
        assert -9 == child.wait(), "the stage ended before it was killed"
        finished.append(len(list(work.rglob("*.parquet"))))
    subprocess.run(command, check=True)

    assert sorted(finished) == finished
    assert calm == digests(tiny_data.data_dir / "measure")
    assert [] == list((work / "measure").iterdir())


def test_killed_before_any_step_the_next_run_gives_the_same_bytes(tiny_data) -> None:
    """After SIGKILL before each rename and removal, the next run ends with 0 and the same bytes."""
    path = tiny_data.data_dir / "download" / "images.parquet"
    pq.write_table(pq.read_table(path).slice(0, 6), path)
    command = [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tiny_data.data_dir.parent)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    results = [Trial(*result) for result in json.loads(done.stdout)]
    repeated = [trial for trial in results if trial.side == 48]
    changed = [trial for trial in results if trial.side == 32]

    assert [signal.SIGKILL] * 9 + [0] == [trial.status for trial in repeated]
    assert [signal.SIGKILL] * 13 + [0] == [trial.status for trial in changed]
    assert all(trial.next_status == 0 and trial.is_equal for trial in results)
    assert all(trial.has_table for trial in repeated), "a finished table was removed"


@pytest.mark.parametrize("suffix", [".tar", ".parquet"])
def test_partition_that_lacks_a_file_is_measured_again(tiny_data, suffix: str) -> None:
    """A partition with only one of its two files is measured again."""
    run(tiny_data)
    calm = digests(tiny_data.data_dir / "measure")
    partition = measure._partitions(
        measure.Params(workers=1, pictures_per_tar=16),
        tiny_data.data_dir / "download",
        tiny_data.work_dir / "measure",
    )[0]
    measure.measure_partition(partition)
    assert partition.is_done()
    partition.stem.with_suffix(suffix).unlink()
    assert not partition.is_done()
    run(tiny_data)

    assert calm == digests(tiny_data.data_dir / "measure")


def test_partition_cut_short_is_measured_again(tiny_data) -> None:
    """A partition whose tar has another size than its rows record is measured again."""
    run(tiny_data)
    calm = digests(tiny_data.data_dir / "measure")
    partition = measure._partitions(
        measure.Params(workers=1, pictures_per_tar=16),
        tiny_data.data_dir / "download",
        tiny_data.work_dir / "measure",
    )[1]
    measure.measure_partition(partition)
    os.truncate(partition.tar_path, partition.tar_path.stat().st_size - 512)
    run(tiny_data)

    assert calm == digests(tiny_data.data_dir / "measure")


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_stage_stops_soon_and_keeps_finished_partitions(
    tiny_data, tmp_path: Path, workers: int
) -> None:
    """Ctrl-C ends the stage after the current image with exit code 3; finished partitions stay."""
    run(tiny_data, pictures_per_tar=8)
    calm = digests(tiny_data.data_dir / "measure")
    slow = """
import pathlib, signal, sys, time
# A shell that starts a job in the background has it ignore Ctrl-C, and its children with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from curation import measure
from personae import squares
decode = squares.decode
work = pathlib.Path("interrupted")
def slow_decode(*arguments, **keywords):
    if len(list(work.rglob("*.parquet"))) >= 2:
        time.sleep(1)
    return decode(*arguments, **keywords)
squares.decode = slow_decode
if __name__ == "__main__":
    from curation.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""
    script = tmp_path / "slow.py"
    script.write_text(slow)
    work = tmp_path / "interrupted"
    options = ["--data", str(tiny_data.data_dir), "--work", str(work), "--workers", str(workers)]
    command = ["measure", "--pictures-per-tar", "8", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, str(script), *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        cwd=tmp_path,
    )
    while child.poll() is None and len(list(work.rglob("*.parquet"))) < 2:
        time.sleep(0.01)
    begun = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    _, errors = child.communicate(timeout=30)
    seconds = time.monotonic() - begun
    finished = len(list(work.rglob("*.parquet")))

    assert 3 == child.returncode
    assert seconds < 4, "the rest of a partition takes 8 s, an image 1 s"
    assert 2 <= finished < 9
    assert "Traceback" not in errors
    assert "Interrupted. What is finished is saved." in errors.splitlines()[-1]
    measure.run(
        measure.Params(workers=1, pictures_per_tar=8), data_dir=tiny_data.data_dir, work_dir=work
    )
    assert calm == digests(tiny_data.data_dir / "measure")


def test_two_data_folders_cannot_share_unfinished_work(tiny_data, tmp_path: Path) -> None:
    """While a run uses a work folder, a run with another data folder cannot use it."""
    work = tmp_path / "work"
    command = [sys.executable, "-c", CHILD, str(tiny_data.data_dir), str(work), "1"]
    child = subprocess.Popen(command)
    while child.poll() is None and not list(work.rglob("*.parquet")):
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(AlreadyRunning, match="Another run is writing to"):
        measure.run(measure.Params(workers=1), data_dir=tmp_path / "other", work_dir=work)
    os.kill(child.pid, signal.SIGCONT)

    assert 0 == child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of processes from /proc")
def test_workers_end_with_their_parent(tiny_data, tmp_path: Path) -> None:
    """After a kill of the stage, no worker process remains."""
    command = [sys.executable, "-c", CHILD, str(tiny_data.data_dir), str(tmp_path / "work"), "2"]
    child = subprocess.Popen(command)
    while not list((tmp_path / "work").rglob("*.parquet")):
        time.sleep(0.001)
    family = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    child.kill()
    child.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert len(family) >= 2
    assert [] == [process for process in family if alive(process)]
