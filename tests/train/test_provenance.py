"""Where a report comes from: what the page says about the project."""

import re

import pytest
import yaml

from train import revision
from train.page import provenance


def _facts(folder):
    return provenance.facts(folder, commits=["b1", "", "a2", "b1"])


def test_facts_of_a_project(tmp_path):
    """Commits, preset and the hash of the stages above are named."""
    (tmp_path / "presets").mkdir()
    for name, epochs in (("demo", 16), ("long", 128)):
        (tmp_path / f"presets/{name}.yaml").write_text(yaml.safe_dump({"loop": {"epochs": epochs}}))
    (tmp_path / "params.yaml").write_text("# a comment\nloop: {epochs: 128}\n", encoding="utf-8")
    (tmp_path / "dvc.lock").write_text("stages: {flat@0: {cmd: x}}", encoding="utf-8")
    facts = _facts(tmp_path)

    assert "a2, b1" == facts["Commit of the trainings"]
    assert "long" == facts["Preset"]
    assert 64 == len(next(value for name, value in facts.items() if "dvc.lock" in name))
    (tmp_path / "params.yaml").write_text("loop: {epochs: 3}\n", encoding="utf-8")
    assert "none: params.yaml was changed" == _facts(tmp_path)["Preset"]


def test_hash_is_that_of_the_stages_above(tmp_path):
    """The part of the report itself, which is written after it, changes nothing; any other does."""
    lock = tmp_path / "dvc.lock"
    hashes = []
    for stages in (
        {"flat@0": {"cmd": "x"}},
        {"flat@0": {"cmd": "x"}, "report": {"cmd": "y"}},
        {"flat@0": {"cmd": "z"}, "report": {"cmd": "y"}},
    ):
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
        hashes.append(next(v for k, v in _facts(tmp_path).items() if "dvc.lock" in k))

    assert hashes[0] == hashes[1] != hashes[2]


def test_what_is_not_known_is_left_out(tmp_path):
    """Without project files only commits are named; a damaged file is no error."""
    assert {"Commit of the trainings"} == {*_facts(tmp_path)} - {"Commit of the report"}
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("a: [", encoding="utf-8")
    assert {"Commit of the trainings"} == {*_facts(tmp_path)} - {"Commit of the report"}


def test_commit_of_the_report_has_its_day(tmp_path):
    """In a checkout, the short hash is followed by the day of the commit."""
    if not revision.commit():
        pytest.skip("no git checkout")
    commit = _facts(tmp_path)["Commit of the report"]
    assert re.fullmatch(r"[0-9a-f]{7,}\+? of \d{4}-\d\d-\d\d", commit)
