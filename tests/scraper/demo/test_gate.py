"""Tests the checks before a response (User-Agent, credentials, rate limit) and the request log."""

import base64
import concurrent.futures

import pytest
import requests

from scraper.demo.board import booru
from scraper.demo.facts.params import TINY, Params
from scraper.demo.server import gate
from scraper.demo.server.gate import ACCOUNTS, LeakyBucket, RequestLog
from scraper.demo.server.thread import serving

AGENT = {"User-Agent": "personae-tests/1 (+https://example.org)"}


@pytest.mark.parametrize(
    "agent", ["Mozilla/5.0 (X11)", "", "python-requests/2.32.0", "Python/3.11 aiohttp/3.9.1"]
)
def test_suspicious_user_agents_are_challenged(agent, demo_board, get):
    """Browser and default User-Agents and an empty one get 403 with a challenge, on API and CDN."""
    url = get("/posts.json", limit=1, tags="status:active -status:banned rating:g").json()[0]
    for address in (demo_board.url + "/posts.json", url["preview_file_url"]):
        answer = requests.get(address, headers={"User-Agent": agent}, timeout=10)

        assert 403 == answer.status_code
        assert "challenge" == answer.headers["cf-mitigated"]
        assert answer.headers["Content-Type"].startswith("text/html")


def test_credentials_are_whole_and_right_or_refused(get):
    """Partial or wrong credentials are 401, Basic overrides the query, Gold has larger limits."""
    login, key = next(pair for pair, level in ACCOUNTS.items() if level.name == "gold")
    basic = {"Authorization": "Basic " + base64.b64encode(f"{login}:{key}".encode()).decode()}
    hidden = get("/posts.json", tags="patron_preview", headers=basic).json()

    assert 401 == get("/posts.json", login=login).status_code
    assert 401 == get("/posts.json", login=login, api_key="wrong").status_code
    assert "SessionLoader::AuthenticationFailure" == get("/posts.json", api_key="x").json()["error"]
    assert 200 == get("/posts.json", tags="1girl solo smile", headers=basic).status_code
    assert 200 == get("/posts.json", login="wrong", api_key="wrong", headers=basic).status_code
    assert 200 == get("/posts.json", page=4000, headers=basic).status_code
    assert all("file_url" in post for post in hidden if not post["is_banned"])


def test_the_bucket_delays_then_refuses():
    """At 10 requests per second, 20 requests wait, the next is refused, and the queue drains."""
    bucket = LeakyBucket(rate=10, burst=20)
    waits = [bucket.delay("me", 100.0) for _ in range(22)]

    assert [step / 10 for step in range(21)] == pytest.approx(waits[:21])
    assert waits[21] is None
    assert 0.0 == bucket.delay("other", 100.0)
    assert bucket.delay("me", 100.1) == pytest.approx(2.0)
    assert 0.0 == bucket.delay("me", 200.0)


def test_no_rate_is_no_limit():
    """Rate 0 delays no request."""
    bucket = LeakyBucket(rate=0, burst=0)

    assert {0.0} == {bucket.delay("me", 1.0) for _ in range(100)}


def test_the_log_finds_the_busiest_second():
    """The log counts requests over every window of one second."""
    log = RequestLog()
    for at in (0.0, 0.9, 1.1, 1.2, 1.89, 5.0):
        log.start("api", "me", client="127.0.0.1", at=at)
        log.end("api", "/", client="127.0.0.1", at=at, status=200, sent=1)

    assert 4 == log.most_per_second("api")
    assert 6 == log.bytes_sent
    assert not gate.is_challenged("personae/0.1 (+https://example.org)")


def login(level):
    name, key = next(pair for pair, known in ACCOUNTS.items() if known.name == level)
    encoded = base64.b64encode(f"{name}:{key}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.mark.parametrize(
    ("level", "terms", "pages", "sees"), [("member", 2, 1_000, False), ("gold", 6, 5_000, True)]
)
def test_an_account_has_the_limits_of_its_level(get, level, terms, pages, sees):
    """Gold has six terms, 5,000 pages and restricted posts; a member is as anonymous callers."""
    headers = login(level)
    words = ["solo", "1girl", "smile", "dress", "skirt", "shirt", "boots"]

    def status(**query):
        answer = get("/posts.json", limit=1, only="id", headers=headers, **query)
        return answer.status_code, answer.json() if answer.status_code != 200 else {}

    assert 200 == status(tags=" ".join(words[:terms]))[0]
    code, body = status(tags=" ".join(words[: terms + 1]))
    assert (422, f"You cannot search for more than {terms} tags at a time.") == (
        code,
        body["message"],
    )
    assert 200 == status(page=pages)[0]
    code, body = status(page=pages + 1)
    assert (410, f"You cannot go beyond page {pages}.") == (code, body["message"])
    restricted = get("/posts.json", tags="patron_preview -status:banned", headers=headers).json()
    assert restricted
    assert {sees} == {"file_url" in post for post in restricted}


def test_honest_and_curl_agents_pass(demo_board):
    """A program that names itself passes, and so does curl."""
    for agent in ("personae/1 (+https://example.org)", "curl/8.5.0", "tool/2 (user #5)"):
        answer = requests.get(
            demo_board.url + "/posts.json?limit=1", headers={"User-Agent": agent}, timeout=20
        )
        assert 200 == answer.status_code


def test_the_rate_limit_queues_then_refuses_in_html():
    """Requests beyond the queue get a page of status 429 without `Retry-After`; tags have no limit."""
    params = TINY.model_copy(update={"rate": 20.0, "burst": 4})
    with serving(booru.board(params), params) as served:

        def ask(path):
            return requests.get(served.url + path, headers=AGENT, timeout=60)

        ask("/posts/1.json")  # starts the connections and the clock
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, ["/posts/1.json"] * 16))
        refused = [answer for answer in answers if answer.status_code == 429]
        tags = ask("/tags.json")
        log = ask("/demo/log.json").json()

    assert (10.0, 20) == (Params().rate, Params().burst)
    assert 5 <= len(refused) <= 12
    assert {"text/html"} == {each.headers["Content-Type"].split(";")[0] for each in refused}
    assert not any("Retry-After" in answer.headers for answer in refused)
    assert 200 == tags.status_code
    assert 18 == log["requests"]["api"]


def test_requests_rate_and_concurrency_are_counted_for_each_client(own_demo_board):
    """The log has the counts of each client address, and tests read them."""

    def ask(address, number):
        with requests.Session() as session:
            adapter = requests.adapters.HTTPAdapter()
            adapter.poolmanager.connection_pool_kw["source_address"] = (address, 0)
            session.mount("http://", adapter)
            for _ in range(number):
                session.get(own_demo_board.url + "/tags.json", headers=AGENT, timeout=20)

    ask("127.0.0.1", 3)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask("127.0.0.2", 1), range(4)))
    clients = own_demo_board.log.clients

    assert [3, 4] == [clients[f"127.0.0.{n}", "api"].requests for n in (1, 2)]
    assert 1 == clients["127.0.0.1", "api"].most_at_once
    assert 1 <= clients["127.0.0.2", "api"].most_at_once <= 4
    assert 1 <= clients["127.0.0.1", "api"].most_per_second <= 3
    listed = requests.get(own_demo_board.url + "/demo/log.json", headers=AGENT, timeout=20).json()
    assert ["127.0.0.1", "127.0.0.2"] == [row["address"] for row in listed["clients"]]
