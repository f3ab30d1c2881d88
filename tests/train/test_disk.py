"""A disk that is full or read-only ends a training with one line and exit code 3."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from train.__main__ import main
from train.runtime import checkpoint

PARAMS = """
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 1, threads: 1, device: cpu}
"""


@pytest.fixture
def project(tiny_shards, tmp_path, monkeypatch):
    """Writes params.yaml and tiny shards to a working folder."""
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [["flat"], ["noise"], ["evaluate", "flat"]])
def test_results_that_cannot_be_written_are_an_error_before_the_work(project, capsys, command):
    """A folder of results on a read-only disk is named before the first epoch, and nothing is made."""
    sealed = project / "sealed"
    sealed.mkdir(mode=0o500)
    if os.geteuid() == 0:
        sealed = Path("/proc")  # root may write to any other folder

    assert main([*command, "--results", str(sealed / "results")]) == 3
    assert f"{sealed}/results/" in capsys.readouterr().err
    assert [] == list((project / "work").glob("*"))


def mounts():
    """Returns whether this system lets its users mount a small disk of their own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if not shutil.which("unshare"):
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not mounts(), reason="this system mounts nothing for its users")
@pytest.mark.parametrize(
    ("size", "file"),
    [("8k", "images.npy"), ("100k", "root.safetensors")],
)
def test_training_on_a_full_disk_is_unfinished(project, size, file):
    """The images find no room, or the first checkpoint: no traceback and no signal in either."""
    (project / "work").mkdir()
    command = f'mount -t tmpfs -o size={size} tmpfs work && "$0" -m train flat'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 3 == ended.returncode
    assert f"{file} could not be read or written: No space left" in ended.stderr


def test_checkpoint_without_room_names_the_file(tmp_path):
    """The error is one of the system and names the file; the older checkpoint stays."""
    path = tmp_path / "root.safetensors"
    checkpoint.save(path, {"weight": torch.zeros(8)}, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=r"root\.safetensors"):
            checkpoint.save(path, {"weight": torch.zeros(8000)}, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert {"epoch": 1} == checkpoint.load(path)[1]
    assert [path] == list(tmp_path.iterdir())
