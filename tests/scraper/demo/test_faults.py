"""Tests the faults: the effect of each kind, by share and by request, and none by default."""

import io
import json
import time

import pytest
import requests
from PIL import Image

from personae.errors import BadParams
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server import faults, strikes
from scraper.demo.server.thread import serving

AGENT = {"User-Agent": "personae-tests/1"}


@pytest.fixture
def ask(own_demo_board):
    """Requests a path with a fault; returns the response, or the error that `requests` raises."""

    def get(path, kind=None, **params):
        url = path if path.startswith("http") else own_demo_board.url + path
        headers = AGENT | ({strikes.HEADER: kind} if kind else {})
        try:
            return requests.get(
                url, params=params, headers=headers, timeout=0.7 if kind == "stall" else 120
            )
        except requests.RequestException as error:
            return error

    return get


@pytest.fixture
def listed(ask):
    """Returns the JSON of a post with undamaged files."""
    tags = "id:..99999 status:active -status:banned filetype:jpg solo"
    posts = ask("/posts.json", tags=tags, limit=1).json()
    return posts[0]


def test_nothing_goes_wrong_without_an_order(ask, own_demo_board):
    """A board with control but without faults responds as usual."""
    assert 200 == ask("/posts.json", limit=1).status_code
    assert {} == dict(own_demo_board.faults.committed)


@pytest.mark.parametrize(("kind", "status"), list(strikes.STATUSES.items()))
def test_errors_of_the_proxy_are_html(kind, status, ask):
    """Status faults are HTML pages; only one kind of 429 has `Retry-After`."""
    answer = ask("/posts.json", kind)

    assert status == answer.status_code
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ("Retry-After" in answer.headers) is (kind == "too_many_retry_after")


@pytest.mark.parametrize("kind", ["query_canceled", "database_down"])
def test_errors_of_the_database_are_json(kind, ask):
    """Database errors are JSON with Danbooru's class and message."""
    answer = ask("/posts.json", kind, limit=200)

    assert strikes.API_ERRORS[kind] == (answer.status_code, answer.json()["error"])
    assert answer.json()["message"].startswith("The database")


def test_a_query_is_cancelled_after_its_time_limit(ask):
    """`slow_query` answers after three seconds, the time limit of a query."""
    start = time.monotonic()

    assert 500 == ask("/posts.json", "slow_query", limit=1).status_code
    assert time.monotonic() - start >= 3


def test_wide_queries_are_cancelled_and_smaller_ones_succeed(ask):
    """Faults of wide queries strike large pages, or wide and open windows of ids, and no others."""
    for kind, wide, narrow in (
        ("wide_query", {"limit": 200}, {"limit": 100}),
        ("wide_window", {"tags": "id:10001..10400"}, {"tags": "id:10001..10101"}),
        ("wide_window", {"tags": "solo id:..10400"}, {"tags": "solo"}),
    ):
        answers = [ask("/posts.json", kind, only="id", **query) for query in (wide, narrow)]
        assert "ActiveRecord::QueryCanceled" == answers[0].json()["error"]
        assert [500, 200] == [answer.status_code for answer in answers]


def test_a_fault_counts_only_where_it_strikes(own_demo_board, ask):
    """Requests that a fault of wide queries or of counts passes by are answered and not counted."""
    own_demo_board.set_faults("wide_query", "null_count", "short_file")
    for _ in range(2):
        assert 200 == ask("/posts.json", limit=2, only="id").status_code
        assert 200 == ask("/tags.json").status_code
    assert {} == dict(own_demo_board.faults.committed)
    assert 500 == ask("/posts.json", limit=200, only="id").status_code
    assert ask("/counts/posts.json", tags="solo").json()["counts"]["posts"] is None

    assert {"wide_query": 1, "null_count": 1} == dict(own_demo_board.faults.committed)


def test_json_is_invalid_or_truncated_with_its_right_length(ask):
    """Broken JSON has status 200 and a `Content-Length` that matches."""
    for kind in ("invalid_json", "truncated_json"):
        answer = ask("/posts.json", kind, limit=2)
        assert 200 == answer.status_code
        assert len(answer.content) == int(answer.headers["Content-Length"])
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.content)


def test_json_is_cut_against_its_length_or_within_its_chunks(ask):
    """A body that ends early is an error of the connection, with `Content-Length` and with chunks."""
    for kind in ("reset_in_body", "chunked_cut"):
        error = ask("/posts.json", kind, limit=2)
        assert isinstance(error, requests.exceptions.ChunkedEncodingError), kind


def test_a_challenge_has_status_200_and_is_html(ask):
    """A challenge in place of JSON is an HTML page of status 200."""
    answer = ask("/posts.json", "challenge")

    assert (200, "text/html") == (answer.status_code, answer.headers["Content-Type"].split(";")[0])


@pytest.mark.parametrize("kind", ["reset", "reset_in_headers", "reset_in_body", "stall"])
def test_connections_break_before_in_and_after_the_headers(kind, ask):
    """Resets, cuts and silence are connection errors for the client."""
    assert isinstance(ask("/posts.json", kind, limit=2), requests.RequestException)


