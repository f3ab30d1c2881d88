"""The board over HTTP, asked by `requests`: the normal behaviours of a Danbooru."""

import base64
import gzip
import json
import re
from dataclasses import replace
from datetime import datetime

import pytest
import requests
import yaml

from scraper.demo import gate
from scraper.demo.gate import ACCOUNTS, Bucket, Log
from scraper.demo.record import CATEGORIES

AGENT = {"User-Agent": "personae-tests/1"}
HIDDEN_KEYS = {"md5", "file_url", "large_file_url", "preview_file_url"}
HIDDEN_ASSET_KEYS = {"md5", "file_key", "variants"}


def recorded(real_data, folder):
    """Recorded exchanges of the live site, as (response, parsed body)."""
    paths = sorted((real_data / "danbooru-fixtures" / "danbooru" / folder).glob("*.yaml"))
    answers = [yaml.safe_load(path.read_text())["response"] for path in paths]
    return [(answer, answer["body_json"]) for answer in answers]


def shape(value):
    """Keys in order, and for each value whether it is null, a number, text, a flag or a list."""
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
    """422 and 404 answer with the keys, class and words of the live site."""
    many = next(
        body for answer, body in recorded(real_data, "posts_search") if answer["status"] == 422
    )
    gone = next(
        body for answer, body in recorded(real_data, "posts_by_id") if answer["status"] == 404
    )
    told = [get("/posts.json", tags="1girl solo smile"), get("/posts/99999999.json")]

    assert [422, 404] == [answer.status_code for answer in told]
    for live, here in zip((many, gone), (answer.json() for answer in told), strict=True):
        assert list(live) == list(here)
        assert [live[key] for key in ("success", "error", "message")] == [
            here[key] for key in ("success", "error", "message")
        ]
    assert "no-cache" == told[0].headers["Cache-Control"]
    assert "ETag" not in told[0].headers


def test_default_page_and_headers(get):
    """Without parameters: 20 posts, newest first, with the headers of the application."""
    answer = get("/posts.json")
    ids = [post["id"] for post in answer.json()]

    assert 20 == len(ids)
    assert sorted(ids, reverse=True) == ids
    assert "application/json; charset=utf-8" == answer.headers["Content-Type"]
    assert "max-age=0, private, must-revalidate" == answer.headers["Cache-Control"]
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', answer.headers["ETag"])
    assert "*" == answer.headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize(
    ("expected", "limit"),
    [(1, "0"), (1, "-5"), (1, "abc"), (200, "201"), (200, "1000"), (12, "12abc")],
)
def test_limit_is_clamped(expected, limit, get):
    """`limit` is read as Ruby reads it, and kept within 1 to 200."""
    assert expected == len(get("/posts.json", limit=limit, only="id").json())


def test_limit_parameter_wins_over_the_metatag(get):
    """`limit:` in the tags counts only without the parameter."""
    assert 3 == len(get("/posts.json", tags="limit:3", only="id").json())
    assert 5 == len(get("/posts.json", tags="limit:3", limit=5, only="id").json())


@pytest.mark.parametrize(
    ("status", "tags"),
    [
        (200, "1girl solo"),
        (422, "1girl solo smile"),
        (200, "1girl solo rating:g status:active -status:banned id:>5 duration:none"),
        (422, "1girl solo order:score"),
        (422, "1girl -solo -smile"),
        (422, "1girl solo upvotes:>1"),
        (200, "1girl solo upvote:x"),
        (200, "ayame_tsukishiro tsukishiro_ayame solo"),
        (200, "(((("),
        (200, "no_such_tag nonsense:x"),
    ],
)
def test_only_two_counted_terms(status, tags, get):
    """More than two counted terms are refused; attribute filters and mistakes are not."""
    assert status == get("/posts.json", tags=tags, limit=1, only="id").status_code


def test_numbered_pages_and_their_end(get):
    """`page=N` is an offset; nonsense is the first page; beyond the last is 410."""
    first = get("/posts.json", limit=3, only="id").json()
    second = get("/posts.json", limit=3, page=2, only="id").json()
    both = get("/posts.json", limit=6, only="id").json()
    gone = get("/posts.json", page=1001)

    assert both == first + second
    for page in ("0", "-1", "x"):
        assert first == get("/posts.json", limit=3, page=page, only="id").json()
    assert [] == get("/posts.json", page=999).json()
    assert 410 == gone.status_code
    assert "PaginationExtension::PaginationError" == gone.json()["error"]
    assert "You cannot go beyond page 1000." == gone.json()["message"]


