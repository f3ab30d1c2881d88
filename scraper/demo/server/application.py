"""
`python -m scraper demo`: the demo board on a local port, answering as Danbooru does.

    request ──> log ──> User-Agent ──> rate limit ──> faults ──> account ──> endpoint

A JSON answer has a weak ETag and is compressed if the client accepts gzip. An error is JSON where
Danbooru's application answers, and HTML where its proxy answers
(https://danbooru.donmai.us/wiki_pages/help:api).
"""

import asyncio
import gzip
import hashlib
import sys
import threading
import time
from collections.abc import Callable

from aiohttp import web

from personae.errors import BadParams
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.params import Params
from scraper.demo.search.language import SearchError
from scraper.demo.server import answers, control, endpoints, faults, gate, pages, strikes
from scraper.demo.server.endpoints import LEVEL, STATE, ApiError, ServerState, page, reply
from scraper.demo.server.gate import BadCredentials, LeakyBucket
from scraper.demo.server.strikes import Handler, Strike

_API_HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-XSS-Protection": "0",
    "X-Content-Type-Options": "nosniff",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Access-Control-Allow-Origin": "*",
    "X-Git-Hash": "a1ade225b228171432794e34f8b69cf770a75f9a",
    "Set-Cookie": "_danbooru2_session=demo; path=/; HttpOnly; SameSite=Lax",
    "Server": "cloudflare",
    "cf-cache-status": "DYNAMIC",
}
"""Headers of every answer of the application, recorded from the live site."""
_SMALLEST_COMPRESSED = 256
"""Bytes from which compression makes an answer smaller."""


def application(board: DemoBoard, *, params: Params | None = None) -> web.Application:
    """
    Returns the web application of a board. The application closes the board when it stops.

    Args:
        board: The board to serve.
        params: How to serve: rate limit, latency, faults, control. None means the defaults.

    Raises:
        BadParams: A fault of `params.faults` is unknown.
    """
    params = params or Params()
    app = web.Application(middlewares=[_logged, _guarded, _faulted, _answered])
    app[STATE] = ServerState(
        board,
        bucket=LeakyBucket(rate=params.rate, burst=params.burst),
        latency_seconds=params.latency_seconds,
        has_control=params.control,
        faults=faults.parse(params.faults, seed=params.seed, attempts=params.fault_attempts),
    )
    for path, handler in (*pages.ROUTES, *control.ROUTES, *endpoints.ROUTES):
        app.router.add_route("*", path, handler)

    async def close(app: web.Application) -> None:
        app[STATE].board.close()

    app.on_cleanup.append(close)
    return app


def _is_cdn(request: web.Request) -> bool:
    return request.match_info.handler is endpoints.cdn


@web.middleware
async def _logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs every request with its status, except requests to `/demo/…`."""
    if request.path.startswith("/demo/"):
        return await handler(request)
    log, kind, status, sent = request.app[STATE].log, "cdn" if _is_cdn(request) else "api", 0, 0
    client, at = request.remote or "", time.monotonic()
    log.start(kind, request.headers.get("User-Agent", ""), client=client, at=at)
    try:
        response = await handler(request)
        status, sent = response.status, response.content_length or 0
    except web.HTTPException as answer:
        status = answer.status
        raise
    else:
        return response
    finally:
        log.end(kind, request.path_qs, client=client, at=at, status=status, sent=sent)


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Does the work of the proxy: challenge, rate limit, latency."""
    state = request.app[STATE]
    if request.path.startswith("/demo/"):
        return await handler(request)
    agent = request.headers.get("User-Agent", "")
    if gate.is_challenged(agent, clearance=request.cookies.get(gate.CLEARANCE)):
        text = f"Enable JavaScript and cookies to continue.{gate.CHALLENGE}"
        response = page(403, "Just a moment...", text)
        response.headers["cf-mitigated"] = "challenge"
        return response
    if request.path.startswith("/posts"):
        wait = state.bucket.delay(request.remote or "", time.monotonic())
        if wait is None:
            return page(429, "429 Too Many Requests", "nginx")
        await asyncio.sleep(wait)
    if state.latency_seconds:
        await asyncio.sleep(state.latency_seconds)
    return await handler(request)