def test_dripping_is_slow_and_complete(ask):
    """A drip sends 100 bytes every 0.1 seconds, until the response is complete."""
    start = time.monotonic()
    answer = ask("/posts.json", "drip", limit=2, only="id,score,rating,md5,created_at,updated_at")
    seconds = time.monotonic() - start

    assert 2 == len(answer.json())
    assert seconds >= 0.1 * (int(answer.headers["Content-Length"]) // 100)


@pytest.mark.parametrize(
    ("kind", "is_image", "content_type"),
    [
        ("short_file", False, "image/jpeg"),
        ("undecodable_file", False, "image/jpeg"),
        ("wrong_type", True, "application/octet-stream"),
        ("html_as_image", False, "text/html"),
        ("png_as_jpg", True, "image/jpeg"),
    ],
)
def test_spoilt_files(kind, is_image, content_type, ask, listed):
    """A spoilt file differs from the right response in one respect only."""
    answer = ask(listed["preview_file_url"], kind)

    assert (200, content_type) == (answer.status_code, answer.headers["Content-Type"].split(";")[0])
    assert len(answer.content) == int(answer.headers["Content-Length"])
    try:
        image = Image.open(io.BytesIO(answer.content))
        image.load()
    except OSError:
        assert not is_image
    else:
        assert is_image
        assert ("PNG" if kind == "png_as_jpg" else "JPEG") == image.format


def test_flipped_bytes_keep_the_length(ask, listed):
    """At most 64 bytes differ, and the length is right."""
    whole = ask(listed["file_url"]).content
    flipped = ask(listed["file_url"], "flipped_bytes").content

    assert len(whole) == len(flipped)
    assert 0 < sum(before != after for before, after in zip(whole, flipped, strict=True)) <= 64


@pytest.mark.parametrize(
    ("kind", "file_status", "changed"),
    [
        ("gone", 404, {}),
        ("deleted", 200, {"is_deleted": True}),
        ("banned", 200, {"is_banned": True}),
        ("edited", 200, {"rating": "q"}),
        ("replaced", 404, {}),
    ],
)
def test_posts_change_between_listing_and_download(kind, file_status, changed, ask, listed):
    """The request for a file changes its post, and the change persists."""
    assert file_status == ask(listed["file_url"], kind).status_code
    after = ask(f"/posts/{listed['id']}.json").json()

    assert changed.items() <= after.items()
    if kind == "edited":
        assert {"cosplay", "moss_oracle"} <= set(after["tag_string"].split())
        assert after["tag_count_character"] > listed["tag_count_character"]
    if kind not in ("gone", "replaced"):
        assert after["updated_at"] > listed["updated_at"]
    assert (kind in ("gone", "replaced", "banned")) is (
        ask(listed["preview_file_url"]).status_code != 200 or "file_url" not in after
    )
    if kind == "replaced":
        assert listed["md5"] != after["md5"]
        assert 404 == ask(listed["file_url"]).status_code
        assert 200 == ask(after["file_url"]).status_code


def test_shares_strike_the_same_addresses_on_every_run():
    """A share hits about that share of addresses, once each, and the same ones in every run."""
    runs = []
    for _ in range(2):
        plan = faults.parse(["bad_gateway=0.2"], seed=3)
        runs.append([plan.choose(f"/posts.json?{n}", is_cdn=False) for n in range(500)])
        again = [plan.choose(f"/posts.json?{n}", is_cdn=False) for n in range(500)]
        assert {None} == set(again)

    assert runs[0] == runs[1]
    assert 60 < sum(kind is not None for kind in runs[0]) < 140


def test_too_many_requests_come_in_bursts():
    """The fault 429 hits four requests in a row, whatever their address."""
    plan = faults.parse(["too_many=0.3"])
    struck = [plan.choose("/posts.json", is_cdn=False) is not None for _ in range(400)]

    assert 60 < sum(struck) < 180
    assert all(len(set(struck[start : start + 4])) == 1 for start in range(0, 400, 4))


def test_files_and_pages_have_their_own_faults():
    """JSON faults do not affect files, and file faults do not affect pages."""
    plan = faults.parse(["truncated_json=1", "short_file=1"])

    assert "short_file" == plan.choose("/180x180/a", is_cdn=True)
    assert "truncated_json" == plan.choose("/posts.json", is_cdn=False)


def test_faults_by_parameter_and_by_request(own_demo_board):
    """Faults come from the parameters, or from a request to a board with control."""
    orders = requests.post(
        own_demo_board.url + "/demo/faults", json=["unavailable=1"], headers=AGENT, timeout=5
    )
    struck = requests.get(own_demo_board.url + "/tags.json", headers=AGENT, timeout=5)
    params = TINY.model_copy(update={"faults": ("bad_gateway=1",)})
    with serving(booru.board(params), params) as served:
        other = requests.get(served.url + "/tags.json", headers=AGENT, timeout=5)
        second = requests.get(served.url + "/tags.json", headers=AGENT, timeout=5)

    assert {"faults": {"unavailable": 1.0}} == orders.json()
    assert 503 == struck.status_code
    assert [502, 200] == [other.status_code, second.status_code]


def test_changes_by_request(own_demo_board):
    """A board with control changes a post on request; an unknown post is 404."""
    post = own_demo_board.board.posts[0].post_id
    url = own_demo_board.url + "/demo/change"
    done = requests.post(url, json={"post_id": post, "kind": "deleted"}, headers=AGENT, timeout=5)
    lost = requests.post(url, json={"post_id": 1, "kind": "deleted"}, headers=AGENT, timeout=5)

    assert [200, 404] == [done.status_code, lost.status_code]
    assert "deleted" in own_demo_board.board.post(post).flags


@pytest.mark.parametrize("text", ["nonsense=0.1", "reset=2", "reset=x"])
def test_unknown_faults_are_refused(text):
    """An unknown kind or a wrong share is an error that lists the kinds."""
    with pytest.raises(BadParams, match="truncated_json"):
        faults.parse([text])


def test_faults_that_are_set_anew_strike_anew():
    """The attempts at an address are counted from the moment that the faults are set."""
    plan = faults.parse(["unavailable=1"])
    first = [plan.choose("/a", is_cdn=True) for _ in range(2)]
    plan.begin({"unavailable": 1.0})

    assert ["unavailable", None] == first
    assert ["unavailable", None] == [plan.choose("/a", is_cdn=True) for _ in range(2)]
