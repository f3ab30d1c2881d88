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
from scraper.demo.server import faults
from scraper.demo.server.thread import serving

AGENT = {"User-Agent": "personae-tests/1"}


@pytest.fixture
def ask(own_demo_board):
    """Requests a path with a fault; returns the response, or the error that `requests` raises."""

    def get(path, kind=None, **params):
        url = path if path.startswith("http") else own_demo_board.url + path
        headers = AGENT | ({faults.HEADER: kind} if kind else {})
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


@pytest.mark.parametrize(("kind", "status"), list(faults.STATUSES.items()))
def test_pages_of_the_proxy(kind, status, ask):
    """Status faults are HTML pages; only one kind of 429 has `Retry-After`."""
    answer = ask("/posts.json", kind)

    assert status == answer.status_code
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ("Retry-After" in answer.headers) is (kind == "too_many_retry_after")


@pytest.mark.parametrize(("kind", "expected"), list(faults.API_ERRORS.items()))
def test_errors_of_the_application(kind, expected, ask):
    """Database errors are JSON with Danbooru's class; `wide_query` does not affect small pages."""
    answer = ask("/posts.json", kind, limit=200)

    assert expected == (answer.status_code, answer.json()["error"])
    narrow = ask("/posts.json", kind, limit=2)
    assert (200 if kind == "wide_query" else expected[0]) == narrow.status_code


def test_bodies_that_are_no_json(ask):
    """Invalid JSON, truncated JSON and HTML have status 200 and a matching length."""
    for kind in ("invalid_json", "truncated_json"):
        answer = ask("/posts.json", kind, limit=2)
        assert 200 == answer.status_code
        with pytest.raises(json.JSONDecodeError):
            json.loads(answer.content)
    challenge = ask("/posts.json", "challenge")

    assert (200, "text/html") == (
        challenge.status_code,
        challenge.headers["Content-Type"].split(";")[0],
    )


@pytest.mark.parametrize("kind", ["reset", "reset_in_body", "stall"])
def test_broken_connections(kind, ask):
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
        ("html_as_picture", False, "text/html"),
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
    assert (kind in ("gone", "replaced", "banned")) is (
        ask(listed["preview_file_url"]).status_code != 200 or "file_url" not in after
    )
    if kind == "replaced":
        assert listed["md5"] != after["md5"]
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
