"""
A Danbooru-style board as a source: its JSON API through the client.

Pages are requested by id (`page=b<id>`, see https://danbooru.donmai.us/wiki_pages/help:api): they
have no last page, and neither repeat nor skip posts when others come and go. A search that times
out in the board's database is requested again with a smaller page.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from scraper.errors import QueryTimedOut, UnexpectedResponse
from scraper.post import CATEGORIES
from scraper.sources import Page, Tag
from scraper.sources.board_post import ONLY_FIELDS, read_post

_log = logging.getLogger(__name__)

_TABLE_PAGE = 1000  # the board's maximum for everything but posts
_NAMES_AT_ONCE = 50  # keeps the address of the request short
_NARROWER = 4
_NARROWINGS = 2  # two smaller pages, then the search is given up
_LONGEST_NAME = 500
_TABLE_CATEGORIES = (CATEGORIES["character"], CATEGORIES["general"])


class JsonClient(Protocol):
    """The part of the client that a source uses."""

    async def get_json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Returns the parsed answer of the API."""


class Danbooru:
    """
    One board as a `PostSource`.

    Args:
        client: Sends requests to the API.
        base_url: The board's address; its own file URLs are stored without it.
        identity: Name of the collection, if it is not the address (the port of the demo board
            differs between runs).
    """

    def __init__(self, client: JsonClient, base_url: str, *, identity: str = "") -> None:
        self._client = client
        self._base_url = base_url
        self._identity = identity or base_url
        # A search that timed out keeps its smaller page until another search begins.
        self._narrowed: tuple[str, int] | None = None

    @property
    def identity(self) -> str:
        """Name of the collection: posts of two identities never mix."""
        return self._identity

    async def candidates(self, min_images: int) -> AsyncIterator[Tag]:
        """
        Yields character tags with at least `min_images` posts, those with most posts first.

        Raises:
            UnexpectedResponse: A row lacks name, category or count.
        """
        number, seen = 1, set[str]()
        search = {
            "search[category]": CATEGORIES["character"],
            "search[post_count]": f">={min_images}",
            "search[order]": "count",
            "limit": _TABLE_PAGE,
            "only": "name,category,post_count,is_deprecated",
        }
        while rows := await self._rows("/tags.json", {"page": number, **search}):
            for row in rows:
                tag = _tag(row)
                # Numbered pages may repeat a row when counts change; and other boards may not filter.
                if (
                    tag.name in seen
                    or tag.category != CATEGORIES["character"]
                    or tag.post_count < min_images
                    or row.get("is_deprecated") is True
                ):
                    continue
                seen.add(tag.name)
                yield tag
            number += 1

    async def named(self, names: Sequence[str]) -> AsyncIterator[Tag]:
        """Yields those of `names` that are character tags of the board."""
        for start in range(0, len(names), _NAMES_AT_ONCE):
            query = {
                "search[name_comma]": ",".join(names[start : start + _NAMES_AT_ONCE]),
                "limit": _TABLE_PAGE,
                "only": "name,category,post_count",
            }
            for row in await self._rows("/tags.json", query):
                tag = _tag(row)
                if tag.category == CATEGORIES["character"]:
                    yield tag

    async def page(self, search: str, *, before: int | None, size: int) -> Page:
        """
        Returns the `size` newest posts of `search` whose id is below `before`.

        Raises:
            QueryTimedOut: Even the smallest page timed out.
            UnexpectedResponse: The rows are no posts, or the board ignores the cursor.
        """
        if self._narrowed is not None and self._narrowed[0] == search:
            size = min(size, self._narrowed[1])
        for narrowing in range(_NARROWINGS + 1):
            try:
                rows = await self._posts(search, before, size)
                break
            except QueryTimedOut:
                if narrowing == _NARROWINGS or size == 1:
                    raise
                size = max(1, size // _NARROWER)
                self._narrowed = search, size
                _log.warning(
                    "The search '%s' timed out; requesting %d posts per page", search, size
                )
        posts = tuple(read_post(row, base_url=self._base_url) for row in rows)
        if not posts:
            return Page((), None)
        cursor = min(post.post_id for post in posts)
        if before is not None and max(post.post_id for post in posts) >= before:
            raise UnexpectedResponse(
                f"Asked for posts of '{search}' below id {before}, the board sent one that is not. "
                "It does not page by id, as Danbooru does: it cannot be listed."
            )
        return Page(posts, cursor)

    async def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active implications (antecedent, consequent) of character and general tags."""
        async for pair in self._pairs("/tag_implications.json"):
            yield pair

    async def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active aliases (old name, current name) of character and general tags."""
        async for pair in self._pairs("/tag_aliases.json"):
            yield pair

    async def _posts(self, search: str, before: int | None, size: int) -> list[dict[str, Any]]:
        cursor = {} if before is None else {"page": f"b{before}"}
        query = {"tags": search, "limit": size, **cursor, "only": ONLY_FIELDS}
        return await self._rows("/posts.json", query)

    async def _pairs(self, path: str) -> AsyncIterator[tuple[str, str]]:
        """Yields the pairs of a table by id, one tag category after the other."""
        for category in _TABLE_CATEGORIES:
            before: int | None = None
            search = {
                "search[status]": "active",
                "search[category]": category,
                "limit": _TABLE_PAGE,
                "only": "id,antecedent_name,consequent_name,status",
            }
            while rows := await self._rows(
                path, search if before is None else {"page": f"b{before}", **search}
            ):
                ids = [_integer(row, "id", path) for row in rows]
                if before is not None and max(ids) >= before:
                    raise UnexpectedResponse(
                        f"Asked {path} for rows below id {before}, the board sent one that is not. "
                        "It does not page by id, as Danbooru does: it cannot be listed."
                    )
                before = min(ids)
                for row in rows:
                    if row.get("status", "active") == "active":
                        yield (
                            _name(row, "antecedent_name", path),
                            _name(row, "consequent_name", path),
                        )

    async def _rows(self, path: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await self._client.get_json(path, query)
        if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
            raise UnexpectedResponse(
                f"{path} answered with {type(answer).__name__} where a list of objects was "
                "expected. The address is no Danbooru-style board: check 'site.name'."
            )
        return answer


def counted(answer: Any) -> int | None:
    """Returns the number in an answer of `/counts/posts.json`; None when the count timed out."""
    counts = answer.get("counts") if isinstance(answer, dict) else None
    posts = counts.get("posts") if isinstance(counts, dict) else None
    return posts if isinstance(posts, int) and not isinstance(posts, bool) else None


def _tag(row: Mapping[str, Any]) -> Tag:
    return Tag(
        name=_name(row, "name", "/tags.json"),
        category=_integer(row, "category", "/tags.json"),
        post_count=_integer(row, "post_count", "/tags.json"),
    )


def _name(row: Mapping[str, Any], key: str, path: str) -> str:
    value = row.get(key)
    # A space or a comma would turn one name into two terms of a search.
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _LONGEST_NAME
        or not value.isprintable()
        or any(letter in value for letter in " ,*")
    ):
        raise _wrong(row, key, path, "the name of a tag")
    return value


def _integer(row: Mapping[str, Any], key: str, path: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _wrong(row, key, path, "a whole number")
    return value


def _wrong(row: Mapping[str, Any], key: str, path: str, expected: str) -> UnexpectedResponse:
    return UnexpectedResponse(
        f"Field '{key}' of a row of {path} is {row.get(key)!r:.60}, not {expected}. The board's API "
        "differs from Danbooru's, or has changed."
    )
