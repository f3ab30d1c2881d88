"""Tests that both HTTP clients share one policy: equal responses give equal errors and waits."""

import asyncio
import base64
import inspect
import logging
import traceback

import pytest
import requests
import urllib3

from scraper.client import Client
from scraper.errors import (
    Challenged,
    ConnectionLost,
    CutShort,
    EmptyResponse,
    ForeignPage,
    ForeignRedirect,
    NotAuthorised,
    NotFound,
    PageLimitReached,
    QueryTimedOut,
    RateLimited,
    RequestRefused,
    ScraperError,
    SiteUnavailable,
    TagLimitReached,
    TransientError,
    UnexpectedResponse,
    Unfinished,
    UnreadablePage,
)
from scraper.one_shot import OneShot, translated
from scraper.params.site import Params
from scraper.policy import RequestBudget
from scraper.site import Site
from tests.scraper.network_fixture import (
    FINE,
    answer,
    asking,
    drip,
    endless,
    html,
    interim,
    reset,
    slow_headers,
    stall,
)

pytestmark = pytest.mark.asyncio

CANARY = "canary-key-4711"
CLIENTS = pytest.mark.parametrize("ask", ["json", "one_shot"])
CANCELED = {"error": "ActiveRecord::QueryCanceled", "message": "timed out"}
TAG_LIMIT = {"error": "PostQuery::TagLimitError", "message": "more than 2 tags"}

# Responses of a server and the expected error, the same for both clients.
ANSWERS = {
    "500": (html(500), SiteUnavailable),
    "502": (html(502), SiteUnavailable),
    "503 JSON": (answer({"error": "PG::ConnectionBad"}, 503), SiteUnavailable),
    "501": (html(501), RequestRefused),
    "500 canceled": (answer(CANCELED, 500), QueryTimedOut),
    "429": (html(429), RateLimited),
    "429 with Retry-After": (html(429, Retry_After="120"), RateLimited),
    "429 for a day": (html(429, Retry_After="86400"), Unfinished),
    "503 for a day": (html(503, Retry_After="86400"), Unfinished),
    "400": (answer({}, 400), RequestRefused),
    "401": (answer({"error": "SessionLoader::AuthenticationFailure"}, 401), NotAuthorised),
    "403 JSON": (answer({"error": "User::PrivilegeError"}, 403), NotAuthorised),
    "404": (answer({"message": "not found"}, 404), NotFound),
    "410": (answer({"message": "beyond page 1000"}, 410), PageLimitReached),
    "422": (answer({"error": "PostQuery::Error"}, 422), RequestRefused),
    "422 tags": (answer(TAG_LIMIT, 422), TagLimitReached),
    "challenge 200": (answer(b"<html>", kind="text/html; charset=utf-8"), ForeignPage),
    "challenge 403": (html(403), NotAuthorised),
    "challenge mitigated": (answer({}, 403, cf_mitigated="challenge"), Challenged),
    "cut in a header": (b"HTTP/1.1 200 OK\r\nContent-Ty", ConnectionLost),
    "cut between headers": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
        ConnectionLost,
    ),
    "text": (answer(b"hello", kind="text/plain"), UnexpectedResponse),
    "no type": (answer(b"hello", kind=None), UnexpectedResponse),
    "nested": (answer(b"[" * 200_000), UnreadablePage),
    "cut JSON": (answer(b'[{"id"'), UnreadablePage),
    "no UTF-8": (answer(b"\xff\xfe"), UnreadablePage),
    "empty": (answer(b"", kind=None), EmptyResponse),
    "brotli": (answer(b"x", Content_Encoding="br"), UnexpectedResponse),
    "damaged gzip": (answer(b"no gzip at all", Content_Encoding="gzip"), CutShort),
    "announced too long": (answer(b"", length=10**12), UnreadablePage),
    "endless": (endless, UnreadablePage),
    "truncated": (answer(b'[{"id"', length=500), CutShort),
    "reset": (reset, ConnectionLost),
    "closed": (b"", ConnectionLost),
    "no HTTP": (b"220 smtp.example.org ESMTP\r\n\r\n", ConnectionLost),
    "redirect to a foreign host": (
        answer(b"", 302, Location="http://evil.example/a.json"),
        ForeignRedirect,
    ),
    "redirect to metadata": (answer(b"", 302, Location="http://169.254.169.254/"), ForeignRedirect),
    "redirect to a file": (answer(b"", 302, Location="file:///etc/passwd"), ForeignRedirect),
    "redirect with credentials": (
        answer(b"", 302, Location="http://u:p@127.0.0.1/"),
        ForeignRedirect,
    ),
    "redirect to nothing": (answer(b"", 302, Location="http://["), ForeignRedirect),
    "circle": (answer(b"", 302, Location="/again"), RequestRefused),
    "304": (answer(b"", 304), RequestRefused),
}


