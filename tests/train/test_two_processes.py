"""A run is trained or evaluated by one process at a time; other runs and seeds are free."""

import os
import signal
import subprocess
import sys
import time

import pytest

from personae.errors import AlreadyRunning
from train import saved
from train.__main__ import main

PARAMS = """
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 1, threads: 1, device: cpu}
evaluate: {latency_seconds: 0.05}
runs:
  long: {method: flat, loop: {epochs: 2}}
"""


@pytest.fixture
def project(tiny_shards, tmp_path, monkeypatch):
    """Writes params.yaml and tiny shards to a working folder."""
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_second_training_is_refused_until_the_first_is_killed(project, capsys):
    """The message names the folder and the process; a killed training leaves no lock."""
    command = [sys.executable, "-m", "train", "flat", "--epochs", "9999"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list((project / "work").glob("train/*/root.safetensors")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.05)

        assert main(["flat"]) == 3
        message = capsys.readouterr().err
        assert "error: Another run is writing to results/flat/0: " in message
        assert f"(process {first.pid})" in message
        assert main(["flat", "--seed", "1"]) == 0
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert main(["flat"]) == 0
    assert ["flat"] == [each.name for each in (project / "results").iterdir()]


@pytest.mark.parametrize(
    ("command", "run"),
    [
        (["fit", "long"], "long"),
        (["control", "long", "params"], "long_params"),
        (["evaluate", "flat"], "flat"),
        (["extend", "results/long/0", "grown"], "grown"),
        (["merge", "results/long/0", "results/flat/0", "both"], "both"),
    ],
)
def test_every_command_that_writes_a_run_is_refused(project, capsys, command, run):
    """`fit`, `control`, `evaluate`, `extend` and `merge` meet the lock before they write."""
    for trained in (["flat"], ["fit", "long"]):
        assert main(trained) == 0
    with saved.reserved(project / "results" / run / "0", work_dir=project / "work"):
        assert main(command) == 3

    assert f"Another run is writing to results/{run}/0" in capsys.readouterr().err


def test_same_run_of_other_folders_is_free(tmp_path):
    """Two folders of results in one work folder do not meet."""
    with (
        saved.reserved(tmp_path / "one" / "flat" / "0", work_dir=tmp_path),
        saved.reserved(tmp_path / "two" / "flat" / "0", work_dir=tmp_path),
        pytest.raises(AlreadyRunning),
        saved.reserved(tmp_path / "one" / "flat" / "0", work_dir=tmp_path),
    ):
        pass
