"""Tests the decisions of stage `download` about single images, and that the others are stored."""

from dataclasses import replace

import pytest

from scraper.errors import NothingStored
from scraper.post import Variant
from tests.scraper.download_fixture import _instant_retries, answer, fill, run

__all__ = ["_instant_retries", "run"]  # fixtures


REFUSED = {
    "gone": (answer(404), (None, None)),
    "corrupt": (answer(body=b"\x89PNG\r\n\x1a\n"), (None, None)),
    "too_large": (answer(body=bytes(30_001)), (30_001, 30_000)),
    "wrong_type": (answer(body=b"<html>sorry</html>"), (None, None)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_failure_of_one_image_is_a_decision(shelf, run, reason):
    """A failure of one image is recorded with its reason, and the others are stored."""
    fault, numbers = REFUSED[reason]
    fill(shelf, 5)
    shelf.host.faults[shelf.posts[102].variants[-1].url] = fault
    run(max_bytes=30_000)

    assert {102: (reason, *numbers)} == {
        post_id: row for post_id, row in shelf.decisions().items() if row[0]
    }
    assert set(shelf.posts) - {102} == set(shelf.stored())


def test_wrong_checksum_is_a_decision(shelf, run):
    """An original whose bytes do not match the listed md5 is refused."""
    shelf.add(1, md5="0" * 32)
    shelf.write()
    with pytest.raises(NothingStored):
        run()

    assert "wrong_md5" == shelf.decisions()[1][0]
    assert {} == shelf.stored()


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
