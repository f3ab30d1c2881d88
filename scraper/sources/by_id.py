"""Posts that are requested by their ids, and the proof that those which do not come are gone."""

import logging
from collections.abc import Sequence

from scraper.errors import EmptyPage
from scraper.post import Post
from scraper.sources import Page, PostSource, RefusedPost

_log = logging.getLogger(__name__)

IDS_AT_ONCE = 100
"""Posts of one request: more would make its address long."""
_TRIES_WITHOUT_COUNT = 3
"""Repeated requests without an answer that prove a post gone, where the board cannot count."""
PREFIX = "id:"
"""How a search by ids begins."""


async def posts_by_id(source: PostSource, ids: Sequence[int], terms: str = "") -> Page:
    """
    Returns the posts of `ids` that the board has, and the refusals of those that cannot be read.

    Absent posts are requested again and counted, since an empty answer may be a fault; without a
    count they are requested twice more. A post that cannot be read narrows a page to itself, so
    requests go on as long as posts come.

    Args:
        source: The board.
        ids: At most as many as a page holds.
        terms: Further terms of the search, such as `rating:g`.

    Raises:
        EmptyPage: The board counts posts that it does not send.
    """
    posts: list[Post] = []
    refused: list[RefusedPost] = []
    absent = set(ids)
    is_again, uncounted = False, 0
    while absent and uncounted < _TRIES_WITHOUT_COUNT:
        page = await source.page(_search(absent, terms), before=None, size=len(absent))
        posts += page.posts
        refused += page.refused
        came = {post.post_id for post in page.posts} | {row.post_id for row in page.refused}
        if is_again and not came & absent:
            count = await source.remaining(_search(absent, terms), before=None)
            if count is not None and 0 < count <= len(absent):
                raise EmptyPage(
                    f"The board sends no post for {_search(absent, terms):.60}, but counts {count}. "
                    "Run the same command again to continue."
                )
            if count is not None:
                break
            uncounted += 1
        absent -= came
        is_again = True
    if absent and uncounted == _TRIES_WITHOUT_COUNT:
        _log.warning(
            "The board sends no post for %.60s, and cannot count them: %d posts count as gone. "
            "`python -m scraper update --changed` requests them again.",
            _search(absent, terms),
            len(absent),
        )
    return Page(tuple(posts), min(ids, default=None), tuple(refused))


def _search(ids: set[int], terms: str) -> str:
    return f"{PREFIX}{','.join(map(str, sorted(ids)))} {terms}".strip()
