"""Tests the client against a faulty server, over real sockets on loopback."""

import asyncio
import gzip
import socket
from datetime import timedelta
from email.utils import format_datetime

import pytest

from scraper.errors import (
    ConnectionLost,
    EmptyResponse,
    ForeignHost,
    ForeignPage,
    NotAuthorised,
    NotFound,
    PageLimitReached,
    QueryTimedOut,
    RateLimited,
    RequestRefused,
    SiteUnavailable,
    TagLimitReached,
    UnexpectedResponse,
    Unfinished,
)
from tests.scraper.network_fixture import FINE, NOW, answer, asking, drip, html, reset, stall

pytestmark = pytest.mark.asyncio

TAG_LIMIT = {
    "success": False,
    "error": "PostQuery::TagLimitError",
    "message": "You cannot search for more than 2 tags at a time.",
}
CANCELED = {
    "success": False,
    "error": "ActiveRecord::QueryCanceled",
    "message": "The database timed out running your query.",
}


async def test_returns_json():
    """A plain response is parsed; the request has our User-Agent and no cookie or referer."""
    async with asking(FINE) as asked:
        assert [{"id": 1}] == await asked.json(params={"tags": "a b", "limit": 2})

        assert ["/posts.json?tags=a+b&limit=2"] == asked.server.paths
        assert asked.server.header("User-Agent")[0].endswith("(+me@example.org)")
        assert ["application/json"] == asked.server.header("Accept")
        assert [None] == asked.server.header("Referer")
        assert 1 == asked.client.requests


async def test_unpacks_gzip():
    """A gzip response is decompressed."""
    packed = answer(gzip.compress(b'[{"id": 1}]'), Content_Encoding="gzip")

    async with asking(packed) as asked:
        assert [{"id": 1}] == await asked.json()
        assert ["gzip"] == asked.server.header("Accept-Encoding")


async def test_keeps_no_cookies():
    """A cookie that the board sets is not sent back."""
    async with asking(answer([], Set_Cookie="session=1; Path=/"), FINE) as asked:
        await asked.json()
        await asked.json()

        assert [None, None] == asked.server.header("Cookie")


async def test_returns_bytes():
    """A file is returned unchanged, from a URL relative to the board, without compression."""
    async with asking(answer(b"\x89PNG", kind="image/png")) as asked:
        assert b"\x89PNG" == await asked.bytes()
        assert ["identity"] == asked.server.header("Accept-Encoding")


async def test_one_api_request_at_a_time():
    """With many concurrent callers, one API request is sent at a time."""
    under_way, most = 0, 0

    async def slow(writer):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        writer.write(FINE)

    async with asking(slow) as asked, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(asked.json())

    assert 1 == most


@pytest.mark.parametrize(
    "fault",
    [
        html(500),
        html(502),
        html(503),
        answer({"error": "PG::ConnectionBad", "message": "down"}, 503),
        reset,
        answer(b'[{"id"', length=500),
        answer(b'[{"id"'),
        answer(b"\xff\xfe"),
        b"",
        b"220 smtp.example.org ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{",
        answer(b"no gzip at all", Content_Encoding="gzip"),
        answer(gzip.compress(b"[]")[:-9], Content_Encoding="gzip"),
    ],
    ids=[
        "500",
        "502",
        "503 HTML",
        "503 JSON",
        "reset",
        "truncated",
        "cut JSON",
        "no UTF-8",
        "closed",
        "no HTTP",
        "cut chunk",
        "damaged gzip",
        "cut gzip",
    ],
)
async def test_transient_fault_is_overcome(fault):
    """A transient failure is retried after a pause, and the response is returned."""
    async with asking(fault, FINE) as asked:
        assert [{"id": 1}] == await asked.json()

        assert 2 == len(asked.server.requests)
        assert [0.1] == asked.slept


async def test_tries_are_bounded_and_back_off():
    """After five failures the run ends with exit code 3, and each pause is twice the one before."""
    async with asking(html(503)) as asked:
        with pytest.raises(
            SiteUnavailable, match=r"Requested 5 times.*What is finished is kept"
        ) as caught:
            await asked.json()

        assert 5 == len(asked.server.requests)
        assert [0.1, 0.2, 0.4, 0.8] == asked.slept
        assert 3 == caught.value.exit_code
        assert 503 == caught.value.status