@CLIENTS
@pytest.mark.parametrize("name", ANSWERS)
async def test_both_clients_give_the_same_error(ask, name):
    """Every response of the table gives the same error class for both clients."""
    script, expected = ANSWERS[name]

    async with asking(script, attempts=1) as asked:
        with pytest.raises(ScraperError) as caught:
            await getattr(asked, ask)()

    kinds = [kind for kind in type(caught.value).__mro__ if kind.__module__ == "scraper.errors"]
    assert expected == kinds[0]


@CLIENTS
@pytest.mark.parametrize("fault", [stall, drip, interim, slow_headers], ids=lambda f: f.__name__)
async def test_both_clients_end_silence(ask, fault):
    """Both clients end a response that is silent, drips, or never comes to its headers."""
    async with asking(fault, read_seconds=0.1, total_seconds=0.3, attempts=1) as asked:
        with pytest.raises(ConnectionLost, match="did not answer in time"):
            await getattr(asked, ask)()


@CLIENTS
async def test_both_clients_keep_to_public_addresses(ask):
    """Neither client connects to a listed host name that resolves to this machine."""
    async with asking(FINE) as inside:
        host = f"localhost:{inside.server.port}"
        script = answer(b"", 302, Location=f"http://{host}/posts.json")
        async with asking(script, hosts=(host,), attempts=1) as asked:
            with pytest.raises(ConnectionLost, match="cannot be reached"):
                await getattr(asked, ask)()

        assert [] == inside.server.requests


@CLIENTS
async def test_both_clients_send_the_same_request(ask):
    """Path, query, User-Agent and Accept are equal; no cookie is kept and no referer sent."""
    async with asking(answer([], Set_Cookie="session=1; Path=/"), FINE) as asked:
        await getattr(asked, ask)(params={"tags": "a b", "search[name]": "x", "limit": 2})
        assert [{"id": 1}] == await getattr(asked, ask)(params={"tags": "a b"})

        paths = ["/posts.json?tags=a+b&search%5Bname%5D=x&limit=2", "/posts.json?tags=a+b"]
        assert paths == asked.server.paths
        assert {"application/json"} == set(asked.server.header("Accept"))
        assert {"gzip"} == set(asked.server.header("Accept-Encoding"))
        assert all(
            agent.endswith("(+me@example.org)") for agent in asked.server.header("User-Agent")
        )
        assert [None, None] == asked.server.header("Cookie")
        assert [None, None] == asked.server.header("Referer")
        assert 2 == asked.client.requests + asked.blocking.requests


@CLIENTS
async def test_key_of_both_clients_stays_with_the_api(ask):
    """The API gets the key as Basic authentication; a redirect to a listed host gets none."""
    async with asking(FINE) as elsewhere:
        host = f"127.0.0.1:{elsewhere.server.port}"
        go = answer(b"", 302, Location=f"http://{host}/posts.json")
        async with asking(go, login="rin", api_key=CANARY, hosts=(host,)) as asked:
            assert [{"id": 1}] == await getattr(asked, ask)()

            expected = "Basic " + base64.b64encode(f"rin:{CANARY}".encode()).decode()
            assert [expected] == asked.server.header("Authorization")
            assert [None] == elsewhere.server.header("Authorization")


