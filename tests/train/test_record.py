"""Records: the content of a committed file, and refusals."""

import hashlib
import json

import pytest

from personae import files
from personae.errors import BadParams, MissingInput
from tests.train.conftest import LABELS
from tests.train.documents_fixture import COST, FIT, MANIFEST, METRICS
from train import record
from train.errors import MixedResults
from train.tree import hierarchy


@pytest.fixture
def evaluated(tmp_path, model_of):
    """Writes one evaluated run and the manifest of its shards."""
    folder = tmp_path / "results" / "flat" / "3"
    folder.mkdir(parents=True)
    own = {"params": {"loop": {"epochs": 2}}, "root_sha256": MANIFEST["root_sha256"]}
    model = model_of("flat", hierarchy.flat(4), **own)
    model.write(folder / "model.json")
    for name, document in {"metrics": METRICS, "cost": COST, "fit": FIT}.items():
        files.write_json(folder / f"{name}.json", document)
    files.write_json(tmp_path / "data" / "shards" / "manifest.json", MANIFEST)
    files.write_json(tmp_path / "data" / "shards" / "classes.json", {"labels": list(LABELS)})
    return tmp_path


def keep(root, preset="demo"):
    return record.run(
        preset,
        data_dir=root / "data",
        results_dir=root / "results",
        experiments_dir=root / "experiments",
    )


def test_keeps_metrics_cost_fit_params_and_data(evaluated):
    """One file per run and seed holds metrics, cost, fit, parameters, data and machine."""
    (path,) = keep(evaluated)
    kept = json.loads(path.read_text())

    assert evaluated / "experiments" / "demo" / "flat-3.json" == path
    assert ("demo", "flat", 3) == (kept["preset"], kept["run"], kept["seed"])
    versioned = {name: kept[name] for name in ("metrics", "cost", "fit")}
    assert {"metrics": METRICS, "cost": COST, "fit": FIT} == {
        name: {key: value for key, value in document.items() if key != "version"}
        for name, document in versioned.items()
    }
    assert {"loop": {"epochs": 2}} == kept["params"]
    data = {name: MANIFEST[name] for name in ("root_sha256", "labels", "samples", "image")}
    assert data == kept["data"]
    assert {"cpu_cores": 2, "architecture": "x86_64"} == kept["machine"]
    assert [path] == [*path.parent.iterdir()]
    assert ("abc1234", ["dvc repro", "python -m train record demo"]) == (
        kept["commit"],
        kept["commands"],
    )


def test_sums_of_records_change_for_what_was_recorded_alone(evaluated):
    """A record has its sha256 beside it; the line of another file stays, even of an edited one."""
    (path,) = keep(evaluated)
    other = evaluated / "experiments" / "old" / "flat-0.json"
    other.parent.mkdir()
    other.write_text("{}", encoding="utf-8")
    sums = evaluated / "experiments" / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  old/flat-0.json\n{sums.read_text()}", encoding="utf-8")
    keep(evaluated)

    assert [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  demo/flat-3.json",
        f"{'0' * 64}  old/flat-0.json",
    ] == sums.read_text().splitlines()


def test_refuses_what_is_not_whole(evaluated):
    """A preset name that is not a plain word, a run without cost, and no run are refused."""
    with pytest.raises(BadParams, match="is no name of a preset"):
        keep(evaluated, "../demo")
    (evaluated / "results" / "flat" / "3" / "cost.json").unlink()
    with pytest.raises(MissingInput, match=r"cost\.json is absent: stage 'evaluate' writes it"):
        keep(evaluated)
    (evaluated / "results" / "flat" / "3" / "metrics.json").unlink()
    with pytest.raises(MissingInput, match=r"No metrics\.json lies under"):
        keep(evaluated)


def test_refuses_a_run_of_other_shards(evaluated):
    """A record says what a run was trained on, so that the present shards must be those."""
    path = evaluated / "results" / "flat" / "3" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"root_sha256": "b" * 64}))

    with pytest.raises(MixedResults, match="was trained on the shards bbbbbbbbbbbb"):
        keep(evaluated)


def test_folder_that_is_no_seed_is_named(evaluated):
    """A copy of a run under another name than a seed gives an error that names it."""
    folder = evaluated / "results" / "flat" / "3"
    folder.rename(folder.with_name("3-old"))

    with pytest.raises(MissingInput, match="3-old is not named by a seed"):
        keep(evaluated)