async def test_public_board_is_given_time():
    """On a public board, the pause is 1 s after an error and 60 s after a refusal, then doubles."""
    async with asking(html(503), html(429), html(429), FINE, is_local=False) as asked:
        await asked.json()

        assert [1.0, 60.0, 120.0] == [round(seconds) for seconds in asked.slept]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0)],
    ids=["seconds", "date"],
)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("draw", "jitter"), [(0.0, 1.0), (0.5, 1.05), (1.0, 1.1)])
async def test_retry_after_wins(status, header, seconds, draw, jitter):
    """The client waits as long as Retry-After says, and up to a tenth longer, but never less."""
    async with asking(html(status, Retry_After=header), FINE, draw=draw) as asked:
        await asked.json()

        assert [pytest.approx(seconds * jitter)] == asked.slept
        assert asked.slept[0] >= seconds - 1e-6  # of the sleep, some passed before it


async def test_refusal_without_retry_after():
    """A 429 without Retry-After pauses all requests and halves the rate."""
    async with asking(html(429), FINE) as asked:
        await asked.json()

        assert [pytest.approx(0.5)] == asked.slept
        assert 5e5 == asked.client.budget.api.rate


async def test_repeated_refusals_end_the_run():
    """Repeated refusals end the run, and the message says how to continue."""
    async with asking(html(429)) as asked:
        with pytest.raises(RateLimited, match="Run the same command again") as caught:
            await asked.json()

        assert 5 == len(asked.server.requests)
        assert 3 == caught.value.exit_code


async def test_refusals_together_are_one_refusal():
    """Concurrent file requests that are refused together lengthen the pause only once."""
    arrived = asyncio.Barrier(4)

    async def refused(writer):
        await arrived.wait()
        writer.write(html(429))

    async with asking(refused, refused, refused, refused, answer(b"x")) as asked:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(asked.bytes(f"/{number}.jpg"))

        assert 5e5 == asked.client.budget.files.rate
        assert 0.5 == pytest.approx(max(asked.slept))


async def test_absurd_wait_ends_the_run():
    """A Retry-After of a day ends the run, and the message says when to continue."""
    async with asking(html(429, Retry_After="86400")) as asked:
        with pytest.raises(Unfinished, match="86400 s") as caught:
            await asked.json()

        assert 1 == len(asked.server.requests)
        assert [] == asked.slept
        assert 3 == caught.value.exit_code


@pytest.mark.parametrize("fault", [stall, drip], ids=["stall", "drip"])
async def test_silence_ends(fault):
    """A silent server and a drip both end in a timeout."""
    async with asking(fault, read_seconds=0.1, total_seconds=0.3, attempts=2) as asked:
        with pytest.raises(ConnectionLost, match="did not answer in time"):
            await asked.json()

        assert 2 == len(asked.server.requests)


