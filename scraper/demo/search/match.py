"""
Answers a query over the posts of a board.

Sets of posts are integers: bit `i` stands for the `i`-th post in order of id, so that and, or and
not are one operation each. An index is made for one state of the board.
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
_REMEMBERED = 1_000
_BY_FILE = ("md5", "filesize", "pixelhash")
_STATUSES = ("pending", "flagged", "deleted", "banned")
_RATINGS = {"general": "g", "sensitive": "s", "questionable": "q", "explicit": "e"}
_KINDS = {"gentags": "general", "chartags": "character", "copytags": "copyright"} | {
    "arttags": "artist",
    "metatags": "meta",
}

Number = Callable[[DemoPost], float | None]
Holds = Callable[[DemoPost], bool]

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
    """Posts by tag and by number, for one state of a board."""

    def __init__(self, posts: Sequence[DemoPost], facts: Callable[[int], FileFacts | None]) -> None:
        """
        `facts` gives what is known of a file; `posts` ascend by id.

        The board's own clock stands at its newest post, so that ages do not depend on the day.
        """
        self.posts = posts
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
        """Posts with a tag, whatever their status."""
        return len(self._positions.get(name, ()))

    def names(self) -> list[str]:
        """Every tag in use, in the order in which it came into use."""
        return list(self._positions)

    def select(self, tree: QueryNode) -> list[DemoPost]:
        """Posts that match, in the order that the query asks for; by default newest id first."""
        found = [self.posts[position] for position in _bits(self.matching(tree))]
        order = (metatag(tree, "order") or "").lower()
        if metatag(tree, "random") is not None or order == "random":
            random.Random(len(found)).shuffle(found)  # noqa: S311 - a made-up board, no secrets
        elif order == "custom":
            wanted = [part for part in (metatag(tree, "id") or "").split(",") if part.isdigit()]
            found.sort(key=lambda post: wanted.index(str(post.post_id)))
        elif order not in ("id", "id_asc"):
            name = order.removesuffix("_asc").removesuffix("_desc")
            dated = any(leaf.name in ("date", "age") for leaf in tree.leaves())
            key = _ORDERS.get(name, _ORDERS["created_at"] if dated else None)
            found.reverse()
            if key is not None:
                found.sort(key=key, reverse=not order.endswith("_asc"))
        return found

    def matching(self, tree: QueryNode) -> int:
        """The set of posts that match a tree."""
        found = self._sets.get(tree)
        if found is None:
            found = self._evaluate(tree)
            if len(self._sets) >= _REMEMBERED:
                self._sets.clear()
            if not any(leaf.name in _BY_FILE for leaf in tree.leaves()):
                self._sets[tree] = found
        return found

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
        found = 0
        for name in self.matching_names(pattern)[:_WILDCARD_TAGS]:
            found |= self._tagged(name)
        return found

    def matching_names(self, pattern: str) -> list[str]:
        """Tags in use that match a `*` pattern, those with most posts first."""
        plain = pattern.replace("[", "[[]").replace("?", "[?]")
        names = [name for name in self._positions if fnmatchcase(name, plain)]
        return sorted(names, key=lambda name: (-self.count(name), name))

    def _where(self, holds: Holds) -> int:
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
) -> Holds:
    """The test of one metatag; a name without meaning here matches nothing."""
    words = [word for word in value.lower().replace(" ", ",").split(",") if word]
    named: dict[str, Callable[[], Holds]] = {
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


def _inside(holds: Callable[[float | None], bool], read: Number) -> Holds:
    return lambda post: holds(read(post))


def _about(value: str) -> Callable[[float | None], bool]:
    """A decimal number; a bare one matches within 5 %."""
    return ranges.within(value, float, around=0.05)


def _is_rated(letters: set[str]) -> Holds:
    return lambda post: post.rating in letters


def _by_file(
    name: str, value: str, words: Sequence[str], facts: Callable[[int], FileFacts | None]
) -> Holds:
    """Tests that need the finished file; a post not drawn yet matches none of them."""
    sized: Callable[[float | None], bool] = bool
    if name == "filesize":
        around = 0.05 if value[-1:] in "kKmMbB" else 0.0
        sized = ranges.within(value, ranges.size, around=around)

    def holds(post: DemoPost) -> bool:
        known = facts(post.post_id)
        if known is None:
            return False
        if name == "filesize":
            return sized(known.file_bytes)
        return (known.md5 if name == "md5" else known.pixel_hash) in words

    return holds


def _status(value: str) -> Holds:
    named: dict[str, Holds] = {
        "active": lambda post: post.flags <= {"banned"},
        "any": _always,
        "all": _always,
        "modqueue": lambda post: bool(post.flags & {"pending", "flagged"}),
    }
    if value in _STATUSES:
        return lambda post: value in post.flags
    return named.get(value, _never)


def _is(value: str) -> Holds:
    if value in (*_STATUSES, "active", "modqueue"):
        return _status(value)
    named: dict[str, Holds] = {
        "sfw": lambda post: post.rating in "gs",
        "nsfw": lambda post: post.rating in "qe",
        "parent": lambda post: bool(post.children),
        "child": lambda post: post.parent_id is not None,
    }
    if value in _RATINGS:
        return _is_rated({_RATINGS[value]})
    return named.get(value, lambda post: post.file_ext == value)


def _relation(name: str, value: str) -> Holds:
    if name == "parent":
        if value in ("any", "none"):
            return lambda post: (post.parent_id is None) is (value == "none")
        return lambda post: value in (str(post.parent_id), str(post.post_id))
    if value in ("any", "none"):
        return lambda post: bool(post.children) is (value == "any")
    return lambda post: any(str(child) == value for child in post.children)


def _bits(found: int) -> Iterator[int]:
    """Positions of the bits that are set, ascending."""
    for index, byte in enumerate(found.to_bytes((found.bit_length() + 7) // 8, "little")):
        for bit in _BITS_OF[byte]:
            yield index * 8 + bit


_BITS_OF = [tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256)]
