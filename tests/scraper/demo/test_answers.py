"""Tests searches, posts, counts and files over HTTP, with `requests` as an independent client."""

import hashlib
import io
import re
from dataclasses import replace

import pytest
import requests
from PIL import Image

from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.facts.record import CATEGORIES
from scraper.demo.search.language import parse
from scraper.demo.search.match import PostIndex
from scraper.demo.server.thread import serving
from tests.scraper.demo.test_search import post as search_post

AGENT = {"User-Agent": "personae-tests/1 (+https://example.org)"}
FIELDS = [
    "id",
    "created_at",
    "uploader_id",
    "score",
    "source",
    "md5",
    "last_comment_bumped_at",
    "rating",
    "image_width",
    "image_height",
    "tag_string",
    "fav_count",
    "file_ext",
    "last_noted_at",
    "parent_id",
    "has_children",
    "approver_id",
    "tag_count_general",
    "tag_count_artist",
    "tag_count_character",
    "tag_count_copyright",
    "file_size",
    "up_score",
    "down_score",
    "is_pending",
    "is_flagged",
    "is_deleted",
    "tag_count",
    "updated_at",
    "is_banned",
    "pixiv_id",
    "last_commented_at",
    "has_active_children",
    "bit_flags",
    "tag_count_meta",
    "has_large",
    "has_visible_children",
    "media_asset",
    "tag_string_general",
    "tag_string_character",
    "tag_string_copyright",
    "tag_string_artist",
    "tag_string_meta",
    "file_url",
    "large_file_url",
    "preview_file_url",
]
ASSET = [
    "id",
    "created_at",
    "updated_at",
    "md5",
    "file_ext",
    "file_size",
    "image_width",
    "image_height",
    "duration",
    "status",
    "file_key",
    "is_public",
    "pixel_hash",
    "variants",
]
NULLABLE = [
    "last_comment_bumped_at",
    "last_noted_at",
    "parent_id",
    "approver_id",
    "pixiv_id",
    "last_commented_at",
]


def ids(answer):
    return [post["id"] for post in answer.json()]


def test_a_third_term_is_refused_with_the_body_of_the_site(get):
    """The refusal of a third term has Danbooru's class, message and first line of the backtrace."""
    answer = get("/posts.json", tags="1girl solo smile")
    body = answer.json()
    first = body.pop("backtrace")[0]

    assert 422 == answer.status_code
    assert {
        "success": False,
        "error": "PostQuery::TagLimitError",
        "message": "You cannot search for more than 2 tags at a time.",
    } == body
    assert (
        "app/logical/post_query.rb:321:in 'PostQuery::ValidationMethods#validate_tag_limit!'"
        == first
    )


@pytest.mark.parametrize(
    "tags", ["", " ", "solo", "solo solo", "grayscale greyscale monochrome", "solo SOLO 1girl"]
)
def test_a_single_tag_a_repeated_tag_and_an_alias_are_never_too_many(get, tags):
    """No search and a single tag pass; repeated names and aliases of one tag count once."""
    assert 200 == get("/posts.json", tags=tags, limit=1, only="id").status_code


@pytest.mark.parametrize(
    "tags", ["((", "solo)", "solo or", "-", "no_such_tag", "nonsense:5", "id:abc", "md5:zz", "~"]
)
def test_syntax_errors_and_unknown_names_give_an_empty_page(get, tags):
    """A query that cannot be read, or names nothing known, has status 200 and no posts."""
    answer = get("/posts.json", tags=tags)

    assert (200, []) == (answer.status_code, answer.json())