def test_cursors_ignore_posts_that_come_and_go(own_demo_board):
    """A new post shifts numbered pages, so that one repeats; the cursor shows none twice."""

    def ask(page):
        query = {"limit": 4, "page": page, "only": "id"}
        rows = requests.get(
            own_demo_board.url + "/posts.json", params=query, headers=AGENT, timeout=30
        )
        return [row["id"] for row in rows.json()]

    first = ask("1")
    newest = own_demo_board.board.posts[-1]
    own_demo_board.board.insert(replace(newest, post_id=newest.post_id + 1))

    assert first[-1] == ask("2")[0]
    assert first[-1] > ask(f"b{first[-1]}")[0]


def test_cursors_walk_every_post_once_in_both_directions(get, demo_board):
    """`b<id>` goes down and `a<id>` up, whatever the order asked for."""
    down, cursor = [], 10**9
    while rows := get("/posts.json", page=f"b{cursor}", limit=90, only="id").json():
        down += [row["id"] for row in rows]
        cursor = down[-1]
    up, cursor = [], 0
    while rows := get("/posts.json", page=f"A{cursor}", limit=90, only="id").json():
        up = [row["id"] for row in rows] + up
        cursor = rows[0]["id"]
    by_score = get("/posts.json", page="b999999", tags="order:score", limit=90, only="id").json()

    assert [post.post_id for post in reversed(demo_board.board.posts)] == down
    assert down == up
    assert down[:90] == [row["id"] for row in by_score]


def test_every_status_is_listed_unless_excluded(get):
    """Deleted, pending, flagged and banned posts come along; `status:active` keeps banned ones."""
    everything = get("/posts.json", limit=200).json()
    active = get("/posts.json", limit=200, tags="status:active").json()
    flags = ("is_deleted", "is_pending", "is_flagged", "is_banned")

    for flag in flags:
        assert (
            any(post[flag] for post in everything)
            or get("/posts.json", tags=f"status:{flag.removeprefix('is_')}").json()
        )
    assert not any(post[flag] for post in active for flag in flags[:3])
    assert get("/counts/posts.json", tags="status:active status:banned").json()["counts"]["posts"]


def test_hidden_posts_lack_exactly_seven_keys(get):
    """Banned posts and those for Gold members keep their place without their files."""
    banned = get("/posts.json", tags="status:banned").json()
    gold = get("/posts.json", tags="patron_preview").json()
    seen = get("/posts.json", limit=1, tags="rating:g status:active -status:banned").json()[0]

    assert banned
    assert gold
    for post in banned + gold:
        assert HIDDEN_KEYS == set(seen) - set(post)
        assert HIDDEN_ASSET_KEYS == set(seen["media_asset"]) - set(post["media_asset"])
    assert not any(post["is_banned"] or post["is_deleted"] for post in gold)


def test_counts_and_strings_of_tags_agree(get):
    """Counts equal the words of their strings; every string is byte-sorted; scores vary."""
    for post in get("/posts.json", limit=200).json():
        for kind in CATEGORIES:
            assert post[f"tag_count_{kind}"] == len(post[f"tag_string_{kind}"].split())
        words = post["tag_string"].split()
        assert sorted(words) == words
        assert post["tag_count"] == len(words)
        assert post["down_score"] <= 0
        assert datetime.fromisoformat(post["created_at"]).tzinfo is not None


def test_only_keeps_the_fields_named(get):
    """`only=` filters, nests with brackets and ignores unknown names."""
    row = get("/posts.json", limit=1, only="id,nonsense,media_asset[id,variants[type]]").json()[0]

    assert ["id", "media_asset"] == list(row)
    assert ["id", "variants"] == list(row["media_asset"])
    assert {"type": "180x180"} == row["media_asset"]["variants"][0]


def test_one_post_by_id_and_by_md5(get):
    """`/posts/<id>.json` and `md5=` answer one object, deleted ones too."""
    post = get("/posts.json", tags="status:deleted").json()[0]

    assert post == get(f"/posts/{post['id']}.json").json()
    assert post == get("/posts.json", md5=post["md5"]).json()
    assert [post] == get("/posts.json", tags=f"md5:{post['md5']}").json()
    assert 404 == get("/posts.json", md5="0" * 32).status_code


def test_random_posts(get):
    """`random=true` redirects to a search; `/posts/random.json` answers one post."""
    answer = get("/posts.json", random="true", tags="1girl", limit=2)

    assert 302 == answer.history[0].status_code
    assert 2 == len(answer.json())
    assert get("/posts/random.json", tags="1girl").json()["id"]
    assert 404 == get("/posts/random.json", tags="no_such_tag").status_code


def test_counts(get, demo_board):
    """Counts are exact and do not check the limit of terms."""
    total = len(demo_board.board.posts)

    assert {"counts": {"posts": total}} == get("/counts/posts.json").json()
    assert {"counts": {"posts": 0}} == get("/counts/posts.json", tags="no_such_tag").json()
    assert 200 == get("/counts/posts.json", tags="1girl solo smile").status_code


