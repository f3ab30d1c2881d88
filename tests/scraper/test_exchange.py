"""Tests single requests: caps, allow-list, secrecy, and the translation of foreign errors."""

import asyncio
import base64
import gzip
import inspect
import logging
import socket
import traceback

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from scraper.client import Client
from scraper.errors import (
    ConnectionLost,
    CorruptImage,
    ForeignHost,
    NotAuthorised,
    NotFound,
    RequestRefused,
    ScraperError,
    TooLarge,
    TransientError,
    UnexpectedResponse,
)
from scraper.exchange import _PublicResolver, translated
from scraper.site import Params, Site
from tests.scraper.network_fixture import FINE, answer, asking, endless, html, reset, stall

pytestmark = pytest.mark.asyncio

CANARY = "canary-key-4711"


async def test_endless_answer_is_cut():
    """A body without end is aborted at the cap."""
    async with asking(endless) as asked:
        with pytest.raises(UnexpectedResponse, match="never that long"):
            await asked.json()

        assert 1 == len(asked.server.requests)


async def test_gzip_bomb_is_cut():
    """A small gzip body that decompresses without end is aborted at the cap."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=9)

    async with asking(answer(bomb, Content_Encoding="gzip")) as asked:
        with pytest.raises(UnexpectedResponse, match="never that long"):
            await asked.json()


async def test_members_of_gzip_are_joined():
    """A gzip body of several members is one body."""
    packed = gzip.compress(b'[{"id"') + gzip.compress(b"") + gzip.compress(b": 1}]")

    async with asking(answer(packed, Content_Encoding="gzip")) as asked:
        assert [{"id": 1}] == await asked.json()


async def test_bytes_after_the_end_of_gzip_are_not_read():
    """Bytes without end after a gzip body neither fill the memory nor delay the answer."""
    sent = 0

    async def endless_tail(writer):
        nonlocal sent
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n"
        )
        writer.write(gzip.compress(b"[]"))
        while not writer.is_closing():
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    async with asking(endless_tail) as asked:
        assert [] == await asked.json()
        assert [] == await asked.one_shot()
        assert sent < 50_000_000


async def test_members_of_gzip_are_bounded():
    """Empty members without end are cut."""
    packed = gzip.compress(b"[]") + gzip.compress(b"") * 100_000

    async with asking(answer(packed, Content_Encoding="gzip")) as asked:
        assert [] == await asked.json()


@pytest.mark.parametrize("cut", [1, 2, 5, 9, 25])
async def test_gzip_in_pieces_is_whole(cut):
    """A gzip body of two members is unpacked wherever the network cuts it."""
    packed = answer(gzip.compress(b"[1,") + gzip.compress(b"2]"), Content_Encoding="gzip")

    async def pieces(writer):
        for start in range(0, len(packed), cut):
            writer.write(packed[start : start + cut])
            await writer.drain()
            await asyncio.sleep(0)

    async with asking(pieces) as asked:
        assert [1, 2] == await asked.json()


@pytest.mark.parametrize(
    "url", ["http://evil.example/a.jpg", "file:///etc/passwd", "//evil.example/a.jpg", "http://["]
)
async def test_refuses_a_foreign_file(url):
    """A file of an unlisted host is refused before any request, and uses no token."""
    async with asking(FINE) as asked:
        with pytest.raises(ForeignHost, match=r"site\.file_hosts"):
            await asked.bytes(url)

        assert [] == asked.server.requests
        assert [] == asked.clock.slept


async def test_private_file_host_of_a_public_board_is_refused():
    """A listed file host with a private address is refused unless it is the board."""
    async with asking(FINE, base="https://booru.example.org", hosts=("10.0.0.7:80",)) as asked:
        with pytest.raises(ForeignHost):
            await asked.bytes("http://10.0.0.7/a.jpg")


async def test_private_addresses_behind_a_name_are_dropped():
    """A host name with private addresses is refused, unless the user configured that host."""
    public = Site.resolve(Params(name="danbooru"), contact="me@example.org")
    resolver = _PublicResolver(public)
    with pytest.raises(OSError, match="private addresses only"):
        await resolver.resolve("localhost", 80, socket.AF_INET)

    own = _PublicResolver(Site.resolve(Params(name="http://localhost:8080")))
    assert "127.0.0.1" in [found["host"] for found in await own.resolve("localhost", 80)]
    await resolver.close()
    await own.close()


async def test_file_over_the_cap_is_refused():
    """A file above the cap is aborted, with or without an announced length."""
    async with asking(answer(b"x" * 1001, kind="image/png")) as asked:
        with pytest.raises(TooLarge, match="1000 bytes"):
            await asked.bytes()
    async with asking(endless) as asked:
        with pytest.raises(TooLarge, match="1000 bytes"):
            await asked.bytes()


async def test_file_of_exactly_the_cap_is_taken():
    """A file of exactly the cap is accepted."""
    async with asking(answer(b"x" * 1000, kind="image/png")) as asked:
        assert 1000 == len(await asked.bytes())


async def test_file_cut_at_every_try_is_corrupt():
    """A file truncated at every try is a refusal of the image, not the end of the run."""
    async with asking(answer(b"x" * 10, kind="image/png", length=500), attempts=3) as asked:
        with pytest.raises(CorruptImage, match="cut short 3 times"):
            await asked.bytes()

        assert 3 == len(asked.server.requests)


async def test_file_host_that_resets_is_no_corrupt_image():
    """A reset connection is a network error, and the image can be fetched later."""
    async with asking(reset, attempts=2) as asked:
        with pytest.raises(TransientError, match="Requested 2 times"):
            await asked.bytes()


@pytest.mark.parametrize("status", [404, 410, 451])
async def test_file_that_is_gone(status):
    """A missing file raises NotFound and is not requested again."""
    async with asking(html(status)) as asked:
        with pytest.raises(NotFound):
            await asked.bytes()

        assert 1 == len(asked.server.requests)


async def test_file_host_that_challenges_ends_the_run():
    """A challenge on the file host ends the run too."""
    async with asking(html(403)) as asked:
        with pytest.raises(NotAuthorised, match="challenge"):
            await asked.bytes()


async def test_key_goes_to_the_api_in_the_header():
    """The API gets the key as Basic authentication; file requests have no key."""
    async with asking(FINE, login="rin", api_key=CANARY) as asked:
        await asked.json()
        await asked.bytes()

        expected = "Basic " + base64.b64encode(f"rin:{CANARY}".encode()).decode()
        assert [expected, None] == asked.server.header("Authorization")
        assert CANARY not in "".join(asked.server.paths)


async def test_every_request_names_who_sends_it():
    """API, files, other file hosts, retries and redirects: each request has our User-Agent."""
    async with asking(answer(b"x", kind="image/png")) as files:
        host = f"127.0.0.1:{files.server.port}"
        go = answer(b"", 302, Location=f"http://{host}/b.jpg")
        script = (html(503), FINE, html(429), FINE, html(500), go, FINE)
        async with asking(*script, hosts=(host,)) as asked:
            await asked.json()
            await asked.json()
            await asked.bytes("/a.jpg")
            await asked.bytes(f"http://{host}/c.jpg")
            await asked.one_shot()

            agents = asked.server.header("User-Agent") + files.server.header("User-Agent")
            assert [7, 2] == [len(each.server.requests) for each in (asked, files)]
            assert {asked.client.site.user_agent} == set(agents)
            assert agents[0].startswith("Personae/")


async def test_key_does_not_follow_a_redirect():
    """After a redirect to a listed file host, the request has no key."""
    async with asking(FINE) as elsewhere:
        host = f"127.0.0.1:{elsewhere.server.port}"
        go = answer(b"", 302, Location=f"http://{host}/posts.json")
        async with asking(go, login="rin", api_key=CANARY, hosts=(host,)) as asked:
            assert [{"id": 1}] == await asked.json()

            assert [None] != asked.server.header("Authorization")
            assert [None] == elsewhere.server.header("Authorization")


@pytest.mark.parametrize(
    "fault",
    [html(500), html(401), html(403), reset, b"garbage\r\n\r\n", answer(b"{"), answer({}, 422)],
)
async def test_key_is_in_no_message(fault, caplog):
    """Log, message, traceback and cause do not contain the key."""
    secret = base64.b64encode(f"rin:{CANARY}".encode()).decode()
    caplog.set_level(logging.DEBUG)

    async with asking(fault, login="rin", api_key=CANARY, attempts=2) as asked:
        with pytest.raises(ScraperError) as caught:
            await asked.json()

    error, chain = caught.value, []
    while error is not None:
        chain += [repr(error), str(error), repr(error.args), repr(vars(error))]
        error = error.__cause__
    seen = "".join([*chain, *traceback.format_exception(caught.value), caplog.text])
    assert CANARY not in seen
    assert secret not in seen


def _instances():
    """Returns one instance of every exception class of aiohttp's client."""
    key = ConnectionKey(
        "board", 80, False, True, None, None, None
    )  # in the constructor's own order
    headers = CIMultiDictProxy(CIMultiDict())
    request = aiohttp.RequestInfo(URL("http://board/"), "GET", headers, URL("http://board/"))
    own = {
        "os_error": OSError(111, "refused"),
        "certificate_error": ValueError("self-signed"),
    }
    for name, kind in inspect.getmembers(aiohttp.client_exceptions, inspect.isclass):
        if not issubclass(kind, aiohttp.ClientError):
            continue
        if issubclass(kind, aiohttp.client_exceptions.UnixClientConnectorError):
            yield name, kind("/socket", key, own["os_error"])
        elif issubclass(kind, aiohttp.ClientConnectorCertificateError):
            yield name, kind(key, own["certificate_error"])
        elif issubclass(kind, aiohttp.ClientConnectorError):
            yield name, kind(key, own["os_error"])
        elif issubclass(kind, aiohttp.ClientResponseError):
            yield name, kind(request, (), status=400, message="Bad")
        elif issubclass(kind, aiohttp.ServerFingerprintMismatch):
            yield name, kind(b"a", b"b", "board", 443)
        elif issubclass(kind, aiohttp.InvalidURL):
            yield name, kind("http://[")
        elif issubclass(kind, OSError):
            yield name, kind(104, "reset")
        else:
            yield name, kind("message")


