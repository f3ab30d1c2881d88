"""
Replays recorded answers of the live site: through the scraper's clients and the board's serialiser.

Both must give the recorded fields, in the recorded order, with the recorded types and values.
"""

import asyncio
import functools
from dataclasses import dataclass, field
from datetime import datetime

import pytest
import yaml

from scraper.demo.facts.record import CATEGORIES, DemoPost, FileFacts, FileRecipe
from scraper.demo.facts.tags import TagRelation
from scraper.demo.server import answers
from scraper.errors import NotFound, QueryTimedOut, TagLimitReached
from scraper.sources.board_post import read_post
from scraper.sources.danbooru import Danbooru, counted
from tests.scraper.network_fixture import answer as reply
from tests.scraper.network_fixture import asking

CDN = "https://cdn.donmai.us"
ERRORS = {404: NotFound, 422: TagLimitReached, 500: QueryTimedOut}
OTHERS = {
    *("last_comment_bumped_at", "last_noted_at", "approver_id", "last_commented_at", "bit_flags"),
    *("has_visible_children",),
}
"""Fields of a post that the board has with a value of its own: nobody comments there."""


@functools.cache
def read_exchange(path):
    return yaml.safe_load(path.read_text())


def recorded(real_data, folder):
    """Returns recorded responses of the live site, as pairs of response and parsed body."""
    paths = sorted((real_data / "danbooru-fixtures" / "danbooru" / folder).glob("*.yaml"))
    answers = [read_exchange(path)["response"] for path in paths]
    return [(answer, answer["body_json"]) for answer in answers]


def shape(value):
    """Returns the keys in order, with the type of each value."""
    if isinstance(value, dict):
        return {key: shape(inside) for key, inside in value.items()}
    if isinstance(value, bool | list):
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


NULLABLE = {
    *("last_comment_bumped_at", "last_noted_at", "parent_id", "approver_id", "pixiv_id"),
    *("last_commented_at", "duration", "forum_topic_id", "forum_post_id"),
}


def strict(shape_):
    return {
        key: strict(value) if isinstance(value, dict) else value
        for key, value in shape_.items()
        if key not in NULLABLE
    }


def test_a_post_has_the_fields_of_a_recorded_one(get, real_data):
    """Keys, their order and their types agree with every recorded post."""
    visible = get("/posts.json", tags="solo status:active -status:banned", limit=20).json()
    live = [
        post
        for folder in ("posts_search", "pagination")
        for answer, body in recorded(real_data, folder)
        if answer["status"] == 200
        for post in body
    ]

    assert len(live) > 10
    assert {tuple(post) for post in live} == {tuple(post) for post in visible}
    assert {tuple(post["media_asset"]) for post in live} == {
        tuple(post["media_asset"]) for post in visible
    }
    assert strict(shape(live[0])) == strict(shape(visible[0]))
    assert {tuple(v) for post in live for v in post["media_asset"]["variants"]} == {
        tuple(v) for post in visible for v in post["media_asset"]["variants"]
    }


def test_tag_rows_have_the_fields_of_recorded_ones(get, real_data):
    """Tags, aliases and implications have the recorded keys in the recorded order."""
    tags = [row for _, body in recorded(real_data, "tags_search") for row in body]
    aliases = [row for _, body in recorded(real_data, "tag_aliases_search") for row in body]

    assert {tuple(tags[0])} == {tuple(row) for row in get("/tags.json").json()}
    assert strict(shape(tags[0])) == strict(shape(get("/tags.json").json()[0]))
    for path in ("/tag_aliases.json", "/tag_implications.json"):
        assert {tuple(aliases[0])} == {tuple(row) for row in get(path).json()}
        assert strict(shape(aliases[0])) == strict(shape(get(path).json()[0]))


