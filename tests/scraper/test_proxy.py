"""Proxies of the environment: used by both clients, for nothing that is off the list of hosts."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests
import yaml
from yarl import URL

from personae.errors import BadParams
from scraper.__main__ import main
from scraper.client import Client
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.errors import ConnectionLost, ForeignHost
from scraper.one_shot import OneShot
from scraper.params.site import Params
from scraper.proxy import Proxies
from scraper.site import Site

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy")
VARIABLES += ("all_proxy", "no_proxy", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def board():
    with serving(booru.board(TINY)) as served:
        yield served


@pytest.fixture
def proxy(board):
    """Runs a forward proxy that leads every name to the board; yields its URL and what it was asked."""
    seen = []
    session = requests.Session()
    session.trust_env = False  # not through itself

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Proxy-Authorization")))
            target = URL(self.path)
            kept = {name: self.headers[name] for name in ("User-Agent", "Accept")}
            answer = session.get(
                f"{board.url}{target.raw_path_qs}", headers=kept, allow_redirects=False, timeout=30
            )
            # The board writes its own address into the URLs of files, as one behind a name does not.
            body = answer.content.replace(board.url.encode(), b"http://board.example")
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()
    thread.join()
    session.close()


def test_a_board_behind_a_proxy_is_scraped(proxy, tmp_path, monkeypatch, capsys):
    """A name that only the proxy can look up is listed and downloaded; credentials go to it alone."""
    url, seen = proxy
    monkeypatch.setenv("HTTP_PROXY", url.replace("//", "//rin:proxy-secret@"))
    monkeypatch.setenv("PERSONAE_CONTACT", "a@example.org")
    monkeypatch.chdir(tmp_path)
    sections = {
        "site": {"name": "http://board.example", "api_rate": 1e6, "cdn_rate": 1e6},
        "personae": {"min_images": 12},
        "download": {"side": 64},
    }
    Path("params.yaml").write_text(yaml.safe_dump(sections))
    assert 0 == main(["plan"])
    assert 0 == main([])

    assert pq.read_table("data/download/images.parquet").num_rows > 100
    assert {"http://board.example"} == {str(URL(path).origin()) for path, _ in seen}
    assert all(credentials for _, credentials in seen)
    printed = "".join(capsys.readouterr())
    kept = [path.read_bytes() for path in Path().rglob("*") if path.is_file()]
    assert "proxy-secret" not in printed
    assert not any(b"proxy-secret" in content for content in kept)


def test_hosts_off_the_list_are_refused_before_the_proxy(proxy):
    """A proxy widens no list: a foreign address is refused, and nothing is sent."""
    url, seen = proxy
    site = Site.resolve(
        Params(name="http://board.example", contact="a@example.org"),
        proxies=Proxies({"http": url, "https": url}),
    )

    async def ask():
        async with Client(site) as client:
            await client.get_bytes("http://169.254.169.254/a.png", max_bytes=10)

    with pytest.raises(ForeignHost):
        asyncio.run(ask())
    assert [] == seen


def test_a_proxy_that_is_not_there_is_a_lost_connection():
    """Both clients name the connection, and the run can be resumed."""
    site = Site.resolve(
        Params(name="http://board.example", contact="a@example.org", attempts=1),
        proxies=Proxies({"http": "http://127.0.0.1:9"}),
    )

    with OneShot(site) as client, pytest.raises(ConnectionLost):
        client.get_json("/counts/posts.json", {"tags": ""})


@pytest.mark.parametrize(
    ("environment", "target", "expected"),
    [
        ({}, "https://cdn.donmai.us/a.jpg", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://cdn.donmai.us/a.jpg", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "https://cdn.donmai.us/a.jpg", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://cdn.donmai.us/a.jpg", None),
        ({"ALL_PROXY": "http://p:3128"}, "https://cdn.donmai.us/a.jpg", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://127.0.0.1:80/", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://localhost:80/", None),
        (
            {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": ".donmai.us"},
            "https://cdn.donmai.us/",
            None,
        ),
        (
            {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "example.org"},
            "https://cdn.donmai.us/",
            "http://p:3128",
        ),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(monkeypatch, environment, target, expected):
    """Scheme, case and exceptions decide; this machine is never reached through a proxy."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert expected == Proxies.of_environment().of(URL(target))


@pytest.mark.parametrize("url", ["socks5://rin:proxy-secret@p:1080", "p", "http://"])
def test_what_is_no_http_proxy_is_named_without_its_secret(monkeypatch, url):
    """A proxy for SOCKS, and what is no URL, are errors that name the variable."""
    monkeypatch.setenv("ALL_PROXY", url)

    with pytest.raises(BadParams, match="names no HTTP proxy") as caught:
        Proxies.of_environment()
    assert "proxy-secret" not in str(caught.value)
