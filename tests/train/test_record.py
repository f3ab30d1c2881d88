"""Recording: what a committed file holds, and what is refused."""

import json

import pytest

from personae.errors import BadParams, MissingInput
from train import record


@pytest.fixture
def evaluated(tmp_path):
    """A folder with one evaluated run and the manifest of its shards."""
    folder = tmp_path / "results" / "flat" / "3"
    folder.mkdir(parents=True)
    documents = {
        "metrics": {"msr": 0.5},
        "cost": {"params": 9},
        "fit": {"total_seconds": 1.0, "commit": "abc1234", "cpu_cores": 2, "device_name": "x86_64"},
        "model": {"params": {"loop": {"epochs": 2}}},
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    shards = tmp_path / "data" / "shards"
    shards.mkdir(parents=True)
    manifest = {"root_sha256": "a", "labels": 4, "samples": {"test": 8}, "image": {"side": 16}}
    (shards / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def keep(root, preset="demo"):
    return record.run(
        preset,
        data_dir=root / "data",
        results_dir=root / "results",
        experiments_dir=root / "experiments",
    )


def test_keeps_metrics_cost_fit_params_and_data(evaluated):
    """One file per run and seed tells everything about it, what it cost included."""
    (path,) = keep(evaluated)
    kept = json.loads(path.read_text())

    assert evaluated / "experiments" / "demo" / "flat-3.json" == path
    assert ("demo", "flat", 3) == (kept["preset"], kept["run"], kept["seed"])
    assert ({"msr": 0.5}, {"params": 9}) == (kept["metrics"], kept["cost"])
    assert {"loop": {"epochs": 2}} == kept["params"]
    assert "a" == kept["data"]["root_sha256"]
    assert [path] == [*path.parent.iterdir()]
    assert ("abc1234", ["dvc repro", "python -m train record demo"]) == (
        kept["commit"],
        kept["commands"],
    )


def test_refuses_what_is_not_whole(evaluated):
    """A name that is no plain word, a run without cost, and no run at all are refused by name."""
    with pytest.raises(BadParams, match="is no name of a preset"):
        keep(evaluated, "../demo")
    (evaluated / "results" / "flat" / "3" / "cost.json").unlink()
    with pytest.raises(MissingInput, match=r"cost\.json is absent: run `dvc repro` first"):
        keep(evaluated)
    (evaluated / "results" / "flat" / "3" / "metrics.json").unlink()
    with pytest.raises(MissingInput, match=r"No metrics\.json lies under"):
        keep(evaluated)