@pytest.mark.parametrize(("name", "foreign"), list(_instances()))
async def test_every_foreign_error_is_translated(name, foreign):
    """Every client exception of aiohttp is translated to the right error class of the package."""
    ours = translated(foreign, "http://board/posts.json")

    hopeless = ("URL", "Url", "Certificate", "Fingerprint")
    expected = RequestRefused if any(word in name for word in hopeless) else TransientError
    assert isinstance(ours, expected)
    assert "board" in str(ours)


async def test_builtin_time_out_is_translated():
    """The builtin TimeoutError, which the library raises at its total timeout, is translated."""
    assert isinstance(translated(TimeoutError(), "http://board/"), ConnectionLost)


async def test_cancellation_passes():
    """Ctrl-C reaches the caller at once during any wait."""
    arrived = asyncio.Event()

    async def arrive(writer):
        arrived.set()
        await stall(writer)

    async with asking(arrive) as asked:
        task = asyncio.create_task(asked.json())
        await arrived.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task


async def test_library_is_silent(caplog):
    """Aiohttp logs nothing, even if a connection breaks."""
    caplog.set_level(logging.DEBUG)

    async with asking(reset, FINE) as asked:
        await asked.json()

    assert {"scraper.client"} >= {
        record.name for record in caplog.records if record.name not in ("asyncio", "stamina")
    }


async def test_client_that_was_never_opened_closes():
    """Closing a client twice, or without use, raises nothing."""
    client = Client(Site.resolve(Params(name="http://127.0.0.1:1")))

    async with client:
        pass
    await client.__aexit__(None, None, None)

    assert 0 == client.requests
