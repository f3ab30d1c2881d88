"""Tests the record of a listing: what happens when its rows are damaged or of an earlier version."""

import contextlib
import json
import random
import sqlite3

import pyarrow.parquet as pq
import pytest

from personae.errors import PersonaeError
from scraper import recorded
from tests.scraper.listing_fixture import Shelf
from tests.scraper.test_listing import post, run, table


@pytest.fixture
def shelf():
    """Returns 60 posts of rin and 20 of mai."""
    return Shelf(*(post(number, "rin" if number % 4 else "mai") for number in range(1, 81)))


def edited(folder, statement, *values):
    rows = sqlite3.connect(folder / "ledger.sqlite")
    rows.execute(statement, values)
    rows.commit()
    rows.close()


EDITS = {
    "post is no JSON": ("UPDATE posts SET row_json = '{' WHERE post_id = 5",),
    "post is a list": ("UPDATE posts SET row_json = '[]' WHERE post_id = 5",),
    "post is null": ("UPDATE posts SET row_json = 'null' WHERE post_id = 5",),
    "post is deep": (
        "UPDATE posts SET row_json = ? WHERE post_id = 5",
        "[" * 100_000,
    ),
    "post lacks a field": (
        "UPDATE posts SET row_json = json_remove(row_json, '$.rating') WHERE post_id = 5",
    ),
    "post lacks tags": (
        "UPDATE posts SET row_json = json_remove(row_json, '$.tags_meta') WHERE post_id = 5",
    ),
    "post has another type": (
        "UPDATE posts SET row_json = json_set(row_json, '$.image_width', 'wide') WHERE post_id = 5",
    ),
    "post has a huge number": (
        "UPDATE posts SET row_json = json_set(row_json, '$.score', 1e30) WHERE post_id = 5",
    ),
    "post is binary": ("UPDATE posts SET row_json = x'ff00' WHERE post_id = 5",),
    "answers are no JSON": ("UPDATE answers SET answer = '{'",),
    "answers are numbers": ("UPDATE answers SET answer = '7'",),
    "answers have another shape": ("UPDATE answers SET answer = '[[1, 2], [3]]'",),
    "answers are binary": ("UPDATE answers SET answer = x'00ff'",),
    "cursor is text": ("UPDATE walks SET cursor = 'x', is_done = 0",),
    "state is text": ("UPDATE walks SET is_done = 'x'",),
}


@pytest.mark.parametrize("name", EDITS)
def test_damaged_record_is_repaired(shelf, tmp_path, name):
    """Damaged rows of the record are requested again; the tables are those of a sound record."""
    run(shelf, tmp_path, page_size=10)
    tables = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    edited(tmp_path, *EDITS[name])
    run(shelf, tmp_path, page_size=10)

    assert tables == {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bit_is_repaired_or_named(tmp_path, seed):
    """A bit flip anywhere in the record never ends in a traceback, and never with other posts."""
    shelf = Shelf(*(post(number, "rin" if number % 4 else "mai") for number in range(1, 81)))
    run(shelf, tmp_path, page_size=10)
    posts = table(tmp_path)
    dice = random.Random(seed)
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    with contextlib.suppress(PersonaeError):
        run(shelf, tmp_path, page_size=10)
        # A flipped letter within a text is no damage that can be seen without a checksum.
        assert {row["post_id"] for row in table(tmp_path)} <= {row["post_id"] for row in posts}


def test_record_of_the_first_version_is_upgraded(shelf, tmp_path):
    """A record without the tables and columns of later versions goes on; nothing is requested again."""
    run(shelf, tmp_path, page_size=10)
    tables = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    edited(tmp_path, "ALTER TABLE walks DROP COLUMN early_ends")
    for name in ("refused_posts", "tombstones", "latest"):
        edited(tmp_path, f"DROP TABLE {name}")
    edited(tmp_path, "PRAGMA user_version = 1")
    summary = recorded.summary(tmp_path)
    assert ("shelf", 0, 0) == (summary.board, summary.unreadable, summary.gone)
    shelf.asked.clear()
    run(shelf, tmp_path, page_size=10)

    assert [] == shelf.asked
    assert tables == {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    assert json.loads(pq.read_schema(tmp_path / "posts.parquet").metadata[b"personae.params"])