def test_search_operators_select_over_http(get, demo_board):
    """Not, or, groups, wildcards, ranges and `none` select the posts that their tags say."""
    everything = {post.post_id: post for post in demo_board.board.posts}

    def expected(holds):
        return sorted((i for i, post in everything.items() if holds(post)), reverse=True)[:200]

    def has(post, *names):
        return any(name in post.all_tags for name in names)

    cases = {
        "-solo": lambda post: not has(post, "solo"),
        "smile or dress": lambda post: has(post, "smile", "dress"),
        "~smile ~dress": lambda post: has(post, "smile", "dress"),
        "-(smile or dress)": lambda post: not has(post, "smile", "dress"),
        "*_shirt": lambda post: any(name.endswith("_shirt") for name in post.all_tags),
        "score:5..9": lambda post: 5 <= post.score <= 9,
        "filetype:png,gif": lambda post: post.file_ext in ("png", "gif"),
        "duration:none": lambda post: post.duration is None,
        "pixiv:any": lambda post: post.pixiv_id is not None,
    }
    for text, holds in cases.items():
        assert expected(holds) == ids(get("/posts.json", tags=text, limit=200, only="id")), text


def test_a_wildcard_stands_for_the_hundred_tags_with_most_posts():
    """Of 101 tags that match a pattern, the rarest is left out."""
    common = [search_post(number, f"t{number % 100:03d}") for number in range(1, 201)]
    index = PostIndex([*common, search_post(999, "t_rare")], lambda _: None)

    assert 200 == len(index.select(parse("t*")))
    assert [999] == [post.post_id for post in index.select(parse("t_rare"))]


def test_hidden_posts_keep_their_place(get):
    """A page holds as many posts as `limit` says, those without files included."""
    posts = get("/posts.json", tags="patron_preview or status:banned", limit=2).json()

    assert 2 == len(posts)
    assert not any("file_url" in post for post in posts)


def test_fields_have_the_documented_order_types_and_nulls(get):
    """Posts have Danbooru's keys in order; only the nullable ones are null; `score` is its own."""
    posts = get(
        "/posts.json", tags="status:active -status:banned -patron_preview", limit=200
    ).json()

    assert {tuple(FIELDS)} == {tuple(post) for post in posts}
    assert {tuple(ASSET)} == {tuple(post["media_asset"]) for post in posts}
    for post in posts:
        assert all(post[name] is not None for name in set(FIELDS) - set(NULLABLE))
        assert post["rating"] in "gsqe"
        assert re.fullmatch("[0-9a-f]{32}", post["media_asset"]["pixel_hash"])
        assert re.fullmatch("[0-9A-Za-z]{9}", post["media_asset"]["file_key"])
    assert any(post["score"] != post["up_score"] + post["down_score"] for post in posts)
    assert any(post["parent_id"] for post in posts)


def test_counts_are_stored_cached_null_or_an_error(own_demo_board):
    """A tag's count is stored, other counts are cached, and a count can be null or time out."""
    board, url = own_demo_board.board, own_demo_board.url + "/counts/posts.json"

    def count(tags, **more):
        answer = requests.get(url, params={"tags": tags, **more}, headers=AGENT, timeout=20)
        return answer.json()["counts"]["posts"] if answer.ok else answer.json()["error"]

    newest = board.posts[-1]
    before = count("1girl"), count("1girl id:>1")
    extra = replace(newest, post_id=newest.post_id + 1, all_tags=("1girl",))
    board.insert(replace(extra, tags=newest.tags | {"general": ("1girl",)}))

    assert (before[0] + 1, before[1]) == (count("1girl"), count("1girl id:>1"))
    assert before[1] + 1 == count("1girl id:>1", skip_cache="true")
    own_demo_board.set_faults("null_count")
    assert count("solo") is None
    own_demo_board.set_faults("query_canceled")
    assert "ActiveRecord::QueryCanceled" == count("solo")


def test_implied_tags_are_served_with_the_tags_that_imply_them(get):
    """Forms come with their base, `4koma` with `comic`, costumes with their character."""
    pairs = {
        "eclipse_ayame": {"tsukishiro_ayame"},
        "4koma": {"comic"},
        "greyscale": {"monochrome"},
        "turnaround": {"multiple_views"},
    }
    for name, implied in pairs.items():
        posts = get("/posts.json", tags=name, only="tag_string").json()
        assert posts
        assert all(implied <= set(post["tag_string"].split()) for post in posts)
    costumes = get("/posts.json", tags="*_(cosplay)", only="tag_string").json()
    assert costumes
    for post in costumes:
        names = set(post["tag_string"].split())
        worn = {name.removesuffix("_(cosplay)") for name in names if name.endswith("_(cosplay)")}
        assert worn | {"cosplay"} <= names
    for ground in ("simple_background", "-simple_background"):
        assert get("/posts.json", tags=f"white_background {ground}", limit=1, only="id").json()


