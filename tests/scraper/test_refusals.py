"""Tests the decisions of stage `download` about single images, and that the others are stored."""

import contextlib
import sqlite3
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from scraper import transfer
from scraper.errors import NotAuthorised, NothingStored, Unfinished
from scraper.post import Variant
from tests.scraper.conftest import noise
from tests.scraper.download_fixture import _instant_retries, answer, fill, run

__all__ = ["_instant_retries", "run"]  # fixtures


REFUSED = {
    "gone": (answer(404), (None, None)),
    "corrupt": (answer(body=b"\x89PNG\r\n\x1a\n"), (None, None)),
    "too_large": (answer(body=bytes(30_001)), (30_001, 30_000)),
    "wrong_type": (answer(body=b"<html>sorry</html>"), (None, None)),
    "wrong_md5": (answer(body=noise(7, 30, 40)), (len(noise(7, 30, 40)), len(noise(102, 30, 40)))),
    "odd_answer": (answer(403), (403, None)),
    "foreign_host": (answer(302, headers={"Location": "http://portal.example/"}), (None, None)),
}


def refused(shelf):
    """Returns reason and numbers of the refused posts."""
    return {post_id: row for post_id, row in shelf.decisions().items() if row[0]}


@pytest.mark.parametrize("reason", REFUSED)
def test_failure_of_one_image_is_a_decision(shelf, run, reason):
    """A failure of one image is recorded with its reason, and the others are stored."""
    fault, numbers = REFUSED[reason]
    fill(shelf, 5)
    shelf.host.faults[shelf.posts[102].variants[-1].url] = fault
    run(max_bytes=30_000)

    assert {102: (reason, *numbers)} == refused(shelf)
    assert set(shelf.posts) - {102} == set(shelf.stored())


ODD_STATUSES = (
    *(203, 204, 206, 226, 300, 301, 302, 304, 400, 401, 402, 403, 404, 405, 406, 407, 409, 410),
    *(
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        418,
        421,
        422,
        423,
        424,
        426,
        428,
        431,
        444,
        451,
        499,
        501,
    ),
)


@pytest.mark.parametrize("status", ODD_STATUSES)
def test_odd_status_leaves_one_image_out(shelf, run, status):
    """Whatever status one file has, it is refused with a reason, and the others are stored."""
    fill(shelf, 5)
    shelf.host.faults[shelf.posts[100].variants[-1].url] = answer(status)
    run()

    reason = "gone" if status in (404, 410, 451) else "odd_answer"
    assert {100: (reason, None if reason == "gone" else status, None)} == refused(shelf)
    assert set(shelf.posts) - {100} == set(shelf.stored())


@pytest.mark.parametrize(
    "fault",
    [
        answer(302, headers={"Location": "/again"}),
        answer(302, headers={"Location": "/fine"}),
        answer(body=b"x", headers={"Content-Encoding": "br"}),
        answer(403, text="<html>no</html>", content_type="text/html"),
        answer(200, body=b""),
    ],
    ids=["circle", "empty", "encoding", "page", "nothing"],
)
def test_odd_answer_leaves_one_image_out(shelf, run, fault):
    """A circle of redirects, an encoding that was not requested, a page: one image is refused."""
    fill(shelf, 5)
    shelf.host.faults |= {"/again": answer(302, headers={"Location": "/again"}), "/fine": answer()}
    shelf.host.faults[shelf.posts[100].variants[-1].url] = fault
    run()

    assert [100] == list(refused(shelf))
    assert 4 == len(shelf.stored())


def test_bad_files_at_the_head_of_the_queue_do_not_stop_the_rest(shelf, run):
    """With a third of the files bad, and those first, one more run fetches all others."""
    fill(shelf, 60)
    for post_id in range(100, 121):
        shelf.host.faults[shelf.posts[post_id].variants[-1].url] = answer(400)
    with pytest.raises(Unfinished, match="the site or the network is at fault"):
        run(workers=1, queue=1)
    assert {} == dict(shelf.host.requests - Counter(shelf.host.requests.keys()))
    run(workers=1, queue=1)

    assert dict.fromkeys(range(100, 121), ("odd_answer", 400, None)) == refused(shelf)
    assert set(range(121, 160)) == set(shelf.stored())


PASSING = {
    "portal": answer(302, headers={"Location": "http://login.hotel.example/"}),
    "page": answer(text="<html>back soon</html>", content_type="text/html"),
    "empty": answer(body=b""),
    "gone": answer(404),
    "refused": answer(401),
    "placeholder": answer(body=noise(1, 16, 16)),
    "other type": answer(body=noise(1, 16, 16, "jpg")),
    "flipped bit": answer(body=noise(1, 30, 40)),
    "cut": answer(body=noise(1, 30, 40)[:30]),
    "down": answer(503),
}


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault != "refused"])
def test_passing_outage_loses_no_image(shelf, run, fault):
    """When the network answers in place of the board for a while, all images arrive in the end."""
    fill(shelf)
    shelf.host.intercept = lambda _path, number: PASSING[fault] if 6 <= number <= 15 else None
    run(workers=1)

    assert {} == refused(shelf)
    assert shelf.expected() == shelf.stored()


