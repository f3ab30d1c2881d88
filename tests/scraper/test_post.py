"""Tests the reading of a post field by field, and its round trip through the tables."""

import copy
import json
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from personae.decisions import DECISIONS
from scraper.errors import UnexpectedResponse
from scraper.post import PostDecision
from scraper.schemas import POSTS_SCHEMA
from scraper.sources.board_post import ONLY_FIELDS, read_post
from tests.scraper.listing_fixture import post_of_row

BASE = "http://127.0.0.1:8080"
HIDDEN = ("md5", "file_url", "large_file_url", "preview_file_url")
MD5 = "3f7c1b0e9a2d48c6b5e1f0a7d2c94e86"
ANSWER = {
    "id": 10812345,
    "created_at": "2026-02-18T06:12:44.310-05:00",
    "updated_at": "2026-07-20T01:03:09.882-04:00",
    "uploader_id": 501234,
    "score": -3,
    "source": "COMIC X vol. 70",
    "md5": MD5,
    "rating": "g",
    "image_width": 1600,
    "image_height": 2300,
    "file_ext": "png",
    "file_size": 2145873,
    "parent_id": None,
    "has_children": False,
    "is_pending": False,
    "is_flagged": False,
    "is_deleted": False,
    "is_banned": False,
    "tag_string_general": "1girl solo white_background",
    "tag_string_character": "toki_(blue_archive) toki_(bunny)_(blue_archive)",
    "tag_string_copyright": "blue_archive",
    "tag_string_artist": "",
    "tag_string_meta": "highres",
    "file_url": f"https://cdn.donmai.us/original/3f/7c/{MD5}.png",
    "media_asset": {
        "duration": None,
        "pixel_hash": "a91d5e3377c04f6e8b2a0c1d9e8f7a60",
        "variants": [
            {
                "type": "180x180",
                "url": f"{BASE}/180x180/3f/7c/{MD5}.jpg",
                "width": 125,
                "height": 180,
                "file_ext": "jpg",
            },
            {
                "type": "original",
                "url": f"https://cdn.donmai.us/original/3f/7c/{MD5}.png",
                "width": 1600,
                "height": 2300,
                "file_ext": "png",
            },
        ],
    },
}


def changed(**fields):
    """Returns the response with some fields replaced; `asset_x` is field x of its media asset."""
    answer = copy.deepcopy(ANSWER)
    for name, value in fields.items():
        inside = answer["media_asset"] if name.startswith("asset_") else answer
        inside[name.removeprefix("asset_")] = value
    return answer


def read(answer):
    return read_post(answer, base_url=BASE)


def test_reads_every_field():
    """Each field of the response reaches the post: times in UTC, the board's own URLs relative."""
    post = read(ANSWER)

    assert 10812345 == post.post_id
    assert datetime(2026, 2, 18, 11, 12, 44, 310_000, UTC) == post.created_at_utc
    assert datetime(2026, 7, 20, 5, 3, 9, 882_000, UTC) == post.updated_at_utc
    assert (MD5, "a91d5e3377c04f6e8b2a0c1d9e8f7a60") == (post.md5, post.pixel_hash)
    assert ("toki_(blue_archive)", "toki_(bunny)_(blue_archive)") == post.tags_character
    assert () == post.tags_artist
    assert {"solo", "highres", "blue_archive"} <= post.tags
    assert f"/180x180/3f/7c/{MD5}.jpg" == post.variants[0].url
    assert f"https://cdn.donmai.us/original/3f/7c/{MD5}.png" == post.variants[1].url
    assert (-3, 2145873, None) == (post.score, post.file_bytes, post.given_label)
    assert not post.is_hidden


def test_asks_for_the_fields_that_it_reads():
    """The requested fields are exactly the fields that are read."""
    assert set(ANSWER) == set(ONLY_FIELDS.split(","))


@pytest.mark.parametrize("missing", [*HIDDEN[:2], "media_asset"])
def test_withheld_file_makes_a_hidden_post(missing):
    """If the board withholds a file field, the post is hidden, without checksum and variants."""
    answer = changed()
    del answer[missing]
    post = read(answer)

    assert post.is_hidden
    assert (None, ()) == (post.md5, post.variants)


def test_hidden_post_keeps_its_pixel_hash():
    """A hidden post keeps the pixel hash that the board sends."""
    answer = changed()
    for key in HIDDEN:
        answer.pop(key, None)
    del answer["media_asset"]["variants"]

    assert "a91d5e3377c04f6e8b2a0c1d9e8f7a60" == read(answer).pixel_hash


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", "5"),
        ("id", True),
        ("id", 0),
        ("id", 2**63),
        ("created_at", "yesterday"),
        ("created_at", "2026-02-18T06:12:44"),
        ("created_at", "0001-01-01T00:00:00+23:00"),
        ("created_at", 5),
        ("rating", None),
        ("score", 2**40),
        ("image_width", -1),
        ("file_size", 1.5),
        ("parent_id", "x"),
        ("is_deleted", 0),
        ("tag_string_general", None),
        ("tag_string_character", ["a"]),
        ("md5", "../../etc/passwd"),
        ("asset_pixel_hash", "x"),
        ("asset_duration", "1"),
        ("asset_duration", float("nan")),
        ("asset_duration", 10**400),
        ("asset_variants", {}),
        ("asset_variants", [1]),
    ],
)
def test_names_the_field_that_is_wrong(field, value):
    """A response with a wrong field is refused, and the message gives the field."""
    with pytest.raises(UnexpectedResponse, match=f"'{field.removeprefix('asset_')}'"):
        read(changed(**{field: value}))