def test_tags(get):
    """Exact names, lists, wildcards, categories, order and limit choose tags."""

    def names(**search):
        limit = search.pop("limit", 1000)
        query = {f"search[{key}]": value for key, value in search.items()}
        return [row["name"] for row in get("/tags.json", limit=limit, **query).json()]

    assert ["solo"] == names(name="solo")
    assert {"solo", "1girl"} == set(names(name_comma="solo,1girl,nobody"))
    lenores = {name for name in names(order="name") if name.startswith("lenore_")}
    assert {"lenore_halewyn", "lenore_noir", "lenore_&_isolde_(fusion)"} <= lenores
    assert lenores == set(names(name_matches="lenore_*"))
    assert "isolde_farrow" in names(name_or_alias_matches="isolde_of_the_t*")
    assert "tsukishiro_ayame" in names(category=4, post_count=">20", hide_empty="true")
    assert "solo" not in names(category="4")
    assert sorted(names(order="name")) == names(order="name")
    assert 3 == len(names(order="count", limit=3))
    assert [] == names(is_deprecated="true")
    assert 20 == len(get("/tags.json").json())


def test_tag_counts_are_those_of_all_posts(get, demo_board):
    """A tag counts deleted posts too, and agrees with a search."""
    row = get("/tags.json", **{"search[name]": "solo"}).json()[0]
    posts = sum("solo" in post.all_tags for post in demo_board.board.posts)

    assert posts == row["post_count"]
    assert 0 == row["category"]


def test_parents_of_many_tags_in_one_call(get):
    """`only=` includes the relations of each tag."""
    rows = get(
        "/tags.json",
        only="name,antecedent_implications[consequent_name]",
        **{"search[name_comma]": "eclipse_ayame,solo"},
    ).json()

    assert {
        "eclipse_ayame": [{"consequent_name": "tsukishiro_ayame"}],
        "solo": [],
    } == {row["name"]: row["antecedent_implications"] for row in rows}


def test_implications_and_aliases(get):
    """Status, names and both directions of the closure choose relations; cursors page them."""

    def pairs(path, **search):
        query = {f"search[{key}]": value for key, value in search.items()}
        rows = get(path, limit=1000, **query).json()
        return {(row["antecedent_name"], row["consequent_name"]) for row in rows}

    table = "/tag_implications.json"
    every = get(table, limit=1000).json()
    rest = get(table, limit=1000, page=f"b{every[3]['id']}").json()

    assert ("camellia_dane", "momoka_sparrow") in pairs(table)
    assert ("camellia_dane", "momoka_sparrow") not in pairs(table, status="active")
    assert {
        ("eclipse_ayame_(festival)", "eclipse_ayame"),
        ("eclipse_ayame", "tsukishiro_ayame"),
    } == pairs(table, implied_from="eclipse_ayame_(festival)")
    assert {
        ("eclipse_ayame_(festival)", "eclipse_ayame"),
        ("eclipse_ayame", "tsukishiro_ayame"),
    } == pairs(table, implied_to="tsukishiro_ayame")
    assert {("4koma", "comic")} == pairs(table, antecedent_name="4koma")
    assert len(pairs(table, consequent_name_comma="comic,monochrome", status="active")) == 4
    assert every[4:] == rest
    assert {("grayscale", "greyscale"), ("black_and_white", "greyscale")} == pairs(
        "/tag_aliases.json", consequent_name="greyscale"
    )


@pytest.mark.parametrize(
    "agent", ["Mozilla/5.0 (X11)", "", "python-requests/2.32.0", "Python/3.11 aiohttp/3.9.1"]
)
def test_suspicious_user_agents_are_challenged(agent, demo_board, get):
    """Browsers, nobody and bare libraries get 403 with a challenge, on the API and the CDN."""
    url = get("/posts.json", limit=1, tags="status:active -status:banned rating:g").json()[0]
    for address in (demo_board.url + "/posts.json", url["preview_file_url"]):
        answer = requests.get(address, headers={"User-Agent": agent}, timeout=10)

        assert 403 == answer.status_code
        assert "challenge" == answer.headers["cf-mitigated"]
        assert answer.headers["Content-Type"].startswith("text/html")


def test_credentials(get):
    """Half or wrong credentials are 401; Basic wins over the query; Gold sees and searches more."""
    login, key = next(pair for pair, level in ACCOUNTS.items() if level.name == "gold")
    basic = {"Authorization": "Basic " + base64.b64encode(f"{login}:{key}".encode()).decode()}
    hidden = get("/posts.json", tags="patron_preview", headers=basic).json()

    assert 401 == get("/posts.json", login=login).status_code
    assert 401 == get("/posts.json", login=login, api_key="wrong").status_code
    assert "SessionLoader::AuthenticationFailure" == get("/posts.json", api_key="x").json()["error"]
    assert 200 == get("/posts.json", tags="1girl solo smile", headers=basic).status_code
    assert 200 == get("/posts.json", login="wrong", api_key="wrong", headers=basic).status_code
    assert 200 == get("/posts.json", page=4000, headers=basic).status_code
    assert all("file_url" in post for post in hidden if not post["is_banned"])