@pytest.mark.parametrize("fault", PASSING)
def test_lasting_outage_is_no_fault_of_the_images(shelf, run, fault):
    """When the network never recovers, the run ends as resumable, and the next run is complete."""
    fill(shelf, 60)
    shelf.host.intercept = lambda _path, number: PASSING[fault] if number >= 6 else None
    for _ in range(2):
        with pytest.raises((Unfinished, NotAuthorised)) as info:
            run(workers=1, queue=2, group=2, give_up_after=8)
        assert info.value.exit_code in (3, 4)
        assert not (shelf.out_dir / "decisions.parquet").exists()
    assert shelf.host.requests.total() < 100
    shelf.host.intercept = lambda _path, _number: None
    shelf.host.requests.clear()
    run()

    assert {1} == set(shelf.host.requests.values())
    assert 55 == shelf.host.requests.total()
    assert {} == refused(shelf)
    assert shelf.expected() == shelf.stored()


@pytest.mark.parametrize("fault", PASSING)
def test_outage_at_the_end_is_no_fault_of_the_images(shelf, run, fault):
    """Few images fail at the end of a run: the site is probed before anything is decided."""
    fill(shelf)
    shelf.host.intercept = lambda _path, number: PASSING[fault] if number > 27 else None
    with pytest.raises((Unfinished, NotAuthorised)):
        run(workers=1)
    shelf.host.intercept = lambda _path, _number: None
    shelf.host.requests.clear()
    run()

    assert 3 == shelf.host.requests.total()
    assert {} == refused(shelf)
    assert shelf.expected() == shelf.stored()


def test_half_of_the_files_bad_needs_a_second_run(shelf, run):
    """More suspicious answers than images are no decision yet, even if the site looks well."""
    fill(shelf, 60)
    bad = [shelf.posts[post_id].variants[-1].url for post_id in range(100, 160) if post_id % 5 > 1]
    shelf.host.faults |= dict.fromkeys(bad, PASSING["page"])
    with pytest.raises(Unfinished, match="36 of 60 images are left"):
        run()
    assert not (shelf.out_dir / "decisions.parquet").exists()
    run()

    assert 36 == len(refused(shelf))
    shelf.host.faults.clear()
    shelf.host.requests.clear()
    run()
    assert dict.fromkeys(bad, 1) == dict(shelf.host.requests)
    assert shelf.expected() == shelf.stored()


def requested_runs(shelf, run, fault):
    """Returns in which of six runs an image with `fault` was requested."""
    fill(shelf, 5)
    url = shelf.posts[102].variants[-1].url
    shelf.host.faults[url] = fault
    runs = []
    for number in range(6):
        shelf.host.requests.clear()
        with contextlib.suppress(Unfinished):
            run()
        if shelf.host.requests[url]:
            runs.append(number)
    assert 102 in refused(shelf)
    return runs


@pytest.mark.parametrize(
    ("fault", "runs"),
    [
        (answer(404), [0]),
        (answer(body=noise(1, 30, 40, "jpg")), [0]),
        (answer(403), [0, 1]),
        (answer(body=noise(1, 30, 40)), [0, 1]),
        (answer(body=b"<html>"), [0, 1, 2, 3, 4, 5]),
        (answer(503), [0, 1, 2, 3, 4, 5]),
    ],
    ids=["gone", "other type", "refused", "wrong md5", "page", "unavailable"],
)
def test_refusals_become_final_when_the_answer_recurs(shelf, run, fault, runs):
    """The board's own answer is final when repeated; what a network may cause is never final."""
    assert runs == requested_runs(shelf, run, fault)


def test_placeholder_of_several_images_is_never_final(shelf, run):
    """A body that several images share is a placeholder: they are requested again."""
    fill(shelf, 5)
    urls = [shelf.posts[post_id].variants[-1].url for post_id in (101, 103)]
    shelf.host.faults |= dict.fromkeys(urls, answer(body=noise(1, 16, 16, "jpg")))
    for _ in range(3):
        shelf.host.requests.clear()
        run()

    assert dict.fromkeys(urls, 1) == {url: shelf.host.requests[url] for url in urls}


@pytest.mark.parametrize("ends", [(-9, None), (-9, -7, None), (-9, -9)])
def test_variant_without_its_end_is_requested_again(shelf, run, ends):
    """A variant that a proxy cut short arrives in the end; what arrives cut alike is the board's."""
    fill(shelf, 3)
    variant = shelf.posts[101].variants[0]
    whole, answers = shelf.host.images[variant.url], list(ends)

    async def cut(_request):
        return web.Response(body=whole[: answers.pop(0) if answers else None])

    shelf.host.faults[variant.url] = cut
    run(side=16)
    stored = shelf.stored()

    assert whole[: ends[-1]] == stored.pop(101)
    assert {100, 102} == set(stored)


