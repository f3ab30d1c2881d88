"""
Pages of the demo board for people: `/` with a search, and `/posts/ID` with its image and tags.

They show what the JSON of the same address says. All text from posts is escaped, and no script runs
here.
"""

from html import escape
from urllib.parse import urlencode

from aiohttp import web

from scraper.demo.search.language import SearchError
from scraper.demo.server import answers, endpoints
from scraper.demo.server.endpoints import STATE, ApiError

_POSTS_A_PAGE = 40
_KINDS = ("artist", "copyright", "character", "general", "meta")
_RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
_POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'"
_STYLE = """
body { margin: 0 auto; max-width: 72rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }
input { font: inherit; padding: .3rem .5rem; width: min(30rem, 60vw); }
button { font: inherit; padding: .3rem .8rem; }
ul.posts { display: flex; flex-wrap: wrap; gap: .75rem; list-style: none; padding: 0; }
ul.posts img { height: 180px; width: 180px; object-fit: contain; background: #8882; }
ul.posts a.none { display: grid; height: 180px; width: 180px; place-items: center; background: #8882; }
.post { display: flex; flex-wrap: wrap; gap: 2rem; }
.post img { max-width: min(100%, 40rem); height: auto; }
form { margin-bottom: 1rem; }
h2 { font-size: 1rem; margin: 1rem 0 .2rem; text-transform: capitalize; }
.post ul { list-style: none; margin: 0; padding: 0; }
:root { color-scheme: light dark; }
"""


async def index(request: web.Request) -> web.StreamResponse:
    """`GET /` and `/posts`: the newest posts that match `tags=`, each with its thumbnail."""
    tags = request.query.get("tags", "")
    try:
        rows, ahead = await endpoints.matching(request, limit=_POSTS_A_PAGE)
    except (ApiError, SearchError) as error:
        return _page("Demo board", _search(tags) + f"<p>{escape(str(error))}</p>", status=422)
    number = max(1, endpoints.leading_integer(request.query.get("page", "1")))
    body = _search(tags)
    body += (
        f'<ul class="posts">{"".join(map(_thumbnail, rows))}</ul>' if rows else "<p>No posts.</p>"
    )
    links = [(number - 1, "Newer"), (number + 1, "Older")]
    body += " ".join(
        f'<a href="/posts?{escape(urlencode({"tags": tags, "page": to}))}">{text}</a>'
        for to, text in links
        if (to < number and to > 0) or (to > number and ahead)
    )
    return _page("Demo board", body)


async def show(request: web.Request) -> web.StreamResponse:
    """`GET /posts/ID`: the post's image, tags and properties, and the address of its JSON."""
    number = int(request.match_info["post_id"])
    post = request.app[STATE].board.post(number)
    if post is None:
        return _page("Not found", "<p>There is no such post.</p>", status=404)
    (row,) = await endpoints.as_json([post], request)
    title = ", ".join(row["tag_string_character"].split()) or f"Post {number}"
    url = row.get("large_file_url", "")
    if not url:
        image = "<p>The board hides the file of this post.</p>"
    elif row["file_ext"] in ("jpg", "png", "webp", "gif"):
        image = f'<img src="{escape(_local(url))}" alt="{escape(title)}">'
    else:
        image = f'<p><a href="{escape(_local(url))}">File of type {escape(row["file_ext"])}</a></p>'
    tags = "".join(
        f"<h2>{kind}</h2><ul>{''.join(map(_tag, row[f'tag_string_{kind}'].split()))}</ul>"
        for kind in _KINDS
        if row[f"tag_string_{kind}"]
    )
    states = [name for name in ("pending", "flagged", "deleted", "banned") if row[f"is_{name}"]]
    facts = {
        "Rating": _RATINGS[row["rating"]],
        "Size": f"{row['image_width']} x {row['image_height']}, {row['file_size']:,} bytes",
        "Posted": row["created_at"],
        "Source": row["source"] or "none",
        "State": ", ".join(states) or "active",
    }
    listed = "".join(f"<li>{name}: {escape(value)}</li>" for name, value in facts.items())
    body = (
        f'{_search("")}<div class="post"><div>{image}</div><div><ul>{listed}'
        f'<li><a href="/posts/{number}.json">JSON</a></li></ul>{tags}</div></div>'
    )
    return _page(title, body)


def _thumbnail(row: answers.Json) -> str:
    name = escape(row["tag_string_character"] or f"Post {row['id']}")
    url = row.get("preview_file_url")
    shown = f'<img src="{escape(_local(url))}" alt="{name}" title="{name}">' if url else "hidden"
    kind = "" if url else ' class="none"'
    return f'<li><a href="/posts/{row["id"]}"{kind}>{shown}</a></li>'


def _tag(name: str) -> str:
    return f'<li><a href="/posts?{escape(urlencode({"tags": name}))}">{escape(name)}</a></li>'


def _search(tags: str) -> str:
    return (
        '<form action="/posts"><input name="tags" aria-label="Tags" placeholder="tags, such as solo" '
        f'value="{escape(tags)}"> <button>Search</button></form>'
    )


def _local(url: str) -> str:
    """Returns the path of a URL of this board, which the page may load."""
    return "/" + url.split("/", maxsplit=3)[3]


def _page(title: str, body: str, *, status: int = 200) -> web.Response:
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><p><a href="/">Newest posts</a></p>'
        f"<h1>{escape(title)}</h1>{body}</body></html>\n"
    )
    headers = {"Content-Security-Policy": _POLICY}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


ROUTES = (("/", index), ("/posts", index), (r"/posts/{post_id:\d+}", show))
"""Path pattern to page."""