def test_safe_mode_shows_general_posts_only(get):
    """`safe_mode=true` filters and hides other ratings."""
    shown = get("/posts.json", safe_mode="true", limit=200, tags="1girl solo").json()
    other = get("/posts.json", tags="rating:q", limit=1).json()[0]

    assert {"g"} == {post["rating"] for post in shown}
    assert "file_url" not in get(f"/posts/{other['id']}.json", safe_mode="true").json()


def test_conditional_and_compressed_answers(get):
    """The ETag that was given brings 304; gzip is used when it is accepted, and only then."""
    plain = get("/posts.json", headers={"Accept-Encoding": "identity"})
    packed = get("/posts.json", headers={"Accept-Encoding": "gzip"})
    again = get("/posts.json", headers={"If-None-Match": plain.headers["ETag"]})

    assert "Content-Encoding" not in plain.headers
    assert "gzip" == packed.headers["Content-Encoding"]
    assert plain.content == packed.content
    assert len(gzip.compress(plain.content)) < len(plain.content)
    assert (304, b"") == (again.status_code, again.content)


def test_odd_requests(get, demo_board):
    """A body, a blank search, no extension, an unknown address and an ordered error."""
    with_body = requests.get(demo_board.url + "/posts.json", data="x", headers=AGENT, timeout=10)
    blank = get("/tags.json", **{"search[name]": ""})
    page, ordered = get("/posts"), get("/posts.json", cause_error=503)

    assert 400 == with_body.status_code
    assert "ApplicationController::RequestBodyNotAllowedError" == with_body.json()["error"]
    assert [302] == [step.status_code for step in blank.history]
    assert page.headers["Content-Type"].startswith("text/html")
    assert (503, "StandardError", "") == (
        ordered.status_code,
        ordered.json()["error"],
        ordered.json()["message"],
    )
    assert (404, "NilClass") == (
        get("/nothing.json").status_code,
        get("/nothing.json").json()["error"],
    )
    assert 404 == get("/nothing").status_code


def test_no_answer_carries_the_truth(get):
    """Neither posts nor the log say what a post really shows."""
    text = json.dumps(get("/posts.json", limit=200).json()) + get("/demo/log.json").text

    for word in ("family", "mistagged", "duplicate_of", "recipe", "wrong_persona"):
        assert f'"{word}"' not in text


def test_the_log_counts_requests(get, demo_board):
    """The log tells totals, statuses and entries; asking for it is not counted."""
    before = get("/demo/log.json").json()["requests"]["api"]
    get("/posts.json", limit=1)
    after = get("/demo/log.json", entries="true").json()

    assert before + 1 == after["requests"]["api"]
    assert ["api", "/posts.json?limit=1", 200] == after["entries"][-1][1:]
    assert 1 <= after["most_at_once"]["api"]


def test_control_is_off_by_default(demo_board):
    """Nobody can order faults or changes on a board that was not told so."""
    for path in ("/demo/faults", "/demo/change"):
        assert (
            404
            == requests.post(demo_board.url + path, json=[], headers=AGENT, timeout=5).status_code
        )


def test_the_bucket_delays_then_refuses():
    """Ten a second pass, twenty wait, the next is refused, and time forgives."""
    bucket = Bucket(rate=10, burst=20)
    waits = [bucket.delay("me", 100.0) for _ in range(22)]

    assert [step / 10 for step in range(21)] == pytest.approx(waits[:21])
    assert waits[21] is None
    assert 0.0 == bucket.delay("other", 100.0)
    assert bucket.delay("me", 100.1) == pytest.approx(2.0)
    assert 0.0 == bucket.delay("me", 200.0)


def test_no_rate_is_no_limit():
    """Rate 0 lets everybody pass at once."""
    bucket = Bucket(rate=0, burst=0)

    assert {0.0} == {bucket.delay("me", 1.0) for _ in range(100)}


def test_the_log_finds_the_busiest_second():
    """Requests per second are counted over any window of one second."""
    log = Log()
    for at in (0.0, 0.9, 1.1, 1.2, 1.89, 5.0):
        log.start("api", "me")
        log.end("api", "/", at=at, status=200, sent=1)

    assert 4 == log.most_per_second("api")
    assert 6 == log.bytes_sent
    assert not gate.is_challenged("personae/0.1 (+https://example.org)")
