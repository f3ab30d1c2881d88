"""
A Danbooru-style board as a source: its JSON API through the client.

Pages are requested by id (`page=b<id>`, see https://danbooru.donmai.us/wiki_pages/help:api): they
have no last page, and neither repeat nor skip posts when others come and go. A search that times
out in the board's database is requested again with a smaller page.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from scraper.errors import QueryTimedOut, RequestRefused, UnexpectedResponse, UnreadablePage
from scraper.post import CATEGORIES
from scraper.sources import Page, RefusedPost, Tag
from scraper.sources.board_post import ONLY_FIELDS, read_post

_log = logging.getLogger(__name__)
_RowT = TypeVar("_RowT")

_TABLE_PAGE = 1000  # the board's maximum for everything but posts
_NAMES_AT_ONCE = 50  # keeps the address of the request short
_NARROWER = 4
_NARROWINGS = 2  # two smaller pages, then the search is given up
_LONGEST_NAME = 500
_MOST_ROWS = 500_000  # of a table; Danbooru's largest has about 150,000
_MANY = 5  # a page of so many posts of which none can be read is no accident
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
        most_rows: A table with more rows does not end.
    """

    def __init__(
        self,
        client: JsonClient,
        base_url: str,
        *,
        identity: str = "",
        most_rows: int = _MOST_ROWS,
    ) -> None:
        self._client = client
        self._most_rows = most_rows
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
        number, names = 1, set[str]()
        search = {
            "search[category]": CATEGORIES["character"],
            "search[post_count]": f">={min_images}",
            "search[order]": "count",
            "limit": _TABLE_PAGE,
            "only": "name,category,post_count,is_deprecated",
        }
        while rows := await self._rows("/tags.json", {"page": number, **search}):
            tags = _valid("/tags.json", rows, lambda row: (_tag(row), row.get("is_deprecated")))
            # Numbered pages may repeat a row when counts change, but not all of them.
            fresh = [pair for pair in tags if pair[0].name not in names]
            if not fresh:
                _check_is_short("/tags.json", rows)
                return
            for tag, is_deprecated in fresh:
                names.add(tag.name)
                is_character = tag.category == CATEGORIES["character"]
                # Other boards may not filter.
                if is_character and tag.post_count >= min_images and is_deprecated is not True:
                    yield tag
            self._check_is_bounded("/tags.json", len(names))
            number += 1

    async def named(self, names: Sequence[str]) -> AsyncIterator[Tag]:
        """Yields those of `names` that are character tags of the board."""
        for start in range(0, len(names), _NAMES_AT_ONCE):
            query = {
                "search[name_comma]": ",".join(names[start : start + _NAMES_AT_ONCE]),
                "limit": _TABLE_PAGE,
                "only": "name,category,post_count",
            }
            for tag in _valid("/tags.json", await self._rows("/tags.json", query), _tag):
                if tag.category == CATEGORIES["character"]:
                    yield tag

    async def page(self, search: str, *, before: int | None, size: int) -> Page:
        """
        Returns the `size` newest posts of `search` whose id is below `before`.

        A post with an invalid field is refused, and so is a post whose JSON is broken: smaller
        pages isolate it.

        Raises:
            QueryTimedOut: Even the smallest page timed out.
            UnexpectedResponse: No row is a post, or the board ignores the cursor.
        """
        if self._narrowed is not None and self._narrowed[0] == search:
            size = min(size, self._narrowed[1])
        timeouts = 0
        while True:
            try:
                rows = await self._objects("/posts.json", _posts(search, before, size))
                break
            except QueryTimedOut:
                timeouts += 1
                if timeouts > _NARROWINGS or size == 1:
                    raise
                size = max(1, size // _NARROWER)
                self._narrowed = search, size
                _log.warning(
                    "The search '%s' timed out; requesting %d posts per page", search, size
                )
            except UnreadablePage as error:
                if size == 1:
                    return await self._without_unreadable(search, before, error)
                size = max(1, size // _NARROWER)
                _log.warning("%s Requesting %d posts instead.", error, size)
        return self._read(search, before, rows)

    async def remaining(self, search: str, *, before: int | None) -> int | None:
        """Returns how many posts of `search` have an id below `before`; None if unknown."""
        tags = search if before is None else f"{search} id:<{before}"
        try:
            return counted(await self._client.get_json("/counts/posts.json", {"tags": tags}))
        except (RequestRefused, UnexpectedResponse) as error:
            _log.info("The posts of '%s' cannot be counted: %s", tags, error)
            return None

    def _read(self, search: str, before: int | None, rows: Sequence[Any]) -> Page:
        """Returns the posts of a page, and the refusals of those that cannot be read."""
        posts, refused = [], []
        errors: list[UnexpectedResponse] = []
        for row in rows:
            try:
                posts.append(read_post(row, base_url=self._base_url))
            except UnexpectedResponse as error:
                errors.append(error)
                refused.append(RefusedPost(_post_id(row), "malformed_post", str(error)))
        ids = [post.post_id for post in posts] + [row.post_id for row in refused if row.post_id]
        if errors and (not ids or (not posts and len(rows) >= _MANY)):
            raise errors[0]
        if before is not None and ids and min(ids) >= before:
            raise UnexpectedResponse(
                f"Asked for posts of '{search}' below id {before}, the board sent others. "
                "It does not page by id, as Danbooru does: it cannot be listed."
            )
        return Page(tuple(posts), min(ids, default=None), tuple(refused))

    async def _without_unreadable(
        self, search: str, before: int | None, error: UnreadablePage
    ) -> Page:
        """Returns the refusal of the one post below `before`, whose JSON cannot be parsed."""
        rows = await self._objects("/posts.json", {**_posts(search, before, 1), "only": "id"})
        post_id = _post_id(rows[0]) if rows else None
        if post_id is None or (before is not None and post_id >= before):
            raise error
        return Page((), post_id, (RefusedPost(post_id, "unreadable_post", str(error)),))

    async def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active implications (antecedent, consequent) of character and general tags."""
        async for pair in self._pairs("/tag_implications.json"):
            yield pair

    async def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active aliases (old name, current name) of character and general tags."""
        async for pair in self._pairs("/tag_aliases.json"):
            yield pair

    async def _pairs(self, path: str) -> AsyncIterator[tuple[str, str]]:
        """Yields the pairs of a table by id, one tag category after the other."""
        count = 0
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
                ids = _valid(path, rows, lambda row: _integer(row, "id", path))
                if before is not None and max(ids) >= before:
                    raise UnexpectedResponse(
                        f"Asked {path} for rows below id {before}, the board sent one that is not. "
                        "It does not page by id, as Danbooru does: it cannot be listed."
                    )
                before = min(ids)
                active = [row for row in rows if row.get("status", "active") == "active"]
                for pair in _valid(path, active, lambda row: _pair(row, path)):
                    yield pair
                count += len(rows)
                self._check_is_bounded(path, count)

    def _check_is_bounded(self, path: str, count: int) -> None:
        """Raises UnexpectedResponse when a table has more rows than any board."""
        if count > self._most_rows:
            raise UnexpectedResponse(
                f"{path} has sent {count:,} rows and does not end. The board is broken or hostile. "
                "Check 'site.name'."
            )

    async def _rows(self, path: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns the rows of a table; those that are no objects are left out."""
        rows = await self._objects(path, query)
        return [row if isinstance(row, dict) else {} for row in rows]

    async def _objects(self, path: str, query: Mapping[str, Any]) -> list[Any]:
        answer = await self._client.get_json(path, query)
        if not isinstance(answer, list):
            raise UnexpectedResponse(
                f"{path} answered with {type(answer).__name__} where a list of objects was "
                "expected. The address is no Danbooru-style board: check 'site.name'."
            )
        return answer


def _posts(search: str, before: int | None, size: int) -> dict[str, Any]:
    """Returns the query of a page of posts."""
    cursor = {} if before is None else {"page": f"b{before}"}
    return {"tags": search, "limit": size, **cursor, "only": ONLY_FIELDS}


def _post_id(row: Any) -> int | None:
    post_id = row.get("id") if isinstance(row, dict) else None
    if not isinstance(post_id, int) or isinstance(post_id, bool) or not 1 <= post_id < 2**63:
        return None
    return post_id


def _valid(
    path: str, rows: Sequence[dict[str, Any]], read: Callable[[dict[str, Any]], _RowT]
) -> list[_RowT]:
    """
    Returns the rows of a table as `read` returns them, without those that are malformed.

    Raises:
        UnexpectedResponse: All rows are malformed.
    """
    valid, errors = [], []
    for row in rows:
        try:
            valid.append(read(row))
        except UnexpectedResponse as error:
            errors.append(error)
    if errors and not valid:
        raise errors[0]
    if errors:
        _log.warning("%d rows of %s are left out. The first: %s", len(errors), path, errors[0])
    return valid


def _check_is_short(path: str, rows: Sequence[Any]) -> None:
    """Raises UnexpectedResponse when a whole page came twice: further rows cannot be reached."""
    if len(rows) >= _TABLE_PAGE:
        raise UnexpectedResponse(
            f"{path} repeats the same page of {len(rows)} rows. The board ignores the page number: "
            "its tags cannot be listed. Name the personae with 'listing.names'."
        )


def _pair(row: Mapping[str, Any], path: str) -> tuple[str, str]:
    return _name(row, "antecedent_name", path), _name(row, "consequent_name", path)


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
