"""Tests the worker processes of a stage: where they import from, and what they inherit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from curation import workers

SCRIPT = """
import sys
from curation import workers
import version_module

if __name__ == "__main__":
    if sys.argv[1] == "prepared":
        workers.prepare("version_module")
    before = dict(version_module.os.environ)
    for line in workers.in_processes(version_module.described, range(4), workers=2, stage="measure"):
        print(line)
    assert before == dict(version_module.os.environ)
"""
MODULE = """
import os, signal

VERSION = {version!r}

def described(item):
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return item, VERSION, os.environ["OPENBLAS_NUM_THREADS"], blocked
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are new processes")
@pytest.mark.parametrize("when", ["prepared", "late"])
def test_workers_import_what_their_parent_imports(tmp_path: Path, when: str) -> None:
    """A module of the same name in the current folder is not taken; each worker has one thread."""
    script = tmp_path / "program" / "script.py"
    for folder in (script.parent, tmp_path / "elsewhere"):
        folder.mkdir()
        (folder / "version_module.py").write_text(MODULE.format(version=folder.name))
    script.write_text(SCRIPT)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(script), when],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert [str((item, "program", "1", True)) for item in range(4)] == done.stdout.splitlines()


def test_the_signal_is_unblocked_after_preparing() -> None:
    """Starting the server leaves the environment and the signals of this process as they were."""
    before = dict(os.environ)
    workers.prepare("json")

    assert before == dict(os.environ)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