@pytest.mark.parametrize("fault", [html(500), html(401), reset, b"garbage\r\n\r\n", answer(b"{")])
async def test_key_is_in_no_message_of_the_synchronous_client(fault, caplog):
    """Log, message, traceback and cause do not contain the key."""
    secret = base64.b64encode(f"rin:{CANARY}".encode()).decode()
    caplog.set_level(logging.DEBUG)

    async with asking(fault, login="rin", api_key=CANARY) as asked:
        with pytest.raises(ScraperError) as caught:
            await asked.one_shot()

    error, chain = caught.value, []
    while error is not None:
        chain += [repr(error), str(error), repr(error.args), repr(vars(error))]
        error = error.__cause__
    seen = "".join([*chain, *traceback.format_exception(caught.value), caplog.text])
    assert CANARY not in seen
    assert secret not in seen


async def test_synchronous_client_waits_for_the_rate():
    """At two requests per second, requests are half a second apart, redirects included."""
    async with asking(answer(b"", 302, Location="/b.json"), FINE, rate=2.0) as asked:
        await asked.one_shot()
        await asked.one_shot()

        assert [0.5, 0.5] == asked.clock.slept


async def test_budget_is_shared():
    """Both clients share one bucket: the rate limits their requests together."""
    async with asking(FINE, rate=2.0) as asked:
        await asked.one_shot()
        await asked.json()
        await asked.one_shot()

        assert [0.5, 0.5] == asked.clock.slept


async def test_refusal_of_one_client_pauses_the_other():
    """After a 429 with Retry-After, both clients wait that long and then run at half the rate."""
    async with asking(html(429, Retry_After="120"), FINE, rate=2.0, draw=0.0) as asked:
        with pytest.raises(RateLimited) as caught:
            await asked.one_shot()
        await asked.json()
        await asked.one_shot()

        assert 120.0 == caught.value.wait_seconds
        assert [120.0, 1.0] == asked.clock.slept


async def test_environment_does_not_lead_elsewhere(monkeypatch):
    """A proxy of the environment is not used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async with asking(FINE) as asked:
        assert [{"id": 1}] == await asked.one_shot()


async def test_longer_than_its_cap_is_refused():
    """A cap below that of the API applies too, and reading stops at the cap."""
    site_answer = answer(b'{"counts": {"posts": 1}, "x": "' + b"x" * 1_000_000 + b'"}')

    async with asking(site_answer) as asked:
        with pytest.raises(UnexpectedResponse, match="never that long"):
            await asyncio.to_thread(asked.blocking.get_json, "/posts.json", max_bytes=65_536)


async def test_nobody_listens():
    """An unreachable board is reported in one line."""
    site = Site.resolve(Params(name="http://127.0.0.1:9"))

    with (
        OneShot(site, sleep=lambda _seconds: None) as client,
        pytest.raises(ConnectionLost, match="cannot be reached"),
    ):
        client.get_json("/counts/posts.json")


def _kinds(module):
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Exception) and not issubclass(kind, Warning):
            yield name, kind


FOREIGN = [*_kinds(requests.exceptions), *_kinds(urllib3.exceptions)]


@pytest.mark.parametrize(("name", "kind"), FOREIGN)
async def test_every_foreign_error_is_translated(name, kind):
    """Every exception of requests and urllib3 is translated to the right error class."""
    foreign = kind.__new__(kind)

    ours = translated(foreign, "http://board/posts.json")

    hopeless = ("InvalidURL", "InvalidSchema", "MissingSchema", "SSLError", "InvalidProxyURL")
    hopeless = (*hopeless, "LocationValueError", "LocationParseError", "URLSchemeUnknown")
    hopeless = (*hopeless, "ProxySchemeUnknown")
    assert isinstance(ours, RequestRefused if name in hopeless else TransientError)
    assert "board" in str(ours)


async def test_clients_have_a_budget_each_when_none_is_given():
    """A client without a given budget keeps the site's rate by itself."""
    site = Site.resolve(Params(name="http://127.0.0.1:9"))

    assert isinstance(Client(site).budget, RequestBudget)
    assert Client(site).budget is not Client(site).budget
