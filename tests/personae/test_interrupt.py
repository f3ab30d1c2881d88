"""Tests Ctrl-C in every command: soon, without a traceback, while it starts and while it works."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curation.__main__ import main as curation
from personae import interrupt
from scraper.__main__ import main as scraper
from train.__main__ import main as train

MESSAGE = f"error: {interrupt.MESSAGE}"
# As a terminal would have it: a shell's background job ignores Ctrl-C, and its children with it.
START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
# A stage whose library computes for a minute and does not return to Python.
DEAF = """
if __name__ == "__main__":
    from personae import interrupt
    interrupt.at_once()
import ctypes, sys
from personae import cli
def work():
    interrupt.gracefully(within=0.3)
    print("working", flush=True)
    ctypes.CDLL(None).sleep(60)
    ctypes.CDLL(None).sleep(60)
sys.exit(cli.run(work))
"""


def started(*command: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **options,
    )


def wait_for_library(process: subprocess.Popen[str], name: str) -> None:
    """Waits until a process has loaded a compiled library."""
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and name not in maps.read_text():
        time.sleep(0.001)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the loaded libraries from /proc")
@pytest.mark.parametrize(
    ("command", "library"),
    [
        ("curation measure", "pydantic_core"),
        ("curation measure", "libarrow"),
        ("curation duplicates", "libarrow"),
        ("curation catalog", "duckdb"),
        ("curation query", "pydantic_core"),
        ("scraper listing", "pydantic_core"),
        ("train flat", "pydantic_core"),
        ("train flat", "libtorch_cpu"),
    ],
)
def test_ctrl_c_during_imports_is_one_line(tmp_path: Path, command: str, library: str) -> None:
    """Ctrl-C while a library is being loaded ends the command with exit code 3 and one line."""
    package, name = command.split()
    extra = ["SELECT 1"] if name == "query" else []
    process = started("-m", package, name, *extra, "--data", str(tmp_path / "data"))
    wait_for_library(process, library)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - begun

    assert process.returncode == 3
    assert "Traceback" not in errors
    # The training command imports torch when its work has begun.
    message = interrupt.MESSAGE if library == "libtorch_cpu" else interrupt.START
    assert errors.splitlines()[-1] == f"error: {message}"
    assert seconds < 10, "a library is loaded to its end, and no more"


def test_ctrl_c_in_a_library_that_does_not_return_ends_in_time(tmp_path: Path) -> None:
    """A stage inside a library ends within the bound, with the message once."""
    script = tmp_path / "deaf.py"
    script.write_text(DEAF)
    process = started(str(script))
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 3
    assert time.monotonic() - begun < 10
    assert errors.count(MESSAGE) == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["curation", "query", "SELECT 1"], interrupt.ANEW),
        (["curation", "push", "file:///none"], interrupt.MESSAGE),
        (["curation", "shards"], interrupt.MESSAGE),
        (["train", "predict", "flat", "image.png"], interrupt.ANEW),
        (["train", "flat"], interrupt.MESSAGE),
        (["scraper", "status"], interrupt.ANEW),
    ],
)
def test_only_what_continues_is_called_saved(
    command: list[str], message: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    """A command that writes nothing, or all at its end, does not speak of finished work."""
    monkeypatch.chdir(tmp_path)
    gracefully = interrupt.gracefully

    def interrupted(**options) -> None:
        gracefully(**options)
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupt, "gracefully", interrupted)

    package, *arguments = command

    assert 3 == {"scraper": scraper, "curation": curation, "train": train}[package](arguments)
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_ignored_ctrl_c_stays_ignored() -> None:
    """A background job whose shell makes it ignore Ctrl-C still ignores it."""
    code = (
        "import signal; from personae import interrupt\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); interrupt.at_once(); interrupt.gracefully()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )

    assert done.stdout == "True\n"