async def test_nobody_listens():
    """An unreachable board is reported in one line."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{plug.getsockname()[1]}"

        async with asking(FINE, base=base, attempts=2) as asked:
            with pytest.raises(ConnectionLost, match=r"cannot be reached.*Is the board running"):
                await asked.json()


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (answer(b"<html>", kind="text/html; charset=utf-8"), ForeignPage, "a challenge"),
        (html(403), NotAuthorised, "'site.contact'"),
        (answer({}, 403, cf_mitigated="challenge"), NotAuthorised, "lower the rates"),
        (
            answer({"error": "User::PrivilegeError", "message": "Access denied"}, 403),
            NotAuthorised,
            "Access denied",
        ),
        (
            answer({"error": "SessionLoader::AuthenticationFailure"}, 401),
            NotAuthorised,
            "PERSONAE_API_KEY",
        ),
        (
            answer({"message": "That record was not found."}, 404),
            NotFound,
            "That record was not found",
        ),
        (
            answer({"message": "You cannot go beyond page 1000."}, 410),
            PageLimitReached,
            "page 1000",
        ),
        (answer(TAG_LIMIT, 422), TagLimitReached, "more than 2 tags.*listing.terms"),
        (answer({"error": "PostQuery::Error"}, 422), RequestRefused, "listing.terms"),
        (answer(CANCELED, 500), QueryTimedOut, "gave the search up"),
        (answer({}, 400), RequestRefused, "Repeating the request will not help"),
        (html(501), RequestRefused, "501"),
        (answer(b"hello", kind="text/plain"), UnexpectedResponse, "instead of JSON"),
        (answer(b"hello", kind=None), UnexpectedResponse, "no content type"),
        (answer(b"[" * 200_000), UnexpectedResponse, "nested"),
        (answer(b"x", Content_Encoding="br"), UnexpectedResponse, "packed as br"),
        (answer(b"", length=10**12), UnexpectedResponse, "never that long"),
    ],
    ids=[
        "200 HTML",
        "403 HTML",
        "403 mitigated",
        "403 JSON",
        "401",
        "404",
        "410",
        "422 tags",
        "422",
        "500 canceled",
        "400",
        "501",
        "text",
        "no type",
        "nested",
        "brotli",
        "announced too long",
    ],
)
async def test_hopeless_answer_is_not_repeated(fault, error, words):
    """A permanent error is not retried, and the message says what to do."""
    async with asking(fault) as asked:
        with pytest.raises(error, match=words):
            await asked.json()

        assert 1 == len(asked.server.requests)


async def test_policy_ends_with_its_own_code():
    """A challenge ends the run with exit code 4, bad data with 5."""
    assert 4 == NotAuthorised.exit_code
    assert 4 == TagLimitReached.exit_code
    assert 5 == UnexpectedResponse.exit_code


async def test_what_a_network_may_have_sent_is_resumable():
    """A page of a network, or an answer that is empty at every try, ends the run with exit code 3."""
    assert 3 == ForeignPage.exit_code
    for kind in ("application/json", "text/html", None):
        async with asking(answer(b"", kind=kind), attempts=2) as asked:
            with pytest.raises(EmptyResponse, match="an empty body") as caught:
                await asked.json()

            assert (3, 2) == (caught.value.exit_code, len(asked.server.requests))


async def test_json_that_never_parses_is_bad_data():
    """A body that is invalid JSON at every try is bad data, not a network error."""
    async with asking(answer(b"{"), attempts=2) as asked:
        with pytest.raises(UnexpectedResponse, match="no JSON"):
            await asked.json()


async def test_message_of_the_board_is_one_short_line():
    """Text from a board cannot move the cursor of a terminal."""
    evil = {"message": "\x1b[2J\n" + "x" * 10_000}

    async with asking(answer(evil, 404)) as asked:
        with pytest.raises(NotFound) as caught:
            await asked.json()

    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


async def test_follows_a_redirect_on_the_list():
    """A redirect within the board is followed."""
    async with asking(answer(b"", 302, Location="/elsewhere.json?x=1"), FINE) as asked:
        assert [{"id": 1}] == await asked.json()
        assert ["/posts.json", "/elsewhere.json?x=1"] == asked.server.paths


@pytest.mark.parametrize(
    "location",
    [
        "http://evil.example/a.jpg",
        "https://cdn.donmai.us/a.jpg",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://localhost:22/",
        "//evil.example/a",
        "http://[",
        "gopher://x",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1:1/",
        "http://0x7f000001/",
        "data:,x",
    ],
)
@pytest.mark.parametrize("kind", ["json", "bytes"])
async def test_refuses_a_redirect_off_the_list(location, kind):
    """A redirect to an unlisted host is refused."""
    async with asking(answer(b"", 302, Location=location), FINE) as asked:
        with pytest.raises(ForeignHost, match="not fetched"):
            await getattr(asked, kind)()

        assert 1 == len(asked.server.requests)


async def test_circle_of_redirects_ends():
    """More than three redirects are refused as a circle."""
    async with asking(answer(b"", 302, Location="/again")) as asked:
        with pytest.raises(RequestRefused, match="circles"):
            await asked.json()

        assert 4 == len(asked.server.requests)
