"""Tests that no crafted catalog and no crafted address makes the browse page show another file."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.browse import images
from curation.browse.routes import reply
from curation.browse.selection import Selection
from curation.browse.snapshot import Library
from curation.errors import TamperedData
from personae.errors import MissingInput
from tests.curation.browse_fixture import edit_catalog, opened

SECRET = "a line of a file outside"


def hide(data_dir: Path) -> Path:
    """Writes a file that no answer may show beside the data folder and inside; returns the folder."""
    for folder in (data_dir.parent, data_dir, data_dir / "download"):
        (folder / "secret.txt").write_text(SECRET)
    return data_dir


@pytest.fixture
def data_dir(curated) -> Path:
    return hide(curated.data_dir)


@pytest.fixture(scope="module")
def crafted_library(_curated_once, tmp_path_factory) -> Library:
    folder = tmp_path_factory.mktemp("browse") / "data"
    shutil.copytree(_curated_once.data_dir, folder)
    return opened(hide(folder))


CRAFTED = [
    "UPDATE images SET segment = '../secret.txt', byte_offset = 0, file_bytes = 24",
    "UPDATE images SET segment = '/etc/passwd', byte_offset = 0, file_bytes = 10",
    "UPDATE images SET file_bytes = 1::BIGINT << 40",
    "UPDATE images SET byte_offset = -512",
    "UPDATE images SET segment = NULL",
]


@pytest.mark.parametrize("sql", CRAFTED)
def test_crafted_catalog_shows_no_other_file(data_dir: Path, sql: str) -> None:
    """A name, offset or size that a crafted catalog gives is refused, and no other file is read."""
    edit_catalog(data_dir, sql)
    answer = reply(opened(data_dir), "/originals/1000")

    assert 404 == answer.status
    assert SECRET.encode() not in answer.body
    assert b"root:" not in answer.body


def test_file_that_is_no_image_is_not_served(data_dir: Path) -> None:
    """A stored file with a right hash but no image in it, such as HTML, gets no media type."""
    post_id = next(
        row["post_id"]
        for row in pq.read_table(data_dir / "measure" / "measures.parquet").to_pylist()
        if row["error"] == "undecodable"
    )
    snapshot = opened(data_dir).snapshot()

    with pytest.raises(TamperedData, match="no image type"):
        images.original(snapshot, post_id)


def test_crafted_view_reads_no_file(data_dir: Path) -> None:
    """A catalog with a view that reads a file is refused, and the file is not shown."""
    path = data_dir.parent / "secret.txt"
    edit_catalog(
        data_dir,
        "CREATE OR REPLACE VIEW journey AS SELECT 1000 AS post_id, 1 AS position, 'x' AS step, "
        f"content AS outcome, 'y' AS detail FROM read_text('{path}')",
    )
    with pytest.raises(MissingInput, match="cannot be read") as caught:
        opened(data_dir)

    assert SECRET not in str(caught.value)


def test_catalog_of_another_version_is_named(data_dir: Path) -> None:
    """A catalog without a column that the page reads is an error that gives the stage to run."""
    edit_catalog(data_dir, "ALTER TABLE links DROP COLUMN inliers")

    with pytest.raises(MissingInput, match=r"inliers.*Stage 'catalog' builds it anew"):
        opened(data_dir)


NAMES = st.sampled_from([*Selection.model_fields, "post", "v", "prefix", "../x", ""]) | st.text()
NASTY = st.sampled_from(
    [
        "' OR 1=1 --",
        "'; DROP TABLE posts; --",
        "../../secret.txt",
        "..%2fsecret.txt",
        "/etc/passwd",
        "\x00",
        "\ud800",
        "1e9",
        "-1",
        str(1 << 63),
        "9" * 400,
        "{condition}",
        "%s%n?",
    ]
)
FIELDS = st.lists(st.tuples(NAMES, NASTY | st.text(max_size=400)), max_size=5)
PATHS = st.sampled_from(
    [
        "/",
        "/api/posts",
        "/api/posts/1000",
        "/api/choices",
        "/api/tags",
        "/api/confusions",
        "/squares/1000",
        "/originals/1000",
        "/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/squares/../secret.txt",
        "/squares/99999999999999999999",
        "/originals/9223372036854775808",
        "//evil.example/",
        "http://[::1/",
    ]
)


def _encoded(fields: list[tuple[str, str]]) -> str:
    return "&".join(
        f"{quote(name, safe='', errors='replace')}={quote(value, safe='', errors='surrogatepass')}"
        for name, value in fields
    )


@settings(max_examples=100)
@given(path=PATHS | st.text().map("/".__add__), fields=FIELDS)
def test_no_address_breaks_the_page(crafted_library, path: str, fields: list[Any]) -> None:
    """Any path with any parameters gives 200, 400 or 404, and never a file outside the data."""
    answer = reply(crafted_library, f"{path}?{_encoded(fields)}")

    assert answer.status in (200, 400, 404)
    assert SECRET.encode() not in answer.body
    if answer.status != 200:
        assert json.loads(answer.body)["error"]
