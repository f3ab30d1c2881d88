"""
The endpoints of the board: posts, counts, tags, relations, files, and the board's own controls.

Every endpoint takes a request and returns its answer. User-Agent, rate limit and account were
checked before. Parameters and answers follow https://danbooru.donmai.us/wiki_pages/help:api and
https://danbooru.donmai.us/wiki_pages/help:common_url_parameters.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.record import DemoPost
from scraper.demo.painter import files
from scraper.demo.search import language
from scraper.demo.search.language import QueryNode
from scraper.demo.search.match import PostIndex
from scraper.demo.server import answers, relations
from scraper.demo.server.faults import FaultPlan
from scraper.demo.server.gate import ANONYMOUS, AccountLevel, LeakyBucket, RequestLog
from scraper.demo.server.strikes import Handler

_PER_PAGE = 20
"""Rows of a page without `limit=`, as on Danbooru."""
_COUNTED_SECONDS = 300.0
"""Age in seconds at which a count is counted anew, as on Danbooru."""
_MOST_COUNTED = 1_000
"""Counts that are kept, so that memory stays bounded."""
_MOST_POSTS, _MOST_ROWS = 200, 1_000
"""Largest `limit=` for posts and for other tables, as on Danbooru."""

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class ServerState:
    """The objects that all requests of a server share."""

    board: DemoBoard
    bucket: LeakyBucket
    latency_seconds: float = 0.0
    """Seconds to wait before each answer."""
    has_control: bool = False
    """Whether requests may order faults and changes."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    log: RequestLog = field(default_factory=RequestLog)
    counted: dict[QueryNode, tuple[float, int]] = field(default_factory=dict)
    """Query to the time of its count, in seconds of a monotonic clock, and the count."""
    _index: tuple[int, PostIndex] | None = None

    @property
    def index(self) -> PostIndex:
        """The index of the board's current version."""
        if self._index is None or self._index[0] != self.board.version:
            index = PostIndex(self.board.posts, self.board.studio.known)
            self._index = (self.board.version, index)
        return self._index[1]


STATE = web.AppKey("state", ServerState)
"""Key of the server's state in the application."""
LEVEL: web.RequestKey[AccountLevel] = web.RequestKey("level", AccountLevel)
"""Key of the caller's level in a request."""


class ApiError(Exception):
    """
    An error that the application answers as JSON.

    Attributes:
        status: HTTP status, 400 to 599.
        name: Name of Danbooru's error class.
    """

    def __init__(self, status: int, name: str, message: str) -> None:
        """Takes the HTTP status, the name of Danbooru's error class, and the message."""
        super().__init__(message)
        self.status = status
        self.name = name


def reply(answer: Any, *, status: int = 200) -> web.Response:
    """Returns a JSON answer without spaces between its parts, as Danbooru writes it."""
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    kind = "application/json; charset=utf-8"
    return web.Response(body=body, status=status, headers={"Content-Type": kind})


def not_found() -> ApiError:
    """Returns the error for an unknown record: status 404."""
    return ApiError(404, "ActiveRecord::RecordNotFound", "That record was not found.")


def page_of(
    rows: Sequence[ItemT], request: web.Request, *, limit: int, key: Callable[[ItemT], int]
) -> tuple[list[ItemT], list[ItemT]]:
    """
    Returns the page that `page=` names, and the page after it.

    `page=3` is an offset. `page=b<id>` gives the rows below an id and `page=a<id>` the rows above
    it, both descending by id, whatever the order of the query. The last numbered page is
    reversed (`app/logical/pagination_extension.rb` of https://github.com/danbooru/danbooru).

    Args:
        rows: All matching rows, in the order of the query.
        request: The request, for `page=` and the caller's level.
        limit: Rows per page.
        key: Returns the id of a row.

    Raises:
        ApiError: The page lies beyond the last numbered page of the caller's level: status 410.
    """
    text = request.query.get("page", "").strip()
    last = request.get(LEVEL, ANONYMOUS).pages
    cursor = re.fullmatch(r"([ab])(\d+)", text, re.IGNORECASE)
    if cursor:
        border = int(cursor[2])
        if cursor[1].lower() == "b":
            below = sorted((row for row in rows if key(row) < border), key=key, reverse=True)
            return below[:limit], below[limit : 2 * limit]
        above = sorted((row for row in rows if key(row) > border), key=key)
        return above[:limit][::-1], above[limit : 2 * limit]
    number = max(1, leading_integer(text))
    if number > last:
        raise ApiError(
            410, "PaginationExtension::PaginationError", f"You cannot go beyond page {last}."
        )
    shown = list(rows[(number - 1) * limit : number * limit])
    ahead = list(rows[number * limit : (number + 1) * limit])
    return (shown[::-1] if number == last else shown), ahead


