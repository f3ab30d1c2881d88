"""
A page for this machine alone: HTTP on the loopback address.

A browser may be sent here by any page of the web, and such a page may give its own host name this
address (DNS rebinding). So a request must name a loopback host, no page of another origin may read an
answer, show an image or send bytes, and the page runs no script but its own.
"""

import ipaddress
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from personae.errors import BadParams
from personae.text import printable

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
JSON = "application/json; charset=utf-8"
UPLOAD = "application/octet-stream"
"""The type of sent bytes. No form has it, so that a page of another origin must ask first."""
MOST_CONNECTIONS = 32  # a browser opens six
_IDLE_SECONDS = 60
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back to the browser; `cache` is the value of Cache-Control."""

    status: int
    kind: str
    body: bytes
    cache: str = "no-store"


Get = Callable[[str], Reply]
"""From the target of a request to its answer."""
Post = Callable[[str, bytes], Reply]
"""From the target of a request and the bytes that came with it to its answer."""


def as_json(value: Any, status: int = 200) -> Reply:
    """Returns a value as JSON; characters that UTF-8 lacks become question marks."""
    return Reply(status, JSON, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def error(status: int, text: str) -> Reply:
    """Returns a failure as JSON with the key `error`."""
    return as_json({"error": text}, status)


def page_file(path: Path) -> Reply:
    """Returns a file of the page: HTML, CSS or JavaScript."""
    return Reply(200, _KINDS[path.suffix], path.read_bytes(), "no-cache")


class LocalServer(ThreadingHTTPServer):
    """
    Answers requests until it is shut down, each connection on a thread of its own.

    Args:
        port: Port of the loopback address; 0 takes any that is free.
        command: The command that serves the page, for the message about a port in use.
        get: Answers a GET request.
        post: Answers a POST request; None: there are none.
        most_bytes: Largest number of bytes that may be sent.

    Raises:
        BadParams: The port is in use, or may not be opened.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self, port: int, *, command: str, get: Get, post: Post | None = None, most_bytes: int = 0
    ) -> None:
        self.get, self.post, self.most_bytes = get, post, most_bytes
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _PageHandler if post is None else _UploadHandler)
        except (OSError, OverflowError) as failure:
            reason = getattr(failure, "strerror", None) or failure
            raise BadParams(
                f"Port {port} cannot be opened: {reason}. Another page may run there; choose another "
                f"port, or any free one:\n  {command} --port 0"
            ) from failure

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def run(self) -> None:
        """Prints the address, and serves the page until Ctrl-C."""
        print(self.address, flush=True)  # noqa: T201  # the product of the command
        log.info("The page is open to this machine only. Ctrl-C ends it.")
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            log.info("The page is closed.")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts the thread of a connection; one too many is closed."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection, then lets the next one in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the names are socketserver's
        """Logs what ended a connection; a browser that leaves is no failure."""
        failure = sys.exception()
        if not isinstance(failure, ConnectionError | TimeoutError):
            log.error("A connection from %s has failed.", client_address, exc_info=failure)


class _PageHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: LocalServer

    def setup(self) -> None:
        super().setup()
        # Headers and body leave in two packets; Nagle's algorithm would hold back the second.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        if self._is_foreign():
            return
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body is not read, and is no next request
        self._send(self.server.get(self.path))

    def version_string(self) -> str:
        return "personae"

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is http.server's
        log.debug("%s", printable(format % args))

    def _is_foreign(self) -> bool:
        """Refuses a request that names no loopback host; says whether it did."""
        if is_loopback(self.headers.get("Host", "")):
            return False
        self._refuse(403, "This page is served to this machine only: open it as 127.0.0.1.")
        return True

    def _refuse(self, status: int, text: str) -> None:
        """Sends an error and ends the connection, since a body may be left unread."""
        self.close_connection = True
        self._send(error(status, text))

    def _send(self, answer: Reply) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", answer.cache)
        self.end_headers()
        self.wfile.write(answer.body)


class _UploadHandler(_PageHandler):
    def do_POST(self) -> None:
        if self._is_foreign():
            return
        origin, length = self.headers.get("Origin"), self.headers.get("Content-Length", "")
        if origin is not None and urlsplit(origin).netloc != self.headers["Host"]:
            self._refuse(403, "Only the page itself may send images.")
        elif self.headers.get("Content-Type") != UPLOAD:
            self._refuse(415, f"Send the bytes of one image as {UPLOAD}.")
        elif not length.isdecimal():
            self._refuse(411, "The request has no Content-Length.")
        elif int(length) > self.server.most_bytes:
            self._refuse(413, f"The image has more than {self.server.most_bytes} bytes.")
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self._refuse(400, "The image ended too early.")
            elif self.server.post is not None:
                self._send(self.server.post(self.path, body))


def is_loopback(host: str) -> bool:
    """Returns whether a Host header is `localhost` or a loopback address, with any port."""
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not name:
        name, port = port, ""
    if port and not port.isdecimal():
        return False
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
