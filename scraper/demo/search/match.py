"""
Finds the posts that match a query.

A set of posts is an integer: bit `i` stands for the `i`-th post in order of id, so that `and`,
`or` and `not` are one operation each. An index is valid for one version of the board.

The metatags are those of https://danbooru.donmai.us/wiki_pages/help:cheatsheet, read as in
`app/models/post.rb` of https://github.com/danbooru/danbooru.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import reduce
from operator import and_, or_

from scraper.demo.facts.record import DemoPost, FileFacts
from scraper.demo.search import ranges
from scraper.demo.search.language import QueryNode, metatag
from scraper.demo.search.ranges import BadValue

_WILDCARD_TAGS = 100
"""A wildcard matches this many tags at most, as in `app/logical/post_query_builder.rb`."""
_CACHED_SETS = 1_000
"""Trees whose sets are kept: pages of one search share them, and memory stays bounded."""
_ABOUT = 0.05
"""Share by which a single decimal number or file size may differ, as on Danbooru."""
_BY_FILE = ("md5", "filesize", "pixelhash")
"""Metatags that need facts of the file, which change when a file is drawn."""
_STATUSES = ("pending", "flagged", "deleted", "banned")
_RATINGS = {"general": "g", "sensitive": "s", "questionable": "q", "explicit": "e"}
_KINDS = {"gentags": "general", "chartags": "character", "copytags": "copyright"} | {
    "arttags": "artist",
    "metatags": "meta",
}

Number = Callable[[DemoPost], float | None]
"""Returns a number of a post, or None if the post has none."""
Predicate = Callable[[DemoPost], bool]
"""Returns whether a post matches."""

_INTEGERS: dict[str, Number] = {
    "id": lambda post: post.post_id,
    "width": lambda post: post.width,
    "height": lambda post: post.height,
    "score": lambda post: post.score,
    "favcount": lambda post: post.fav_count,
    "upvotes": lambda post: post.up_score,
    "downvotes": lambda post: -post.down_score,
    "tagcount": lambda post: len(post.all_tags),
    "pixiv_id": lambda post: post.pixiv_id,
    "pixiv": lambda post: post.pixiv_id,
    "child_count": lambda post: len(post.children),
}

_ORDERS: dict[str, Callable[[DemoPost], float]] = {
    "score": lambda post: post.score,
    "favcount": lambda post: post.fav_count,
    "mpixels": lambda post: post.width * post.height,
    "created_at": lambda post: post.created_ms,
    "updated_at": lambda post: post.updated_ms,
    "change": lambda post: post.updated_ms,
    "tagcount": lambda post: len(post.all_tags),
    "rank": lambda post: post.score,
}


class PostIndex:
    """
    The posts of one version of a board, by tag.

    Attributes:
        posts: The posts, ascending by id.
        categories: Tag name to category, for the tags in use.
    """

    def __init__(self, posts: Sequence[DemoPost], facts: Callable[[int], FileFacts | None]) -> None:
        """
        Indexes posts.

        Args:
            posts: The posts, ascending by id.
            facts: Returns the facts of a post's file by post id, or None if it is not drawn yet.
        """
        self.posts = posts
        # `age:` is relative to the newest post, so that results do not depend on today's date.
        self._now_ms = max((post.created_ms for post in posts), default=0)
        self._facts = facts
        self._everything = (1 << len(posts)) - 1
        self._positions: dict[str, list[int]] = {}
        self.categories: dict[str, str] = {}
        for position, post in enumerate(posts):
            for category, names in post.tags.items():
                for name in names:
                    self._positions.setdefault(name, []).append(position)
                    self.categories[name] = category
        self._sets: dict[QueryNode, int] = {}

    def count(self, name: str) -> int:
        """Returns the number of posts with a tag, whatever their status."""
        return len(self._positions.get(name, ()))

    def names(self) -> list[str]:
        """Returns the tags in use, in the order of their first post."""
        return list(self._positions)

    def select(self, tree: QueryNode) -> list[DemoPost]:
        """
        Returns the posts that match a query, in the order of its `order:`.

        The default is descending by id, or by time of upload if the query has `date:` or `age:`.
        An unknown order is the default. `order:random` gives the same order on every call.
        """
        matches = [self.posts[position] for position in _bits(self.matching(tree))]
        order = (metatag(tree, "order") or "").lower()
        if metatag(tree, "random") is not None or order == "random":
            random.Random(len(matches)).shuffle(matches)  # noqa: S311 - a made-up board, no secrets
        elif order == "custom":
            ids = [part for part in (metatag(tree, "id") or "").split(",") if part.isdigit()]
            matches.sort(key=lambda post: ids.index(str(post.post_id)))
        elif order not in ("id", "id_asc"):
            name = order.removesuffix("_asc").removesuffix("_desc")
            dated = any(leaf.name in ("date", "age") for leaf in tree.leaves())
            key = _ORDERS.get(name, _ORDERS["created_at"] if dated else None)
            matches.reverse()
            if key is not None:
                matches.sort(key=key, reverse=not order.endswith("_asc"))
        return matches

    def matching(self, tree: QueryNode) -> int:
        """Returns the set of posts that match a query, as an integer of bits."""
        members = self._sets.get(tree)
        if members is None:
            members = self._evaluate(tree)
            if len(self._sets) >= _CACHED_SETS:
                self._sets.clear()
            if not any(leaf.name in _BY_FILE for leaf in tree.leaves()):
                self._sets[tree] = members
        return members

    def _evaluate(self, tree: QueryNode) -> int:
        parts = [self.matching(child) for child in tree.children]
        if tree.kind == "and":
            return reduce(and_, parts, self._everything)
        if tree.kind == "not":
            return self._everything & ~parts[0]
        if tree.kind in ("or", "opt"):
            return reduce(or_, parts, 0)
        leaf: dict[str, Callable[[], int]] = {
            "tag": lambda: self._tagged(tree.name),
            "wildcard": lambda: self._wildcard(tree.name),
            "metatag": lambda: self._metatag(tree.name, tree.value),
            "all": lambda: self._everything,
            "none": lambda: 0,
        }
        return leaf[tree.kind]()

    def _tagged(self, name: str) -> int:
        bits = bytearray((len(self.posts) + 7) // 8)
        for position in self._positions.get(name, ()):
            bits[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(bits, "little")

    def _wildcard(self, pattern: str) -> int:
        members = 0
        for name in self._matching_names(pattern)[:_WILDCARD_TAGS]:
            members |= self._tagged(name)
        return members

    def _matching_names(self, pattern: str) -> list[str]:
        """Returns the tags in use that match a pattern with `*`, those with most posts first."""
        plain = pattern.replace("[", "[[]").replace("?", "[?]")
        names = [name for name in self._positions if fnmatchcase(name, plain)]
        return sorted(names, key=lambda name: (-self.count(name), name))

    def _where(self, holds: Predicate) -> int:
        bits = bytearray((len(self.posts) + 7) // 8)
        for position, post in enumerate(self.posts):
            if holds(post):
                bits[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(bits, "little")

    def _metatag(self, name: str, value: str) -> int:
        if name in ("order", "limit", "random", "upvote", "downvote"):
            return 0 if name in ("upvote", "downvote") else self._everything
        try:
            return self._where(_predicate(name, value, self._now_ms, self._facts))
        except BadValue:
            return 0


def _predicate(
    name: str, value: str, now_ms: float, facts: Callable[[int], FileFacts | None]
) -> Predicate:
    """
    Returns the predicate of one metatag; a metatag that the board does not know matches nothing.

    Raises:
        BadValue: The value is of the wrong type.
    """
    words = [word for word in value.lower().replace(" ", ",").split(",") if word]
    named: dict[str, Callable[[], Predicate]] = {
        "rating": lambda: _is_rated({_RATINGS.get(word, word)[0] for word in words}),
        "filetype": lambda: lambda post: post.file_ext in words,
        "status": lambda: _status(value.lower()),
        "is": lambda: _is(value.lower()),
        "parent": lambda: _relation(name, value.lower()),
        "child": lambda: _relation(name, value.lower()),
        "date": lambda: _inside(ranges.date(value), lambda post: post.created_ms),
        "age": lambda: _inside(ranges.age(value, now_ms), lambda post: post.created_ms),
        "duration": lambda: _inside(_about(value), lambda post: post.duration),
        "mpixels": lambda: _inside(_about(value), lambda post: post.width * post.height / 1e6),
        "ratio": lambda: _inside(
            ranges.within(value, ranges.ratio), lambda post: round(post.width / post.height, 2)
        ),
        "source": lambda: lambda post: post.source.lower().startswith(value.lower().rstrip("*")),
    }
    if name in named:
        return named[name]()
    if name in _BY_FILE:
        return _by_file(name, value, words, facts)
    if name in _KINDS:
        kind = _KINDS[name]
        return _inside(ranges.within(value, ranges.integer), lambda post: len(post.tags[kind]))
    if name in _INTEGERS:
        return _inside(ranges.within(value, ranges.integer), _INTEGERS[name])
    return _never


def _never(_post: DemoPost) -> bool:
    return False


def _always(_post: DemoPost) -> bool:
    return True


def _inside(holds: ranges.Test, read: Number) -> Predicate:
    return lambda post: holds(read(post))


def _about(value: str) -> ranges.Test:
    return ranges.within(value, float, around=_ABOUT)


def _is_rated(letters: set[str]) -> Predicate:
    return lambda post: post.rating in letters


def _by_file(
    name: str, value: str, words: Sequence[str], facts: Callable[[int], FileFacts | None]
) -> Predicate:
    """Returns the predicate of a metatag in `_BY_FILE`; a post that is not drawn never matches."""
    sized: ranges.Test = bool
    if name == "filesize":
        around = _ABOUT if value[-1:] in "kKmMbB" else 0.0
        sized = ranges.within(value, ranges.size, around=around)

    def holds(post: DemoPost) -> bool:
        known = facts(post.post_id)
        if known is None:
            return False
        if name == "filesize":
            return sized(known.file_bytes)
        return (known.md5 if name == "md5" else known.pixel_hash) in words

    return holds


def _status(value: str) -> Predicate:
    named: dict[str, Predicate] = {
        "active": lambda post: post.flags <= {"banned"},
        "any": _always,
        "all": _always,
        "modqueue": lambda post: bool(post.flags & {"pending", "flagged"}),
    }
    if value in _STATUSES:
        return lambda post: value in post.flags
    return named.get(value, _never)


def _is(value: str) -> Predicate:
    if value in (*_STATUSES, "active", "modqueue"):
        return _status(value)
    named: dict[str, Predicate] = {
        "sfw": lambda post: post.rating in "gs",
        "nsfw": lambda post: post.rating in "qe",
        "parent": lambda post: bool(post.children),
        "child": lambda post: post.parent_id is not None,
    }
    if value in _RATINGS:
        return _is_rated({_RATINGS[value]})
    return named.get(value, lambda post: post.file_ext == value)


def _relation(name: str, value: str) -> Predicate:
    if name == "parent":
        if value in ("any", "none"):
            return lambda post: (post.parent_id is None) is (value == "none")
        return lambda post: value in (str(post.parent_id), str(post.post_id))
    if value in ("any", "none"):
        return lambda post: bool(post.children) is (value == "any")
    return lambda post: any(str(child) == value for child in post.children)


def _bits(members: int) -> Iterator[int]:
    """Yields the positions of the bits that are 1, ascending."""
    for index, byte in enumerate(members.to_bytes((members.bit_length() + 7) // 8, "little")):
        for bit in _BITS_OF[byte]:
            yield index * 8 + bit


_BITS_OF = [tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256)]
