"""Tests the server of the browse page over real HTTP: hosts, headers, connections, the command."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from curation.__main__ import main
from curation.browse import server
from personae.local_page import MOST_CONNECTIONS
from tests.curation.browse_fixture import opened


@pytest.fixture
def port(curated):
    """Serves the small data folder; returns the port."""
    with server.BrowseServer(opened(curated.data_dir), 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


def get(port: int, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9", 200),  # a forwarded port
        ("localhost:8423", 200),
        ("LOCALHOST", 200),
        ("[::1]:8423", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("evil.example:8423", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.7:8423", 403),
        ("127.0.0.1@evil.example", 403),
        ("localhost:x", 403),
        ("", 403),
    ],
)
def test_only_loopback_hosts_are_served(port: int, host: str, status: int) -> None:
    """A name of the web that leads to this address (DNS rebinding) gets nothing."""
    for path in ("/", "/api/choices"):
        code, _, body = get(port, path, Host=host)
        assert (code, b"served to this machine only" in body) == (status, status == 403)


def test_socket_listens_on_loopback_alone(port: int) -> None:
    """The socket is bound to 127.0.0.1, not to every address of the machine."""
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # in use if the page had every address
        assert ("127.0.0.2", port) == other.getsockname()


@pytest.mark.parametrize("path", ["/", "/browse.js", "/api/posts", "/squares/1000", "/none"])
def test_answers_forbid_foreign_content(port: int, path: str) -> None:
    """Every answer allows no foreign script, no foreign page around it, and no guess of its type."""
    _, headers, _ = get(port, path)

    assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "nosniff" == headers["X-Content-Type-Options"]
    assert "same-origin" == headers["Cross-Origin-Resource-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered(port: int, method: str) -> None:
    """Nothing can be sent to the page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, "/api/posts", body=b"x")

    assert 501 == connection.getresponse().status
    connection.close()


def test_body_of_a_request_is_no_next_request(port: int) -> None:
    """The connection ends after a request with a body, so that the body is never answered."""
    hidden = b"GET /api/choices HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"GET /browse.css HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b"
            % (len(hidden), hidden)
        )
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except ConnectionResetError:  # the body was left unread
            pass

    assert 1 == received.count(b"HTTP/1.1 ")


def test_many_idle_connections_do_not_grow(port: int) -> None:
    """More connections than a browser opens are closed, and the page answers when they are gone."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(40)]
    closed = 0
    for client in clients[MOST_CONNECTIONS:]:
        try:
            closed += client.recv(1) == b""
        except ConnectionResetError:
            closed += 1
    for client in clients:
        client.close()

    assert len(clients) - MOST_CONNECTIONS == closed
    for _ in range(50):
        try:
            assert 200 == get(port, "/")[0]
            break
        except (ConnectionError, http.client.HTTPException):
            continue
    else:
        pytest.fail("the page no longer answers")


def test_port_in_use_is_exit_2(port: int, curated, capsys) -> None:
    """A port in use gives exit code 2 and the option that takes a free one."""
    code = main(["browse", "--port", str(port), "--data", str(curated.data_dir)])

    assert 2 == code
    shown = capsys.readouterr().err
    assert "Address already in use" in shown
    assert "browse --port 0" in shown
    with pytest.raises(SystemExit) as ended:
        main(["browse", "--port", "70000", "--data", str(curated.data_dir)])
    assert 2 == ended.value.code
    assert "1 to 65535, or 0 for any free" in capsys.readouterr().err


def test_default_port_is_the_documented_one(capsys) -> None:
    """The help names the port of the links in the report and in the documentation."""
    with pytest.raises(SystemExit):
        main(["browse", "--help"])
    out = " ".join(capsys.readouterr().out.split())

    assert f"(default: {server.PORT})" in out
    assert f"http://127.0.0.1:{server.PORT}/?run=flat&split=test&true=LABEL" in out


def test_absent_catalog_is_exit_5(tmp_path: Path, capsys) -> None:
    """Without a catalog the command ends with exit code 5 and the stage that builds it."""
    assert 5 == main(["browse", "--port", "0", "--data", str(tmp_path)])
    assert "catalog" in capsys.readouterr().err


def test_command_serves_until_ctrl_c(curated) -> None:
    """The command prints its address, answers there, and Ctrl-C ends it with exit code 0."""
    command = [sys.executable, "-m", "curation", "browse", "--port", "0"]
    folders = ["--data", str(curated.data_dir), "--results", str(curated.data_dir / "none")]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("this shell ignores Ctrl-C in its background jobs")
    with subprocess.Popen(
        [*command, *folders], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            address = child.stdout.readline().strip()
            status, _, body = get(int(address.rstrip("/").rpartition(":")[2]), "/")
            os.kill(child.pid, signal.SIGINT)
            out, err = child.communicate(timeout=20)
        finally:
            child.kill()

    assert (0, 200) == (child.returncode, status)
    assert b"<title>Personae: browse</title>" in body
    assert "" == out
    assert "Traceback" not in err
    assert "The page is closed." in err
