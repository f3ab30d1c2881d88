"""Tests one budget of requests for several machines: a service on one, which the others ask."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae import local_page
from personae.errors import BadParams, Exit
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import DailyBudgetSpent, Unfinished
from scraper.host_budget import HostBudget
from scraper.policy import Patience, shared_budget
from scraper.shared_budget import SharedBudget, server
from scraper.site import Params, Site
from tests.scraper.test_politeness import fullest


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Runs a service; returns its address and the folder of its states."""
    folder = tmp_path_factory.mktemp("state")
    service = server(0, folder)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield service.address, folder
    service.shutdown()
    service.server_close()
    thread.join(10)


def budget(desk, host, *, daily_requests=None, most_pause=900.0):
    return SharedBudget(desk[0], host, daily_requests=daily_requests, most_pause=most_pause)


def test_machines_take_turns(desk):
    """Three clients leave one after the other, at one rate; so does a run beside the service."""
    interval, each = 0.02, 8
    clients = [budget(desk, "turns") for _ in range(3)] + [HostBudget("turns", desk[1])]

    def depart(client):
        times = []
        while len(times) < each:
            wait = client.take("files", interval)
            if wait:
                time.sleep(wait)
            else:
                times.append(time.time())
        return times

    began = time.time()
    with ThreadPoolExecutor(len(clients)) as pool:
        times = sorted(at for of_client in pool.map(depart, clients) for at in of_client)

    # A client notes its departure after the answer has come, which may take a while.
    assert times[-1] - began >= interval * (len(times) - 1)
    assert fullest(times, 10 * interval) <= 10 + 2


def test_pause_and_day_hold_for_all(desk):
    """A pause of one client stops the others, and the day's requests are counted together."""
    first, second = (budget(desk, "paused", most_pause=30.0) for _ in range(2))
    first.pause("api", 500.0)
    assert 29 < second.take("api", 0.001) <= 30
    assert 0 == second.take("files", 0.001)

    first, second = (budget(desk, "day", daily_requests=3) for _ in range(2))
    for client in (first, second, first):
        while client.take("api", 0.0001):
            pass
    with pytest.raises(DailyBudgetSpent, match="The 3 requests of this day to day are used up"):
        second.take("api", 0.0001)


def test_without_an_answer_no_request_leaves(desk):
    """A service that is down, or sends something else, ends the run as resumable."""
    with serving(booru.board(TINY)) as board:  # another server at the address
        other = SharedBudget(board.url, "x", daily_requests=None, most_pause=1.0)
        with pytest.raises(Unfinished, match=r"gives no leave .*python -m scraper budget"):
            other.take("api", 1.0)
        address = board.url
    gone = SharedBudget(address, "x", daily_requests=None, most_pause=1.0)
    for call in (lambda: gone.take("api", 1.0), lambda: gone.pause("api", 1.0)):
        with pytest.raises(Unfinished, match="no request is sent") as caught:
            call()
        assert Exit.UNFINISHED == caught.value.exit_code


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1:8766",
        "http://example.org:8766",
        "http://127.0.0.1",
        "http://127.0.0.1:x",
        "http://127.0.0.1:8766/path",
        "http://user:word@127.0.0.1:8766",
    ],
)
def test_address_is_of_this_machine(address):
    """Anything but a loopback address and a port is refused, and the address is not repeated."""
    with pytest.raises(BadParams, match="neither a folder nor the address") as caught:
        SharedBudget(address, "x", daily_requests=None, most_pause=1.0)
    assert "word" not in str(caught.value)


def sent(desk, body, *, target="/take"):
    connection = HTTPConnection(desk[0].split("/")[2], timeout=10)
    connection.request("POST", target, body, {"Content-Type": local_page.UPLOAD})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_hostile_questions_are_refused(desk, body):
    """Whatever is sent, the answer is 400 and the service goes on."""
    assert 400 == sent(desk, body)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "all"},
        {"host": ""},
        {"host": "x" * 256},
        {"seconds": -1},
        {"seconds": float("inf")},
        {"most_pause": float("nan")},
        {"daily_requests": 0},
        {"daily_requests": 1.5},
    ],
)
def test_question_with_one_wrong_value(desk, change):
    """A wrong value is refused; the same question without it is answered."""
    sound = {"host": "one", "kind": "api", "seconds": 0, "daily_requests": None, "most_pause": 1}

    assert (200, {"wait": 0.0}) == sent(desk, json.dumps(sound).encode())
    assert 400 == sent(desk, json.dumps(sound | change).encode())[0]
    assert 400 == sent(desk, json.dumps(sound).encode(), target="/other")[0]


def test_names_never_become_paths(desk):
    """A host with separators is a plain file name in the folder of the states."""
    budget(desk, "../../x/y").take("api", 0.0)

    assert (desk[1] / "..%2F..%2Fx%2Fy.json").is_file()


def test_environment_names_the_service(desk):
    """With an address in PERSONAE_STATE even a board on this machine has a shared budget."""
    local = Site.resolve(Params(name="http://127.0.0.1:8080"))
    shared = shared_budget(local, Patience(), environment={"PERSONAE_STATE": desk[0]})

    assert isinstance(shared, SharedBudget)
    with pytest.raises(BadParams):
        shared_budget(local, Patience(), environment={"PERSONAE_STATE": "http://example.org:1"})
    with pytest.raises(BadParams, match="Set PERSONAE_STATE to one"):
        server(0, None)


def test_two_machines_and_one_board(tmp_path):
    """Parts that two processes without a common folder download keep one rate, by the board's log."""
    rate = 60.0
    sections = {
        "site": {"api_rate": 500.0, "cdn_rate": rate},
        "personae": {"min_images": 12, "max_images": 7},
        "download": {"side": 64},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(sections))

    def command(*words):
        return [sys.executable, "-m", "scraper", *words]

    def environment(**changes):
        return {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd()), **changes}

    service = subprocess.Popen(
        command("budget", "--port", "0"),
        cwd=tmp_path,
        env=environment(PERSONAE_STATE=str(tmp_path / "state")),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = service.stdout.readline().strip()
        with serving(booru.board(TINY)) as board:
            here = {"cwd": tmp_path, "env": environment(PERSONAE_STATE=address)}
            subprocess.run(command("listing", "--site", board.url), **here, check=True)
            subprocess.run(command("decide"), **here, check=True)
            subprocess.run(command("divide", "--count", "2"), **here, check=True)
            board.log.entries.clear()
            runs = [
                subprocess.Popen(
                    command("download", "--site", board.url, "--data", f"parts/{number}"),
                    cwd=tmp_path,
                    env=environment(PERSONAE_STATE=address),
                )
                for number in (1, 2)
            ]
            assert [0, 0] == [run.wait(120) for run in runs]
            entries = list(board.log.entries)
            join = ["download", "--site", board.url, "--parts", "parts/1", "parts/2"]
            subprocess.run(command(*join), **here, check=True)
            assert len(entries) == len(board.log.entries)
    finally:
        service.terminate()
        service.communicate(timeout=10)

    times = [at for at, kind, _path, _status in entries if kind == "cdn"]
    for seconds in (0.5, 1, 2, 10):
        assert fullest(times, seconds) <= rate * seconds + 1
    assert len(times) > 60
    assert fullest(times, 1) >= 0.6 * rate
