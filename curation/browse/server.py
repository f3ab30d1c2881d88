"""
The server of the browse page: HTTP on the loopback address, GET only.

A browser may be sent here by any page of the web, and such a page may give its own host name this
address (DNS rebinding). So a request must name a loopback host, no page of another origin may read an
answer or show an image, and the page runs no script but its own.
"""

import ipaddress
import logging
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from curation.browse.routes import Reply, reply
from curation.browse.snapshot import Library
from personae.errors import BadParams
from personae.text import printable

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 8423
_MOST_CONNECTIONS = 32  # a browser opens six
_IDLE_SECONDS = 60
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class BrowseServer(ThreadingHTTPServer):
    """
    Answers requests until it is shut down, each connection on a thread of its own.

    Args:
        library: The catalog and predictions to show.
        port: Port of the loopback address; 0 takes any that is free.

    Raises:
        BadParams: The port is in use, or may not be opened.
    """

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, library: Library, port: int) -> None:
        self.library = library
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _BrowseHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadParams(
                f"Port {port} cannot be opened: {reason}. Another page may run there; choose another "
                "port, or any free one:\n  python -m curation browse --port 0"
            ) from error

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

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
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("A connection from %s has failed.", client_address, exc_info=error)


class _BrowseHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: BrowseServer

    def setup(self) -> None:
        super().setup()
        # Headers and body leave in two packets; Nagle's algorithm would hold back the second.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        if not _is_loopback(self.headers.get("Host", "")):
            text = b'{"error": "This page is served to this machine only: open it as 127.0.0.1."}'
            self._send(Reply(403, "application/json; charset=utf-8", text))
            self.close_connection = True
            return
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body is not read, and is no next request
        self._send(reply(self.server.library, self.path))

    def version_string(self) -> str:
        return "personae"

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is http.server's
        log.debug("%s", printable(format % args))

    def _send(self, answer: Reply) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", answer.cache)
        self.end_headers()
        self.wfile.write(answer.body)


def serve(data_dir: Path, results_dir: Path, *, port: int) -> None:
    """
    Serves the browse page until Ctrl-C, and prints its address.

    Raises:
        MissingInput: There is no catalog, or it is of another version.
        AlreadyRunning: Another program has the catalog open for writing.
        BadParams: The port is in use.
    """
    library = Library(data_dir, results_dir)
    with BrowseServer(library, port) as server:
        reply(library, "/api/choices")  # counted before the first page is requested
        print(server.address, flush=True)  # noqa: T201  # the product of the command
        log.info("The page is open to this machine only. Ctrl-C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("The page is closed.")


def _is_loopback(host: str) -> bool:
    """Whether the value of a Host header is `localhost` or a loopback address, with any port."""
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
