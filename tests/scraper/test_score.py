"""The score of a plan: what was planned on the demo board comes true within a tenth."""

import json
from pathlib import Path

import pytest
import yaml

from personae.errors import BadDocument
from scraper import score
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.planner import Estimate, PageSample, Plan
from scraper.site import Params as SiteParams
from scraper.site import Site


@pytest.fixture(scope="module")
def board():
    with serving(booru.board(TINY)) as served:
        yield served


@pytest.fixture
def command(board, tmp_path, monkeypatch):
    """Returns the words of a run over the board, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    sections = {
        "site": {"name": board.url, "api_rate": 1e6, "cdn_rate": 1e6},
        "personae": {"min_images": 12},
        "listing": {"page_size": 20},
        "decide": {"min_side": 64},
        "download": {"side": None},
    }
    Path("params.yaml").write_text(yaml.safe_dump(sections))
    return []


def test_a_plan_comes_true_within_a_tenth(command, capsys):
    """Personae, images, bytes and requests of a whole run are those of the plan, and the score stays."""
    assert 0 == main(["plan", "--sample", "60", *command])
    assert "The plan is kept in data/plan/plan.json" in capsys.readouterr().out
    assert 0 == main(command)
    printed = capsys.readouterr().out
    kept = score.ScoreDocument.read(Path("data/plan/score.json"))

    assert "plan      of 20" in printed
    for figure in ("personae", "images", "image_bytes", "listing_requests", "download_requests"):
        assert 1.0 == pytest.approx(getattr(kept, figure).ratio, abs=0.1), figure
    assert ((), ()) == (kept.personae_missed, kept.personae_new)
    assert kept.images.actual > 100


def test_requests_of_every_run_count(command, board):
    """A listing and a download in commands of their own add up to what the board has logged."""
    assert 0 == main(["plan", *command])
    before = dict(board.log.by_kind)
    for stage in ("listing", "decide", "download"):
        assert 0 == main([stage, *command])
    requests = score.Requests.read(Path("data/plan/requests.json"))

    assert board.log.by_kind["api"] - before["api"] == requests.listing
    assert board.log.by_kind["cdn"] - before.get("cdn", 0) == requests.download


def test_without_a_plan_there_is_no_score(command, capsys):
    """A run without a plan keeps no score and says nothing of one."""
    assert 0 == main(command)

    assert "plan " not in capsys.readouterr().out
    assert not Path("data/plan").exists()


def test_plan_and_status_are_json_for_programs(command, capsys):
    """With --json, standard output is one JSON document with the figures of the text."""
    assert 0 == main(["plan", "--json", *command])
    plan = json.loads(capsys.readouterr().out)
    assert 0 == main(["status", "--json"])
    before = json.loads(capsys.readouterr().out)
    assert 0 == main(command)
    capsys.readouterr()
    assert 0 == main(["status", "--json"])
    after = json.loads(capsys.readouterr().out)

    assert plan["downloads"] == sum(row["kept"] for row in plan["personae"] if row["qualifies"])
    assert {"not begun", "not done"} == {stage["state"] for stage in before.values()}
    assert {"done"} == {stage["state"] for stage in after.values()}
    assert after["decide"]["kept"] == after["download"]["stored"]
    assert 0 == after["download"]["left"]
    assert after["decide"]["refused"] > 0
    assert sum(after["decide"]["reasons"].values()) >= after["decide"]["refused"]


def test_a_score_names_what_was_not_foreseen(tmp_path, command):
    """Labels that the plan missed, and planned ones that failed, are named."""
    assert 0 == main(command)
    site = Site.resolve(SiteParams(name="http://127.0.0.1:1"))
    rows = (Estimate("nobody", 20, 20, is_sampled=True, qualifies=True),)
    score.keep(Plan(rows, 1, 20, 0.0, PageSample()), site, Path("data"))
    scored = score.score(Path("data"))

    assert ("nobody",) == scored.personae_missed
    assert len(scored.personae_new) == scored.personae.actual > 5
    assert scored.image_bytes.ratio is None
    assert "bytes" not in score.render(scored)


def test_a_damaged_plan_is_named(command):
    """A plan with a wrong field is an error that names file and field."""
    assert 0 == main(["plan", *command])
    path = Path("data/plan/plan.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"downloads": "many"}))

    with pytest.raises(BadDocument, match="downloads"):
        score.score(Path("data"))
