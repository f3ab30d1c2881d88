"""
The certificate of politeness: no window of w seconds holds more than rate × w + 1 requests.

Once over a simulated day with both HTTP clients and three processes, and once over real processes
and a real board, whose log decides.
"""

import asyncio
import json
import os
import queue
import random
import selectors
import subprocess
import sys
import threading
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow.parquet as pq

from scraper.client import Client
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import DailyBudgetSpent, ScraperError
from scraper.exchange import Exchange
from scraper.host_budget import HostBudget
from scraper.one_shot import OneShot
from scraper.policy import RequestBudget
from scraper.responses import Response
from scraper.site import Params, Site

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_SECONDS = 86_400
RATES = {"api": 0.03, "files": 0.07}
DAILY_REQUESTS = 3_200
WINDOWS = (1, 10, 60, 3600, DAY_SECONDS)
PAUSE_SECONDS = 120


def fullest(times, seconds):
    """Returns the largest number of `times` in a window that is open at its end."""
    times = sorted(times)
    return max(
        bisect_left(times, moment + seconds, first) - first for first, moment in enumerate(times)
    )


class _NoWait(selectors.DefaultSelector):
    """Lets the time of a loop jump to its next timer instead of waiting."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time advances only while every task sleeps."""

    def __init__(self):
        self._own = _NoWait()
        super().__init__(self._own)

    def time(self):
        return self._own.now


class Board:
    """A board without a network: it notes when each request leaves, and refuses some."""

    def __init__(self, clock):
        self.clock = clock
        self.departures = {"api": [], "files": []}
        self.pauses = {"api": [], "files": []}
        self.agents = Counter()
        self.days = Counter()

    def respond(self, site, url, kind):
        now = self.clock()
        self.departures[kind].append(now)
        self.agents[site.user_agent] += 1
        number = len(self.departures[kind])
        is_night = 15 * 3600 < now < 15 * 3600 + 600
        status, fields = 200, {"Content-Type": "application/json" if kind == "api" else "image/png"}
        if number % 331 == 0:
            status, fields = 429, {"Retry-After": str(PAUSE_SECONDS)}
            self.pauses[kind].append(now)
        elif number % 499 == 0 or is_night:
            status, fields = 429, {}
        elif number % 211 == 0:
            status, fields = 503, {}
        return Response(str(url), status, fields, b"[]")


class Day:
    """A simulated day of processes that share one file; the clock of the day is set back once."""

    def __init__(self, loop, folder):
        self.loop = loop
        self.folder = folder
        self.board = Board(loop.time)
        self.random = random.Random(0)
        self.sent = Counter()

    def moment(self):
        """Returns the clock of the day, which is set back by an hour after 20 hours."""
        now = self.loop.time()
        return NOON + timedelta(seconds=now - (3600 if now > 20 * 3600 else 0))

    def budget(self, site, start):
        host = HostBudget(
            "booru.example.org",
            self.folder,
            daily_requests=DAILY_REQUESTS,
            now=lambda: self.moment().timestamp(),
        )
        # Each process has its own origin of the monotonic clock.
        return RequestBudget(
            site, clock=lambda: start + self.loop.time(), draw=self.random.random, host=host
        )

    async def sleep(self, seconds):
        """Sleeps, and wakes late at times."""
        await asyncio.sleep(seconds + max(0.0, self.random.gauss(0, 0.05)))

    async def survive(self, name, request):
        """Repeats `request` until the end of the day; waits for midnight when a day is used up."""
        while self.loop.time() < DAY_SECONDS:
            try:
                await request()
                self.sent[name] += 1
            except DailyBudgetSpent:
                self.sent["ends"] += 1
                await asyncio.sleep(600)
            except ScraperError:
                await asyncio.sleep(60)

    async def run(self, site, name, start, workers):
        """Lists and downloads with the asynchronous client."""
        budget = self.budget(site, start)
        async with (
            Client(site, budget, sleep=self.sleep, now=self.moment) as client,
            asyncio.TaskGroup() as group,
        ):
            page = partial(client.get_json, "/posts.json")
            file = partial(client.get_bytes, "/a.png", max_bytes=9)
            group.create_task(self.survive(name, page))
            for _ in range(workers):
                group.create_task(self.survive(f"{name} files", file))

    async def plan(self, site, start):
        """Counts with the synchronous client, in a thread that runs only while the loop waits for it."""
        asked, woken = queue.Queue(), queue.Queue()

        def sleep(seconds):
            asked.put(("sleep", seconds))
            woken.get()

        def work(client):
            try:
                asked.put(("end", client.get_json("/counts/posts.json")))
            except ScraperError as error:
                asked.put(("error", error))

        with OneShot(site, self.budget(site, start), sleep=sleep, now=self.moment) as client:

            async def request():
                await asyncio.sleep(self.random.expovariate(1 / 20))
                thread = threading.Thread(target=work, args=(client,))
                thread.start()
                while (step := asked.get())[0] == "sleep":
                    await self.sleep(step[1])
                    woken.put(None)
                thread.join()
                if step[0] == "error":
                    raise step[1]

            await self.survive("plan", request)


