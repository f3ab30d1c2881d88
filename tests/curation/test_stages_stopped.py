"""Tests that no stage is broken by a kill at any step, and that few open files suffice."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Each run is a forked process. It is killed before it opens a file for writing, renames or removes
# for the N-th time. DuckDB's own steps are not seen: it writes to a `.part` file alone.
KILLED_AT_EACH_STEP = """
import hashlib, importlib, json, os, signal, sys
from pathlib import Path
import duckdb, pyarrow.dataset
from curation import catalog

os.fsync = lambda handle: None  # a killed process loses no written byte; the machine runs on
data, name, values = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
module = importlib.import_module(f"curation.{name}")
out = data / name

def stage(steps):
    left = [steps]
    def hook(event, arguments):
        is_write = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        if is_write or event in ("os.remove", "os.rename"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if steps:
        sys.addaudithook(hook)
    module.run(module.Params(**values), data_dir=data, work_dir=data / "work")

def forked(steps=0):
    child = os.fork()
    if not child:
        code = 1
        try:
            stage(steps)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]

def changed():
    # A shard that is there with its bytes is not written: each run begins with other shards.
    for path in sorted(out.glob("*.tar")) if name == "shards" else ():
        path.with_name(path.name.replace("-0000", "-0001")).write_bytes(path.read_bytes())
        path.write_bytes(path.read_bytes()[:-1])

def digests():
    names = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir())}
    return names if name != "catalog" else sorted(names)  # a database differs in its bytes

sound, results = digests(), []
for steps in range(1, 200):
    changed()
    status = forked(steps)
    results.append([status, forked(), digests() == sound])
    if status == 0:
        break
print(json.dumps(results))
"""
# Everything that a data set goes through, in one process with few open files.
EVERY_STAGE = """
import sys
from curation.__main__ import main

data, work, params = sys.argv[1:]
options = ["--data", data, "--params", params]
for stage in ("measure", "filters", "duplicates", "persona", "split", "shards", "catalog"):
    assert main([stage, *options, "--work", work]) == 0, stage
assert main(["verify", "--data", data]) == 0
assert main(["query", "SELECT count(*) FROM samples", "--data", data]) == 0
"""


@pytest.mark.parametrize(
    ("stage", "values", "least"),
    [("shards", {"samples_per_shard": 30}, 18), ("catalog", {}, 3), ("split", {}, 6)],
)
def test_killed_before_any_step_the_next_run_ends_well(curated, stage, values, least) -> None:
    """After SIGKILL before each step, the next run ends with 0 and the same files."""
    if stage == "split":
        values = {"train": 0.4, "val": 0.3, "test": 0.3, "tolerance": 1, "seed": 2}
    command = [str(curated.data_dir), stage, json.dumps(values)]
    first = f"import importlib, json, sys; from pathlib import Path; m = importlib.import_module('curation.{stage}'); m.run(m.Params(**json.loads(sys.argv[3])), data_dir=Path(sys.argv[1]), work_dir=Path('/nowhere'))"
    for code in (first, KILLED_AT_EACH_STEP):
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
    results = json.loads(done.stdout)

    assert [signal.SIGKILL] * (len(results) - 1) + [0] == [status for status, _, _ in results]
    assert len(results) > least
    assert all(code == 0 and is_equal for _, code, is_equal in results)


def test_stages_need_few_open_files(tiny_data, tmp_path: Path) -> None:
    """Every stage and `verify` work where a process may have 48 files open."""
    params = tmp_path / "params.yaml"
    params.write_text(
        "measure: {workers: 1, pictures_per_tar: 1}\n"
        "persona: {min_samples: 5, balance: none}\n"
        "split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, seed: 2}\n"
        "shards: {samples_per_shard: 1}\n"
    )
    arguments = [str(tiny_data.data_dir), str(tiny_data.work_dir), str(params)]
    done = subprocess.run(
        [sys.executable, "-c", EVERY_STAGE, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    assert len(list((tiny_data.data_dir / "measure").glob("*.tar"))) > 50
    assert len(list((tiny_data.data_dir / "shards").glob("*.tar"))) > 40
