"""Tests the board as a child process: it starts, stops, and ends with its parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from scraper.demo.command import main
from scraper.demo.server.process import running
from scraper.errors import ScraperError

AGENT = {"User-Agent": "personae-tests/1"}
SMALL = ("--posts-large", "6", "--posts-small", "4", "--posts-minor", "1", "--cache", "")
HERE = ("--workers", "0")
"""Options for a board without worker processes, which starts faster."""

PARENT = """
import sys, time
from scraper.demo.server.process import running
with running(None, options=sys.argv[1:]) as url:
    print(url, flush=True)
    time.sleep(60)
"""


def status(pid):
    """Returns state and parent of a process, or None if it does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def children(pid):
    """Returns the children of a process, and their children."""
    every = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    mine = [child for child in every if (status(child) or ("", 0))[1] == pid]
    return mine + [below for child in mine for below in children(child)]


def lives(pid):
    """Returns whether a process runs; a zombie does not count as running."""
    return (status(pid) or ("Z", 0))[0] != "Z"


def wait_until_gone(pids):
    deadline = time.monotonic() + 15
    while any(lives(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if lives(pid)]


def test_port_in_use_is_usage(capsys):
    """Where another program has the port, the message offers any free one, with exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code = main([*SMALL, *HERE, "--port", port])
    err = capsys.readouterr().err

    assert 2 == code
    assert f"cannot listen at 127.0.0.1, port {port}: " in err
    assert err.endswith(":\n  python -m scraper demo --port 0\n")


def test_it_serves_while_the_block_lasts():
    """The URL responds inside the block, and refuses connections after it."""
    with running(None, options=SMALL + HERE) as url:
        answer = requests.get(url + "/posts.json", params={"limit": 1}, headers=AGENT, timeout=120)

    assert 1 == len(answer.json())
    with pytest.raises(requests.ConnectionError):
        requests.get(url, headers=AGENT, timeout=2)


def test_parameters_come_from_the_file_and_options_win(tmp_path):
    """The board reads section `demo` of a file; a command-line option overrides it."""
    path = tmp_path / "params.yaml"
    path.write_text("demo: {posts_large: 9, posts_small: 3, posts_minor: 1, cache: ''}\n")
    with running(path, options=("--posts-small", "5", *HERE)) as url:
        query = {"tags": "kurobane_shiori -status:any"}
        rows = requests.get(
            url + "/tags.json", params={"search[name]": "solo"}, headers=AGENT, timeout=30
        )
        few = requests.get(url + "/counts/posts.json", params=query, headers=AGENT, timeout=120)

    assert 200 == few.status_code
    assert 4 * 9 + 8 * 5 < rows.json()[0]["post_count"] < 4 * 9 + 8 * 5 + 100


@pytest.mark.parametrize(
    "options", [("--faults", "nonsense=1"), ("--posts-large", "-1"), ("--folder", "/nowhere")]
)
def test_a_board_that_cannot_start_says_so(options, tmp_path):
    """A board with wrong parameters raises an error in the caller."""
    path = tmp_path / "params.yaml"
    path.write_text("demo: {}\n")

    with pytest.raises(ScraperError, match="did not start"), running(path, options=options):
        pass


def test_it_dies_with_a_parent_that_is_killed(tmp_path):
    """SIGKILL of the parent ends the board and its drawing processes."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *SMALL], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    url = parent.stdout.readline().strip()
    requests.get(url + "/posts.json", params={"limit": 100}, headers=AGENT, timeout=120)
    family = children(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    assert len(family) >= 2, "the board and at least one process that draws"
    assert [] == wait_until_gone(family)


def test_its_workers_die_with_a_board_that_is_killed(tmp_path):
    """SIGKILL of the board ends its worker processes."""
    board = subprocess.Popen(
        [sys.executable, "-m", "scraper.demo", *SMALL],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    url = board.stdout.readline().removeprefix("Demo board at ").strip()
    requests.get(url + "/posts.json", params={"limit": 100}, headers=AGENT, timeout=120)
    family = children(board.pid)
    board.send_signal(signal.SIGKILL)
    board.wait()
    board.stdout.close()

    assert family
    assert [] == wait_until_gone(family)


@pytest.mark.parametrize("module", ["scraper.demo", "scraper"])
def test_ctrl_c_ends_a_board_without_a_word(module, tmp_path):
    """Ctrl-C on a terminal, while the processes that draw are starting, is the way to stop a board."""
    command = "demo" if module == "scraper" else "--no-control"
    board = subprocess.Popen(
        [sys.executable, "-m", module, command, *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    url = board.stdout.readline().removeprefix("Demo board at ").strip()
    with socket.create_connection(url.removeprefix("http://").split(":")) as client:
        client.sendall(
            b"GET /posts.json HTTP/1.1\r\nHost: x\r\nUser-Agent: personae-tests/1\r\n\r\n"
        )
        while not children(board.pid):
            time.sleep(0.01)
        os.killpg(board.pid, signal.SIGINT)
        _, written = board.communicate(timeout=60)

    assert (0, "") == (board.returncode, written)


def test_ctrl_c_does_not_reach_the_board_of_a_run(monkeypatch):
    """The board has a session of its own, and is killed when the run is interrupted."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            started.append(self)

    def interrupted():
        with running(None, options=SMALL + HERE):
            assert started[0].pid == os.getsid(started[0].pid)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert -signal.SIGKILL == started[0].returncode


def test_two_runs_give_the_same_board(tmp_path):
    """Ids, md5 and bytes depend neither on the run nor on the cache."""

    def listing(*options):
        with running(None, options=(*SMALL, *HERE, *options)) as url:
            rows = requests.get(
                url + "/posts.json", params={"limit": 40}, headers=AGENT, timeout=120
            ).json()
            shown = next(row for row in rows if "file_url" in row)
            thumbnail = requests.get(shown["preview_file_url"], headers=AGENT, timeout=10).content
        return [(row["id"], row.get("md5"), row["file_size"]) for row in rows], thumbnail

    cache = ("--cache", str(tmp_path / "cache"))
    first = listing()

    assert first == listing(*cache)
    assert first == listing(*cache)


def test_a_cold_board_finds_files_by_md5(tmp_path):
    """A board that has drawn nothing serves a file that an earlier run listed."""
    with running(None, options=SMALL + HERE) as url:
        rows = requests.get(url + "/posts.json", headers=AGENT, timeout=120).json()
        shown = next(row for row in rows if "file_url" in row)["preview_file_url"]
        path = shown.removeprefix(url)
        warm = requests.get(shown, headers=AGENT, timeout=120).content
    with running(None, options=SMALL + HERE) as url:
        cold = requests.get(url + path, headers=AGENT, timeout=120)

    assert (200, warm) == (cold.status_code, cold.content)


def test_help_names_every_parameter(capsys):
    """`--help` lists the parameters of section `demo`."""
    with pytest.raises(SystemExit):
        main(["--help"])

    text = capsys.readouterr().out
    for option in ("--seed", "--posts-large", "--faults", "--folder", "--until-stdin-closes"):
        assert option in text
