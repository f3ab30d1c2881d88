"""Tests that a lost ledger is made again from the segments, and that no stored byte is lost."""

import logging

import pytest

from tests.scraper.download_fixture import _instant_retries, fill, run

__all__ = ["_instant_retries", "run"]  # fixtures


def test_lost_ledger_is_made_from_the_segments(shelf, run, caplog):
    """Without the ledger, every stored image is recorded again, and none is requested."""
    fill(shelf)
    run(segment_bytes=20_480)
    tables = {path: path.read_bytes() for path in shelf.out_dir.rglob("*.[tp]ar*")}
    (shelf.out_dir / "ledger.sqlite").unlink()
    shelf.host.requests.clear()
    with caplog.at_level(logging.WARNING):
        run(segment_bytes=20_480)

    assert {} == shelf.host.requests
    assert tables == {path: path.read_bytes() for path in shelf.out_dir.rglob("*.[tp]ar*")}
    assert "30 of kept posts are recorded again" in caplog.text


def test_empty_ledger_is_made_from_the_segments(shelf, run):
    """An empty file, as a loss of power may leave, is a lost ledger."""
    fill(shelf, 5)
    run()
    (shelf.out_dir / "ledger.sqlite").write_bytes(b"")
    shelf.host.requests.clear()
    run()

    assert {} == shelf.host.requests
    assert shelf.expected() == shelf.stored()


def test_bytes_of_other_posts_are_kept(shelf, run):
    """Images that are not kept now, and those of another board, stay in the segments."""
    fill(shelf, 6)
    run(name="other")
    run()
    (shelf.out_dir / "ledger.sqlite").unlink()
    size = sum(path.stat().st_size for path in (shelf.out_dir / "segments").iterdir())
    shelf.write(kept=[101, 103])
    shelf.host.requests.clear()
    run()

    assert {} == shelf.host.requests
    assert {101, 103} == set(shelf.stored())
    assert size <= sum(path.stat().st_size for path in (shelf.out_dir / "segments").iterdir())


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage"])
def test_damaged_members_are_fetched_again(shelf, run, damage):
    """A torn tail and changed bytes are not recorded; those images are requested again."""
    fill(shelf, 5)
    run()
    (path,) = (shelf.out_dir / "segments").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "torn":
        del content[-3000:]
    elif damage == "flipped":
        content[1500] ^= 1
    else:
        content += b"garbage" * 500
    path.write_bytes(content)
    (shelf.out_dir / "ledger.sqlite").unlink()
    shelf.host.requests.clear()
    run()

    assert (0 if damage == "garbage" else 1) == len(shelf.host.requests)
    assert shelf.expected() == shelf.stored()
