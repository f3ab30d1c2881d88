"""
A dump of a board's metadata as a source: it chooses the posts, and the board describes them.

Parquet, JSON Lines or CSV as people publish them, with ten million rows and more: DuckDB reads the
files in bounded memory. A dump is older than the board, so every post chosen here is requested from
the board by its id, 100 at once, and stage `decide` judges what the board answers.
"""

import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from personae.errors import MissingColumn, MissingInput
from scraper import filters
from scraper.errors import BadDump
from scraper.filters import Rules
from scraper.post import CATEGORIES
from scraper.sources import GONE, Page, PostSource, RefusedPost, Tag
from scraper.sources.by_id import IDS_AT_ONCE, PREFIX, posts_by_id

_log = logging.getLogger(__name__)

RatingScale = Literal["gsqe", "sqe", "0123"]
# Values of column `rating`, in lower case, that mean each letter of today's scale. In `sqe`, the
# scale before 2022, s meant safe: such a post may be general or sensitive today.
_RATINGS: Final[dict[RatingScale, dict[str, tuple[str, ...]]]] = {
    "gsqe": {
        "g": ("g", "general"),
        "s": ("s", "sensitive"),
        "q": ("q", "questionable"),
        "e": ("e", "explicit"),
    },
    "sqe": {
        "g": ("s", "safe"),
        "s": ("s", "safe"),
        "q": ("q", "questionable"),
        "e": ("e", "explicit"),
    },
    "0123": {"g": ("0",), "s": ("1",), "q": ("2",), "e": ("3",)},
}
_REQUIRED = ("id", "rating", "file_ext", "image_width", "image_height")
# Column of the tags, and where it is absent the lists that some dumps have instead.
_TAG_COLUMNS = (("tag_string", "tags"), ("tag_string_character", "tags_character"))
_FLAGS = {
    "deleted": "is_deleted",
    "banned": "is_banned",
    "pending": "is_pending",
    "flagged": "is_flagged",
}
_TAGS_OF_RULE: Final = {
    "animated": filters.MOVING,
    "comic": filters.COMIC,
    "monochrome_tag": filters.MONOCHROME,
    "cosplay": filters.COSPLAY,
    "several_views": filters.SEVERAL_VIEWS,
    "not_a_drawing": filters.NOT_A_DRAWING,
    "machine_made": filters.MACHINE_MADE,
    "damaged_tag": filters.DAMAGED,
    "unfinished_tags": filters.UNFINISHED,
    "extreme_shape": filters.EXTREME,
    "not_solo": frozenset({"solo_focus"}),
    "person_count": frozenset(filters.SEVERAL_PEOPLE),
}
_READERS = {
    ".parquet": "read_parquet(?, union_by_name = true)",
    ".jsonl": "read_json(?, format = 'newline_delimited', ignore_errors = true, union_by_name = true)",
    ".csv": "read_csv(?, all_varchar = true, ignore_errors = true, union_by_name = true)",
}


