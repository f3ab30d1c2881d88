"""
The exclude file: posts that a person removed, by rules that also hold for posts listed later.

One rule on a line, and `# ` begins a comment. The comment behind a rule says why:

    post 1234  # by request of the artist
    tag sketch
    artist some_name
    sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    md5 098f6bcd4621d373cade4e832627b4f6

Stage `filters` refuses the posts; `python -m curation remove` adds rules.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.params.filters import EXCLUDABLE
from personae import edited, files, tables
from personae.errors import BadParams

_VALUES: Final = {
    "post": (re.compile(r"[0-9]{1,19}"), "a post id, the number in column post_id of the catalog"),
    "tag": (re.compile(r"\S+"), "a tag with underscores instead of spaces"),
    "artist": (re.compile(r"\S+"), "a tag of an artist with underscores instead of spaces"),
    "sha256": (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    "md5": (re.compile(r"[0-9a-f]{32}"), "32 hexadecimal digits"),
}
_TAG_COLUMNS: Final = {
    "tag": ("tags_general", "tags_character", "tags_copyright", "tags_artist", "tags_meta"),
    "artist": ("tags_artist",),
}
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ExclusionRule:
    """One rule of the exclude file; `why` is its comment."""

    kind: str
    value: str
    why: str = ""

    @property
    def key(self) -> str:
        """The rule without its comment, as it stands in the file."""
        return f"{self.kind} {self.value}"


def rule(kind: str, value: str, why: str = "", *, where: str = "The rule") -> ExclusionRule:
    """
    Returns a rule with its value in the form in which tables have it.

    Raises:
        BadParams: `kind` is unknown, or `value` has another form; the message begins with `where`.
    """
    if kind not in _VALUES:
        raise BadParams(f"{where} has the kind {kind!r:.40}, not {', '.join(EXCLUDABLE)}.")
    pattern, form = _VALUES[kind]
    plain = value.lower() if kind in ("sha256", "md5") else value
    is_post = kind == "post"
    if not pattern.fullmatch(plain) or (is_post and int(plain) > _LARGEST_ID):
        raise BadParams(f"{where} has {value!r:.80}, which is not {form}.")
    return ExclusionRule(kind, str(int(plain)) if is_post else plain, " ".join(why.split()))


def read(path: Path) -> list[ExclusionRule]:
    """
    Returns the rules of an exclude file, each once; none if the file is absent.

    Raises:
        BadParams: The file cannot be read, or a line is no rule; the message names file and line.
    """
    rules: dict[str, ExclusionRule] = {}
    for line in edited.lines(path, of="excluded posts"):
        kind, _, value = " ".join(line.text.split()).partition(" ")
        if not value or " " in value:
            raise BadParams(
                f"{line.where}: {line.text!r:.80} is no rule. A rule is a kind "
                f"({', '.join(EXCLUDABLE)}) and one value, such as `post 1234`; a comment begins with `# `."
            )
        read_rule = rule(kind, value, line.why, where=line.where)
        rules.setdefault(read_rule.key, read_rule)
    return list(rules.values())


def add(path: Path, rules: Iterable[ExclusionRule]) -> list[ExclusionRule]:
    """
    Appends the rules that `path` lacks, whole or not at all; returns those that were added.

    Lines and comments of the file stay as they are.

    Raises:
        BadParams: As `read` does.
        AlreadyRunning: Another process adds a rule.
    """
    target = path.resolve()
    with files.locked(target.parent):  # two at once would lose a rule
        known = {each.key for each in read(path)}
        new = list({each.key: each for each in rules if each.key not in known}.values())
        if new:
            before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
            if before and not before.endswith("\n"):
                before += "\n"
            lines = [each.key + (f"  # {each.why}" if each.why else "") for each in new]
            files.write_text(target, before + "".join(f"{line}\n" for line in lines))
    return new


def matches(rules: Sequence[ExclusionRule], data_dir: Path) -> dict[int, list[ExclusionRule]]:
    """
    Returns the listed posts that rules match, with their rules, in the order of the post ids.

    A tag matches under its older names too: the board's aliases are followed. A hash is that of the
    original by the listing, or of the stored bytes. A post rule needs no listed post.

    Raises:
        MissingInput, MissingColumn: A table of `listing` or `download` is absent or lacks a column.
    """
    by_kind: dict[str, dict[str, ExclusionRule]] = defaultdict(dict)
    for each in rules:
        by_kind[each.kind][each.value] = each
    matched: dict[int, list[ExclusionRule]] = defaultdict(list)
    for value, each in by_kind["post"].items():
        matched[int(value)].append(each)
    of_tags = {kind: _with_aliases(by_kind[kind], data_dir) for kind in _TAG_COLUMNS}
    in_posts = [(column, of_tags[kind]) for kind in _TAG_COLUMNS for column in _TAG_COLUMNS[kind]]
    in_posts.append(("md5", by_kind["md5"]))
    _search(data_dir / "listing" / "posts.parquet", "listing", in_posts, matched)
    in_images = [(kind, by_kind[kind]) for kind in ("sha256", "md5")]
    _search(data_dir / "download" / "images.parquet", "download", in_images, matched)
    return {post_id: list(dict.fromkeys(matched[post_id])) for post_id in sorted(matched)}


def _with_aliases(rules: Mapping[str, ExclusionRule], data_dir: Path) -> dict[str, ExclusionRule]:
    """Returns the rules by every name of their tags: the board may rename a tag at any time."""
    names = dict(rules)
    if not rules:
        return names
    path = data_dir / "listing" / "aliases.parquet"
    pairs = tables.read(path, ["antecedent", "consequent"], stage="listing").to_pylist()
    current = {pair["antecedent"]: pair["consequent"] for pair in pairs}
    by_current = {current.get(name, name): each for name, each in rules.items()}
    for pair in pairs:
        if pair["consequent"] in by_current:
            names.setdefault(pair["antecedent"], by_current[pair["consequent"]])
    for name, each in by_current.items():
        names.setdefault(name, each)
    return names


def _search(
    path: Path,
    stage: str,
    searches: Iterable[tuple[str, Mapping[str, ExclusionRule]]],
    matched: dict[int, list[ExclusionRule]],
) -> None:
    """Adds the posts of a table that have the value of a rule, or a list with it, in a column."""
    asked = [(column, rules) for column, rules in searches if rules]
    if not asked:
        return
    columns = ["post_id", *sorted({column for column, _ in asked})]
    for batch in tables.batches(path, columns, stage=stage):
        for column, rules in asked:
            values, posts = batch[column], batch["post_id"]
            if pa.types.is_list(values.type):
                posts = posts.take(pc.list_parent_indices(values))
                values = pc.list_flatten(values)
            is_match = pc.is_in(values, pa.array(list(rules), pa.string()))
            for post_id, value in zip(
                posts.filter(is_match).to_pylist(), values.filter(is_match).to_pylist(), strict=True
            ):
                matched[post_id].append(rules[value])
