"""
Rows of `/tags.json`, `/tag_aliases.json` and `/tag_implications.json`, chosen by `search[…]`.

The parameters follow `app/models/tag.rb` and `app/models/tag_relationship.rb` of
https://github.com/danbooru/danbooru.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.record import CATEGORIES
from scraper.demo.facts.tags import TagRelation, closure, edges
from scraper.demo.search import ranges
from scraper.demo.search.match import PostIndex
from scraper.demo.search.ranges import BadValue
from scraper.demo.server import answers
from scraper.demo.server.answers import Json

_FIELD = re.compile(r"search\[(\w+)\](?:\[\])?")
RowTest = Callable[[Json], bool]
"""Returns whether a row of a table matches."""


def searched(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """
    Returns the `search[…]` parameters of a URL by name.

    Args:
        query: Names and values of all parameters. The items of an array (`search[name_array][]`)
            are joined with commas.
    """
    search: dict[str, str] = {}
    for key, value in query:
        match = _FIELD.fullmatch(key)
        if match:
            name = match[1]
            search[name] = f"{search[name]},{value}" if name in search else value
    return search


def tag_rows(board: DemoBoard, index: PostIndex, search: Mapping[str, str]) -> list[Json]:
    """
    Returns the tags that match a search, as rows of `/tags.json`.

    Args:
        board: The board, for its aliases and implications.
        index: The posts of the board's current version.
        search: `search[…]` parameters by name. `order` is `name`, `count` or, by default,
            descending id; a range that cannot be read matches nothing.
    """
    names = set(index.names()) | {relation.antecedent for relation in board.aliases}
    names |= {relation.consequent for relation in board.implications}
    chosen = _chosen_names(names, search, board)
    rows = [answers.tag(name, index) for name in chosen]
    if "category" in search:
        numbers = {_category(word) for word in search["category"].split(",")}
        rows = [row for row in rows if row["category"] in numbers]
    for field in ("post_count", "id"):
        if field in search:
            rows = _in_range(rows, field, search[field])
    if search.get("hide_empty", "") in ("true", "yes", "1"):
        rows = [row for row in rows if row["post_count"] > 0]
    if search.get("is_deprecated", "false") not in ("false", "no", "0"):
        rows = []
    return _ordered(rows, search.get("order", ""))


def _chosen_names(names: set[str], search: Mapping[str, str], board: DemoBoard) -> set[str]:
    for field in ("name", "name_normalize"):
        if field in search:
            names = names & {search[field].lower()}
    for field, separator in (("name_comma", ","), ("name_array", ","), ("name_space", " ")):
        if field in search:
            names = names & set(search[field].lower().split(separator))
    for field in ("name_matches", "name_or_alias_matches"):
        if field in search:
            pattern = _pattern(search[field])
            matches = {name for name in names if fnmatchcase(name, pattern)}
            if field == "name_or_alias_matches":
                matches |= {new for old, new in board.alias_of.items() if fnmatchcase(old, pattern)}
            names = matches
    return names


def _pattern(text: str) -> str:
    return text.lower().replace("[", "[[]").replace("?", "[?]")


def _category(word: str) -> int:
    return int(word) if word.isdigit() else CATEGORIES.get(word.lower(), -1)


def _in_range(rows: Sequence[Json], field: str, text: str) -> list[Json]:
    try:
        holds = ranges.within(text, ranges.integer)
    except BadValue:
        return []
    return [row for row in rows if holds(row[field])]


def _ordered(rows: list[Json], order: str) -> list[Json]:
    if order == "name":
        return sorted(rows, key=lambda row: str(row["name"]))
    if order == "count":
        return sorted(rows, key=lambda row: (-row["post_count"], -row["id"]))
    return sorted(rows, key=lambda row: -row["id"])


def with_includes(rows: Sequence[Json], board: DemoBoard, only: str) -> list[Json]:
    """
    Returns rows of `/tags.json` with the nested relations that `only=` names.

    Args:
        rows: Rows of tags.
        board: The board of the relations.
        only: Text of `only=`, such as `name,antecedent_implications[consequent_name]`.
    """
    extended = []
    for row in rows:
        name = row["name"]
        nested: Json = {}
        for table, relations in (("implications", board.implications), ("aliases", board.aliases)):
            if f"antecedent_{table}" in only:
                nested[f"antecedent_{table}"] = [
                    answers.relation(relation)
                    for relation in relations
                    if relation.antecedent == name
                ]
            if f"consequent_{table}" in only:
                nested[f"consequent_{table}"] = [
                    answers.relation(relation)
                    for relation in relations
                    if relation.consequent == name
                ]
        extended.append(row | nested)
    return extended


def relation_rows(
    relations: Sequence[TagRelation], index: PostIndex, search: Mapping[str, str]
) -> list[Json]:
    """
    Returns the aliases or implications that match a search, as rows of their table.

    Args:
        relations: The whole table.
        index: The posts of the board's current version, for the categories of tags.
        search: `search[…]` parameters by name. `implied_from` chooses every edge on the way up
            from a tag, `implied_to` every edge on the way down. `order` is `name` or, by default,
            descending id.
    """
    chosen = list(relations)
    if "implied_from" in search:
        above = closure([search["implied_from"]], edges(relations))
        chosen = [relation for relation in chosen if relation.antecedent in above]
    if "implied_to" in search:
        reversed_edges = edges(
            [
                replace(relation, antecedent=relation.consequent, consequent=relation.antecedent)
                for relation in relations
            ]
        )
        below = closure([search["implied_to"]], reversed_edges)
        chosen = [relation for relation in chosen if relation.consequent in below]
    if "category" in search:
        number = _category(search["category"])
        chosen = [
            relation
            for relation in chosen
            if CATEGORIES[index.categories.get(relation.consequent, "general")] == number
        ]
    rows = [answers.relation(relation) for relation in chosen]
    for test in _relation_tests(search):
        rows = [row for row in rows if test(row)]
    if "id" in search:
        rows = _in_range(rows, "id", search["id"])
    if search.get("order") == "name":
        return sorted(rows, key=lambda row: str(row["antecedent_name"]))
    return sorted(rows, key=lambda row: -row["id"])


def _relation_tests(search: Mapping[str, str]) -> list[RowTest]:
    tests: list[RowTest] = []
    if "status" in search:
        statuses = set(search["status"].lower().split(","))
        tests.append(lambda row: row["status"] in statuses)
    for side in ("antecedent_name", "consequent_name"):
        if side in search:
            tests.append(_is_in(side, {search[side].lower()}))
        tests.extend(
            _is_in(side, set(search[field].lower().split(",")))
            for field in (f"{side}_comma", f"{side}_array")
            if field in search
        )
        if f"{side}_matches" in search:
            tests.append(_like((side,), search[f"{side}_matches"]))
    if "name_matches" in search:
        tests.append(_like(("antecedent_name", "consequent_name"), search["name_matches"]))
    return tests


def _is_in(field: str, values: set[str]) -> RowTest:
    return lambda row: row[field] in values


def _like(fields: Sequence[str], text: str) -> RowTest:
    pattern = _pattern(text)
    return lambda row: any(fnmatchcase(row[field], pattern) for field in fields)