def leading_integer(text: str) -> int:
    """Returns the integer at the start of a text, or 0 without one, as Ruby's `to_i` does."""
    match = re.match(r"\s*([+-]?\d+)", text)
    return int(match[1]) if match else 0


def _limit(text: str | None, *, most: int) -> int:
    return _PER_PAGE if not text else min(most, max(1, leading_integer(text)))


def is_safe_mode(request: web.Request) -> bool:
    """Returns whether only posts rated general are shown: by `safe_mode=`, or by host name."""
    return _says_yes(request, "safe_mode") or request.host.startswith("safebooru.")


def _says_yes(request: web.Request, name: str) -> bool:
    return request.query.get(name) in ("true", "1")


def is_hidden(post: DemoPost, request: web.Request) -> bool:
    """
    Returns whether the caller may not see the files of a post.

    This holds for banned posts, for restricted posts below level Gold, and in safe mode for every
    rating but general.
    """
    restricted = post.restricted and not request.get(LEVEL, ANONYMOUS).sees_restricted
    return "banned" in post.flags or restricted or (is_safe_mode(request) and post.rating != "g")


async def as_json(posts: Sequence[DemoPost], request: web.Request) -> list[answers.Json]:
    """Returns the posts as `/posts.json` lists them to this caller."""
    facts = await request.app[STATE].board.studio.facts([post.post_id for post in posts])
    host = f"{request.scheme}://{request.host}"
    return [
        answers.post(post, facts[post.post_id], host=host, hidden=is_hidden(post, request))
        for post in posts
    ]


async def _tree(request: web.Request, *, limited: bool) -> QueryNode:
    state = request.app[STATE]
    text = request.query.get("tags", request.query.get("post[tags]", ""))
    tree = language.parse(text, state.board.alias_of)
    if limited:
        level = request.get(LEVEL, ANONYMOUS)
        language.validate(tree, limit=level.terms)
    for leaf in tree.leaves():
        if leaf.name in ("filesize", "pixelhash") and leaf.kind == "metatag":
            await state.board.studio.facts([post.post_id for post in state.board.posts])
        elif leaf.name == "md5" and leaf.kind == "metatag":
            await state.board.find(leaf.value.lower())
    if limited and is_safe_mode(request):
        return QueryNode("and", (tree, QueryNode("metatag", name="rating", value="g")))
    return tree


async def posts_index(request: web.Request) -> web.StreamResponse:
    """
    `GET /posts.json`: a page of posts, or one post by `md5=`.

    Raises:
        ApiError: No post has the md5 (404), or the page is too far (410).
        SearchError: The board refuses the query.
        HTTPFound: `random=true` redirects to a search with `random:`.
    """
    state, query = request.app[STATE], request.query
    if "md5" in query:
        post_id = await state.board.find(query["md5"].lower())
        post = state.board.post(post_id) if post_id is not None else None
        if post is None:
            raise not_found()
        return reply(_only((await as_json([post], request))[0], request))
    if _says_yes(request, "random"):
        number = _limit(query.get("limit"), most=_MOST_POSTS)
        tags = f"{query.get('tags', '')} random:{number}".strip()
        raise web.HTTPFound(request.url.update_query(tags=tags).without_query_params("random"))
    rows, _ = await matching(request)
    return reply(_only(rows, request))


async def matching(
    request: web.Request, *, limit: int | None = None
) -> tuple[list[answers.Json], bool]:
    """
    Returns the page of posts that `tags=` and `page=` ask for, and whether another follows.

    Args:
        request: The request; its `limit=` or that of the search counts where `limit` is None.
        limit: Posts per page.

    Raises:
        ApiError: The page is too far (410).
        SearchError: The board refuses the query.
    """
    state = request.app[STATE]
    tree = await _tree(request, limited=True)
    text = request.query.get("limit") or language.metatag(tree, "limit")
    limit = limit or _limit(text, most=_MOST_POSTS)
    shown, ahead = page_of(
        state.index.select(tree), request, limit=limit, key=lambda post: post.post_id
    )
    rows = await as_json(shown, request)
    state.board.studio.prefetch([post.post_id for post in ahead])
    return rows, bool(ahead)


def _only(answer: Any, request: web.Request) -> Any:
    fields = request.query.get("only")
    return answers.only(answer, fields) if fields else answer


async def posts_show(request: web.Request) -> web.StreamResponse:
    """`GET /posts/<id>.json`: one post, also if it is deleted. ApiError 404 for an unknown id."""
    post = request.app[STATE].board.post(int(request.match_info["post_id"]))
    if post is None:
        raise not_found()
    return reply(_only((await as_json([post], request))[0], request))


