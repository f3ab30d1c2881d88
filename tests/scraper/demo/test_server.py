"""Tests the board over HTTP with `requests` as the client: Danbooru's behaviour without faults."""

import gzip
import json
import re
from dataclasses import replace
from datetime import datetime

import pytest
import requests

from scraper.demo.facts.record import CATEGORIES

AGENT = {"User-Agent": "personae-tests/1"}
HIDDEN_KEYS = {"md5", "file_url", "large_file_url", "preview_file_url"}
HIDDEN_ASSET_KEYS = {"md5", "file_key", "variants"}


def test_default_page_and_headers(get):
    """Without parameters, the page has 20 posts, newest first, and the application's headers."""
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
    """`limit` is parsed like Ruby's `to_i`, and clamped to 1..200."""
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
    """More than two counted terms are refused; attribute filters and syntax errors are not."""
    assert status == get("/posts.json", tags=tags, limit=1, only="id").status_code


def test_numbered_pages_and_their_end(get):
    """`page=N` is an offset, other texts give the first page, and a page beyond the last is 410."""
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
    """
    After a new post the next numbered page repeats a post, after a deletion it skips one.

    The next cursor page does neither.
    """

    def ask(page):
        query = {"limit": 4, "page": page, "only": "id", "tags": "-status:deleted"}
        rows = requests.get(
            own_demo_board.url + "/posts.json", params=query, headers=AGENT, timeout=30
        )
        return [row["id"] for row in rows.json()]

    first, second = ask("1"), ask("2")
    newest = own_demo_board.board.posts[-1]
    own_demo_board.board.insert(replace(newest, post_id=newest.post_id + 1))

    assert first[-1] == ask("2")[0]
    assert second == ask(f"b{first[-1]}")

    own_demo_board.board.flag(newest.post_id + 1, "deleted")
    own_demo_board.board.flag(first[0], "deleted")
    assert second[1:] == ask("2")[:-1]
    assert second == ask(f"b{first[-1]}")


def test_cursors_walk_every_post_once_in_both_directions(get, demo_board):
    """`b<id>` goes down and `a<id>` goes up, whatever `order:` is."""
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
    """Deleted, pending, flagged and banned posts are listed; `status:active` keeps banned posts."""
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
    """Banned posts and posts for Gold members are listed without seven keys."""
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
    """Tag counts equal the number of words; tag strings are sorted by bytes; times have offsets."""
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
    """`/posts/<id>.json` and `md5=` return one object, for deleted posts too."""
    post = get("/posts.json", tags="status:deleted").json()[0]

    assert post == get(f"/posts/{post['id']}.json").json()
    assert post == get("/posts.json", md5=post["md5"]).json()
    assert [post] == get("/posts.json", tags=f"md5:{post['md5']}").json()
    for query in ({"md5": "0" * 32}, {"md5": "zz"}):
        assert 404 == get("/posts.json", **query).status_code
    assert 404 == get("/posts/99999999.json").status_code


def test_random_posts(get):
    """`random=true` redirects to a search; `/posts/random.json` returns one post."""
    answer = get("/posts.json", random="true", tags="1girl", limit=2)

    assert 302 == answer.history[0].status_code
    assert 2 == len(answer.json())
    assert get("/posts/random.json", tags="1girl").json()["id"]
    assert 404 == get("/posts/random.json", tags="no_such_tag").status_code


def test_counts(get, demo_board):
    """Counts are exact, with any number of terms."""
    total = len(demo_board.board.posts)

    assert {"counts": {"posts": total}} == get("/counts/posts.json").json()
    assert {"counts": {"posts": 0}} == get("/counts/posts.json", tags="no_such_tag").json()
    assert 200 == get("/counts/posts.json", tags="1girl solo smile").status_code


def test_safe_mode_shows_general_posts_only(get):
    """`safe_mode=true` lists posts rated general only, and hides the files of others."""
    shown = get("/posts.json", safe_mode="true", limit=200, tags="1girl solo").json()
    other = get("/posts.json", tags="rating:q", limit=1).json()[0]

    assert {"g"} == {post["rating"] for post in shown}
    assert "file_url" not in get(f"/posts/{other['id']}.json", safe_mode="true").json()


def test_conditional_and_compressed_answers(get):
    """A known ETag gets 304; a response is compressed only if the client accepts gzip."""
    plain = get("/posts.json", headers={"Accept-Encoding": "identity"})
    packed = get("/posts.json", headers={"Accept-Encoding": "gzip"})
    again = get("/posts.json", headers={"If-None-Match": plain.headers["ETag"]})

    assert "Content-Encoding" not in plain.headers
    assert "gzip" == packed.headers["Content-Encoding"]
    assert plain.content == packed.content
    assert len(gzip.compress(plain.content)) < len(plain.content)
    assert (304, b"") == (again.status_code, again.content)


def test_bodies_blank_searches_pages_and_requested_errors(get, demo_board):
    """A body, a blank search, no extension, a wrong address and a requested error are handled."""
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
    """Neither posts nor the log contain the truth of a post."""
    text = json.dumps(get("/posts.json", limit=200).json()) + get("/demo/log.json").text

    for word in ("family", "mistagged", "duplicate_of", "recipe", "wrong_persona"):
        assert f'"{word}"' not in text


def test_the_log_counts_requests(get, demo_board):
    """The log has counts, statuses and entries, and does not count its own requests."""
    before = get("/demo/log.json").json()["requests"]["api"]
    get("/posts.json", limit=1)
    after = get("/demo/log.json", entries="true").json()

    assert before + 1 == after["requests"]["api"]
    assert ["api", "/posts.json?limit=1", 200] == after["entries"][-1][1:]
    assert 1 <= after["most_at_once"]["api"]


def test_control_is_off_by_default(demo_board):
    """A board without control refuses requests for faults and changes."""
    for path in ("/demo/faults", "/demo/change"):
        assert (
            404
            == requests.post(demo_board.url + path, json=[], headers=AGENT, timeout=5).status_code
        )


def test_answers_carry_the_headers_of_the_application(get):
    """Every answer of the API has the headers of Danbooru's application and of its proxy."""
    headers = get("/posts.json", limit=1).headers

    assert "SAMEORIGIN" == headers["X-Frame-Options"]
    assert "Accept-Encoding" == headers["Vary"]
    assert ("cloudflare", "DYNAMIC") == (headers["Server"], headers["cf-cache-status"])
    assert headers["Set-Cookie"].startswith("_danbooru2_session=")
    assert {"X-Git-Hash", "X-Request-Id", "X-Runtime", "Server-Timing"} <= set(headers)


def test_the_safebooru_host_shows_general_posts_only(get):
    """The host name alone selects safe mode: searches show `rating:g`, other posts lose their files."""
    host = {"Host": "safebooru.example"}
    shown = get("/posts.json", tags="1girl solo", limit=200, headers=host).json()
    other = get("/posts.json", tags="rating:q", limit=1).json()[0]

    assert {"g"} == {post["rating"] for post in shown}
    assert "file_url" not in get(f"/posts/{other['id']}.json", headers=host).json()


def test_etags_are_weak_and_any_of_several_may_match(get):
    """`If-None-Match` matches by weak comparison, in a list, and with `*`."""
    tag = get("/posts.json", limit=2).headers["ETag"]

    assert tag.startswith('W/"')
    for given in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = get("/posts.json", limit=2, headers={"If-None-Match": given})
        assert (304, b"", tag) == (again.status_code, again.content, again.headers["ETag"])
    assert 200 == get("/posts.json", limit=2, headers={"If-None-Match": '"other"'}).status_code
