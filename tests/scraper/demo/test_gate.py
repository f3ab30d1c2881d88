"""Tests the checks before a response (User-Agent, credentials, rate limit) and the request log."""

import base64

import pytest
import requests

from scraper.demo.server import gate
from scraper.demo.server.gate import ACCOUNTS, LeakyBucket, RequestLog


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


def test_credentials(get):
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
        log.start("api", "me")
        log.end("api", "/", at=at, status=200, sent=1)

    assert 4 == log.most_per_second("api")
    assert 6 == log.bytes_sent
    assert not gate.is_challenged("personae/0.1 (+https://example.org)")