@web.middleware
async def _faulted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Commits the fault that the request orders or that the plan chooses, if there is one."""
    state = request.app[STATE]
    if request.path.startswith("/demo/"):
        return await handler(request)
    ordered = request.headers.get(strikes.HEADER) if state.has_control else None
    if ordered is None and not state.faults.shares:
        return await handler(request)
    path, is_cdn = request.path_qs, _is_cdn(request)
    kind = ordered or state.faults.choose(path, is_cdn=is_cdn)
    if kind not in strikes.KINDS or not strikes.applies(kind, path, is_cdn=is_cdn):
        return await handler(request)
    state.faults.committed[kind] += 1
    return await strikes.commit(Strike(kind, request, handler, state.board))


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Checks the account, turns errors into JSON, and completes the headers of the answer."""
    if _is_cdn(request):
        return await handler(request)
    try:
        response = await _checked(request, handler)
    except ApiError as error:
        response = _error(error.status, error.name, str(error))
    except SearchError as error:
        response = _error(422, error.error, str(error))
    except BadCredentials:
        message = "Invalid API key or login. Check both, or send neither."
        response = _error(401, "SessionLoader::AuthenticationFailure", message)
    if not isinstance(response, web.Response) or response.status in (302, 304):
        return response
    response.headers.update(_API_HEADERS)
    response.headers["X-Runtime"] = "0.01"
    response.headers["Server-Timing"] = "rails.total_time;dur=10.0"
    response.headers["X-Request-Id"] = f"{id(request):016x}-DEMO"
    if response.status == 200:
        return _conditional(request, response)
    response.headers["Cache-Control"] = "no-cache"
    return response


async def _checked(request: web.Request, handler: Handler) -> web.StreamResponse:
    query = request.query
    if request.method in ("GET", "HEAD", "OPTIONS") and request.body_exists:
        name = "ApplicationController::RequestBodyNotAllowedError"
        raise ApiError(400, name, "Request body not allowed for GET request")
    request[LEVEL] = gate.level(request.headers, query)
    cause = endpoints.leading_integer(query.get("cause_error", ""))
    if 400 <= cause <= 599:
        raise ApiError(cause, "StandardError", "")
    blank = [key for key, value in query.items() if key.startswith("search[") and not value]
    if blank:
        raise web.HTTPFound(request.url.without_query_params(*blank))
    return await handler(request)


def _error(status: int, name: str, message: str) -> web.Response:
    return reply(answers.error(name, message), status=status)


def _conditional(request: web.Request, response: web.Response) -> web.Response:
    """Adds the ETag and compresses; answers 304 if the client has this ETag (RFC 9110, 13.1.2)."""
    body = response.body if isinstance(response.body, bytes) else b""
    tag = f'W/"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "max-age=0, private, must-revalidate"}
    if _is_known(tag, request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers=headers | _API_HEADERS)
    response.headers.update(headers)
    response.headers["Vary"] = "Accept-Encoding"
    takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
    if takes_gzip and len(body) >= _SMALLEST_COMPRESSED:
        response.headers["Content-Encoding"] = "gzip"
        response.body = gzip.compress(body, compresslevel=1, mtime=0)
    return response


def _is_known(tag: str, given: str) -> bool:
    """Returns whether `If-None-Match` names an ETag, by weak comparison (RFC 9110, 13.1.2)."""
    named = {text.strip().removeprefix("W/") for text in given.split(",")}
    return "*" in named or tag.removeprefix("W/") in named


async def serve(
    board: DemoBoard, params: Params, *, host: str, port: int, until_stdin_closes: bool
) -> None:
    """
    Serves a board until the task is cancelled, and closes the board.

    Prints `Demo board at URL` once the board answers.

    Args:
        board: The board to serve.
        params: How to serve: rate limit, latency, faults, control.
        host: Address to listen at.
        port: TCP port; 0 takes a free port.
        until_stdin_closes: Whether to stop when standard input closes, too.

    Raises:
        BadParams: The address or port cannot be used.
    """
    runner = web.AppRunner(
        application(board, params=params),
        access_log=None,
        shutdown_timeout=1,
        handler_cancellation=True,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise BadParams(
                f"The board cannot listen at {host}, port {port}: {error.strerror or error}. Another "
                "board may run there; take any free port:\n  python -m scraper demo --port 0"
            ) from error
        address = runner.addresses[0]
        sys.stdout.write(f"Demo board at http://{address[0]}:{address[1]}\n")
        sys.stdout.flush()
        stop = asyncio.Event()
        if until_stdin_closes:
            _when_stdin_closes(asyncio.get_running_loop(), stop.set)
        await stop.wait()
    finally:
        await runner.cleanup()


def _when_stdin_closes(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Calls `call` in the loop when standard input ends, as it does with the parent process."""

    def read() -> None:
        while sys.stdin.buffer.read(4_096):
            pass
        loop.call_soon_threadsafe(call)

    threading.Thread(target=read, daemon=True).start()
