"""From shards to metrics through the real stages; training does not use test images."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import torch

from personae import files
from personae.errors import BadParams, MissingInput
from tests.train.selection_fixture import samples_of
from train import backbone, clustering, evaluate, fit, saved
from train.data import augment, images
from train.data.images import ImageSet, open_split
from train.engine import loop
from train.errors import BadCheckpoint, BadHierarchy, MixedResults
from train.evaluation import prediction
from train.methods import METHODS
from train.runtime import checkpoint
from train.tree import hierarchy

NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, init="he"
)
LOOP = loop.Params(epochs=2, lr=0.05, threads=1, device="cpu")
QUICK = evaluate.Params(latency_batches=(1, 5), latency_calls=4, latency_seconds=5)
CLUSTERS = [[0, 1], [2, 3]]


def settings(method, *, grouping=None):
    return fit.RunSettings(
        method=method,
        grouping=grouping,
        own=METHODS[method].Params(),
        data=images.Params(batch_size=16),
        augment=augment.Params(),
        backbone=NETWORK,
        loop=LOOP,
    )


def places(root):
    return {
        "data_dir": root / "data",
        "results_dir": root / "results",
        "work_dir": root / "work",
    }


def write_clusters(root, clusters=CLUSTERS, *, labels=("ann", "bea", "cem", "dua")):
    folder = root / "data" / "clustering" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    document = {"labels": list(labels), "clusters": clusters}
    (folder / "given.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def trained(tiny_shards, tmp_path):
    """Trains flat and uppsala on tiny shards with seed 0 and returns the folder."""
    fit.run(settings("flat"), name="flat", seed=0, **places(tmp_path))
    write_clusters(tmp_path)
    fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(tmp_path))
    return tmp_path


def test_predictions_and_metrics_agree(trained):
    """Every test image has one row, and metrics.json equals scikit-learn's values for the rows."""
    figures = evaluate.run(QUICK, loop_params=LOOP, name="tree", seed=0, **places(trained))
    folder = trained / "results" / "tree" / "0"
    rows = pq.read_table(folder / "predictions.parquet")
    test = [row for row in rows.to_pylist() if row["split"] == "test"]
    labels = [row["label"] for row in test]
    predicted = [row["predicted"] for row in test]
    white = [row for row in test if row["white_background"]]
    cost = saved.load(folder).classifier.cost()
    first = np.mean([np.argmax(row["coarse"]) == 0 for row in test])

    assert prediction.SCHEMA == rows.schema
    assert sorted(rows["post_id"].to_pylist()) == rows["post_id"].to_pylist()
    assert (16, 16) == (len(test), figures.n_test)
    assert {"val", "test"} == set(rows["split"].to_pylist())
    assert math.isclose(sklearn.metrics.accuracy_score(labels, predicted), figures.msr)
    assert math.isclose(
        np.mean([row["label"] == row["predicted"] for row in white]), figures.msr_white
    )
    assert len(white) == figures.n_white
    assert figures.msr <= figures.router_accuracy
    assert figures.msr <= figures.oracle_msr
    assert math.isclose(
        cost.macs["root"] + first * cost.macs["cluster-0"] + (1 - first) * cost.macs["cluster-1"],
        figures.macs_expected,
    )
    assert figures.to_json() == json.loads((folder / "metrics.json").read_text())
    assert np.allclose(1, np.sum([row["full"] for row in test], axis=1), atol=1e-5)


def test_ten_views_are_corners_centre_and_mirror_images(tiny_data, tiny_shards, tmp_path):
    """The mean over ten crops equals that by hand; a run without crops has no such figure."""
    crops = augment.Params(rotation=0, zoom=1, shift=0, crop=12)
    runs = {"flat": settings("flat"), "cropped": replace(settings("flat"), augment=crops)}
    params = QUICK.model_copy(update={"ten_views": True})
    figures = {}
    for name, run in runs.items():
        fit.run(run, name=name, seed=0, **places(tmp_path))
        figures[name] = evaluate.run(
            params, loop_params=LOOP, name=name, seed=0, **places(tmp_path)
        )
    classifier = saved.load(tmp_path / "results" / "cropped" / "0").classifier
    pixels = augment.scale(tiny_data().val.batch(np.arange(8)))
    with torch.no_grad():
        by_hand = [
            classifier.predict_proba(crop.flip(3) if mirrored else crop).numpy()
            for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
            for crop in [pixels[:, :, y : y + 12, x : x + 12]]
            for mirrored in (False, True)
        ]
    views = prediction.ten_views(classifier, tiny_data().val, side=12, device=torch.device("cpu"))

    assert np.allclose(np.mean(by_hand, axis=0), views[:8], atol=1e-6)
    assert figures["flat"].msr_ten_views is None
    assert 0 <= figures["cropped"].msr_ten_views <= 1