@pytest.mark.parametrize(
    "field",
    [name for name in ANSWER if name not in ("md5", "file_url", "media_asset", "parent_id")],
)
def test_names_the_field_that_is_absent(field):
    """If a required field is absent, the error gives the field; no default is used."""
    answer = changed()
    del answer[field]

    with pytest.raises(UnexpectedResponse, match=f"'{field}'.*absent"):
        read(answer)


@pytest.mark.parametrize("key", ["type", "url", "width", "height", "file_ext"])
def test_names_the_variant_that_is_wrong(key):
    """The error about a wrong variant gives its index."""
    variants = copy.deepcopy(ANSWER["media_asset"]["variants"])
    variants[1][key] = None

    with pytest.raises(UnexpectedResponse, match=rf"'{key}' of .*variants\[1\]"):
        read(changed(asset_variants=variants))


@pytest.mark.parametrize("answer", [None, [], "post", 5])
def test_refuses_what_is_no_object(answer):
    """A row that is not an object is refused."""
    with pytest.raises(UnexpectedResponse, match="where a post was expected"):
        read(answer)


def test_half_a_surrogate_pair_is_replaced():
    """Text that UTF-8 cannot encode is replaced and does not end the run."""
    post = read(changed(source=json.loads('"a\\ud800b"')))

    assert "a?b" == post.source


def test_tag_named_like_a_path_is_a_tag():
    """A tag that looks like a path is kept as a plain tag."""
    assert ("../../x", "a/b") == read(changed(tag_string_artist="../../x a/b")).tags_artist


def test_only_a_space_parts_two_tags():
    """A tag keeps every other white space, so that it returns as the board served it."""
    names = ("a\u3000b", "a\u00a0b", "a\u2028b", "a\nb", "a\x85b")

    assert names == read(changed(tag_string_artist=f" {'  '.join(names)} ")).tags_artist


def test_every_recorded_post_is_read(real_data):
    """Every recorded post is read, and its fields equal those of the response."""
    answers = []
    for path in sorted((real_data / "danbooru-fixtures").glob("danbooru/*/*.yaml")):
        if path.parent.name not in ("posts_search", "pagination", "posts_by_id"):
            continue
        exchange = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        body = exchange["response"]["body_json"]
        if exchange["response"]["status"] == 200:
            answers += body if isinstance(body, list) else [body]
    posts = [read_post(answer, base_url="https://danbooru.donmai.us") for answer in answers]

    assert len(posts) >= 15
    for post, answer in zip(posts, answers, strict=True):
        assert answer["id"] == post.post_id
        assert answer["md5"] == post.md5
        assert set(answer["tag_string"].split()) == post.tags
        assert len(answer["media_asset"]["variants"]) == len(post.variants)
        assert answer["file_url"] == post.variants[-1].url
    assert posts == _through_arrow(posts)


def _through_arrow(posts):
    batch = pa.RecordBatch.from_pylist([post.to_row() for post in posts], schema=POSTS_SCHEMA)
    return [post_of_row(row) for row in batch.to_pylist()]


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
tag_strings = st.lists(names, max_size=4, unique=True).map(" ".join)
sizes = st.integers(0, 2**31 - 1)
hashes = st.text("0123456789abcdef", min_size=32, max_size=32)
# The board gives times in US Eastern time, in summer and in winter.
ZONES = [UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=-4))]
# st.datetimes adds the zone to naive bounds.
FIRST, LAST = datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2200-01-01")
times = st.datetimes(
    FIRST,
    LAST,
    timezones=st.sampled_from(ZONES),
).map(lambda moment: moment.isoformat(timespec="milliseconds"))
variants = st.lists(
    st.fixed_dictionaries(
        {
            "type": names,
            "url": names.map(lambda name: f"{BASE}/{name}"),
            "width": sizes,
            "height": sizes,
            "file_ext": names,
        }
    ),
    max_size=3,
)
answers = st.fixed_dictionaries(
    {
        "id": st.integers(1, 2**63 - 1),
        "created_at": times,
        "updated_at": times,
        "uploader_id": st.integers(0, 2**40),
        "score": st.integers(-1000, 1000),
        "source": st.text(max_size=20),
        "md5": hashes,
        "rating": st.sampled_from("gsqe"),
        "image_width": sizes,
        "image_height": sizes,
        "file_ext": names,
        "file_size": st.integers(0, 2**40),
        "parent_id": st.none() | st.integers(0, 2**40),
        **dict.fromkeys(
            ("has_children", "is_pending", "is_flagged", "is_deleted", "is_banned"), st.booleans()
        ),
        **{
            f"tag_string_{kind}": tag_strings
            for kind in ("general", "character", "copyright", "artist", "meta")
        },
        "file_url": st.none() | names,
        "media_asset": st.fixed_dictionaries(
            {
                "duration": st.none() | st.floats(0, 1e6),
                "pixel_hash": st.none() | hashes,
                "variants": variants,
            }
        ),
    }
)


@given(answer=answers)
def test_post_survives_the_table(answer):
    """A post is unchanged after the conversion from JSON to Post, row and Arrow, and back."""
    post = read(json.loads(json.dumps(answer)))

    assert post == post_of_row(post.to_row())
    assert [post] == _through_arrow([post])
    assert POSTS_SCHEMA.names == list(post.to_row())


def test_decision_is_a_row():
    """A decision has the columns of every decisions table."""
    decision = PostDecision(
        1, "decide", kept=False, reason="small", measured=100.0, threshold=256.0
    )

    table = pa.Table.from_pylist([decision.to_row()], schema=DECISIONS)

    assert [decision] == [PostDecision(**row) for row in table.to_pylist()]
