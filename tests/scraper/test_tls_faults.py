"""
Tests both clients and the stages against faults of TLS and of name look-ups, over real sockets.

No request is sent to a server that does not prove who it is. Nothing is decided by such a fault:
when it is over, the next run is complete.
"""

import asyncio
import gc
import socket
import warnings

import pytest

from personae.errors import Exit
from scraper import connecting
from scraper.client import Client
from scraper.errors import BadCertificate, ConnectionLost
from scraper.one_shot import OneShot
from scraper.policy import Patience, RequestBudget
from scraper.site import Params, Site
from tests.scraper.network_fixture import NOW, Clock
from tests.scraper.secure_fixture import HANDSHAKES, LOOK_UPS, SecureBoard, certificates
from tests.scraper.test_listing import ids
from tests.scraper.test_server_faults import POSTS, SHORT, Scraper

CERTIFICATES = {
    "unknown authority": "unable to get local issuer certificate",
    "self-signed": "self-signed certificate",
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    "another host": "Hostname mismatch",
}
WORDS = {
    "plain HTTP": "does not speak TLS.*Check scheme and port",
    "closed": "cannot be reached|broke",
    "alert": "does not speak TLS.*handshake failure",
    "garbage": "does not speak TLS",
    "reset": "cannot be reached|broke",
    "silence": "did not answer in time|cannot be reached",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _trusting(authority, monkeypatch, request):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    connecting._authorities.cache_clear()
    yield
    connecting._authorities.cache_clear()
    if "reset-count" in request.node.name:
        # CPython 3.11 leaves the socket of a reset handshake to the collector (SSLSocket._create).
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


@pytest.fixture
def entry(authority, name):
    """Returns what a connection gets: a context with a bad certificate, or no handshake."""
    return {**authority[2], **HANDSHAKES}[name]


class Clients:
    """Both clients of one site, with a clock that does not wait."""

    def __init__(self, site):
        self.site = site
        self.clock = Clock()
        patience = Patience(connect_seconds=0.3, read_seconds=0.3, total_seconds=2, attempts=2)
        self.budget = RequestBudget(site, patience, clock=self.clock, draw=lambda: 1.0)

    async def get_json(self):
        async with Client(
            self.site, self.budget, sleep=self.clock.sleep, now=lambda: NOW
        ) as client:
            return await client.get_json("/counts/posts.json", {"tags": "rin"})

    async def count(self):
        def ask():
            with OneShot(self.site, self.budget, sleep=self.clock.sleep_blocking) as client:
                return client.get_json("/counts/posts.json", {"tags": "rin"})

        return await asyncio.to_thread(ask)


def site_of(board):
    return Site.resolve(Params(name=board.origin, api_rate=1e6, cdn_rate=1e6))


def test_valid_certificate_is_accepted(authority):
    """With an authority that SSL_CERT_FILE names, both clients reach the board."""

    async def run():
        async with SecureBoard(authority[1]) as board, asyncio.timeout(30):
            clients = Clients(site_of(board))
            assert {"counts": {"posts": 0}} == await clients.get_json() == await clients.count()

    asyncio.run(run())


def refused(authority, entry, method, problem, words):
    """Returns the connections to a board without a sound handshake, which gets no request."""

    async def run():
        async with SecureBoard(authority[1]) as board, asyncio.timeout(30):
            board.handshake = lambda _number: entry
            with pytest.raises(problem, match=words) as caught:
                await getattr(Clients(site_of(board)), method)()
            assert Exit.UNFINISHED == caught.value.exit_code
            assert [] == board.requests
            return board.connections

    return asyncio.run(run())


@pytest.mark.parametrize("method", ["get_json", "count"])
@pytest.mark.parametrize("name", CERTIFICATES)
def test_bad_certificate_is_named(authority, entry, name, method):
    """A certificate that proves nothing ends the request at once, and nothing is sent."""
    assert 1 == refused(authority, entry, method, BadCertificate, CERTIFICATES[name])


@pytest.mark.parametrize("method", ["get_json", "count"])
@pytest.mark.parametrize("name", HANDSHAKES)
def test_failed_handshake_is_a_lost_connection(authority, entry, name, method):
    """A server without TLS is named, is tried again, and never gets a request."""
    connections = refused(authority, entry, method, ConnectionLost, WORDS[name])

    assert connections == (2 if method == "get_json" else 1)


@pytest.mark.parametrize("method", ["get_json", "count"])
def test_tls_on_a_port_without_it(authority, method):
    """An address with http:// of a server that speaks TLS is a lost connection."""

    async def run():
        async with SecureBoard(authority[1]) as board, asyncio.timeout(30):
            board.origin = board.origin.replace("https", "http")
            with pytest.raises(ConnectionLost) as caught:
                await getattr(Clients(site_of(board)), method)()
            assert Exit.UNFINISHED == caught.value.exit_code
            assert [] == board.requests

    asyncio.run(run())


@pytest.mark.parametrize("method", ["get_json", "count"])
@pytest.mark.parametrize("name", LOOK_UPS)
def test_faulty_look_up_is_a_lost_connection(monkeypatch, name, method):
    """A public name without an address, or with private ones, is named; nothing is connected."""
    look_up, words = LOOK_UPS[name]
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    site = Site.resolve(Params(name="danbooru", api_rate=10), contact="me@example.org")

    with pytest.raises(ConnectionLost, match=words) as caught:
        asyncio.run(getattr(Clients(site), method)())

    assert Exit.UNFINISHED == caught.value.exit_code


@pytest.fixture
def scrape(tmp_path, authority):
    """Runs an asynchronous test with a scraper of a board with TLS."""

    async def run(test):
        async with SecureBoard(authority[1]) as board, asyncio.timeout(60):
            await test(Scraper(board, tmp_path, SHORT))

    return lambda test: asyncio.run(run(test))


SAMPLE = ("expired", "plain HTTP", "reset")
"""Faults that are tried in further ways, which treat all of a kind alike."""


@pytest.mark.parametrize(
    ("name", "share"),
    [(name, "all") for name in (*CERTIFICATES, *HANDSHAKES)]
    + [(name, "a tenth") for name in SAMPLE],
)
def test_download_with_faulty_handshakes(scrape, entry, name, share):
    """Files whose connection fails are left for the next run, which completes the data."""
    rest = {"a tenth": 10, "all": 1}[share]

    async def run(scraper):
        scraper.board.handshake = lambda number: None if number % rest else entry
        errors = await scraper.download(give_up_after=9)
        if name in CERTIFICATES:
            assert ["BadCertificate"] == errors
        else:
            assert (["Unfinished"] if share == "all" else []) == errors
        if share == "all":
            assert [] == scraper.board.requests
            assert not (scraper.shelf.out_dir / "decisions.parquet").exists()
        scraper.board.handshake = lambda _number: None
        assert [] == await scraper.download()
        scraper.check_downloaded()

    scrape(run)


@pytest.mark.parametrize("name", SAMPLE)
def test_listing_with_faulty_handshakes(scrape, entry, name):
    """A listing whose connections fail ends with the named error, and continues afterwards."""

    async def run(scraper):
        scraper.board.handshake = lambda number: entry if number >= 5 else None
        expected = "BadCertificate" if name in CERTIFICATES else "ConnectionLost"
        assert [expected] == await scraper.list()
        scraper.board.handshake = lambda _number: None
        assert [] == await scraper.list()
        assert list(POSTS) == ids(scraper.listing_dir)

    scrape(run)


@pytest.mark.parametrize("name", ["no such name", "no address", "loopback"])
def test_stages_with_faulty_look_ups(scrape, name, monkeypatch):
    """A public board whose name leads nowhere, or to this machine, is not decided about."""

    async def run(scraper):
        look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", LOOK_UPS[name][0])
        # A known board is trusted by its name alone, and not by its address.
        monkeypatch.setattr("scraper.policy.KNOWN", {"board": None})
        assert ["Unfinished"] == await scraper.download()
        assert ["ConnectionLost"] == await scraper.list()
        assert 0 == scraper.board.connections
        monkeypatch.setattr("scraper.policy.KNOWN", {})
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert [] == await scraper.download()
        assert [] == await scraper.list()
        scraper.check_downloaded()
        assert list(POSTS) == ids(scraper.listing_dir)

    scrape(run)