def test_cost_counts_and_measures(trained):
    """cost.json holds counted and measured cost; measuring does not change metrics.json."""
    folder = trained / "results" / "tree" / "0"
    figures = evaluate.run(QUICK, loop_params=LOOP, name="tree", seed=0, **places(trained))
    before = (folder / "metrics.json").read_bytes()
    evaluate.run(QUICK, loop_params=LOOP, name="tree", seed=0, **places(trained))
    cost = json.loads((folder / "cost.json").read_text())

    assert before == (folder / "metrics.json").read_bytes()
    for name in ("params", "macs_max", "macs_expected"):
        assert getattr(figures, name) == cost[name]
    assert cost["params_resident"] > cost["params"]
    assert {"root", "cluster-0", "cluster-1"} == set(cost["macs"]) == set(cost["shares"])
    assert 1.0 == cost["shares"]["root"]
    assert math.isclose(1, cost["shares"]["cluster-0"] + cost["shares"]["cluster-1"])
    assert math.isclose(
        cost["macs_expected"],
        sum(cost["macs"][name] * cost["shares"][name] for name in cost["macs"]),
    )
    assert [1, 5] == [row["batch"] for row in cost["latency"]]
    assert [4, 4] == [row["calls"] for row in cost["latency"]]
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in cost["latency"])
    assert ("cpu", "float32", 1) == tuple(cost[key] for key in ("device", "precision", "threads"))
    assert "whole process" in cost["peak_memory_of"]
    assert 10 < cost["peak_memory_mib"] < 1e5
    assert 0 <= cost["load"] < 1e4


def test_files_of_a_run_tell_the_whole_story(trained):
    """model.json, fit.json, curves and validation rows are complete; the work folder is empty."""
    folder = trained / "results" / "tree" / "0"
    facts, took = (json.loads((folder / name).read_text()) for name in ("model.json", "fit.json"))
    curves = (folder / "curves.csv").read_text().splitlines()

    assert (["ann", "bea", "cem", "dua"], 16, "uppsala") == (
        facts["labels"],
        facts["side"],
        facts["method"],
    )
    assert {"data", "augment", "backbone", "loop", "uppsala"} == set(facts["params"])
    assert CLUSTERS == hierarchy.clusters(hierarchy.from_json(facts["hierarchy"]))
    assert ["root", "cluster-0", "cluster-1"] == [row["network"] for row in took["networks"]]
    assert took["critical_path_seconds"] < took["total_seconds"]
    shares, macs = took["cost"]["shares"], took["cost"]["macs"]
    assert math.isclose(1, shares["cluster-0"] + shares["cluster-1"])
    assert math.isclose(
        took["cost"]["macs_expected"], sum(macs[name] * shares[name] for name in macs)
    )
    assert "network,epoch,step,lr,train_loss,val_loss,val_accuracy,seconds" == curves[0]
    assert 1 + 3 * 2 == len(curves)
    assert {"val"} == set(pq.read_table(folder / "validation.parquet")["split"].to_pylist())
    assert not list((trained / "work" / "train").iterdir())
    assert not list(trained.rglob("*.part"))


def test_noise_for_test_pictures_changes_nothing_before_evaluate(
    trained, shard_writer, tmp_path_factory
):
    """With noise as test shards, weights, validation and clusters stay bit-identical."""
    other = tmp_path_factory.mktemp("noise")
    write, manifest = shard_writer
    shards = write(other / "data" / "shards", {"train": 6, "val": 4, "test": 4})
    (shards / "test-000000.tar").write_bytes(np.random.default_rng(0).bytes(5000))
    manifest(shards, json.loads((shards / "manifest.json").read_text())["shards"])
    fit.run(settings("flat"), name="flat", seed=0, **places(other))
    write_clusters(other)
    fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(other))
    for run in ("flat", "tree"):
        ends = [
            checkpoint.load(root / "results" / run / "0" / "weights.safetensors")[0]
            for root in (trained, other)
        ]
        rows = [
            pq.read_table(root / "results" / run / "0" / "validation.parquet")
            for root in (trained, other)
        ]

        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
        assert rows[0].equals(rows[1])
    groups = []
    for root in (trained, other):
        clustering_params = clustering.Params(confusion="soft", bootstrap=3)
        folder = clustering.run(
            clustering_params, data_dir=root / "data", results_dir=root / "results", seed=0
        )
        groups.append((folder / "modularity.json").read_bytes())
    assert groups[0] == groups[1]


