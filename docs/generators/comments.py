"""The comments of the catalog: the meaning of each table and column, from the tables of formats.md."""

import re

from curation.catalog_tables import SOURCES
from generators.text import ROOT

SCRIPT = ROOT / "curation" / "catalog_comments.sql"
_HEAD = "-- Made by `python docs/make.py` from the tables of docs/formats.md.\n"


def comments() -> str:
    """
    Returns the SQL that gives each table, view and column of the catalog its comment.

    A meaning `of T` is that of the column of the same name of table T, with what follows a comma.
    """
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    own = sections["data/catalog/catalog.duckdb"]
    files = {source.table: f"data/{source.stage}/{source.file}" for source in SOURCES}
    files |= {"decisions": "data/decide/decisions.parquet", "tombstones": "exclude.txt"}
    loaded = {source.table: source.columns for source in SOURCES}
    meanings = {
        (table, "byte_offset" if column == "offset" else column): meaning
        for table, file in files.items()
        for column, meaning in re.findall(
            r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", sections[file], re.MULTILINE
        )
        if column in loaded.get(table, (column,)) and column != "variants"
    }
    for table, columns, meaning in re.findall(
        r"^\| `(\w+)` \| (`.+`) \| (.+) \|$", own, flags=re.MULTILINE
    ):
        of = re.fullmatch(r"of `(\w+)`(.*)", meaning)
        for column in re.findall(r"\w+", columns):
            meanings[table, column] = meanings[of[1], column] + of[2] if of else meaning
    tables = re.findall(r"^\| `(\w+)` \| ([^|`][^|]*) \|$", own, flags=re.MULTILINE)
    lines = [
        f"COMMENT ON {'VIEW' if meaning.startswith('view: ') else 'TABLE'} {table} IS {_text(meaning.removeprefix('view: '))};"
        for table, meaning in tables
    ]
    lines += [
        f"COMMENT ON COLUMN {table}.{column} IS {_text(meaning)};"
        for (table, column), meaning in meanings.items()
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _text(meaning: str) -> str:
    return "'" + meaning.replace("`", "").replace("'", "''") + "'"
