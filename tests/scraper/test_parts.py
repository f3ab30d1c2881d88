"""Tests a download that is divided among machines, and joined again."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personae.errors import AlreadyRunning, BadParams, MissingInput
from scraper import parts
from scraper.__main__ import main
from scraper.ledger import Ledger
from tests.scraper.conftest import Shelf
from tests.scraper.download_fixture import _instant_retries, answer, fill, run

__all__ = ["_instant_retries", "run"]  # fixtures


@pytest.fixture
def divided(shelf, run, tmp_path):
    """Divides the posts of a shelf, and downloads every part; returns the folders of the parts."""

    def download(count, *, only=None):
        folders = parts.divide(tmp_path, tmp_path / "parts", count=count)
        for folder in folders if only is None else folders[:only]:
            part = Shelf(shelf.host, folder)
            part.posts = shelf.posts
            run(shelf=part)
        return [str(folder) for folder in folders]

    return download


def listed(folder, table, column="post_id"):
    return pq.read_table(Path(folder) / f"{table}.parquet")[column].to_pylist()


def rows(folder):
    """Returns the rows of images.parquet without the places of the bytes."""
    table = pq.read_table(folder / "images.parquet")
    return table.drop_columns(["segment", "offset"]).to_pylist()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sets(st.integers(1, 500), min_size=1, max_size=30),
    kept=st.integers(0, 30),
    count=st.integers(1, 5),
)
def test_every_kept_post_is_in_one_part(image_host, tmp_path_factory, ids, kept, count):
    """The parts hold the rows of all posts kept, each once, in order, and no others."""
    shelf = Shelf(image_host, tmp_path_factory.mktemp("whole"))
    for post_id in ids:
        shelf.add(post_id, payload=b"unread")
    chosen = sorted(ids)[:kept]
    shelf.write(chosen)
    folders = parts.divide(shelf.listing_dir.parent, shelf.out_dir / "parts", count=count)

    for number, folder in enumerate(folders):
        own = [post_id for post_id in chosen if post_id % count == number]
        assert own == listed(folder, "decide/kept") == listed(folder, "listing/posts")
    whole = pq.read_table(shelf.listing_dir / "posts.parquet")
    part = pq.read_table(folders[-1] / "listing" / "posts.parquet")
    assert part.schema.equals(whole.schema, check_metadata=True)
    assert part.to_pylist() == [row for row in whole.to_pylist() if row["post_id"] in set(own)]


def test_divide_prints_commands_for_a_shell(shelf, tmp_path, capsys):
    """A folder with a space in its name is quoted in the commands that are printed."""
    shelf.add(1, payload=b"unread")
    shelf.write([1])
    command = ["divide", "--count", "1", "--data", str(shelf.listing_dir.parent)]

    assert 0 == main([*command, "--out", str(tmp_path / "my parts")])
    assert f"python -m scraper download --data '{tmp_path}/my parts/1'\n" == capsys.readouterr().out


def test_joined_parts_equal_one_download(shelf, run, divided, tmp_path):
    """Three parts, joined, have the images, rows and decisions of one download; nothing is asked twice."""
    fill(shelf, 31)
    shelf.host.faults[shelf.posts[107].variants[-1].url] = answer(410)
    run()
    whole, decisions = rows(shelf.out_dir), shelf.decisions()
    shutil.rmtree(shelf.out_dir)
    folders = divided(3)
    requests = shelf.host.requests.copy()
    run(parts=folders)

    assert whole == rows(shelf.out_dir)
    assert decisions == shelf.decisions()
    assert ("gone", None, None) == decisions[107]
    assert {post: data for post, data in shelf.expected().items() if post != 107} == shelf.stored()
    assert requests == shelf.host.requests


def test_what_a_part_lacks_is_requested(shelf, run, divided, tmp_path):
    """A part that was not downloaded, a damaged image and a lost segment are left to the board."""
    fill(shelf, 30)
    folders = divided(3, only=2)
    with pytest.raises(MissingInput, match=r"3/download holds no download"):
        run(parts=folders)
    first, second = (Path(folder) / "download" / "segments" / "00000.tar" for folder in folders[:2])
    row = pq.read_table(first.parents[1] / "images.parquet").to_pylist()[3]
    with first.open("r+b") as file:
        file.seek(row["offset"] + 50)
        file.write(b"\0" * 9)
    second.unlink()
    before = shelf.host.requests.copy()
    run(parts=folders[:2])

    own = len(listed(folders[0], "decide/kept")) - 1
    assert 30 - own == (shelf.host.requests - before).total()
    assert shelf.expected() == shelf.stored()


@pytest.mark.parametrize("step", ["payload", "synced", "recorded", "committed"])
def test_killed_while_joining(shelf, run, divided, step):
    """Stopped at any step and run again, the joined download is whole, without a request."""

    class Killed(BaseException):
        pass

    fill(shelf, 25)
    folders = divided(2)
    requests = shelf.host.requests.copy()

    def at(reached):
        if reached == step:
            raise Killed

    with pytest.raises(Killed):
        run(parts=folders, at=at)
    run(parts=folders)

    assert shelf.expected() == shelf.stored()
    assert requests == shelf.host.requests


def test_part_in_use_is_refused(shelf, run, divided):
    """A part where a process works is not read: what it has recorded would be incomplete."""
    fill(shelf, 6)
    folders = divided(2)
    with Ledger(Path(folders[1]) / "download", "board"), pytest.raises(AlreadyRunning):
        run(parts=folders)
    run(parts=folders)

    assert shelf.expected() == shelf.stored()


def test_other_division_is_refused(shelf, tmp_path):
    """Parts of four beside parts of two would overlap; no part at all is refused too."""
    fill(shelf, 6)
    parts.divide(tmp_path, tmp_path / "parts", count=4)
    with pytest.raises(BadParams, match=r"is no part of 2\. Choose another folder \(--out\)"):
        parts.divide(tmp_path, tmp_path / "parts", count=2)
    with pytest.raises(BadParams, match="at least one part"):
        parts.divide(tmp_path, tmp_path / "none", count=0)
    with pytest.raises(MissingInput, match="decide"):
        parts.divide(tmp_path / "nowhere", tmp_path / "none", count=2)