def test_white_figure_is_null_without_white_pictures(trained):
    """A figure over no images is null in JSON."""
    pictures = open_split(trained / "data" / "shards", trained / "work" / "cache", "test")
    none = ImageSet(
        pictures.images, pictures.labels, pictures.post_ids, np.zeros_like(pictures.white)
    )
    classifier = saved.load(trained / "results" / "flat" / "0").classifier
    predictions = prediction.predict(classifier, none, device=torch.device("cpu"))

    assert evaluate.measure(classifier, predictions, none)["msr_white"] is None
    assert "msr_full" not in evaluate.measure(classifier, predictions, none)


def test_streamed_images_are_decoded_into_no_cache(tiny_shards, tmp_path):
    """With `data.storage: stream` the evaluation writes no decoded image, and gives the same."""
    pq.write_table(pa.Table.from_pylist(samples_of(tiny_shards)), tiny_shards / "samples.parquet")
    streamed = images.Params(batch_size=16, storage="stream")
    fit.run(replace(settings("flat"), data=streamed), name="flat", seed=0, **places(tmp_path))
    given = {"loop_params": LOOP, "name": "flat", "seed": 0, **places(tmp_path)}
    document = evaluate.run(QUICK, source=streamed, **given)

    assert not list((tmp_path / "work").glob("cache/*/images.npy"))
    assert document == evaluate.run(QUICK, **given)
    assert list((tmp_path / "work").glob("cache/test-*/images.npy"))


def test_nothing_is_chosen_on_images_that_are_trained_on(tiny_shards, tmp_path):
    """With `train_on_val` there is no temperature, and no recipe that chooses an epoch."""
    whole = replace(settings("flat"), data=images.Params(batch_size=16, train_on_val=True))
    early = replace(whole, loop=loop.Params(recipe="report", threads=1, device="cpu"))
    fit.run(whole, name="flat", seed=0, **places(tmp_path))
    document = evaluate.run(QUICK, loop_params=LOOP, name="flat", seed=0, **places(tmp_path))

    assert (None, None, None) == (
        document.temperature,
        document.nll_scaled,
        document.ece_scaled,
    )
    with pytest.raises(BadParams, match=r"loop\.recipe: report .* data\.train_on_val"):
        fit.run(early, name="early", seed=0, **places(tmp_path))


def test_other_shards_are_refused(trained):
    """A run is evaluated only on its own shards, and a tree is used only for its own labels."""
    path = trained / "data" / "shards" / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"root_sha256": "f" * 64}), encoding="utf-8")
    with pytest.raises(MixedResults, match="was trained on the shards"):
        evaluate.run(QUICK, loop_params=LOOP, name="flat", seed=0, **places(trained))
    with pytest.raises(MixedResults, match="may be validation or test images"):
        fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(trained))
    write_clusters(trained, labels=("ann", "bea", "cem", "eve"))
    with pytest.raises(BadHierarchy, match="groups other labels"):
        fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(trained))


def test_missing_inputs_name_the_stage(tiny_shards, tmp_path):
    """Without a run, clusters or a flat network, the error names the stage to run."""
    with pytest.raises(MissingInput, match="stage 'flat'"):
        evaluate.run(QUICK, loop_params=LOOP, name="flat", seed=0, **places(tmp_path))
    with pytest.raises(MissingInput, match="stage 'clustering'"):
        fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(tmp_path))
    write_clusters(tmp_path)
    reasons = tmp_path / "data" / "clustering" / "0" / "left_out.json"
    reasons.write_text('{"spectral": "Nothing is confused."}', encoding="utf-8")
    for grouping in ("spectral", "given"):  # one is left out: the run would be a copy of flat
        with pytest.raises(MissingInput, match="stage 'flat'"):
            fit.run(settings("uppsala", grouping=grouping), name="tree", seed=0, **places(tmp_path))
    assert not (tmp_path / "results").exists()


def test_damaged_model_is_named(trained):
    """A model.json without its fields or with other widths is refused before any prediction."""
    folder = trained / "results" / "flat" / "0"
    facts = json.loads((folder / "model.json").read_text())
    files.write_json(folder / "model.json", facts | {"params": {}})
    with pytest.raises(BadCheckpoint, match="no model of this version"):
        saved.load(folder)
    facts["params"]["backbone"]["dense"] = 8
    files.write_json(folder / "model.json", facts)
    with pytest.raises(BadCheckpoint, match="do not fit"):
        saved.load(folder)
