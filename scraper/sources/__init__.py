"""
Where posts come from: one interface, one file per kind of source.

A source yields candidate personae, the posts of one search page by page, and the tag tables.
`danbooru` requests them from a board; `folder` reads files; `dump` chooses posts of a board.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from scraper.post import Post

GONE: Final = "gone"
"""Reason of a chosen post that the board no longer has."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, with the number of its posts."""

    name: str
    category: int
    """0 general, 1 artist, 3 copyright, 4 character, 5 meta."""
    post_count: int
    """Posts with the tag, deleted and hidden ones included: an upper bound."""


@dataclass(frozen=True, slots=True)
class RefusedPost:
    """A post that cannot be listed."""

    post_id: int | None
    """None when even the id cannot be read."""
    reason: str
    """`malformed_post`: a field is missing or invalid. `unreadable_post`: its JSON is broken. `gone`."""
    detail: str
    """What is wrong, for people."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some posts of a search, newest first, and the cursor of the next page."""

    posts: tuple[Post, ...]
    cursor: int | None
    """Smallest id on the page, that of a hidden or refused post too; None on an empty page."""
    refused: tuple[RefusedPost, ...] = ()


class PostSource(Protocol):
    """Where posts come from."""

    @property
    def identity(self) -> str:
        """Name of the collection: posts of two identities never mix."""

    def candidates(self, min_images: int) -> AsyncIterator[Tag]:
        """Yields character tags with at least `min_images` posts, those with most posts first."""

    def named(self, names: Sequence[str]) -> AsyncIterator[Tag]:
        """Yields those of `names` that are character tags of the source."""

    async def page(self, search: str, *, before: int | None, size: int) -> Page:
        """Returns the `size` newest posts of `search` whose id is below `before`."""

    async def remaining(self, search: str, *, before: int | None) -> int | None:
        """Returns how many posts of `search` have an id below `before`; None if unknown."""

    def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active implications (antecedent, consequent) of character and general tags."""

    def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the active aliases (old name, current name) of character and general tags."""


@runtime_checkable
class ChoosingSource(PostSource, Protocol):
    """A source that knows the ids of its posts without a request; they may be others tomorrow."""

    @property
    def board(self) -> PostSource:
        """Where the chosen posts and the tag tables are requested."""

    def chosen(self, search: str) -> list[int]:
        """Returns the ids of the chosen posts of `search`, newest first."""

    async def described(self, search: str, ids: Sequence[int]) -> Page:
        """Returns the posts of `ids`, at most 100; those that are no longer there are refused."""
