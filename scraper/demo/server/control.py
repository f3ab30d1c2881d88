"""The board's own addresses under `/demo/`, unknown to Danbooru: request log, faults, changes."""

from aiohttp import web

from personae.errors import BadParams
from scraper.demo.server import faults, strikes
from scraper.demo.server.endpoints import STATE, ApiError, ServerState, not_found, reply
from scraper.demo.server.strikes import Handler


async def log(request: web.Request) -> web.StreamResponse:
    """`GET /demo/log.json`: the request log; `entries=true` adds requests."""
    entries = request.query.get("entries") in ("true", "1")
    return reply(request.app[STATE].log.summary(entries=entries))


async def control_faults(request: web.Request) -> web.StreamResponse:
    """
    `POST /demo/faults` with `["kind=share", …]`: sets the faults, which strike anew.

    Raises:
        ApiError: The board has no control (404), or the body is not a list of faults (400).
    """
    state = _controlled(request)
    try:
        shares = faults.parse(await request.json()).shares
    except (BadParams, ValueError, TypeError) as error:
        raise ApiError(400, "ActionController::BadRequest", str(error)) from error
    state.faults.begin(shares)
    return reply({"faults": shares})


async def control_change(request: web.Request) -> web.StreamResponse:
    """
    `POST /demo/change` with `{"post_id": 1, "kind": "deleted"}`: changes a post.

    Raises:
        ApiError: The board has no control, or there is no such post or kind: status 404.
    """
    state = _controlled(request)
    order = await request.json()
    post = state.board.post(int(order["post_id"]))
    if post is None or order["kind"] not in strikes.WORLD:
        raise not_found()
    strikes.change_post(order["kind"], post.post_id, state.board)
    return reply({"post_id": post.post_id, "kind": order["kind"]})


def _controlled(request: web.Request) -> ServerState:
    state = request.app[STATE]
    if not state.has_control or request.method != "POST":
        raise not_found()
    return state


ROUTES: tuple[tuple[str, Handler], ...] = (
    ("/demo/log.json", log),
    ("/demo/faults", control_faults),
    ("/demo/change", control_change),
)
"""Path pattern to endpoint."""
