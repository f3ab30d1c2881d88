"""
Danbooru's search language: parses the text of `tags=` to a tree, and counts the tree's terms.

The language is described at https://danbooru.donmai.us/wiki_pages/help:cheatsheet. Grammar and
count follow `app/logical/post_query/parser.rb` and `term_count` in `app/logical/post_query.rb` of
https://github.com/danbooru/danbooru. This file does not depend on posts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FREE = _words(
    """status rating limit is id date age filesize filetype parent child md5 width height duration
    mpixels ratio score upvote downvote favcount embedded tagcount pixiv_id pixiv"""
)
"""Metatags that do not count as a term."""

COUNTED = _words(
    """order random has source user approver commenter noter fav ordfav favgroup pool ordpool search
    upvotes downvotes gentags chartags copytags arttags metatags child_count parent_count note_count
    comment_count exif ai unaliased pixelhash commentary note comment disapproved flagger appealer
    artcomm noteupdater upvoter downvoter general"""
)
"""Metatags that count as one term each."""

_METATAG = re.compile(
    "(" + "|".join(sorted(FREE | COUNTED, key=len, reverse=True)) + "):", re.IGNORECASE
)
_WORD = re.compile(r"[^ )~-][^ ]*")
_QUOTED = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"'),
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'"),
}
_ONCE = ("order", "limit", "random")
"""Metatags that must not occur with different values, in a negation or in an alternative."""


class SearchError(Exception):
    """A query that the board refuses: it has too many terms, or its terms contradict each other."""

    def __init__(self, error: str, message: str) -> None:
        """Takes the name of Danbooru's error class and the message of the answer."""
        super().__init__(message)
        self.error = error


class _SyntaxError(Exception):
    """A text that is not a query. `parse` turns it into the tree that matches nothing."""


@dataclass(frozen=True, slots=True)
class QueryNode:
    """One node of a query tree."""

    kind: str
    """and, or, not, opt (`~`), tag, wildcard, metatag, all or none."""
    children: tuple["QueryNode", ...] = ()
    """Operands of and, or, not and opt."""
    name: str = ""
    """Name of a tag or metatag, or the pattern of a wildcard, in lower case."""
    value: str = ""
    """Text after the colon of a metatag."""

    def leaves(self) -> Iterator["QueryNode"]:
        """Yields the terms of this tree from left to right: tags, wildcards and metatags."""
        if self.kind in ("tag", "wildcard", "metatag"):
            yield self
        for child in self.children:
            yield from child.leaves()


def parse(text: str, aliases: Mapping[str, str] | None = None) -> QueryNode:
    """
    Returns the tree of a query.

    A text with a syntax error gives the tree that matches nothing, as on Danbooru.

    Args:
        text: The query, such as `solo -comic rating:g`.
        aliases: Old tag name to new name; a tag with an old name gets the new name.
    """
    try:
        tree = _QueryParser(text, aliases or {}).root()
    except _SyntaxError:
        return QueryNode("none")
    return _without_opt(tree)


def cost(tree: QueryNode) -> int:
    """Returns the number of counted terms: distinct tags, wildcards and metatags not in `FREE`."""
    return len({leaf for leaf in tree.leaves() if leaf.kind != "metatag" or leaf.name not in FREE})


def validate(tree: QueryNode, *, limit: int | None) -> None:
    """
    Checks that the board accepts a query. It always accepts an empty query and a single tag.

    Args:
        tree: The query.
        limit: Largest number of counted terms; None means no limit.

    Raises:
        SearchError: The query has too many terms, or `order:`, `limit:` or `random:` occurs with
            two values, in a negation or in an alternative.
    """
    if tree.kind in ("all", "none", "tag"):
        return
    terms = list(tree.leaves())
    for name in _ONCE:
        values = {leaf.value.lower() for leaf in terms if leaf.name == name}
        if len(values) > 1:
            raise SearchError("PostQuery::Error", f"You can't use multiple '{name}:' metatags")
    if limit is not None and cost(tree) > limit:
        raise SearchError(
            "PostQuery::TagLimitError", f"You cannot search for more than {limit} tags at a time."
        )
    if any(leaf.name in _ONCE for leaf in _nested(tree)):
        raise SearchError(
            "PostQuery::Error", "'order:', 'limit:' and 'random:' can't be negated or used in 'or'"
        )