def test_a_simulated_day(tmp_path, monkeypatch):
    """Over 24 hours, two runs and a plan together keep rate, pauses and the requests of each day."""
    site = Site.resolve(
        Params(name="https://booru.example.org", api_rate=RATES["api"], cdn_rate=RATES["files"]),
        contact="me@example.org",
    )
    loop = SimulatedLoop()
    day = Day(loop, tmp_path)

    async def send(_exchange, target, _most, *, is_api):
        response = day.board.respond(site, target, "api" if is_api else "files")
        day.board.days[day.moment().date()] += 1
        await asyncio.sleep(day.random.expovariate(1 / 0.3))
        return response

    def send_blocking(_client, target, _most):
        day.board.days[day.moment().date()] += 1
        return day.board.respond(site, target, "api")

    monkeypatch.setattr(Exchange, "send", send)
    monkeypatch.setattr(OneShot, "_send", send_blocking)

    async def everyone():
        async with asyncio.TaskGroup() as group:
            group.create_task(day.run(site, "first", 0.0, 3))
            group.create_task(day.run(site, "second", 7e5, 1))
            group.create_task(day.plan(site, 3e3))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(everyone())

    for kind, rate in RATES.items():
        times = day.board.departures[kind]
        for seconds in WINDOWS:
            assert fullest(times, seconds) <= rate * seconds + 1
        assert fullest(times, 3600) >= 0.93 * rate * 3600
        assert len(day.board.pauses[kind]) >= 5
        for pause in day.board.pauses[kind]:
            index = bisect_left(times, pause + 5.0)  # what was under way when the answer came
            assert times[index] >= pause + PAUSE_SECONDS
    assert {site.user_agent} == set(day.board.agents)
    # Both days end before their time, and both begin; no process is starved.
    assert [DAILY_REQUESTS] * 2 == list(day.board.days.values())
    assert day.sent["ends"] > 0
    assert 0.8 < day.sent["first files"] / day.sent["second files"] < 1.25
    assert min(day.sent["first"], day.sent["second"]) > 0.25 * len(day.board.departures["api"])
    assert day.sent["plan"] > 80


def test_two_processes_and_one_board(tmp_path):
    """Two runs from two folders, at once, use one rate; the board's log is the certificate."""
    rates = {"api": 150.0, "cdn": 100.0}
    sections = {
        "site": {"daily_requests": 100_000, "api_rate": rates["api"], "cdn_rate": rates["cdn"]},
        "personae": {"min_images": 12, "max_images": 7},
        "download": {"side": 64},
    }
    with serving(booru.board(TINY)) as board:
        runs = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "params.yaml").write_text(json.dumps(sections))
            command = [sys.executable, "-m", "scraper", "--site", board.url]
            runs.append(
                subprocess.Popen(
                    command,
                    cwd=tmp_path / name,
                    env={**os.environ, "PERSONAE_STATE": str(tmp_path / "state")},
                    stdout=subprocess.PIPE,
                )
            )
        printed = [run.communicate(timeout=120)[0].decode() for run in runs]
        entries, agents = list(board.log.entries), dict(board.log.agents)

    assert [0, 0] == [run.returncode for run in runs], printed
    stored = [
        pq.read_table(tmp_path / name / "data/download/images.parquet").num_rows
        for name in ("first", "second")
    ]
    assert stored[0] == stored[1] > 100
    for kind, rate in rates.items():
        times = [at for at, of, _path, _status in entries if of == kind]
        for seconds in (0.5, 1, 2, 10):
            assert fullest(times, seconds) <= rate * seconds + 1
    assert sum(stored) <= len([of for _, of, _, _ in entries if of == "cdn"])
    assert len(agents) == 1
    assert next(iter(agents)).startswith("Personae/")
    (state,) = (tmp_path / "state").iterdir()
    assert len(entries) == json.loads(state.read_bytes())["requests"]