def test_finished_data_survive_an_offline_run(shelf, run):
    """When only refused images could be requested again and the host is down, the tables stay."""
    fill(shelf, 5)
    shelf.host.faults[shelf.posts[102].variants[-1].url] = answer(403)
    run()
    tables = {path: path.read_bytes() for path in shelf.out_dir.glob("*.parquet")}
    shelf.host.intercept = lambda _path, _number: answer(503)
    run()

    assert tables == {path: path.read_bytes() for path in shelf.out_dir.glob("*.parquet")}


def test_other_size_is_stored_with_the_size_of_the_bytes(shelf, run):
    """A variant one pixel taller than listed is stored, and the table has the size of the bytes."""
    shelf.add(1, variants=(Variant("180x180", "/a.jpg", 150, 200, "jpg"),))
    shelf.host.images["/a.jpg"] = noise(1, 150, 201, "jpg")
    shelf.write()
    run(side=180)

    (row,) = pq.read_table(shelf.out_dir / "images.parquet").to_pylist()
    assert (150, 201) == (row["width"], row["height"])
    assert {1: (None, None, None)} == shelf.decisions()


def test_ledger_of_the_first_version_is_upgraded(shelf, run):
    """Refusals of a ledger without states are requested again, except those by our own limits."""
    fill(shelf, 5)
    run(max_bytes=1_000_000)
    rows = sqlite3.connect(shelf.out_dir / "ledger.sqlite")
    for table, columns in {
        "images": ("width", "height"),
        "refusals": ("state", "evidence", "requests", "repeats"),
    }.items():
        for column in columns:
            rows.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    rows.execute("DELETE FROM images WHERE post_id IN (101, 102)")
    for post_id, reason in ((101, "corrupt"), (102, "too_large")):
        key = f"{shelf.posts[post_id].md5} {shelf.posts[post_id].variants[-1].url}"
        rows.execute("INSERT INTO refusals VALUES ('board', ?, ?, ?, 1, 2)", (post_id, key, reason))
    rows.execute("PRAGMA user_version = 1")
    rows.commit()
    rows.close()
    shelf.host.requests.clear()
    run()

    assert {shelf.posts[101].variants[-1].url: 1} == dict(shelf.host.requests)
    assert {102: ("too_large", 1, 2)} == refused(shelf)


def test_arrived_images_are_bounded_by_bytes(shelf, run, monkeypatch):
    """Images that wait for a slow writer hold a bounded number of bytes, whatever their count."""
    for post_id in range(100, 140):
        shelf.add(post_id, payload=noise(post_id, 300, 400))
    shelf.write()
    size = shelf.posts[100].file_bytes
    held = []
    hold = transfer.Transfer._hold

    def recorded(self, change):
        hold(self, change)
        held.append(self._arrived_bytes)

    monkeypatch.setattr(transfer.Transfer, "_hold", recorded)
    run(queue_bytes=2 * size, workers=4, queue=64, group=64)

    assert shelf.expected() == shelf.stored()
    assert max(held) <= (2 + 4) * 1.01 * size


def test_foreign_host_is_a_decision(shelf, run):
    """A file on an unlisted host is refused, and that host gets no request."""
    shelf.add(1, variants=(Variant("180x180", "http://127.0.0.1:9/x.jpg", 15, 20, "jpg"),))
    shelf.write()
    with pytest.raises(NothingStored):
        run(side=16)

    assert ("foreign_host", None, None) == shelf.decisions()[1]


def test_post_without_a_still_image_is_refused_without_a_request(shelf, run):
    """A post whose variants are all animated is refused without a request."""
    post = shelf.add(1)
    film = Variant("original", "/film.mp4", 30, 40, "mp4")
    shelf.posts[1] = replace(post, variants=(film,))
    shelf.write()
    with pytest.raises(NothingStored):
        run()

    assert ("wrong_type", None, None) == shelf.decisions()[1]
    assert {} == shelf.host.requests


def test_too_many_pixels_are_refused_before_decoding(shelf, run):
    """The pixel cap is checked in the header, before decoding."""
    fill(shelf, 1)
    with pytest.raises(NothingStored):
        run(max_pixels=1199)

    assert ("too_large", 1200, 1199) == shelf.decisions()[100]


def test_refused_images_are_asked_again_on_demand(shelf, run):
    """Refused images are requested again only on demand."""
    fill(shelf, 2)
    url = shelf.posts[101].variants[-1].url
    shelf.host.faults[url] = answer(404)
    run()
    del shelf.host.faults[url]
    run()
    assert "gone" == shelf.decisions()[101][0]
    run(retry_refused=True)

    assert shelf.expected() == shelf.stored()
