"""Posts that are requested by their ids, and the proof that those which do not come are gone."""

from collections.abc import Sequence

from scraper.errors import EmptyPage
from scraper.post import Post
from scraper.sources import Page, PostSource, RefusedPost

IDS_AT_ONCE = 100
"""Posts of one request: more would make its address long."""
PREFIX = "id:"
"""How a search by ids begins."""


async def posts_by_id(source: PostSource, ids: Sequence[int], terms: str = "") -> Page:
    """
    Returns the posts of `ids` that the board has, and the refusals of those that cannot be read.

    Absent posts are requested again and counted, since an empty answer may be a fault. Where the
    board cannot count, or counts more than was requested, they are requested beside a post that it
    has: they are gone if that post comes alone. A post that cannot be read narrows a page to itself, so
    requests go on as long as posts come.

    Args:
        source: The board.
        ids: At most as many as a page holds.
        terms: Further terms of the search, such as `rating:g`.

    Raises:
        EmptyPage: The board counts posts that it does not send, or sends no post at all.
    """
    posts: list[Post] = []
    refused: list[RefusedPost] = []
    absent, witness = set(ids), set[int]()
    is_again = False
    while absent:
        requested = absent | witness
        page = await source.page(_search(requested, terms), before=None, size=len(requested))
        posts += [post for post in page.posts if post.post_id in absent]
        refused += [row for row in page.refused if row.post_id in absent]
        came = {post.post_id for post in page.posts} | {row.post_id for row in page.refused}
        if is_again and not came & absent:
            if came & witness:
                break
            count = await source.remaining(_search(absent, terms), before=None)
            if count == 0:
                break
            is_counted = count is not None and count <= len(absent)
            other = None if witness or is_counted else await _other(source, posts, terms)
            if other is None:
                raise EmptyPage(
                    f"The board sends no post for {_search(absent, terms):.60}, and its count "
                    f"({count}) does not prove them gone. Run the same command again to continue."
                )
            witness = {other}
        absent -= came
        is_again = True
    return Page(tuple(posts), min(ids, default=None), tuple(refused))


async def _other(source: PostSource, posts: Sequence[Post], terms: str) -> int | None:
    """Returns the id of a post that the board has: one of `posts`, else its newest; None if none."""
    if posts:
        return posts[0].post_id
    return (await source.page(f"{PREFIX}>0 {terms}".strip(), before=None, size=1)).cursor


def _search(ids: set[int], terms: str) -> str:
    return f"{PREFIX}{','.join(map(str, sorted(ids)))} {terms}".strip()
