"""Documents: committed records are read and written unchanged, wrong fields give an error."""

import json
import re
from pathlib import Path

import pytest

from personae import files
from personae.build.documents import ShardIndex
from personae.errors import BadDocument, MissingInput
from tests.train.documents_fixture import COST, FIT, MANIFEST, METRICS, record
from train import documents
from train.documents import (
    CostDocument,
    FitDocument,
    GroupingDocument,
    MetricsDocument,
    ModelDocument,
    RecordDocument,
)
from train.engine import curves
from train.params.clustering import GROUPINGS
from train.tree import hierarchy

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
FORMATS = (ROOT / "docs" / "formats.md").read_text()
QUALITY = {
    "gamma",
    "p_min",
    "modularity",
    "micp",
    "micp_random",
    "excess",
    "accuracy",
    "params",
    "seed",
}
"""Fields of a grouping that no later stage reads."""
RECORDS = sorted(EXPERIMENTS.glob("*/*.json"))
CASES = {
    FitDocument: FIT,
    CostDocument: COST,
    MetricsDocument: METRICS,
    RecordDocument: record(),
    ShardIndex: MANIFEST,
}


def _listed(file):
    """Returns the names in the first column of the tables of a section of docs/formats.md."""
    section = FORMATS.split(f"## {file}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("results/flat/0/cost.json", CostDocument.model_fields),
        ("results/flat/0/fit.json", FitDocument.model_fields),
        ("results/flat/0/curves.csv", curves._CURVES),
        (
            "data/clustering/0/modularity.json",
            [*GROUPINGS, "grouping", *GroupingDocument.model_fields, *QUALITY],
        ),
    ],
)
def test_page_of_formats_has_every_field(file, names):
    """Each field of a JSON or CSV file of `train`, and each grouping, has one row on the page."""
    assert sorted(set(names) - {"version"}) == sorted(set(_listed(file)))


def test_every_record_is_read_and_written_unchanged(tmp_path):
    """The committed records validate, and writing them adds at most the version, which the oldest lack."""
    assert len(RECORDS) >= 228
    for path in RECORDS:
        RecordDocument.read(path).write(tmp_path / "again.json")
        again = json.loads((tmp_path / "again.json").read_text())

        assert {"version": 1} | json.loads(path.read_text()) == again, path


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_document_is_read_as_it_was_written(tmp_path, kind):
    """Reading gives what was written; a file without a version has version 1."""
    path = tmp_path / "file.json"
    files.write_json(path, CASES[kind])
    document = kind.read(path)
    document.write(path)

    assert 1 == document.version
    assert document == kind.read(path)
    assert CASES[kind] | {"version": 1} == json.loads(path.read_text())


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_foreign_fields_and_versions_are_refused(tmp_path, kind):
    """An unknown or missing field or another version gives an error: file, field, command."""
    path = tmp_path / "file.json"
    first = next(iter(CASES[kind]))
    missing = {name: value for name, value in CASES[kind].items() if name != first}
    for content, message in (
        (CASES[kind] | {"odd": 1}, "is damaged: 'odd' is 1"),
        (CASES[kind] | {"version": 2}, "has version 2; this program reads version 1"),
        (CASES[kind] | {"version": "1"}, "has version '1'; this program reads version 1"),
        (missing, f"is damaged: '{first}' is"),
    ):
        files.write_json(path, content)
        with pytest.raises(BadDocument, match=rf"file\.json {message}") as caught:
            kind.read(path)
        assert f"stage '{kind.stage}' again" in str(caught.value)
    with pytest.raises(MissingInput, match=rf"absent\.json is absent: stage '{kind.stage}'"):
        kind.read(tmp_path / "absent.json")


@pytest.mark.parametrize("value", ["1e999", "NaN", "-Infinity", '"1"', "[1]", "{}", "true"])
def test_number_that_is_none_is_refused(tmp_path, value):
    """Infinite, textual and nested values are not numbers."""
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(METRICS).replace('"msr": 0.5', f'"msr": {value}', 1), "utf-8")

    with pytest.raises(BadDocument, match=r"'msr' is"):
        MetricsDocument.read(path)


def test_stage_of_the_reader_is_named(tmp_path):
    """The reader passes the stage to name: model.json of `flat` names stage flat."""
    files.write_json(tmp_path / "model.json", {})

    with pytest.raises(BadDocument, match="stage 'flat'"):
        ModelDocument.read(tmp_path / "model.json", stage="flat")


def test_merged_run_repeats_the_description_of_its_parts(model_of, tmp_path):
    """The parts of a merged run have no version and no hash of their own weights."""
    part = model_of("uppsala", hierarchy.flat(2), labels=("a", "b"), weights_sha256="d" * 64)
    fused = model_of("fusion", hierarchy.flat(4), parts=(part, part), weights_sha256="e" * 64)
    fused.write(tmp_path / "model.json")
    written = json.loads((tmp_path / "model.json").read_text())

    assert [part.facts(), part.facts()] == written["parts"]
    assert "e" * 64 == written["weights_sha256"]
    assert not {"version", "weights_sha256"} & set(written["parts"][0])
    assert not {"version", "weights_sha256"} & set(fused.facts())
    assert fused.facts() == ModelDocument.read(tmp_path / "model.json").facts()


def test_documents_are_frozen():
    """A document that was read is immutable."""
    document = documents.MetricsDocument(**METRICS)
    with pytest.raises(ValueError, match="frozen"):
        document.msr = 1.0
