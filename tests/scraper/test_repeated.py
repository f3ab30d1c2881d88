"""Tests that a run with nothing new leaves the tables alone, and that any change is noticed."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from scraper import fingerprint
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving

STAGES = ("listing", "decide", "download")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns a board, a folder with a finished run, and the command line of the run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "params.yaml").write_text(yaml.safe_dump({"download": {"side": 64}}))
    with serving(booru.board(TINY)) as board, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = ["--site", board.url, "--min-images", "12", "--api-rate", "1e6"]
        command += ["--cdn-rate", "1e6"]
        assert 0 == main(command)
        yield board, folder, command


@pytest.fixture
def again(finished, tmp_path, monkeypatch):
    """Returns the board, and a function that runs the command in a copy of the folder."""
    board, folder, command = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return board, lambda *options: main([*command, *options])


def written():
    """Returns for each table when it was written."""
    paths = [path for stage in STAGES for path in Path("data", stage).glob("*.parquet")]
    return {str(path): path.stat().st_mtime_ns for path in paths}


def changed(before):
    """Returns the stages whose tables were written since then."""
    after = written()
    assert before.keys() <= after.keys()
    names = {Path(name).parts[1] for name in after if after[name] != before.get(name)}
    return [stage for stage in STAGES if stage in names]


def test_nothing_new(again):
    """The tables stay, no image is requested, and every search is requested once."""
    board, run = again
    before, images = written(), board.log.by_kind["cdn"]

    assert 0 == run()
    assert [] == changed(before)
    assert images == board.log.by_kind["cdn"]


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (["--max-images", "13"], ["listing", "decide", "download"]),
        (["--min-side", "65"], ["decide", "download"]),
        (["--max-pixels", "49999999"], ["decide", "download"]),
        (["--retry-refused"], ["decide", "download"]),
    ],
)
def test_another_parameter(again, options, stages):
    """A parameter that tables depend on has them written again."""
    _, run = again
    before = written()

    assert 0 == run(*options)
    assert stages == changed(before)


@pytest.mark.parametrize("edited", ["relabel", "exclude_posts"])
def test_a_file_that_a_parameter_names(again, edited):
    """An edit of the relabel file, or of a file of excluded posts, is noticed, and then no more."""
    _, run = again
    Path("excluded.txt").write_text("# none\n")
    options = ["--exclude-posts", "excluded.txt"]
    assert 0 == run(*options)
    kept = pq.read_table("data/decide/kept.parquet").to_pylist()
    post_id, label = kept[0]["post_id"], kept[0]["persona"]
    other = next(row["persona"] for row in kept if row["persona"] != label)
    if edited == "relabel":
        Path("relabel.txt").write_text(f"post {post_id} {other}\n")
    else:
        Path("excluded.txt").write_text(f"{post_id}\n")
    expected = {"relabel": other, "exclude_posts": None}[edited]

    assert 0 == run(*options)
    after = pq.read_table("data/decide/kept.parquet").to_pylist()
    assert expected == {row["post_id"]: row["persona"] for row in after}.get(post_id)
    before = written()
    assert 0 == run(*options)
    assert [] == changed(before)


@pytest.mark.parametrize("stage", STAGES)
def test_a_table_that_has_changed(again, stage):
    """A damaged table is written again, with the same bytes."""
    _, run = again
    path = Path("data", stage, "decisions.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"\0" + whole[-8:])

    assert 0 == run() or 0 == run()
    assert whole == path.read_bytes()


def test_bytes_that_are_lost(again):
    """Images whose bytes are lost are fetched again."""
    board, run = again
    path = max(Path("data/download/segments").iterdir())
    size, images = path.stat().st_size, board.log.by_kind["cdn"]
    os.truncate(path, size // 2)

    assert 0 == run()
    assert images < board.log.by_kind["cdn"]
    assert size == path.stat().st_size


def test_another_program(again, monkeypatch):
    """Another version of the program writes its tables itself."""
    _, run = again
    before = written()
    monkeypatch.setattr(fingerprint, "program", lambda: "other")

    assert 0 == run()
    assert list(STAGES) == changed(before)


@pytest.mark.parametrize("note", ["", "[]", '{"tables": 7}'])
def test_a_damaged_note(again, note):
    """A note that cannot be read counts as none, and is written again."""
    _, run = again
    path = Path("data/finished.json")
    whole = json.loads(path.read_text())
    path.write_text(note)

    assert 0 == run()
    assert whole == json.loads(path.read_text())


def test_a_post_that_has_changed(again):
    """An edit of a post on the newest page is noticed, in every stage."""
    served, run = again
    before = written()
    kept = pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()
    served.board.retag(kept[-1], drop=["solo"], add=["2girls"])

    assert 0 == run()
    assert list(STAGES) == changed(before)
    assert kept[:-1] == pq.read_table("data/decide/kept.parquet")["post_id"].to_pylist()
