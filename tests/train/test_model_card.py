"""A trained run with its card: the folder is a run again, and the card says what is recorded."""

import json
import shutil

import pytest
import yaml
from safetensors import safe_open

from personae.errors import BadParams, MissingInput
from tests.train.documents_fixture import METRICS
from train import saved
from train.__main__ import main
from train.tree import hierarchy

LABELS = ("ann", "bea|`x`\n# no heading", "cem", "dúa")


@pytest.fixture
def results(tmp_path, make_classifier, model_of):
    """Writes a run whose second label is hostile, and figures on its test images."""
    tree = hierarchy.flat(4)
    folder = tmp_path / "results" / "flat" / "0"
    saved.save(folder, make_classifier("flat", tree).eval(), model_of("flat", tree, labels=LABELS))
    return tmp_path / "results"


def _export(results, out, *more):
    return main(
        [
            "export",
            "flat",
            "--form",
            "safetensors",
            "--out",
            str(out),
            *more,
            "--results",
            str(results),
        ]
    )


def test_folder_is_a_run_with_a_card(results, tmp_path, capsys):
    """The weights are those of the run, and a copy of the folder is loaded as a run."""
    assert 0 == _export(results, tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    shutil.copytree(tmp_path / "shared", tmp_path / "other" / "flat" / "0")

    assert {"weights.safetensors", "model.json", "README.md"} == {
        path.name for path in (tmp_path / "shared").iterdir()
    }
    assert LABELS == saved.load(tmp_path / "other" / "flat" / "0").model.labels
    with safe_open(tmp_path / "shared" / "weights.safetensors", "pt") as weights:
        assert list(LABELS) == json.loads(next(iter(weights.metadata().values())))["labels"]
    assert ("image-classification", ["personae", "flat"]) == (head["pipeline_tag"], head["tags"])
    assert "model-index" not in head
    assert "## Figures" not in text
    assert "`bea··x··# no heading`" in text
    assert "\n# no heading" not in text
    assert str(tmp_path / "shared") in capsys.readouterr().out


def test_figures_are_those_of_the_evaluation(results, tmp_path):
    """Accuracy stands in the head and in the table, with the number of test images."""
    (results / "flat" / "0" / "metrics.json").write_text(
        json.dumps(METRICS | {"msr": 0.875, "n_test": 40})
    )
    assert 0 == _export(results, tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text()
    (index,) = yaml.safe_load(text.split("---\n")[1])["model-index"]

    assert [{"type": "accuracy", "value": 0.875}] == index["results"][0]["metrics"]
    assert "| accuracy | 0.8750 |" in text
    assert "On 40 test images" in text


def test_nothing_is_written_over(results, tmp_path, capsys):
    """A folder that exists stays as it is; a run that was not trained is named."""
    (tmp_path / "shared").mkdir()

    assert BadParams.exit_code == _export(results, tmp_path / "shared")
    assert "Name a new folder" in capsys.readouterr().err
    assert [] == list((tmp_path / "shared").iterdir())
    assert MissingInput.exit_code == _export(results, tmp_path / "none", "--seed", "1")
    assert not (tmp_path / "none").exists()