def test_a_post_older_than_its_implication_has_the_form_without_its_base():
    """Such posts are served as they were saved, and the implication is in the table."""
    params = TINY.model_copy(update={"seed": 1, "posts_small": 90})
    with serving(booru.board(params), params) as served:
        query = {"tags": "eclipse_ayame -tsukishiro_ayame", "only": "tag_string_character"}
        posts = requests.get(f"{served.url}/posts.json", params=query, headers=AGENT, timeout=60)
        search = {"search[implied_from]": "eclipse_ayame", "search[status]": "active"}
        rows = requests.get(
            f"{served.url}/tag_implications.json", params=search, headers=AGENT, timeout=60
        )

    assert posts.json()
    assert ["tsukishiro_ayame"] == [row["consequent_name"] for row in rows.json()]


def test_tags_of_the_size_agree_with_the_served_size(get):
    """`highres`, `lowres`, `wide_image` and `tall_image` are on the posts of that size alone."""
    sizes = {"highres", "absurdres", "lowres", "wide_image", "tall_image"}
    for post in get("/posts.json", limit=200).json():
        width, height = post["image_width"], post["image_height"]
        expected = {
            "absurdres": width >= 3_200 or height >= 2_400,
            "highres": width >= 1_600 or height >= 1_200,
            "lowres": max(width, height) <= 500,
            "wide_image": width >= max(1_024, 4 * height),
            "tall_image": height >= max(1_024, 4 * width),
        }
        assert {name for name in expected if expected[name]} == sizes & set(
            post["tag_string"].split()
        )


def test_md5_and_size_are_those_of_the_original_alone(get):
    """Variants carry the md5 of the original in their names and are other bytes."""
    tags = "filetype:jpg status:active -status:banned rating:g width:>850"
    post = get("/posts.json", tags=tags, limit=1).json()[0]
    variants = post["media_asset"]["variants"]
    types = [variant["type"] for variant in variants]

    assert ["180x180", "360x360", "720x720", "sample", "original"] == types
    for variant in variants:
        content = get(variant["url"]).content
        assert (variant["width"], variant["height"]) == Image.open(io.BytesIO(content)).size
        is_original = variant["type"] == "original"
        assert post["md5"] in variant["url"]
        assert (hashlib.md5(content).hexdigest() == post["md5"]) is is_original
        assert (len(content) == post["file_size"]) is is_original


def test_file_names_may_carry_tags(get, demo_board):
    """The server ignores the words before the md5; any other path is an HTML page of status 404."""
    url = get("/posts.json", tags="filetype:jpg status:active -status:banned", limit=1).json()[0][
        "file_url"
    ]
    folder, name = url.rsplit("/", 1)

    assert get(url).content == get(f"{folder}/__solo_and_smile__{name}").content
    lost = get(f"{folder}/solo_{name}")
    assert (404, "text/html") == (lost.status_code, lost.headers["Content-Type"].split(";")[0])


def test_both_offsets_occur_in_a_page(get):
    """Times of summer and winter posts have different offsets within one answer."""
    posts = get("/posts.json", limit=200, only="created_at,media_asset[created_at]").json()

    assert {"-04:00", "-05:00"} == {post["created_at"][-6:] for post in posts}


def test_every_category_of_tags_is_served(get):
    """Every category has tags, with the numbers of Danbooru's categories."""
    for number in CATEGORIES.values():
        rows = get("/tags.json", **{"search[category]": number}).json()
        assert {number} == {row["category"] for row in rows}