def test_errors_have_the_recorded_body(get, real_data):
    """422 and 404 have the keys, class and message of the live site."""
    many = next(
        body for answer, body in recorded(real_data, "posts_search") if answer["status"] == 422
    )
    gone = next(
        body for answer, body in recorded(real_data, "posts_by_id") if answer["status"] == 404
    )
    answered = [get("/posts.json", tags="1girl solo smile"), get("/posts/99999999.json")]

    assert [422, 404] == [answer.status_code for answer in answered]
    for live, here in zip((many, gone), (answer.json() for answer in answered), strict=True):
        assert list(live) == list(here)
        assert [live[key] for key in ("success", "error", "message")] == [
            here[key] for key in ("success", "error", "message")
        ]
    assert "no-cache" == answered[0].headers["Cache-Control"]
    assert "ETag" not in answered[0].headers


def every(real_data):
    """Returns all recorded exchanges: path of the file, and request and response."""
    root = real_data / "danbooru-fixtures" / "danbooru"
    paths = sorted(root.glob("*/*.yaml"))
    assert len(paths) > 50
    return [(path, read_exchange(path)) for path in paths]


def recorded_posts(real_data):
    """Returns every recorded post, each once."""
    posts = {}
    for _path, exchange in every(real_data):
        body = exchange["response"]["body_json"]
        for row in body if isinstance(body, list) else [body]:
            if "tag_string" in row:
                posts[row["id"]] = row
    assert len(posts) > 10
    return list(posts.values())


def milliseconds(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def as_demo_post(row):
    """Returns a post and the facts of its file as the board keeps them, from a recorded post."""
    flags = {name for name in ("pending", "flagged", "deleted", "banned") if row[f"is_{name}"]}
    shown = DemoPost(
        post_id=row["id"],
        created_ms=milliseconds(row["created_at"]),
        updated_ms=milliseconds(row["updated_at"]),
        **{name: row[name] for name in ("uploader_id", "up_score", "down_score", "score")},
        **{name: row[name] for name in ("fav_count", "source", "rating", "file_ext")},
        **{name: row[name] for name in ("parent_id", "pixiv_id")},
        width=row["image_width"],
        height=row["image_height"],
        duration=row["media_asset"]["duration"],
        tags={name: tuple(row[f"tag_string_{name}"].split()) for name in CATEGORIES},
        all_tags=tuple(row["tag_string"].split()),
        recipe=FileRecipe(),
        children=(1,) if row["has_children"] else (),
        active_children=row["has_active_children"],
        flags=frozenset(flags),
    )
    asset = row["media_asset"]
    return shown, FileFacts(row["md5"], row["file_size"], asset["pixel_hash"])


def test_recorded_posts_pass_the_serialiser_unchanged(real_data):
    """A recorded post, kept as the board keeps posts, is served with equal fields and values."""
    for row in recorded_posts(real_data):
        served = answers.post(*as_demo_post(row), host=CDN, hidden=False)

        assert list(row) == list(served)
        assert list(row["media_asset"]) == list(served["media_asset"])
        assert {key: row[key] for key in row if key not in {*OTHERS, "media_asset"}} == {
            key: served[key] for key in served if key not in {*OTHERS, "media_asset"}
        }
        own = {"id", "created_at", "updated_at", "file_key"}  # of the upload, not of the file
        assert {k: v for k, v in row["media_asset"].items() if k not in own} == {
            k: v for k, v in served["media_asset"].items() if k not in own
        }
        assert strict(shape(row)) == strict(shape(served))


def test_recorded_posts_are_read_as_served_ones(real_data):
    """The client reads a recorded post and its served copy into equal records."""
    for row in recorded_posts(real_data):
        served = answers.post(*as_demo_post(row), host=CDN, hidden=False)
        read = read_post(row, base_url="https://danbooru.donmai.us")

        assert read_post(served, base_url="https://danbooru.donmai.us") == read
        assert (row["md5"], row["file_url"]) == (read.md5, read.variants[-1].url)
        assert set(row["tag_string"].split()) == read.tags


@dataclass
class _Index:
    """The counts and categories of recorded tags, in place of an index of posts."""

    categories: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name):
        return self.counts[name]


