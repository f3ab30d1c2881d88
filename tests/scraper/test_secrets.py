"""The API key as a canary: a whole run leaves it in no file, no output, no command line, no URL."""

import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server import gate
from scraper.demo.server.thread import serving

ROOT = Path(__file__).resolve().parents[2]
LOGIN, KEY = next(pair for pair, level in gate.ACCOUNTS.items() if level.name == "gold")
FORMS = (KEY.encode(), base64.b64encode(f"{LOGIN}:{KEY}".encode()))


@pytest.fixture(scope="module")
def board():
    with serving(booru.board(TINY), TINY.model_copy(update={"control": True})) as served:
        yield served


def run(folder, url, *words, key=KEY):
    """
    Runs the command in `folder` with the account in the environment.

    Returns the exit code and everything that could be seen: both outputs and, while it ran, its
    command line.
    """
    sections = {
        "site": {"name": url, "api_rate": 1e6, "cdn_rate": 1e6, "attempts": 2},
        "personae": {"min_images": 12},
        "download": {"side": 64},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    environment = os.environ | {
        "PERSONAE_LOGIN": LOGIN,
        "PERSONAE_API_KEY": key,
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "scraper", *words, "--verbose"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        time.sleep(0.5)
        shown = Path(f"/proc/{child.pid}/cmdline").read_bytes()
        out, _ = child.communicate(timeout=120)
    return child.returncode, shown + out


def leaks(folder, seen):
    """Returns where a form of the key stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [path.name for path in files if any(form in path.read_bytes() for form in FORMS)]
    return found + ["output"] * any(form in seen for form in FORMS)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to read a command line")
def test_a_whole_run_with_an_account_leaks_no_key(board, tmp_path):
    """Plan, run and update with an account: the board knows the account, and the key is nowhere."""
    for words in (["plan"], [], ["update", "--changed"]):
        code, seen = run(tmp_path, board.url, *words)
        assert 0 == code, seen.decode()
        assert [] == leaks(tmp_path, seen)

    assert len(list(tmp_path.rglob("*.parquet"))) > 5
    assert not any(form.decode() in str(board.log.agents) for form in FORMS)
    assert not any(form.decode() in str(board.log.entries) for form in FORMS)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to read a command line")
@pytest.mark.parametrize(
    ("address", "key", "code"),
    [("http://127.0.0.1:9", KEY, 3), (None, f"{KEY}-wrong", 4), ("no board", KEY, 2)],
    ids=["unreachable", "wrong key", "bad address"],
)
def test_a_run_that_fails_leaks_no_key(board, tmp_path, address, key, code):
    """Neither messages nor tracebacks of a failing run hold the key."""
    returned, seen = run(tmp_path, address or board.url, key=key)

    assert code == returned, seen.decode()
    assert b"error: " in seen
    assert [] == leaks(tmp_path, seen)


def test_an_account_has_its_level(board, tmp_path):
    """With a Gold account a search of four terms is listed, which an anonymous one may not ask."""
    four = ["listing", "--terms", "solo smile blush"]
    code, seen = run(tmp_path, board.url, *four)
    assert 0 == code, seen.decode()

    (tmp_path / "anonymous").mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PERSONAE_")
    }
    anonymous = subprocess.run(
        [sys.executable, "-m", "scraper", *four, "--site", board.url, "--min-images", "12"],
        cwd=tmp_path / "anonymous",
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 4 == anonymous.returncode
    assert "listing.terms" in anonymous.stderr
