"""Rows of `/tags.json`, `/tag_aliases.json` and `/tag_implications.json`, chosen by `search[…]`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
Test = Callable[[Json], bool]


def searched(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The `search[…]` parameters by name; the items of an array are joined with commas."""
    found: dict[str, str] = {}
    for key, value in query:
        match = _FIELD.fullmatch(key)
        if match:
            name = match[1]
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


def tag_rows(board: DemoBoard, index: PostIndex, search: Mapping[str, str]) -> list[Json]:
    """Tags that match, in the order asked for; by default the newest first."""
    names = set(index.names()) | {relation.antecedent for relation in board.aliases}
    names |= {relation.consequent for relation in board.implications}
    chosen = _chosen_names(names, search, board)
    rows = [answers.tag(name, index) for name in chosen]
    if "category" in search:
        wanted = {_category(word) for word in search["category"].split(",")}
        rows = [row for row in rows if row["category"] in wanted]
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
            found = {name for name in names if fnmatchcase(name, pattern)}
            if field == "name_or_alias_matches":
                found |= {new for old, new in board.alias_of.items() if fnmatchcase(old, pattern)}
            names = found
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
    """Adds the relations that `only=` names, as nested objects."""
    found = []
    for row in rows:
        name = row["name"]
        more: Json = {}
        for side, relations in (("implications", board.implications), ("aliases", board.aliases)):
            if f"antecedent_{side}" in only:
                mine = [one for one in relations if one.antecedent == name]
                more[f"antecedent_{side}"] = [answers.relation(one) for one in mine]
            if f"consequent_{side}" in only:
                mine = [one for one in relations if one.consequent == name]
                more[f"consequent_{side}"] = [answers.relation(one) for one in mine]
        found.append(row | more)
    return found


def relation_rows(
    relations: Sequence[TagRelation], index: PostIndex, search: Mapping[str, str]
) -> list[Json]:
    """Aliases or implications that match; by default the newest first."""
    chosen = list(relations)
    if "implied_from" in search:
        up = edges(relations)
        chosen = [one for one in chosen if one.antecedent in closure([search["implied_from"]], up)]
    if "implied_to" in search:
        down = edges(
            [
                TagRelation(one.relation_id, one.consequent, one.antecedent, one.status)
                for one in relations
            ]
        )
        chosen = [one for one in chosen if one.consequent in closure([search["implied_to"]], down)]
    if "category" in search:
        wanted = _category(search["category"])
        chosen = [
            one
            for one in chosen
            if CATEGORIES[index.categories.get(one.consequent, "general")] == wanted
        ]
    rows = [answers.relation(one) for one in chosen]
    for test in _relation_tests(search):
        rows = [row for row in rows if test(row)]
    if "id" in search:
        rows = _in_range(rows, "id", search["id"])
    if search.get("order") == "name":
        return sorted(rows, key=lambda row: str(row["antecedent_name"]))
    return sorted(rows, key=lambda row: -row["id"])


def _relation_tests(search: Mapping[str, str]) -> list[Test]:
    tests: list[Test] = []
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


def _is_in(field: str, wanted: set[str]) -> Test:
    return lambda row: row[field] in wanted


def _like(fields: Sequence[str], text: str) -> Test:
    pattern = _pattern(text)
    return lambda row: any(fnmatchcase(row[field], pattern) for field in fields)