class Dump:
    """
    A dump as a `ChoosingSource`; the posts themselves come from `board`.

    Args:
        path: One file, or a folder of files of one type: .parquet, .jsonl or .csv.
        scale: What the dump's ratings mean.
        board: Where the chosen posts and the tag tables are requested.
        rules: Rows that these rules refuse are not requested.
        memory: Most memory that DuckDB may use, such as "1GiB"; more goes to a temporary folder.

    Raises:
        MissingInput: There is no such file, or no file of a known type in the folder.
        MissingColumn: The dump lacks a column.
        BadDump: A file cannot be read, or no row has a rating of the declared scale.
    """

    def __init__(
        self,
        path: Path,
        scale: RatingScale,
        board: PostSource,
        rules: Rules,
        *,
        memory: str = "1GiB",
    ) -> None:
        self._path = path.expanduser()
        self.board = board
        self._database = duckdb.connect(
            config={
                "memory_limit": memory,
                "preserve_insertion_order": False,
            }
        )
        self._database.execute("SET enable_progress_bar = false")  # it goes to standard output
        # DuckDB makes the folder when it needs it, and removes it.
        spill = Path(tempfile.gettempdir()) / f"personae-dump-{os.getpid()}"
        self._database.execute("SET temp_directory = ?", [str(spill)])
        self._choose(scale, rules)

    @property
    def identity(self) -> str:
        """Name of the collection; that of the board, since the posts are the board's."""
        return f"{self.board.identity} chosen by a dump"

    async def candidates(self, min_images: int) -> AsyncIterator[Tag]:
        """Yields the character tags with at least `min_images` chosen rows, most rows first."""
        rows = self._rows(
            "SELECT tag, count(*) AS posts FROM chosen GROUP BY tag HAVING posts >= ? "
            "ORDER BY posts DESC, tag",
            [min_images],
        )
        for name, posts in rows:
            yield Tag(name, CATEGORIES["character"], posts)

    async def named(self, names: Sequence[str]) -> AsyncIterator[Tag]:
        """Yields those of `names` that are character tags of chosen rows."""
        rows = self._rows(
            "SELECT tag, count(*) FROM chosen WHERE tag IN (SELECT unnest(?)) GROUP BY tag",
            [list(names)],
        )
        for name, posts in rows:
            yield Tag(name, CATEGORIES["character"], posts)

    async def page(self, search: str, *, before: int | None, size: int) -> Page:
        """
        Returns the next chosen posts of a persona below `before`, as the board describes them now.

        Posts that are no longer on the board are refused; the cursor passes them.
        """
        name, _, _ = search.partition(" ")
        if name.startswith(PREFIX):
            return await self.board.page(search, before=before, size=size)
        rows = self._rows(
            "SELECT id FROM chosen WHERE tag = ? AND id < ? ORDER BY id DESC LIMIT ?",
            [name, 2**63 - 1 if before is None else before, min(size, IDS_AT_ONCE)],
        )
        ids = [number for (number,) in rows]
        if not ids:
            return Page((), None)
        return await self.described(search, ids)

    def chosen(self, search: str) -> list[int]:
        """Returns the ids of the chosen rows of a persona, newest first."""
        name, _, _ = search.partition(" ")
        rows = self._rows("SELECT DISTINCT id FROM chosen WHERE tag = ? ORDER BY id DESC", [name])
        return [number for (number,) in rows]

    async def described(self, search: str, ids: Sequence[int]) -> Page:
        """
        Returns the posts of `ids` as the board describes them now, at most 100.

        A post that is no longer on the board, or does not match the terms of `search`, is refused.

        Raises:
            EmptyPage: The board counts posts that it does not send.
        """
        _, _, terms = search.partition(" ")
        page = await posts_by_id(self.board, ids, terms)
        came = {post.post_id for post in page.posts} | {row.post_id for row in page.refused}
        detail = f"The board has no such post{f' with {terms}' if terms else ''}."
        gone = [RefusedPost(number, GONE, detail) for number in ids if number not in came]
        return replace(page, refused=(*page.refused, *gone))

    async def remaining(self, search: str, *, before: int | None) -> int | None:
        """Returns 0: the chosen rows are known. Posts by id are counted by the board."""
        if search.startswith(PREFIX):
            return await self.board.remaining(search, before=before)
        return 0

    async def implications(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the implications of the board."""
        async for pair in self.board.implications():
            yield pair

    async def aliases(self) -> AsyncIterator[tuple[str, str]]:
        """Yields the aliases of the board."""
        async for pair in self.board.aliases():
            yield pair

    def _choose(self, scale: RatingScale, rules: Rules) -> None:
        """Makes the table `chosen`: a row for each chosen post and each of its characters."""
        files, reader = _files(self._path)
        types = dict(
            row[:2]
            for row in self._rows(f"DESCRIBE SELECT * FROM {reader}", [files])  # noqa: S608  # a constant
        )
        absent = [name for name in _REQUIRED if name not in types]
        absent += [ours for ours, theirs in _TAG_COLUMNS if not {ours, theirs} & types.keys()]
        if absent:
            raise MissingColumn(
                f"{self._path} lacks {', '.join(absent)}. A dump needs {', '.join(_REQUIRED)}, and "
                "tag_string and tag_string_character (or the lists tags and tags_character)."
            )
        tags, characters = (
            _text_of(ours if ours in types else theirs, types) for ours, theirs in _TAG_COLUMNS
        )
        flags = [name for name in _FLAGS.values() if name in types]
        condition, values = _condition(scale, rules, flags)
        self._rows(
            f"""
            CREATE TABLE chosen AS
            SELECT tag, id FROM (
                SELECT id, unnest(string_split(characters, ' ')) AS tag FROM (
                    SELECT
                        try_cast(id AS BIGINT) AS id,
                        lower(rating::VARCHAR) AS rating,
                        file_ext,
                        try_cast(image_width AS BIGINT) AS width,
                        try_cast(image_height AS BIGINT) AS height,
                        {"".join(f"try_cast({name} AS BOOLEAN) AS {name}, " for name in flags)}
                        {tags} AS tags,
                        {characters} AS characters
                    FROM {reader}
                )
                WHERE id > 0 AND {condition}
            )
            WHERE tag <> '' AND NOT regexp_matches(tag, '[,*\\s]')
            ORDER BY tag, id
            """,  # noqa: S608  # constants, and columns of `_FLAGS`
            [files, *values],
        )
        ((rows, posts, personae),) = self._rows(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT tag) FROM chosen", []
        )
        if not rows:
            raise BadDump(
                f"No row of {self._path} passes the rules with ratings of the scale {scale!r} "
                f"(listing.rating_scale). Its ratings are {self._ratings(files, reader)}."
            )
        _log.info("listing: the dump has %d posts of %d characters that pass", posts, personae)

    def _ratings(self, files: Sequence[str], reader: str) -> str:
        rows = self._rows(
            f"SELECT rating::VARCHAR, count(*) FROM {reader} GROUP BY ALL ORDER BY 2 DESC LIMIT 6",  # noqa: S608  # a constant
            [files],
        )
        return ", ".join(f"{rating!r:.20}" for rating, _ in rows) or "absent"

    def _rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except duckdb.Error as error:
            raise BadDump(
                f"{self._path} cannot be read ({str(error).splitlines()[0]:.200}). Check the file."
            ) from error
        except RuntimeError as error:  # how DuckDB ends on Ctrl-C
            raise KeyboardInterrupt from error


def _files(path: Path) -> tuple[list[str], str]:
    """Returns the files of a dump and the SQL that reads their type."""
    for suffix, reader in _READERS.items():
        files = [path] if path.is_file() else sorted(path.glob(f"*{suffix}"))
        files = [file for file in files if file.suffix == suffix]
        if files:
            return [str(file) for file in files], reader
    raise MissingInput(
        f"{path} holds no dump. Give a file, or a folder of files, named .parquet, .jsonl or .csv "
        "(--dump, listing.dump)."
    )


def _text_of(column: str, types: Mapping[str, str]) -> str:
    """Returns the SQL of a post's tags as text with a space around each; dumps have text or a list."""
    text = f"array_to_string({column}, ' ')" if types[column].endswith("[]") else column
    return f"' ' || {text} || ' '"


def _condition(scale: RatingScale, rules: Rules, flags: Sequence[str]) -> tuple[str, list[Any]]:
    """
    Returns the SQL of the rules that a row can answer, with its values.

    It is never stricter than the rules themselves: what they keep, it keeps.
    """
    conditions: list[str] = []
    values: list[Any] = []

    def add(rule: str, condition: str, *of_rule: Any) -> None:
        if rule not in rules.skip:
            conditions.append(condition)
            values.extend(of_rule)

    limits, known = rules.limits, _RATINGS[scale]
    kept = sorted({text for letter in limits.ratings for text in known[letter]})
    add("rating", "rating IN (SELECT unnest(?))", kept)
    add("file_type", "file_ext IN (SELECT unnest(?))", sorted(limits.file_types))
    add("small", "least(width, height) >= ?", limits.min_side)
    add(
        "extreme_shape",
        "greatest(width, height) <= ? * greatest(1, least(width, height))",
        limits.max_aspect,
    )
    for rule, flag in _FLAGS.items():
        if flag in flags:
            add(rule, f"coalesce({flag}, false) = false")
    if "solo" not in rules.accepted:
        add("not_solo", "contains(tags, ' solo ')")
    refused = frozenset().union(
        limits.refuse_tags if "refused_tag" not in rules.skip else (),
        *(tags for rule, tags in _TAGS_OF_RULE.items() if rule not in rules.skip),
    )
    if refused - rules.accepted:
        # One regular expression over the text is three times as fast as a list of tags.
        names = "|".join(map(re.escape, sorted(refused - rules.accepted)))
        conditions.append("NOT regexp_matches(tags, ?)")
        values.append(f" ({names}) ")
    return " AND ".join(conditions), values
