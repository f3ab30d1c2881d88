"""Writes listing tables from a few posts, and runs stage `decide` on them."""

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scraper import decide, personae
from scraper.post import Post, Variant
from scraper.schemas import POSTS_SCHEMA

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORIGINAL = Variant("original", "/original/aa/bb/x.png", 900, 1200, "png")
GOOD = Post(
    post_id=1,
    created_at_utc=MOMENT,
    updated_at_utc=MOMENT,
    md5="0" * 32,
    pixel_hash="1" * 32,
    rating="g",
    image_width=900,
    image_height=1200,
    file_ext="png",
    file_bytes=1000,
    duration_seconds=None,
    parent_id=None,
    has_children=False,
    is_pending=False,
    is_flagged=False,
    is_deleted=False,
    is_banned=False,
    score=3,
    uploader_id=5,
    source="",
    tags_general=("1girl", "solo"),
    tags_character=("rin",),
    tags_copyright=("vocaloid",),
    tags_artist=("someone",),
    tags_meta=("highres",),
    variants=(ORIGINAL,),
)
FEW = personae.Params(min_images=1)
IMPLICATIONS = [("rin_(party)", "rin"), ("4koma", "comic")]
ALIASES = [("rin_kagamine", "rin"), ("manga", "comic")]


@pytest.fixture
def listing(tmp_path):
    """Writes the tables of `listing` for the given posts, and returns their folder."""

    def write(posts, *, aliases=ALIASES, implications=IMPLICATIONS):
        folder = tmp_path / "listing"
        folder.mkdir(exist_ok=True)
        rows = [post.to_row() for post in sorted(posts, key=lambda post: post.post_id)]
        pq.write_table(pa.Table.from_pylist(rows, POSTS_SCHEMA), folder / "posts.parquet")
        schema = pa.schema([("antecedent", pa.string()), ("consequent", pa.string())])
        for name, pairs in (("aliases", aliases), ("implications", implications)):
            columns = [dict(zip(schema.names, pair, strict=True)) for pair in pairs]
            pq.write_table(pa.Table.from_pylist(columns, schema), folder / f"{name}.parquet")
        return folder

    return write


@pytest.fixture
def decided(listing, tmp_path):
    """Runs the stage on the given posts, and returns its three tables as lists of rows."""

    def run(posts, params=None, wanted=FEW, **tables):
        out_dir = tmp_path / "decide"
        decide.run(params or decide.Params(), wanted, listing(posts, **tables), out_dir)
        return tuple(
            pq.read_table(out_dir / f"{name}.parquet").to_pylist()
            for name in ("decisions", "kept", "personae")
        )

    return run


def many(count, **changes):
    """Returns `count` good posts with ids from 100 upwards."""
    return [replace(GOOD, post_id=100 + number, **changes) for number in range(count)]