def test_recorded_tags_are_served_and_read(real_data):
    """Every recorded tag is served with its name, count, category and words, and read as such."""
    rows = [row for _, body in recorded(real_data, "tags_search") for row in body]
    names = {number: name for name, number in CATEGORIES.items()}
    index = _Index(
        {row["name"]: names[row["category"]] for row in rows},
        {row["name"]: row["post_count"] for row in rows},
    )
    own = {"id", "created_at", "updated_at", "is_deprecated"}

    class Replay:
        async def get_json(self, _path, _params=None):
            return rows

    async def read():
        return [tag async for tag in Danbooru(Replay(), "http://board").named(["any"])]

    assert len(rows) > 20
    for row in rows:
        served = answers.tag(row["name"], index)
        assert list(row) == list(served)
        assert strict(shape(row)) == strict(shape(served))
        assert {k: row[k] for k in row if k not in own} == {
            k: served[k] for k in served if k not in own
        }
    assert [(row["name"], row["post_count"]) for row in rows if row["category"] == 4] == [
        (tag.name, tag.post_count) for tag in asyncio.run(read())
    ]


def test_recorded_aliases_are_served_and_read(real_data):
    """Every recorded alias is served with its names and status, and read as a pair."""
    rows = [row for _, body in recorded(real_data, "tag_aliases_search") for row in body]
    pages = [rows, [], []]

    class Replay:
        async def get_json(self, _path, _params=None):
            return pages.pop(0)

    async def read():
        return [pair async for pair in Danbooru(Replay(), "http://board").aliases()]

    for row in rows:
        served = answers.relation(
            TagRelation(row["id"], row["antecedent_name"], row["consequent_name"], row["status"])
        )
        assert list(row) == list(served)
        assert strict(shape(row)) == strict(shape(served))
        same = ("id", "antecedent_name", "consequent_name", "status")
        assert [row[key] for key in same] == [served[key] for key in same]
    assert asyncio.run(read()) == [
        (row["antecedent_name"], row["consequent_name"])
        for row in rows
        if row["status"] == "active"
    ]


def test_recorded_counts_are_read(real_data):
    """Counts, a count of zero and a count of null have the shape that the board answers."""
    bodies = [body for answer, body in recorded(real_data, "counts") if answer["status"] == 200]
    numbers = [counted(body) for body in bodies]

    assert len(bodies) > 12
    assert [body["counts"]["posts"] for body in bodies] == numbers
    assert {None, 0} < set(numbers)
    assert all(list(body) == ["counts"] and list(body["counts"]) == ["posts"] for body in bodies)


@pytest.mark.parametrize("client", ["json", "one_shot"])
def test_both_clients_read_every_recorded_exchange(client, real_data):
    """A recorded body reaches the caller unchanged, a recorded error as the error of its status."""

    async def replay(response):
        script = reply(response["body_json"], response["status"])
        async with asking(script, attempts=1) as asked:
            return await getattr(asked, client)()

    statuses = set()
    for path, exchange in every(real_data):
        response = exchange["response"]
        statuses.add(response["status"])
        if response["status"] == 200:
            assert response["body_json"] == asyncio.run(replay(response)), path
        else:
            with pytest.raises(ERRORS[response["status"]]):
                asyncio.run(replay(response))

    assert {200, 404, 422, 500} == statuses


def test_recorded_errors_are_served(real_data):
    """The body of every recorded error has the keys, types, class and message of the board's."""
    for path, exchange in every(real_data):
        if exchange["response"]["status"] != 200:
            live = exchange["response"]["body_json"]
            served = answers.error(live["error"], live["message"])
            assert list(live) == list(served), path
            assert strict(shape(live)) == strict(shape(served))
            assert live["backtrace"][-1] == served["backtrace"][-1]


def test_recorded_headers_are_served(get, real_data):
    """A page has every recorded header of the application, with its value where it is constant."""
    changing = {"etag", "set-cookie", "x-request-id", "server-timing", "x-runtime"}
    of_the_connection = {
        *("date", "transfer-encoding", "connection", "content-length", "content-encoding", "via"),
        *("nel", "report-to", "cf-ray", "alt-svc", "strict-transport-security"),
    }
    served = get("/posts.json", limit=2).headers
    for answer, _ in recorded(real_data, "posts_search"):
        if answer["status"] != 200:
            continue
        for name, value in answer["headers"].items():
            if name.lower() in of_the_connection:
                continue
            assert name in served, name
            assert name.lower() in changing or value == served[name]