def _nested(tree: QueryNode, *, inside: bool = False) -> Iterator[QueryNode]:
    """Yields the metatags inside a negation or an alternative."""
    if inside and tree.kind == "metatag":
        yield tree
    for child in tree.children:
        yield from _nested(child, inside=inside or tree.kind in ("or", "not"))


def metatag(tree: QueryNode, name: str) -> str | None:
    """Returns the value of the first metatag with this name, or None."""
    return next((leaf.value for leaf in tree.leaves() if leaf.name == name), None)


class _QueryParser:
    """A recursive-descent parser of one query."""

    def __init__(self, text: str, aliases: Mapping[str, str]) -> None:
        self._text = text.strip()
        self._at = 0
        self._open = 0
        self._aliases = aliases

    def root(self) -> QueryNode:
        clauses = []
        while self._more():
            clauses.append(self._or())
        if not clauses:
            return QueryNode("all")
        return clauses[0] if len(clauses) == 1 else QueryNode("and", tuple(clauses))

    def _more(self) -> bool:
        self._space()
        return self._at < len(self._text)

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at] == " ":
            self._at += 1

    def _accept(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _keyword(self, word: str) -> bool:
        self._space()
        match = re.compile(rf"{word} +", re.IGNORECASE).match(self._text, self._at)
        if match:
            self._at = match.end()
        return match is not None

    def _or(self) -> QueryNode:
        first = self._and()
        return QueryNode("or", (first, self._or())) if self._keyword("or") else first

    def _and(self) -> QueryNode:
        first = self._factors()
        return QueryNode("and", (first, self._and())) if self._keyword("and") else first

    def _factors(self) -> QueryNode:
        factors = [self._factor()]
        while self._more() and not self._ends_list():
            factors.append(self._factor())
        if len(factors) == 1 and factors[0].kind != "opt":
            return factors[0]
        return QueryNode("and", tuple(factors))

    def _ends_list(self) -> bool:
        if self._text[self._at] == ")":
            return True
        return re.compile(r"(or|and) ", re.IGNORECASE).match(self._text, self._at) is not None

    def _factor(self) -> QueryNode:
        self._space()
        if self._accept("-"):
            return QueryNode("not", (self._expr(),))
        if self._accept("~"):
            return QueryNode("opt", (self._expr(),))
        return self._expr()

    def _expr(self) -> QueryNode:
        self._space()
        if not self._accept("("):
            return self._term()
        self._open += 1
        inside = self._or()
        self._space()
        if not self._accept(")"):
            raise _SyntaxError
        self._open -= 1
        return inside

    def _term(self) -> QueryNode:
        match = _METATAG.match(self._text, self._at)
        if match:
            self._at = match.end()
            return QueryNode("metatag", name=match[1].lower(), value=self._value())
        word = self._word(_WORD, keep_balanced=True).lower()
        if word in ("and", "or"):
            raise _SyntaxError
        if "*" in word:
            return QueryNode("wildcard", name=word)
        return QueryNode("tag", name=self._aliases.get(word, word))

    def _value(self) -> str:
        pattern = _QUOTED.get(self._text[self._at : self._at + 1])
        if pattern is None:
            return self._word(re.compile(r"[^ ]*"), keep_balanced=False)
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _SyntaxError
        self._at = match.end()
        return re.sub(r"\\(.)", r"\1", match[1])

    def _word(self, pattern: re.Pattern[str], *, keep_balanced: bool) -> str:
        """Returns a word without the closing parentheses that end a group around it."""
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _SyntaxError
        word = match[0]
        spare = self._open
        while spare and word.endswith(")"):
            if keep_balanced and word.count("(") == word.count(")"):
                break
            word = word[:-1]
            spare -= 1
        if not word and keep_balanced:
            raise _SyntaxError
        self._at += len(word)
        return word


def _without_opt(tree: QueryNode) -> QueryNode:
    """Returns a tree without `opt`: `~a ~b c` becomes `(a or b) c`. Nested `and`s become one."""
    children: list[QueryNode] = []
    for child in (_without_opt(child) for child in tree.children):
        if tree.kind == child.kind == "and":
            children.extend(child.children)
        else:
            children.append(child)
    optional = [child.children[0] for child in children if child.kind == "opt"]
    if optional and tree.kind in ("and", "or"):
        rest = [child for child in children if child.kind != "opt"]
        either = optional[0] if len(optional) == 1 else QueryNode("or", tuple(optional))
        children = [*rest, either]
    if tree.kind == "and" and len(children) == 1:
        return children[0]
    return QueryNode(tree.kind, tuple(children), tree.name, tree.value)
