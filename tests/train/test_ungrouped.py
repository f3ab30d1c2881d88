"""Tests a data set whose labels have no grouping: the chain ends with the flat network."""

from dataclasses import replace

import pytest

from personae.errors import MissingInput
from train import backbone, evaluate, fit, saved
from train.data import augment, images
from train.engine import loop
from train.grouping import document
from train.methods import METHODS
from train.page import results
from train.page.sections import clustering as section

NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, init="he"
)
LOOP = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
QUICK = evaluate.Params(latency_batches=(1,), latency_calls=1, latency_seconds=1)


@pytest.mark.parametrize("missing", [("modularity", "random"), ("random",)])
def test_run_with_nothing_to_group_is_the_flat_network(tiny_shards, tmp_path, missing, caplog):
    """A run whose grouping does not exist is a copy of the flat run, whatever other rules give."""
    places = {
        "data_dir": tmp_path / "data",
        "results_dir": tmp_path / "results",
        "work_dir": tmp_path / "work",
    }
    settings = fit.RunSettings(
        method="flat",
        grouping=None,
        own=METHODS["flat"].Params(),
        data=images.Params(batch_size=16),
        augment=augment.Params(),
        backbone=NETWORK,
        loop=LOOP,
    )
    flat = fit.run(settings, name="flat", seed=0, **places)
    reason = "The 4 labels have no grouping."
    reasons = dict.fromkeys(missing, reason)
    document.write(places["data_dir"] / "clustering" / "0", {}, reasons)
    method = {"method": "uppsala", "own": METHODS["uppsala"].Params(), "grouping": "random"}
    tree = fit.run(replace(settings, **method), name="tree", seed=0, **places)
    evaluate.run(QUICK, loop_params=LOOP, name="tree", seed=0, **places)

    model = saved.load(tree).model
    assert ("tree", "flat") == (model.run, model.method)
    for name in ("validation.parquet", "curves.csv", "fit.json"):
        assert (flat / name).read_bytes() == (tree / name).read_bytes()
    assert (tree / "metrics.json").exists()
    warnings = [entry.message for entry in caplog.records if entry.levelname == "WARNING"]
    assert 1 == sum("1 of 1 networks had fewer than 200" in text for text in warnings)
    assert 1 == sum("tree: nothing to group" in text and reason in text for text in warnings)


def test_report_reads_one_group_of_all_labels_and_the_reason(tmp_path):
    """The report takes all labels as one group where nothing is grouped, and shows the reason."""
    reasons = {"modularity": "The 4 labels have no grouping.", "random": "Neither this."}
    document.write(tmp_path, {}, reasons)
    grouping = results._grouping(tmp_path / "random.json", "random", 0, leaves=4)
    caption = section._sweep(grouping.facts, seed=0).caption

    assert ((0, 1, 2, 3),) == grouping.clusters
    assert "Seed 0: there is nothing to group. Neither this." == caption
    with pytest.raises(MissingInput, match=r"absent\.json is absent: stage 'clustering'"):
        results._grouping(tmp_path / "absent.json", "absent", 0, leaves=4)