async def posts_random(request: web.Request) -> web.StreamResponse:
    """`GET /posts/random.json`: one post that matches `tags=`. ApiError 404 without a match."""
    tree = await _tree(request, limited=True)
    matches = request.app[STATE].index.select(
        QueryNode("and", (tree, QueryNode("metatag", name="random")))
    )
    if not matches:
        raise not_found()
    return reply(_only((await as_json(matches[:1], request))[0], request))


async def counts(request: web.Request) -> web.StreamResponse:
    """
    `GET /counts/posts.json`: the number of matching posts, with any number of terms.

    The count of a single tag is stored with the tag. Other counts are five minutes old at most,
    unless `skip_cache=true` (`cached_count` in `app/logical/post_query.rb` of Danbooru).
    """
    state, tree = request.app[STATE], await _tree(request, limited=False)
    now = time.monotonic()
    known = state.counted.get(tree)
    if known and now - known[0] < _COUNTED_SECONDS and not _says_yes(request, "skip_cache"):
        return reply({"counts": {"posts": known[1]}})
    number = state.index.matching(tree).bit_count()
    if len(state.counted) >= _MOST_COUNTED:
        state.counted.clear()
    if tree.kind not in ("all", "tag"):
        state.counted[tree] = (now, number)
    return reply({"counts": {"posts": number}})


async def tags(request: web.Request) -> web.StreamResponse:
    """`GET /tags.json`: a page of tags that match `search[…]`, with relations if `only=` asks."""
    state = request.app[STATE]
    rows = relations.tag_rows(state.board, state.index, relations.searched(request.query.items()))
    shown = _page_of_rows(rows, request)
    return reply(_only(relations.with_includes(shown, state.board, _fields(request)), request))


def _fields(request: web.Request) -> str:
    return request.query.get("only", "")


def _page_of_rows(rows: Sequence[answers.Json], request: web.Request) -> list[answers.Json]:
    limit = _limit(request.query.get("limit"), most=_MOST_ROWS)
    return page_of(rows, request, limit=limit, key=lambda row: int(row["id"]))[0]


async def aliases(request: web.Request) -> web.StreamResponse:
    """`GET /tag_aliases.json`: a page of aliases that match `search[…]`."""
    state = request.app[STATE]
    chosen = relations.searched(request.query.items())
    rows = relations.relation_rows(state.board.aliases, state.index, chosen)
    return reply(_only(_page_of_rows(rows, request), request))


async def implications(request: web.Request) -> web.StreamResponse:
    """`GET /tag_implications.json`: a page of implications that match `search[…]`."""
    state = request.app[STATE]
    chosen = relations.searched(request.query.items())
    rows = relations.relation_rows(state.board.implications, state.index, chosen)
    return reply(_only(_page_of_rows(rows, request), request))


async def cdn(request: web.Request) -> web.StreamResponse:
    """`GET /<type>/…`: a file by its CDN path, or an HTML page of status 404."""
    board = request.app[STATE].board
    parsed = files.parse_path(request.path)
    post_id = await board.find(parsed[1]) if parsed else None
    post = board.post(post_id) if post_id is not None else None
    if parsed is None or post is None or post.asset_gone:
        return page(404, "Not Found", "The file is not here.")
    variant_type, _, file_ext = parsed
    offered = files.variants(
        post.width, post.height, file_ext=post.file_ext, duration=post.duration
    )
    if (variant_type, file_ext) not in {(variant.type, variant.file_ext) for variant in offered}:
        return page(404, "Not Found", "The file is not here.")
    content = await board.studio.file(post.post_id, variant_type)
    headers = {
        "Content-Type": files.CONTENT_TYPES[file_ext],
        "Cache-Control": "public, max-age=315360000",
    }
    return web.Response(body=content, headers=headers)


async def anything_else(request: web.Request) -> web.StreamResponse:
    """Any other address: a JSON error of status 404 for `.json`, else an HTML page."""
    if request.path.endswith(".json"):
        raise ApiError(404, "NilClass", "Page not found")
    return page(404, "Not Found", "That page does not exist.")


def page(status: int, title: str, text: str) -> web.Response:
    """Returns an HTML page, as the proxy in front of Danbooru answers."""
    body = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>\n"
    return web.Response(text=body, status=status, content_type="text/html")


ROUTES: tuple[tuple[str, Handler], ...] = (
    ("/posts.json", posts_index),
    ("/posts/random.json", posts_random),
    (r"/posts/{post_id:\d+}.json", posts_show),
    ("/counts/posts.json", counts),
    ("/tags.json", tags),
    ("/tag_aliases.json", aliases),
    ("/tag_implications.json", implications),
    ("/{type:180x180|360x360|720x720|sample|full|original}/{rest:.*}", cdn),
    ("/{anything:.*}", anything_else),
)
"""Path pattern to endpoint; the first pattern that matches answers."""
